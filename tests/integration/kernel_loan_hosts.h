// SPDX-License-Identifier: Apache-2.0
//
// For tests: a host whose own kernel borrows a device that another host lends, over cards. The kernel is made
// up: the bridge is a fake one, and sysfs is simulated.
#pragma once

#include "agent/kernel_loan.h"
#include "bridge/fake_bridge.h"
#include "integration/lending_hosts.h"
#include "integration/memory_device.h"
#include "local_devices/simulated_kernel.h"

#include <filesystem>
#include <gmock/gmock.h>

namespace lanepool::test {

// A simulated kernel that is looked at by one thread and changed by another.
class OwnSystem final : public local_devices::System {
    template <class Work>
    auto locked(Work work) {
        const std::lock_guard lock(mutex_);
        return work(simulated_);
    }

  public:
    template <class Work>
    auto change(Work work) {
        const std::lock_guard lock(mutex_);
        return work(kernel_);
    }

    Result<std::string> read(const std::string& path) override {
        return locked([&](auto& it) { return it.read(path); });
    }
    Result<> write(const std::string& path, const std::string& text, io::Duration timeout) override {
        return locked([&](auto& it) { return it.write(path, text, timeout); });
    }
    Result<bool> reads_all_ones(const std::string& path) override {
        return locked([&](auto& it) { return it.reads_all_ones(path); });
    }
    Result<std::vector<local_devices::Entry>> list(const std::string& path) override {
        return locked([&](auto& it) { return it.list(path); });
    }
    Result<std::string> read_link(const std::string& path) override {
        return locked([&](auto& it) { return it.read_link(path); });
    }
    bool exists(const std::string& path) override {
        return locked([&](auto& it) { return it.exists(path); });
    }
    std::optional<local_devices::DeviceNumber> device_number(const std::string& path) override {
        return locked([&](auto& it) { return it.device_number(path); });
    }
    bool claimed(const std::string& path) override {
        return locked([&](auto& it) { return it.claimed(path); });
    }
    Result<> load_module(const std::string& name, io::Duration timeout) override {
        return locked([&](auto& it) { return it.load_module(name, timeout); });
    }
    Result<> save(const std::filesystem::path& path, const std::string& text) override {
        return locked([&](auto& it) { return it.save(path, text); });
    }
    Result<std::optional<std::string>> load(const std::filesystem::path& path) override {
        return locked([&](auto& it) { return it.load(path); });
    }
    Result<int> nvme_admin(const std::string& node, nvme_passthru_cmd& command) override {
        return locked([&](auto& it) { return it.nvme_admin(node, command); });
    }
    Result<std::vector<std::byte>> route_request(std::span<const std::byte> request) override {
        return locked([&](auto& it) { return it.route_request(request); });
    }
    io::TimePoint now() override {
        return locked([&](auto& it) { return it.now(); });
    }
    void pause(io::Duration duration) override {
        locked([&](auto& it) { it.pause(duration); });
    }

  private:
    std::mutex mutex_;
    local_devices::SimulatedKernel kernel_;
    local_devices::SimulatedSystem simulated_{kernel_};
};

// Host 0 lends; host 1 borrows with its own kernel.
class KernelLoans : public testing::Test {
  protected:
    using Injected = bridge::FakeInjected;

    explicit KernelLoans(MemoryDevice::Kind kind = {})
        : fabric(folder, 3), store(fabric, 0, true), a(fabric, 1, true),
          made(std::make_unique<MemoryDevice>(kind)), device(*made),
          lending(store, std::move(made), {}, device_class) {
        system.change([](auto& kernel) {
            kernel.files["/proc/self/mountinfo"] = "";
            kernel.links["/proc/self/ns/mnt"] = "mnt:[1]";
            kernel.files["/proc/iomem"] = "00001000-0009fbff : System RAM\n"
                                          "00100000-7ffdefff : System RAM\n"
                                          "  01000000-01ffffff : Kernel code\n";
        });
    }
    ~KernelLoans() override {
        a.thread.run([&] {
            a.peer_changed = nullptr;
            loan.reset();
        });
    }
    void SetUp() override {
        ASSERT_TRUE(eventually([&] { return store.sees(a) && a.sees(store); }));
        must(lending.reset());
        a.thread.run([&] {
            a.peer_changed = [this](ntb::Partition, bool alive) {
                if (!alive && loan) loan->lender_lost();
            };
        });
    }

