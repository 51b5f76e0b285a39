// SPDX-License-Identifier: Apache-2.0
//
// Our NVMe driver on our NVMe model with all of BAR0 mapped: no register access is a message.
#include "integration/mapped_function.h"
#include "integration/nvme_drive.h"
#include "nvme/driver.h"
#include "nvme/io_commands.h"
#include "nvme/wipe.h"

#include <poll.h>

namespace lanepool::integration {
namespace {

using namespace nvme;

constexpr uint64_t drive_bytes = 16 << 20;
constexpr io::Duration second = std::chrono::seconds(1);

class NvmeMappedTest : public testing::Test {
  protected:
    NvmeDrive drive{drive_bytes, {.serial = {}, .map_registers = true}};
    MappedFunction function{drive.connect()};
};

TEST_F(NvmeMappedTest, TheDriverWorksUnchanged) {
    auto created = Driver::create(function, io::system_clock(), {.io_queues = 64, .interrupt_vectors = 2});
    ASSERT_TRUE(created) << created.error().message();
    auto& driver = **created;
    EXPECT_EQ(driver.max_queues(), 64);
    EXPECT_EQ(driver.info().serial, "INTEGRATION1");
    auto* queue = driver.create_queue({.depth = 8, .interrupt_vector = 1}).value();
    const auto ns = driver.namespaces().at(0);
    auto memory = driver.allocate(65536).value();
    for (uint32_t i = 0; i < 100; ++i) {
        std::memset(memory.bytes().data(), static_cast<int>(i + 1), 4096);
        ASSERT_TRUE(queue->execute(make_write(ns, i * 8, 8, {memory}).value(), 10 * second).ok());
        ASSERT_TRUE(queue->execute(make_read(ns, i * 8, 8, {memory, 8192}).value(), 10 * second).ok());
        ASSERT_EQ(std::memcmp(memory.bytes().data(), memory.bytes().data() + 8192, 4096), 0);
    }
    EXPECT_GT(drain(driver.interrupt(1)), 0u);
    EXPECT_TRUE(driver.shut_down());
}

TEST_F(NvmeMappedTest, ItIsWipedAndResetAsAnyOther) {
    for (int i = 0; i < 2; ++i) {
        const auto report = wipe(function, io::system_clock(), {.seed = 3, .on_progress = {}});
        ASSERT_TRUE(report) << report.error().message();
        ASSERT_TRUE(function.reset());
        ASSERT_TRUE(verify_reset(function));
    }
}

// As a lender does: whoever asks for memory is told where the device sees it.
class LenderMemory final : public DmaAllocator {
  public:
    explicit LenderMemory(pci::Function& function) : function_(function) {}
    Result<std::unique_ptr<DmaBlock>> allocate(uint64_t size, uint64_t alignment, Access access,
                                               const char* name) override {
        next_ = (next_ + alignment - 1) / alignment * alignment;
        const auto fd = share(TRY(create_memory(name, size)));
        auto mapping = TRY(Mapping::create(fd->get(), 0, size));
        auto dma =
            TRY(function_.map_dma(TRY(Range<Iova>::create({next_}, size)), MemoryRef{fd, 0, size}, access));
        next_ += size + (1 << 20);
        return std::make_unique<Block>(std::move(mapping), std::move(dma), Iova{next_ - size - (1 << 20)});
    }

  private:
    struct Block : DmaBlock {
        Block(Mapping m, pci::DmaMapping d, Iova iova)
            : DmaBlock(m.bytes(), iova), mapping(std::move(m)), dma(std::move(d)) {}
        Mapping mapping;
        pci::DmaMapping dma;
    };
    pci::Function& function_;
    uint64_t next_ = 0x7100000000;
};

// A manager has the drive; the user has memory of its own, a pointer to BAR0, and what it was told.
class SharedDriveTest : public NvmeMappedTest {
  protected:
    void SetUp() override {
        allocator = std::make_shared<LenderMemory>(function);
        DriverOptions options;
        options.allocator = allocator;
        options.weighted_arbitration = true;
        manager = Driver::create(function, io::system_clock(), options).value();
        ns = manager->namespaces().at(0);
        own = manager->create_queue({.depth = 8, .priority = QueuePriority::urgent}).value();
        own_data = manager->allocate(8192).value();
        sq = allocator->allocate(4096, 4096, Access::read_write, "user-sq").value();
        cq = allocator->allocate(4096, 4096, Access::read_write, "user-cq").value();
        data = DmaMemory::create(*allocator, 16384, manager->page_bytes(), "user-data").value();
        bar = Mapping::create(function.memory(pci::Region::bar0, 0, 0x4000).value()[0].memory).value();
        doorbells = Doorbells::create(bar.bytes(), manager->doorbell_stride(), 9).value();
    }
    void create() {
        const auto id = manager->create_foreign_queue({.entries = 17,
                                                       .submission = sq->iova(),
                                                       .completion = cq->iova(),
                                                       .interrupt_vector = std::nullopt,
                                                       .priority = QueuePriority::low});
        ASSERT_TRUE(id) << id.error().message();
        user = QueuePair::create(QueueMemory{sq->bytes(), sq->iova(), cq->bytes(), cq->iova()}, doorbells,
                                 io::system_clock(), {}, {.id = *id, .depth = 16})
                   .value();
    }
    bool user_works() { return user->execute(make_read(ns, 0, 8, {data, 4096}).value(), 10 * second).ok(); }

    std::shared_ptr<LenderMemory> allocator;
    std::unique_ptr<Driver> manager;
    NamespaceInfo ns;
    QueuePair* own = nullptr;
    DmaMemory own_data;
    std::unique_ptr<DmaBlock> sq, cq;
    DmaMemory data;
    Mapping bar;
    Doorbells doorbells;
    std::unique_ptr<QueuePair> user;
};

TEST_F(SharedDriveTest, AQueuePairInSomebodyElsesMemoryWorks) {
    create();
    std::memset(data.bytes().data(), 0x42, 4096);
    ASSERT_TRUE(user->execute(make_write(ns, 0, 8, {data}).value(), 10 * second).ok());
    EXPECT_TRUE(user_works());
    EXPECT_EQ(std::memcmp(data.bytes().data(), data.bytes().data() + 4096, 4096), 0);
    ASSERT_TRUE(own->execute(make_read(ns, 0, 8, {own_data}).value(), 10 * second).ok());
    EXPECT_EQ(own_data.bytes()[4095], std::byte{0x42});
    ASSERT_TRUE(manager->delete_foreign_queue(user->id()));
    EXPECT_EQ(manager->delete_foreign_queue(user->id()).error().code(), Errc::not_found);
    create();
    EXPECT_TRUE(user_works());
}

TEST_F(SharedDriveTest, AUserThatDiesLeavesTheOthersAlone) {
    create();
    ASSERT_TRUE(user_works());
    for (uint32_t i = 0; i < 16; ++i)
        ASSERT_TRUE(user->submit(make_read(ns, i, 8, {data}).value(), second, {}));
    ASSERT_TRUE(user->ring());
    user.reset();
    sq.reset();
    cq.reset();
    data = {};
    for (int i = 0; i < 50; ++i)
        ASSERT_TRUE(own->execute(make_read(ns, 0, 8, {own_data}).value(), 10 * second).ok());
    ASSERT_TRUE(manager->check_health());
    EXPECT_TRUE(manager->delete_foreign_queue(2));
    EXPECT_EQ(manager->create_queue({}).value()->id(), 2);
}

} // namespace
} // namespace lanepool::integration
