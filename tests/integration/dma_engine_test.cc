// SPDX-License-Identifier: Apache-2.0
//
// The DMA engine lent over the fabric: used by its memory alone, cut, reset, lent again.
#include "dma_model/crc32c.h"
#include "dma_model/function.h"
#include "integration/lending_hosts.h"

#include <gtest/gtest.h>

namespace lanepool::test {
namespace {

using dma_model::Descriptor;
using dma_model::Opcode;
using dma_model::Outcome;
namespace reg = dma_model::reg;

// As the agent has it for what is no storage.
class StatelessClass final : public smartio::DeviceClass {
  public:
    Result<smartio::DeviceIdentity> identify(pci::Function&) override { return smartio::DeviceIdentity{}; }
    Result<> verify_reset(pci::Function&) override { return {}; }
    Result<> wipe(pci::Function&, io::Duration) override { return {}; }
};

// The model on a thread of its own.
class ServedDmaEngine {
  public:
    explicit ServedDmaEngine(const TemporaryFolder& folder) : socket(folder / "dma") {
        loop_ = must(io::EventLoop::create());
        function_ = must(dma_model::Function::create(1));
        poller_.emplace(*loop_, *function_);
        server_ =
            must(vfio_user::Server::create(*loop_, socket, *function_, {.fresh_memory_on_reset = true}));
        thread_ = std::thread([this] { poller_->run(); });
    }
    ~ServedDmaEngine() {
        loop_->stop();
        thread_.join();
        server_.reset();
    }
    const std::filesystem::path socket;

  private:
    std::unique_ptr<io::EventLoop> loop_;
    std::unique_ptr<dma_model::Function> function_;
    std::optional<device_model::Poller> poller_;
    std::unique_ptr<vfio_user::Server> server_;
    std::thread thread_;
};

// Who has the engine: memory for the ring and the data, the BAR, an interrupt.
class User {
  public:
    static constexpr uint64_t ram_bytes = 1 << 20;
    static constexpr uint64_t ram_at = 0x100000;
    static constexpr uint32_t entries = 8;

    explicit User(std::unique_ptr<pci::Function> function)
        : device_(std::move(function)),
          ram_memory_{share(must(create_memory("user", ram_bytes))), 0, ram_bytes},
          ram(must(Mapping::create(ram_memory_))), interrupt(must(create_eventfd())) {
        mapping_ = must(
            device_->map_dma(*Range<Iova>::create({ram_at}, ram_bytes), ram_memory_, Access::read_write));
        const std::array fds{interrupt.get()};
        must(device_->set_irqs(pci::Irq::msi, 0, fds));
        must(pci::write16(*device_, pci::Region::config, pci::config::command,
                          pci::command::memory_space | pci::command::bus_master));
        const auto extents = must(device_->memory(pci::Region::bar0, 0, dma_model::bar0_bytes));
        if (extents.size() != 1 || extents[0].memory.size_bytes != dma_model::bar0_bytes)
            throw std::runtime_error("BAR0 cannot be mapped as a whole");
        bar_ = must(Mapping::create(extents[0].memory));
    }
    uint32_t load(uint64_t offset) { return device_model::load_word(bar_.data() + offset); }
    void store(uint64_t offset, uint32_t value) { device_model::store_word(bar_.data() + offset, value); }

    bool enable() {
        store(reg::ring_base_low, ram_at);
        store(reg::ring_base_high, 0);
        store(reg::ring_entries, entries);
        store(reg::control, dma_model::control::enable(1));
        return eventually([&] { return load(reg::status) == dma_model::status::running(1); });
    }
    Outcome run(Opcode opcode, uint64_t from, uint64_t to, uint32_t length, uint64_t operand) {
        auto* entry = ram.data() + tail_ * sizeof(Descriptor);
        Descriptor descriptor;
        descriptor.opcode = static_cast<uint16_t>(opcode);
        descriptor.flags = dma_model::flags::signal;
        descriptor.source = ram_at + from;
        descriptor.destination = ram_at + to;
        descriptor.operand = operand;
        descriptor.length = length;
        std::memcpy(entry, &descriptor, sizeof descriptor);
        tail_ = (tail_ + 1) % entries;
        store(reg::tail, tail_);
        eventually([&] { return drain(interrupt) != 0; });
        return static_cast<Outcome>(device_model::load_word(entry + offsetof(Descriptor, outcome)));
    }