    // Begins a loan; the kernel does what it does by itself, up to a driver that takes the function.
    Result<> attach(io::Duration patience = std::chrono::seconds(10)) {
        ++epoch;
        must(lending.prepare(epoch, epoch, a));
        return attach_prepared(patience);
    }
    Result<> attach_prepared(io::Duration patience = std::chrono::seconds(10)) {
        const auto answer = std::make_shared<std::promise<Result<>>>();
        auto attached = answer->get_future();
        a.thread.run([&] {
            agent::KernelLoanSetup setup;
            setup.loop = &a.thread.loop();
            setup.adapter = &a.adapter();
            setup.channel = &a.channel();
            setup.kernel = {&bridge, &system};
            setup.host = "a";
            setup.lender = store.partition();
            setup.key = {test_fdid, epoch, epoch};
            setup.dma_mode = mode;
            setup.attach_timeout = patience;
            setup.times = {std::chrono::milliseconds(100), std::chrono::milliseconds(1),
                           std::chrono::milliseconds(20), std::chrono::milliseconds(50)};
            loan = std::make_unique<agent::KernelLoan>(
                std::move(setup), agent::BorrowedDeviceEvents{
                                      .lost = [this](const std::string& reason) { lost.push_back(reason); },
                                      .ended = [this] { ++ended; }});
            loan->attach([answer](Result<> result) { answer->set_value(std::move(result)); });
        });
        const auto done = [&] {
            return attached.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
        };
        const size_t before = offered;
        EXPECT_TRUE(eventually([&] {
            if (const auto it = plugged(); it && offered == before && offers) {
                ++offered;
                arrive(it->address());
                it->drivers_offered();
            }
            return done();
        }));
        return done() ? attached.get() : Result<>(fail(Errc::timeout, "no answer at all"));
    }
    std::shared_ptr<Injected> function() {
        const auto all = bridge.functions();
        return all.empty() ? nullptr : all.back();
    }
    // The function, when the kernel has it.
    std::shared_ptr<Injected> plugged() {
        const auto last = function();
        return last && last->state() == Injected::State::plugged ? last : nullptr;
    }
    void arrive(const pci::Address& address) {
        system.change([&](auto& kernel) {
            auto& here = kernel.functions[address];
            here.native = here.driver = driver;
        });
    }
    Result<> detach(bool ask = false, io::Duration deadline = std::chrono::seconds(10)) {
        return await(a.thread, [&](auto done) { loan->detach(deadline, ask, done); });
    }
    template <class Work>
    auto ask(Work work) { // of the loan, on its thread
        return a.thread.run([&] { return work(*loan); });
    }
    bool lingers() {
        return ask([](auto& it) { return it.lingers(); });
    }
    std::vector<std::string> losses() {
        return a.thread.run([&] { return lost; });
    }
    // As the controller does between two loans.
    void make_ready() {
        must(lending.cut(epoch));
        must(lending.reset());
    }
    // By what they are.
    static std::map<std::string, int> open_files() {
        std::map<std::string, int> files;
        for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
            std::error_code gone; // the one that lists them
            const auto target = std::filesystem::read_symlink(entry, gone).string();
            ++files[target.substr(0, target.find('['))];
        }
        return files;
    }

    TemporaryFolder folder;
    Fabric fabric;
    bridge::FakeBridge bridge;
    OwnSystem system;
    Host store;
    Host a;
    std::unique_ptr<MemoryDevice> made;
    MemoryDevice& device;
    MemoryDeviceClass device_class;
    Lending lending;
    bridge::DmaMode mode = bridge::DmaMode::bounce;
    std::string driver = "nvme";
    bool offers = true; // the kernel offers the function to drivers
    std::unique_ptr<agent::KernelLoan> loan;
    std::vector<std::string> lost; // on the loop's thread
    std::atomic<int> ended{0};
    size_t offered = 0;
    uint64_t epoch = 0;
};

} // namespace lanepool::test
