// SPDX-License-Identifier: Apache-2.0
//
// Our client against our server, both in this process.
#include "vfio_user/test_function.h"

#include <sys/eventfd.h>

namespace lanepool::vfio_user {
namespace {

using testing::iova;
using testing::LoopThread;
using testing::ServedFunction;

constexpr uint64_t page = 4096;

std::span<const std::byte> bytes(const char* text) {
    return std::as_bytes(std::span(text, std::strlen(text)));
}
std::string text(std::span<const std::byte> data) {
    return {reinterpret_cast<const char*>(data.data()), data.size()};
}

// Memory behind a range that is reached by calls.
struct Scratch : pci::DmaTarget {
    Result<> read(uint64_t offset, std::span<std::byte> data) override {
        std::copy_n(memory.begin() + static_cast<std::ptrdiff_t>(offset), data.size(), data.begin());
        return {};
    }
    Result<> write(uint64_t offset, std::span<const std::byte> data) override {
        std::copy(data.begin(), data.end(), memory.begin() + static_cast<std::ptrdiff_t>(offset));
        return {};
    }
    std::vector<std::byte> memory = std::vector<std::byte>(3 << 20);
};

Result<std::unique_ptr<pci::Function>>
connect(const std::filesystem::path& path, ClientOptions options = {.timeout = std::chrono::seconds(30)}) {
    return vfio_user::connect(path, options);
}

Result<> dma_write(ServedFunction& served, Iova address, std::span<const std::byte> data) {
    std::promise<Result<>> done;
    served.run([&] {
        served.function.client()->dma_write(address, data, [&](Result<> result) { done.set_value(result); });
    });
    return done.get_future().get();
}

Result<std::vector<std::byte>> dma_read(ServedFunction& served, Iova address, size_t size) {
    std::promise<Result<std::vector<std::byte>>> done;
    served.run([&] {
        served.function.client()->dma_read(address, size,
                                           [&](auto result) { done.set_value(std::move(result)); });
    });
    return done.get_future().get();
}

TEST(RoundTrip, TheClientSeesWhatThereIs) {
    ServedFunction served;
    const auto function = connect(served.path());
    ASSERT_TRUE(function) << function.error().message();
    const auto& bar0 = (*function)->region(pci::Region::bar0);
    EXPECT_EQ(bar0.size_bytes, 4 * page);
    EXPECT_TRUE(bar0.readable && bar0.writable);
    EXPECT_EQ(bar0.mappable, (std::vector<pci::Area>{{page, page}, {2 * page, page}}));
    EXPECT_FALSE((*function)->region(pci::Region::bar4).writable);
    EXPECT_EQ((*function)->region(pci::Region::bar1).size_bytes, 0u);
    EXPECT_EQ((*function)->irq(pci::Irq::msix).count, 4u);
    EXPECT_TRUE((*function)->irq(pci::Irq::intx).automasked);
    EXPECT_TRUE((*function)->can_reset());
}

TEST(RoundTrip, RegistersAreReadAndWritten) {
    ServedFunction served;
    const auto function = *connect(served.path());
    EXPECT_TRUE(pci::write32(*function, pci::Region::bar0, 0x20, 0x11223344));
    EXPECT_EQ(*pci::read16(*function, pci::Region::bar0, 0x22), 0x1122);
    EXPECT_EQ(pci::read32(*function, pci::Region::bar0, 4 * page - 2).error().code(), Errc::out_of_range);
    EXPECT_FALSE(pci::write32(*function, pci::Region::bar4, 0, 1));
    EXPECT_EQ(served.server->stats().region_writes, 2u);
}

TEST(RoundTrip, MappedMemoryIsTheFunctionsOwn) {
    ServedFunction served;
    const auto function = *connect(served.path());
    const auto extents = *function->memory(pci::Region::bar0, 0, 4 * page);
    ASSERT_EQ(extents.size(), 2u);
    EXPECT_EQ(extents[0].offset_bytes, page);
    const auto mapping = *Mapping::create(extents[0].memory);
    mapping.data()[5] = std::byte{7};
    EXPECT_EQ(*pci::read8(*function, pci::Region::bar0, page + 5), 7);
}

TEST(RoundTrip, ResetPutsFreshMemoryBehindTheRegion) {
    ServedFunction served({.reply_timeout = std::chrono::seconds(30), .fresh_memory_on_reset = true});
    const auto function = *connect(served.path());
    ASSERT_TRUE(function->fresh_memory_on_reset());
    const auto before = *Mapping::create((*function->memory(pci::Region::bar2, 0, page))[0].memory);
    ASSERT_TRUE(function->reset());
    before.data()[0] = std::byte{1}; // nobody looks there any more
    EXPECT_EQ(*pci::read8(*function, pci::Region::bar2, 0), 0);
    const auto after = *Mapping::create((*function->memory(pci::Region::bar2, 0, page))[0].memory);
    after.data()[0] = std::byte{2};
    EXPECT_EQ(*pci::read8(*function, pci::Region::bar2, 0), 2);
}

TEST(RoundTrip, AnEventfdStandsBehindADoorbell) {
    ServedFunction served;
    const auto function = *connect(served.path());
    const auto event = function->event(pci::Region::bar0, 0x10);
    ASSERT_TRUE(event);
    signal(*event);
    EXPECT_EQ(served.run([&] { return drain(served.function.doorbell); }), 1u);
    EXPECT_EQ(function->event(pci::Region::bar0, 0x20).error().code(), Errc::not_supported);
}

TEST(RoundTrip, MemoryIsMappedByDescriptor) {
    ServedFunction served;
    const auto function = *connect(served.path());
    const MemoryRef memory{share(*create_memory("ram", 4 * page)), page, 2 * page};
    {
        const auto mapping = function->map_dma(iova(0x10000, 2 * page), memory, Access::read_write);
        ASSERT_TRUE(mapping);
        EXPECT_EQ(function->map_dma(iova(0x11000, 1), memory, Access::read_write).error().code(),
                  Errc::already_exists);
        served.run([&] {
            const auto& map = served.function.dma.at(0x10000);
            ASSERT_TRUE(map.memory);
            Mapping::create(*map.memory)->data()[3] = std::byte{9};
        });
        EXPECT_EQ(Mapping::create(memory)->data()[3], std::byte{9});
    }
    EXPECT_EQ(served.run([&] { return served.function.dma.size(); }), 0u);
}

TEST(RoundTrip, TheFunctionReachesATargetByMessages) {
    ServedFunction served;
    const auto function = *connect(served.path());
    const auto target = std::make_shared<Scratch>();
    const auto mapping = function->map_dma(iova(0x100000, 3 << 20), target, Access::read_write);
    ASSERT_TRUE(mapping);
    EXPECT_TRUE(dma_write(served, Iova{0x100010}, bytes("hello")));
    EXPECT_EQ(text(*dma_read(served, Iova{0x100011}, 3)), "ell");
    // More than one message holds.
    std::vector<std::byte> large(2'500'000);
    for (size_t i = 0; i < large.size(); ++i)
        large[i] = static_cast<std::byte>(i * 7);
    EXPECT_TRUE(dma_write(served, Iova{0x100100}, large));
    EXPECT_EQ(*dma_read(served, Iova{0x100100}, large.size()), large);
    EXPECT_EQ(served.server->stats().dma_reads, 2u);
}

TEST(RoundTrip, DmaByMessageIsChecked) {
    ServedFunction served;
    const auto function = *connect(served.path());
    const MemoryRef memory{share(*create_memory("ram", page)), 0, page};
    const auto mapping = *function->map_dma(iova(0x1000, page), memory, Access::read_only);
    EXPECT_TRUE(dma_read(served, Iova{0x1ffc}, 4));
    EXPECT_FALSE(dma_read(served, Iova{0x1ffd}, 4)); // over the end
    EXPECT_FALSE(dma_read(served, Iova{0x5000}, 4));
    EXPECT_EQ(dma_write(served, Iova{0x1000}, bytes("x")).error().code(), Errc::permission_denied);
}

TEST(RoundTrip, AnAccessMayGoOverNeighbouringMappings) {
    ServedFunction served;
    const auto function = *connect(served.path());
    const auto first = std::make_shared<Scratch>();
    const MemoryRef second{share(*create_memory("ram", page)), 0, page};
    const auto a = *function->map_dma(iova(0x1000, page), first, Access::read_write);
    const auto b = *function->map_dma(iova(0x2000, page), second, Access::read_write);
    EXPECT_TRUE(dma_write(served, Iova{0x1ffe}, bytes("abcd")));
    EXPECT_EQ(text(*dma_read(served, Iova{0x1ffe}, 4)), "abcd");
    EXPECT_EQ(Mapping::create(second)->data()[0], std::byte{'c'});
}

TEST(RoundTrip, AnEventfdIsMappedForDma) {
    ServedFunction served;
    const auto function = *connect(served.path());
    const auto eventfd = *create_eventfd();
    const auto mapping = function->map_dma_event(Iova{0xfee00000}, eventfd);
    ASSERT_TRUE(mapping);
    served.run([&] { signal(served.function.dma.at(0xfee00000).event); });
    EXPECT_EQ(drain(eventfd), 1u);
    // A function that does not use the descriptor may send a message instead.
    EXPECT_TRUE(dma_write(served, Iova{0xfee00000}, bytes("abcd")));
    EXPECT_EQ(drain(eventfd), 1u);
}

TEST(RoundTrip, UnmappingATargetWaitsForTheAccessInProgress) {
    struct Slow : pci::DmaTarget {
        Result<> read(uint64_t, std::span<std::byte>) override {
            entered = true;
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
            left = true;
            return {};
        }
        Result<> write(uint64_t, std::span<const std::byte>) override { return {}; }
        std::atomic<bool> entered{false};
        std::atomic<bool> left{false};
    };
    ServedFunction served;
    const auto function = *connect(served.path());
    const auto target = std::make_shared<Slow>();
    auto mapping = *function->map_dma(iova(0x1000, page), target, Access::read_write);
    std::promise<void> answered;
    served.run(
        [&] { served.function.client()->dma_read(Iova{0x1000}, 4, [&](auto) { answered.set_value(); }); });
    ASSERT_TRUE(eventually([&] { return target->entered.load(); }));
    EXPECT_TRUE(mapping.unmap());
    EXPECT_TRUE(target->left);
    answered.get_future().get();
}

TEST(RoundTrip, InterruptsArriveOnTheEventfds) {
    ServedFunction served;
    const auto function = *connect(served.path());
    const auto first = *create_eventfd();
    const auto third = *create_eventfd();
    const int list[] = {first.get(), -1, third.get(), -1};
    ASSERT_TRUE(function->set_irqs(pci::Irq::msix, 0, list));
    served.run([&] {
        signal(served.function.eventfds.at({pci::Irq::msix, 0}));
        signal(served.function.eventfds.at({pci::Irq::msix, 2}));
        EXPECT_FALSE(served.function.eventfds.at({pci::Irq::msix, 1}));
    });
    EXPECT_EQ(drain(first), 1u);
    EXPECT_EQ(drain(third), 1u);
    EXPECT_EQ(function->set_irqs(pci::Irq::msix, 1, list).error().code(), Errc::out_of_range);
    ASSERT_TRUE(function->set_irqs(pci::Irq::msix, 0, {}));
    EXPECT_EQ(served.run([&] { return served.function.eventfds.size(); }), 0u);
    ASSERT_TRUE(function->mask_irq(pci::Irq::intx, 0, true));
    EXPECT_TRUE(served.run([&] { return served.function.masked.at(0); }));
}

TEST(RoundTrip, AnAnswerMayComeLater) {
    ServedFunction served;
    const auto function = *connect(served.path());
    served.run([&] { served.function.hold = true; });
    auto read = std::async(std::launch::async, [&] { return pci::read32(*function, pci::Region::bar0, 0); });
    ASSERT_TRUE(
        eventually([&] { return served.run([&] { return served.function.held_reads.size() == 1; }); }));
    served.run([&] { served.function.release(); });
    EXPECT_TRUE(read.get());
}

TEST(RoundTrip, AFunctionThatDoesNotAnswerIsATimeoutForThatRequestOnly) {
    ServedFunction served({.reply_timeout = std::chrono::milliseconds(50)});
    const auto function = *connect(served.path());
    served.run([&] { served.function.hold = true; });
    EXPECT_EQ(pci::read32(*function, pci::Region::bar0, 0).error().code(), Errc::timeout);
    served.run([&] { served.function.release(); }); // too late, dropped
    EXPECT_TRUE(pci::read32(*function, pci::Region::bar0, 0));
}

TEST(RoundTrip, AServerThatHangsIsGoneAfterTheDeadline) {
    ServedFunction served;
    const auto function = *connect(served.path(), {.timeout = std::chrono::milliseconds(100)});
    std::promise<void> gone;
    function->on_disconnect([&] { gone.set_value(); });
    served.run([&] { served.function.hold = true; });
    EXPECT_EQ(pci::read32(*function, pci::Region::bar0, 0).error().code(), Errc::timeout);
    gone.get_future().get();
    EXPECT_EQ(pci::read32(*function, pci::Region::bar0, 0).error().code(), Errc::disconnected);
}

TEST(RoundTrip, TheClientIsToldWhenTheFunctionGoes) {
    ServedFunction served;
    const auto function = *connect(served.path());
    std::promise<void> gone;
    function->on_disconnect([&] { gone.set_value(); });
    served.run([&] { served.server->drop_client(); });
    gone.get_future().get();
    EXPECT_EQ(function->reset().error().code(), Errc::disconnected);
    EXPECT_EQ(served.run([&] { return served.function.disconnects; }), 1);
    std::promise<void> late;
    function->on_disconnect([&] { late.set_value(); });
    late.get_future().get();
}

TEST(RoundTrip, OneClientAtATimeAndTheNextWhenItGoes) {
    ServedFunction served;
    auto first = *connect(served.path());
    EXPECT_EQ(connect(served.path()).error().code(), Errc::unavailable);
    EXPECT_TRUE(pci::read32(*first, pci::Region::bar0, 0));
    first.reset();
    EXPECT_TRUE(connect(served.path())); // at once
}

TEST(RoundTrip, NoDescriptorIsLost) {
    ServedFunction served;
    const size_t before = testing::open_descriptors();
    for (int i = 0; i < 3; ++i) {
        const auto function = *connect(served.path());
        const MemoryRef memory{share(*create_memory("ram", page)), 0, page};
        const auto mapping = *function->map_dma(iova(0, page), memory, Access::read_write);
        const auto eventfd = *create_eventfd();
        const int list[] = {eventfd.get()};
        EXPECT_TRUE(function->set_irqs(pci::Irq::msix, 1, list));
        EXPECT_TRUE(function->memory(pci::Region::bar0, 0, 4 * page));
        EXPECT_TRUE(function->event(pci::Region::bar0, 0x10));
    }
    EXPECT_TRUE(eventually([&] { return served.run([&] { return served.function.disconnects == 3; }); }));
    EXPECT_EQ(testing::open_descriptors(), before);
}

TEST(RoundTrip, ManyThreadsMayCall) {
    ServedFunction served;
    const auto function = *connect(served.path());
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < 4; ++i)
        threads.emplace_back([&, i] {
            for (uint32_t n = 0; n < 200; ++n) {
                EXPECT_TRUE(pci::write32(*function, pci::Region::bar0, 4 * i, n));
                EXPECT_EQ(*pci::read32(*function, pci::Region::bar0, 4 * i), n);
            }
        });
    for (auto& thread : threads)
        thread.join();
}

TEST(RoundTrip, NobodyServesThePath) {
    TemporaryFolder folder;
    EXPECT_EQ(connect(folder / "none").error().code(), Errc::not_found);
}

} // namespace
} // namespace lanepool::vfio_user
