// SPDX-License-Identifier: Apache-2.0
//
// The NVMe model, as a drive that signals by MSI-X only, lent over a fabric in this process. Says where the
// borrowed function is served, and serves until its standard input ends; each line there is answered with how
// often a driver has taken the function.
#include "integration/lending_hosts.h"
#include "integration/nvme_class.h"

#include "nvme/model/poller.h"

#include <iostream>
#include <string>

namespace lanepool::test {
namespace {

// Passes everything on to a function, but for its MSI.
class MsixOnly final : public vfio_user::Handler {
  public:
    explicit MsixOnly(vfio_user::Handler& function) : function_(function) {}

    const pci::RegionInfo& region(pci::Region index) const override { return function_.region(index); }
    const pci::IrqInfo& irq(pci::Irq index) const override {
        static const pci::IrqInfo none;
        return index == pci::Irq::msi || index == pci::Irq::intx ? none : function_.irq(index);
    }
    void connected(vfio_user::Client& client) override { function_.connected(client); }
    void disconnected() override { function_.disconnected(); }
    void read(pci::Region region, uint64_t offset_bytes, size_t size_bytes,
              vfio_user::Reply<std::vector<std::byte>> reply) override {
        function_.read(region, offset_bytes, size_bytes, std::move(reply));
    }
    void write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data,
               vfio_user::Reply<void> reply) override {
        function_.write(region, offset_bytes, data, std::move(reply));
    }
    Result<std::vector<pci::Extent>> memory(pci::Region region, uint64_t offset_bytes,
                                            uint64_t size_bytes) override {
        return function_.memory(region, offset_bytes, size_bytes);
    }
    void map_dma(vfio_user::DmaMap map, vfio_user::Reply<void> reply) override {
        function_.map_dma(std::move(map), std::move(reply));
    }
    void unmap_dma(Range<Iova> range, vfio_user::Reply<void> reply) override {
        function_.unmap_dma(range, std::move(reply));
    }
    void set_irqs(pci::Irq index, uint32_t first, std::vector<UniqueFd> eventfds,
                  vfio_user::Reply<void> reply) override {
        function_.set_irqs(index, first, std::move(eventfds), std::move(reply));
    }
    void mask_irq(pci::Irq index, uint32_t vector, bool masked, vfio_user::Reply<void> reply) override {
        function_.mask_irq(index, vector, masked, std::move(reply));
    }
    void reset(vfio_user::Reply<void> reply) override { function_.reset(std::move(reply)); }

  private:
    vfio_user::Handler& function_;
};

// The model on a thread of its own.
class Drive {
  public:
    explicit Drive(const TemporaryFolder& folder) : socket(folder / "nvme") {
        loop_ = must(io::EventLoop::create());
        media_ = must(nvme::model::Media::open({.file = folder / "blocks", .size_bytes = 64 << 20}));
        controller_ = must(nvme::model::Controller::create({"MSIX-ONLY"}, *media_, loop_->clock()));
        poller_ = must(nvme::model::Poller::create(*loop_, *media_, *controller_));
        shown_ = std::make_unique<MsixOnly>(*controller_);
        server_ = must(vfio_user::Server::create(*loop_, socket, *shown_, {std::chrono::seconds(2), true}));
        thread_ = std::thread([this] { poller_->run(); });
    }
    ~Drive() {
        loop_->stop();
        thread_.join();
        server_.reset();
    }
    const std::filesystem::path socket;

  private:
    std::unique_ptr<io::EventLoop> loop_;
    std::unique_ptr<nvme::model::Media> media_;
    std::unique_ptr<nvme::model::Controller> controller_;
    std::unique_ptr<nvme::model::Poller> poller_;
    std::unique_ptr<MsixOnly> shown_;
    std::unique_ptr<vfio_user::Server> server_;
    std::thread thread_;
};

void serve() {
    TemporaryFolder folder;
    Fabric fabric(folder, 2);
    Host store(fabric, 0);
    Host borrower(fabric, 1);
    Drive drive(folder);
    NvmeClass nvme_class;
    if (!eventually([&] { return store.sees(borrower) && borrower.sees(store); }))
        throw std::runtime_error("the hosts do not see each other");
    Lending lending(store, drive.socket, std::chrono::seconds(4), {}, nvme_class);
    must(lending.reset());
    must(lending.prepare(1, 1, borrower));
    Borrowing borrowing(borrower, store, folder, {test_fdid, 1, 1});
    must(borrowing.attach());
    std::cout << borrowing.socket().string() << std::endl;
    for (std::string line; std::getline(std::cin, line);)
        std::cout << borrowing.driver_ready << std::endl;
}

} // namespace
} // namespace lanepool::test

int main() {
    try {
        lanepool::test::serve();
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return 1;
    }
}