  private:
    std::unique_ptr<pci::Function> device_;
    MemoryRef ram_memory_;

  public:
    Mapping ram;
    UniqueFd interrupt;

  private:
    pci::DmaMapping mapping_;
    Mapping bar_;
    uint32_t tail_ = 0;
};

class LentDmaEngine : public testing::Test {
  protected:
    void SetUp() override {
        ASSERT_TRUE(
            eventually([&] { return store.sees(a) && store.sees(b) && a.sees(store) && b.sees(store); }));
        lending.emplace(store, engine.socket, std::chrono::seconds(4), smartio::LenderOptions{},
                        device_class);
        ASSERT_TRUE(lending->reset());
    }
    std::unique_ptr<Borrowing> borrow(Host& host, uint64_t loan) {
        must(lending->prepare(loan, loan, host));
        auto borrowing =
            std::make_unique<Borrowing>(host, store, folder, smartio::LoanKey{test_fdid, loan, loan});
        must(borrowing->attach());
        return borrowing;
    }
    static void expect_it_works(User& user) {
        ASSERT_TRUE(user.enable());
        for (uint32_t i = 0; i < 3 * User::entries; ++i) {
            ASSERT_EQ(user.run(Opcode::fill, 0, 0x10000, 0x8000, 0x0101010101010101 * (i + 1)),
                      Outcome::done);
            ASSERT_EQ(user.run(Opcode::copy, 0x10000, 0x20000, 0x8000, 0), Outcome::done);
            ASSERT_EQ(user.run(Opcode::add, 0x10000, 0x30000, 0x8000, User::ram_at + 0x20000), Outcome::done);
            ASSERT_EQ(user.ram.data()[0x37fff], static_cast<std::byte>(2 * (i + 1)));
        }
        ASSERT_EQ(user.run(Opcode::crc32c, 0x30000, 0x40000, 0x8000, 0), Outcome::done);
        EXPECT_EQ(device_model::load_word(user.ram.data() + 0x40000),
                  dma_model::crc32c(0, {user.ram.data() + 0x30000, 0x8000}));
        EXPECT_EQ(user.run(Opcode::copy, 0x10000, User::ram_bytes, 8, 0), Outcome::destination_unreachable);
    }

    TemporaryFolder folder;
    Fabric fabric{folder, 3};
    Host store{fabric, 0}, a{fabric, 1}, b{fabric, 2};
    ServedDmaEngine engine{folder};
    StatelessClass device_class;
    std::optional<Lending> lending;
};

TEST_F(LentDmaEngine, IsUsedByABorrowerAndHandedOver) {
    for (uint64_t loan = 1; loan <= 2; ++loan) {
        auto borrowing = borrow(loan == 1 ? a : b, loan);
        {
            User user(must(vfio_user::connect(borrowing->socket(), {std::chrono::seconds(10), false})));
            expect_it_works(user);
        }
        ASSERT_TRUE(borrowing->detach());
        ASSERT_TRUE(lending->cut(loan));
        ASSERT_TRUE(lending->reset());
        ASSERT_TRUE(lending->wipe());
    }
}

TEST_F(LentDmaEngine, ABorrowerThatIsCutOffKeepsNothing) {
    auto borrowing = borrow(a, 1);
    User user(must(vfio_user::connect(borrowing->socket(), {std::chrono::seconds(10), false})));
    ASSERT_TRUE(user.enable());
    ASSERT_EQ(user.run(Opcode::fill, 0, 0x10000, 64, 0), Outcome::done);
    ASSERT_TRUE(lending->cut(1));
    ASSERT_TRUE(lending->reset());
    ASSERT_TRUE(lending->wipe());
    must(lending->prepare(2, 2, b));
    Borrowing other(b, store, folder, {test_fdid, 2, 2});
    must(other.attach());
    User next(must(vfio_user::connect(other.socket(), {std::chrono::seconds(10), false})));
    // The first one goes on with its pointers.
    user.store(reg::control, 0);
    user.store(reg::control, dma_model::control::enable(1));
    user.store(reg::scratch, 77);
    expect_it_works(next);
    EXPECT_EQ(next.load(reg::scratch), 0u);
}

} // namespace
} // namespace lanepool::test
