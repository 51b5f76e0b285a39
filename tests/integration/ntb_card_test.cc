// SPDX-License-Identifier: Apache-2.0
//
// The adapter driver on a card, whose function gives no eventfds: event words and relays, against another
// card and against a host of the virtual switch that has them.
#include "integration/ntb_host.h"
#include "ntb/event_words.h"
#include "ntb/relays.h"

#include <atomic>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace lanepool::ntb {
namespace {

using integration::CardFunction;
using integration::VirtualSwitch;
using namespace std::chrono_literals;

constexpr uint64_t gib = uint64_t{1} << 30;

Partition host(unsigned index) { return Partition{static_cast<uint8_t>(index)}; }

std::unique_ptr<Adapter> card(VirtualSwitch& fabric, unsigned port, AdapterEvents events = {}) {
    auto made =
        Adapter::create(std::make_unique<CardFunction>(fabric.function(port).value()), std::move(events));
    EXPECT_TRUE(made) << made.error().message();
    return std::move(*made);
}

bool arrives(const UniqueFd& eventfd) {
    pollfd ready{eventfd.get(), POLLIN, 0};
    return poll(&ready, 1, 5000) == 1 && drain(eventfd) > 0;
}

struct Events {
    explicit Events(size_t count) {
        for (size_t i = 0; i < count; ++i)
            fds.push_back(create_eventfd().value());
    }
    Result<Export> export_on(Adapter& adapter) const {
        std::vector<int> numbers;
        for (const auto& fd : fds)
            numbers.push_back(fd.get());
        return adapter.export_events(numbers);
    }
    std::vector<UniqueFd> fds;
};

TEST(NtbCard, EventsOfACardAreWordsThatAMessageMakesItLookAt) {
    VirtualSwitch fabric(2);
    auto owner = card(fabric, 0);
    auto peer = card(fabric, 1);
    Events events(3);
    const auto exported = events.export_on(*owner).value();
    EXPECT_TRUE(is_event_word(exported.address()));
    EXPECT_EQ(exported.size_bytes(), 12u);
    const auto window = peer->open_window({host(0), exported.address(), 12}).value();
    const auto third = window.event(8).value();
    const auto first = window.event(0).value();
    signal(third);
    EXPECT_TRUE(arrives(events.fds[2]));
    EXPECT_EQ(drain(events.fds[0]) + drain(events.fds[1]), 0u);
    signal(first);
    EXPECT_TRUE(arrives(events.fds[0]));
    for (int i = 0; i < 50; ++i) {
        signal(third);
        ASSERT_TRUE(arrives(events.fds[2])) << i;
    }
}

TEST(NtbCard, AnyMessageShowsWords) {
    VirtualSwitch fabric(2);
    std::atomic<uint32_t> heard{0};
    AdapterEvents adapter_events;
    adapter_events.message = [&](Partition, uint32_t message) { heard = message; };
    auto owner = card(fabric, 0, std::move(adapter_events));
    auto peer = fabric.adapter(1);
    Events events(1);
    const auto exported = events.export_on(*owner).value();
    const auto window = peer->open_window({host(0), exported.address(), 4}).value();
    const std::array<std::byte, 4> set{std::byte{1}};
    ASSERT_TRUE(window.write(0, set));
    EXPECT_EQ(drain(events.fds[0]), 0u);
    ASSERT_TRUE(peer->send_message(host(0), 77));
    EXPECT_TRUE(arrives(events.fds[0]));
    EXPECT_TRUE(eventually([&] { return heard == 77; }));
    heard = 0;
    ASSERT_TRUE(window.write(0, set));
    ASSERT_TRUE(peer->send_message(host(0), event_message));
    EXPECT_TRUE(arrives(events.fds[0]));
    EXPECT_EQ(heard, 0u) << "our own message is nobody's business";
}

// A peer that is no card writes words, too, and one that is a card writes to events.
TEST(NtbCard, CardsAndOtherHostsSignalEachOther) {
    VirtualSwitch fabric(2);
    auto a = card(fabric, 0);
    auto b = fabric.adapter(1);
    Events of_a(1), of_b(1);
    const auto exported_a = of_a.export_on(*a).value();
    const auto exported_b = of_b.export_on(*b).value();
    EXPECT_FALSE(is_event_word(exported_b.address()));
    const auto to_a = b->open_window({host(0), exported_a.address(), 4}).value();
    const auto to_b = a->open_window({host(1), exported_b.address(), 4}).value();
    signal(to_a.event(0).value());
    EXPECT_TRUE(arrives(of_a.fds[0]));
    signal(to_b.event(0).value());
    EXPECT_TRUE(arrives(of_b.fds[0]));
}

// No signal is lost however many senders meet at the four message registers.
TEST(NtbCard, NoSignalIsLostInACrowd) {
    constexpr unsigned senders = 5;
    VirtualSwitch fabric(senders + 1);
    auto owner = card(fabric, 0);
    Events events(senders);
    const auto exported = events.export_on(*owner).value();
    std::vector<std::unique_ptr<Adapter>> peers;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < senders; ++i)
        peers.push_back(card(fabric, i + 1));
    for (unsigned i = 0; i < senders; ++i)
        threads.emplace_back([&, i] {
            const auto window =
                peers[i]->open_window({host(0), exported.address() + i * uint64_t{4}, 4}).value();
            const auto event = window.event(0).value();
            for (int round = 0; round < 100; ++round) {
                signal(event);
                if (!arrives(events.fds[i])) {
                    ADD_FAILURE() << "sender " << i << " round " << round;
                    return;
                }
            }
        });
    for (auto& thread : threads)
        thread.join();
}

// Registers that are full will do: the owner looks after it has emptied them.
TEST(NtbCard, AWordThatIsWrittenWhileAllRegistersAreFullIsSeen) {
    VirtualSwitch fabric(2);
    auto owner = card(fabric, 0);
    auto peer = fabric.adapter(1);
    Events events(1);
    const auto exported = events.export_on(*owner).value();
    const auto window = peer->open_window({host(0), exported.address(), 4}).value();
    const std::array<std::byte, 4> set{std::byte{1}};
    int full = 0;
    for (int round = 0; round < 2000 && full < 120; ++round) {
        while (peer->send_message(host(0), event_message)) {
        }
        ASSERT_TRUE(window.write(0, set));
        const auto sent = peer->send_message(host(0), event_message);
        if (!sent && sent.error().code() == Errc::busy) ++full;
        ASSERT_TRUE(arrives(events.fds[0]))
            << "round " << round << ", after " << full << " with full registers";
    }
    EXPECT_GT(full, 0);
}

TEST(NtbCard, WithdrawnEventsAreSilent) {
    VirtualSwitch fabric(2);
    auto owner = card(fabric, 0);
    auto peer = card(fabric, 1);
    Events events(1), others(1);
    auto exported = events.export_on(*owner).value();
    const auto address = exported.address();
    const auto kept = others.export_on(*owner).value();
    const auto window = peer->open_window({host(0), address, 4}).value();
    const auto event = window.event(0).value();
    const auto other_window = peer->open_window({host(0), kept.address(), 4}).value();
    EXPECT_TRUE(exported.withdraw());
    signal(event);
    signal(other_window.event(0).value()); // comes after
    EXPECT_TRUE(arrives(others.fds[0]));
    EXPECT_EQ(drain(events.fds[0]), 0u);
    const auto next = events.export_on(*owner).value();
    EXPECT_NE(next.address(), address) << "a window that was kept leads to nothing else";
}

TEST(NtbCard, AClosedWindowRelaysNothing) {
    VirtualSwitch fabric(2);
    auto owner = card(fabric, 0);
    auto peer = card(fabric, 1);
    Events events(2);
    const auto exported = events.export_on(*owner).value();
    auto window = peer->open_window({host(0), exported.address(), 4}).value();
    const auto event = window.event(0).value();
    signal(window.event(0).value()); // the same
    EXPECT_TRUE(arrives(events.fds[0]));
    ASSERT_TRUE(window.close());
    const auto again = peer->open_window({host(0), exported.address() + 4, 4}).value();
    signal(event);
    signal(again.event(0).value());
    EXPECT_TRUE(arrives(events.fds[1]));
    EXPECT_EQ(drain(events.fds[0]), 0u);
    std::vector<Window> all;
    all.push_back(peer->open_window({host(0), exported.address(), 4}).value());
    const auto of_many = all[0].event(0).value();
    ASSERT_TRUE(peer->close_windows(std::move(all)));
    signal(of_many);
    signal(again.event(0).value());
    EXPECT_TRUE(arrives(events.fds[1]));
    EXPECT_EQ(drain(events.fds[0]), 0u);
}

// Signals, windows and exports that come and go at the same time, and an adapter that goes before its
// windows.
TEST(NtbCard, GoesWhileItIsSignalled) {
    VirtualSwitch fabric(2);
    auto owner = card(fabric, 0);
    auto peer = card(fabric, 1);
    const auto descriptors = [] {
        return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
    };
    const auto before = descriptors();
    for (int round = 0; round < 20; ++round) {
        Events events(2);
        auto exported = events.export_on(*owner).value();
        auto window = peer->open_window({host(0), exported.address(), 8}).value();
        std::array<UniqueFd, 2> relayed = {window.event(0).value(), window.event(4).value()};
        std::atomic<bool> stop{false};
        std::thread sender([&] {
            while (!stop)
                for (const auto& event : relayed)
                    signal(event);
        });
        EXPECT_TRUE(arrives(events.fds[1]));
        EXPECT_TRUE(round % 2 == 0 ? exported.withdraw() : Result<>{});
        EXPECT_TRUE(window.close());
        stop = true;
        sender.join();
    }
    EXPECT_TRUE(eventually([&] { return descriptors() == before; })) << descriptors() << " of " << before;
    Events events(1);
    const auto exported = events.export_on(*owner).value();
    const auto window = peer->open_window({host(0), exported.address(), 4}).value();
    const auto event = window.event(0).value();
    peer.reset();
    signal(event);
    EXPECT_EQ(window.event(0).error().code(), Errc::disconnected);
    owner.reset();
}

TEST(NtbCard, ChannelsBetweenCardsAndOtherHosts) {
    VirtualSwitch fabric(3);
    integration::Host first(fabric, 0, true);
    auto second = std::make_unique<integration::Host>(fabric, 1, true);
    integration::Host third(fabric, 2);
    ASSERT_TRUE(eventually([&] {
        return first.alive(1) && first.alive(2) && second->alive(0) && second->alive(2) && third.alive(0) &&
               third.alive(1);
    }));
    for (const size_t size : {0, 1, 3, 4, 9, 500})
        for (int i = 0; i < 3; ++i) {
            ASSERT_TRUE(first.echoes(1, size)) << size;
            ASSERT_TRUE(second->echoes(2, size)) << size;
            ASSERT_TRUE(third.echoes(0, size)) << size;
        }
    second.reset();
    EXPECT_TRUE(eventually([&] { return !first.alive(1) && !third.alive(1); }));
    second = std::make_unique<integration::Host>(fabric, 1, true);
    EXPECT_TRUE(eventually([&] { return first.alive(1) && third.alive(1); }));
    EXPECT_TRUE(first.echoes(1) && third.echoes(1));
}

TEST(NtbCard, HandsOutNoDescriptorsButMapsForItself) {
    VirtualSwitch fabric(2);
    auto owner = card(fabric, 0);
    auto peer = card(fabric, 1);
    const MemoryRef memory{share(create_memory("test", 65536).value()), 0, 65536};
    const auto exported = owner->export_memory(memory, Access::read_write).value();
    const auto window = peer->open_window({host(0), exported.address(), 65536}).value();
    EXPECT_TRUE(window.memory(0, 65536).value().empty());
    EXPECT_EQ(window.memory(0, 65537).error().code(), Errc::out_of_range);
    window.map().value().data()[5] = std::byte{6};
    EXPECT_EQ(Mapping::create(memory).value().data()[5], std::byte{6});
    EXPECT_EQ(window.event(2).error().code(), Errc::not_supported);
}

TEST(NtbCard, ShowsAWindowAsAPartOfItself) {
    VirtualSwitch fabric(3);
    auto owner = card(fabric, 0);
    auto peer = card(fabric, 1);
    auto other = fabric.adapter(2);
    const MemoryRef memory{share(create_memory("test", 65536).value()), 0, 65536};
    auto exported = owner->export_memory(memory, Access::read_write).value();
    const Target target{host(0), exported.address(), 65536};
    auto window = peer->open_window(target).value();
    const auto part = window.card_memory().value();
    EXPECT_EQ(part.size_bytes, 65536u);
    Mapping::create(part).value().data()[5] = std::byte{6};
    EXPECT_EQ(Mapping::create(memory).value().data()[5], std::byte{6});
    EXPECT_EQ(other->open_window(target).value().card_memory().error().code(), Errc::not_supported);
    EXPECT_EQ(owner->open_window(target).value().card_memory().error().code(), Errc::not_supported);
    // Where no BAR could lie.
    const auto odd = owner->export_memory_at({0x1000}, {memory.fd, 0, 0x2000}, Access::read_write).value();
    const auto refused = peer->open_window({host(0), odd.address(), 0x2000}).value().card_memory();
    EXPECT_EQ(refused.error().code(), Errc::no_space) << refused.error().message();
    EXPECT_TRUE(peer->open_window({host(0), odd.address() + 0x1000, 0x1000}).value().card_memory());
    EXPECT_TRUE(exported.withdraw());
    EXPECT_EQ(window.card_memory().error().code(), Errc::not_supported) << "there is nothing in one piece";
    ASSERT_TRUE(window.close());
    EXPECT_EQ(window.card_memory().error().code(), Errc::disconnected);
}

// What is at addresses alone is for somebody else to say, who maps it in the same address space.
TEST(NtbCard, ExportsAddresses) {
    VirtualSwitch fabric(2);
    auto owner = card(fabric, 0);
    auto peer = fabric.adapter(1);
    constexpr uint64_t size = 16 << 20;
    auto exported = owner->export_addresses(size).value();
    const auto second = owner->export_addresses(size).value();
    EXPECT_EQ(exported.size_bytes(), size);
    EXPECT_EQ(exported.address().value % size, 0u);
    EXPECT_GE(second.address(), exported.address() + size);
    const Target end{host(0), exported.address() + (size - 4096), 4096};
    const auto window = peer->open_window(end).value();
    std::array<std::byte, 4> data{};
    EXPECT_TRUE(window.read(0, data));
    EXPECT_EQ(data[3], std::byte{0xff});
    const auto own = owner->open_window(end).value();
    EXPECT_TRUE(own.write(0, std::array<std::byte, 4>{}));
    EXPECT_TRUE(own.read(0, data));
    EXPECT_EQ(data[3], std::byte{0xff});
    EXPECT_TRUE(own.memory(0, 4096).value().empty());
    EXPECT_EQ(own.event(0).error().code(), Errc::not_supported);
    EXPECT_EQ(own.map_for(owner->function(), {0x1000}, Access::read_only).error().code(),
              Errc::not_supported);
    const MemoryRef memory{share(create_memory("test", 4096).value()), 0, 4096};
    auto mapped = owner->function().map_dma(*Range<Iova>::create({end.address.value}, 4096), memory,
                                            Access::read_write);
    ASSERT_TRUE(mapped) << "nothing is left there: " << mapped.error().message();
    EXPECT_TRUE(window.read(0, data));
    EXPECT_EQ(data[3], std::byte{0});
    ASSERT_TRUE(mapped->unmap());
    EXPECT_TRUE(exported.withdraw());
    EXPECT_EQ(owner->open_window(end).error().code(), Errc::not_found);
}

TEST(NtbCard, ExportsNoAddressesThatItDoesNotHave) {
    VirtualSwitch fabric(3);
    auto other = fabric.adapter(2);
    EXPECT_EQ(other->export_addresses(4096).error().code(), Errc::not_supported);
    auto owner =
        Adapter::create(std::make_unique<CardFunction>(fabric.function(0).value(), 64 * gib), {}).value();
    EXPECT_EQ(owner->export_addresses(0).error().code(), Errc::invalid_argument);
    EXPECT_EQ(owner->export_addresses(4097).error().code(), Errc::invalid_argument);
    EXPECT_EQ(owner->export_addresses(64 * gib).error().code(), Errc::out_of_range);
    EXPECT_EQ(owner->export_addresses(uint64_t{1} << 62).error().code(), Errc::no_space);
    std::vector<Export> kept; // as long as the IOMMU has them
    for (Result<Export> next; (next = owner->export_addresses(16 * gib));)
        kept.push_back(std::move(*next));
    EXPECT_EQ(kept.size(), 3u);
    auto small =
        Adapter::create(std::make_unique<CardFunction>(fabric.function(1).value(), 24 * gib), {}).value();
    EXPECT_EQ(small->export_addresses(16 * gib).error().code(), Errc::out_of_range) << "it ends in between";
    EXPECT_TRUE(small->export_addresses(8 * gib));
}

// Addresses are given out in turn, until the IOMMU does not reach them any more.
TEST(NtbCard, ExportsGoOnWhereTheIommuEnds) {
    VirtualSwitch fabric(2);
    auto owner =
        Adapter::create(std::make_unique<CardFunction>(fabric.function(0).value(), 64 * gib), {}).value();
    const MemoryRef memory{share(create_memory("test", 256 << 20).value()), 0, 256 << 20};
    std::vector<Export> kept;
    for (int i = 0; i < 4; ++i)
        kept.push_back(owner->export_memory(memory, Access::read_write).value());
    for (int i = 0; i < 100; ++i) {
        const auto exported = owner->export_memory(memory, Access::read_write);
        ASSERT_TRUE(exported) << i << ": " << exported.error().message();
        ASSERT_LT(exported->address().value, uint64_t{1} << 36);
    }
    while (kept.size() < 64) {
        auto exported = owner->export_memory(memory, Access::read_write);
        if (!exported) break;
        kept.push_back(std::move(*exported));
    }
    EXPECT_LT(kept.size(), 64u);
    kept.pop_back();
    EXPECT_TRUE(owner->export_memory(memory, Access::read_write)) << "one that was withdrawn is found again";
}

// A device whose BARs are pieces of memory: what the kernel would let one map of them.
class Device final : public pci::Function {
  public:
    Device(uint64_t size_bytes, std::vector<pci::Area> mappable)
        : memory_({share(create_memory("device", 0x10000).value()), 0, 0x10000}),
          registers(Mapping::create(memory_).value()), info_({.size_bytes = size_bytes,
                                                              .readable = true,
                                                              .writable = true,
                                                              .mappable = std::move(mappable)}) {}
    const pci::RegionInfo& region(pci::Region) const override { return info_; }
    const pci::IrqInfo& irq(pci::Irq) const override { return irq_; }
    bool can_reset() const override { return true; }
    Result<> read(pci::Region, uint64_t, std::span<std::byte>) override { return {}; }
    Result<> write(pci::Region, uint64_t, std::span<const std::byte>) override { return {}; }
    Result<std::vector<pci::Extent>> memory(pci::Region, uint64_t offset, uint64_t size) override {
        std::vector<pci::Extent> extents;
        for (const auto& area : info_.mappable) {
            const uint64_t from = std::max(offset, area.offset_bytes);
            const uint64_t to = std::min(offset + size, area.offset_bytes + area.size_bytes);
            if (from < to) extents.push_back({from, {memory_.fd, from, to - from}});
        }
        return extents;
    }
    Result<UniqueFd> event(pci::Region, uint64_t) override { return fail(Errc::not_supported, "none"); }
    Result<pci::DmaMapping> map_dma(Range<Iova>, const MemoryRef&, Access) override {
        return fail(Errc::not_supported, "none");
    }
    Result<pci::DmaMapping> map_dma(Range<Iova>, std::shared_ptr<pci::DmaTarget>, Access) override {
        return fail(Errc::not_supported, "none");
    }
    Result<pci::DmaMapping> map_dma_event(Iova, const UniqueFd&) override {
        return fail(Errc::not_supported, "none");
    }
    Result<> unmap_dma(Range<Iova>) override { return {}; }
    Result<> set_irqs(pci::Irq, uint32_t, std::span<const int>) override { return {}; }
    Result<> mask_irq(pci::Irq, uint32_t, bool) override { return {}; }
    Result<> reset() override { return {}; }
    bool fresh_memory_on_reset() const override { return false; }
    bool hands_out_memory() const override { return false; }
    void on_disconnect(std::function<void()>) override {}

  private:
    MemoryRef memory_;

  public:
    Mapping registers;

  private:
    const pci::RegionInfo info_;
    const pci::IrqInfo irq_{};
};

uint32_t look(const Window& window, uint64_t offset) {
    std::array<std::byte, 4> data{};
    EXPECT_TRUE(window.read(offset, data));
    le32 value;
    std::memcpy(&value, data.data(), 4);
    return value;
}

TEST(NtbCard, ExportsABarThatIsSmallerThanAPage) {
    VirtualSwitch fabric(2);
    auto owner = card(fabric, 0);
    auto peer = fabric.adapter(1);
    Device device(256, {{0, 256}});
    device.registers.data()[8] = std::byte{7};
    const auto exported = owner->export_region(device, pci::Region::bar0, 0, 256).value();
    EXPECT_EQ(exported.size_bytes(), 256u);
    const auto window = peer->open_window({host(0), exported.address(), 256}).value();
    EXPECT_EQ(look(window, 8), 7u);
}

TEST(NtbCard, ExportsTheAreasOfABarThatItIsTold) {
    VirtualSwitch fabric(2);
    auto owner = card(fabric, 0);
    auto peer = fabric.adapter(1);
    Device device(0x4000, {{0, 0x4000}});
    device.registers.data()[0] = device.registers.data()[0x2000] = device.registers.data()[0x3000] =
        std::byte{7};
    const std::vector<pci::Area> areas = {{0, 0x2000}, {0x3000, 0x1000}};
    auto exported = owner->export_areas(device, pci::Region::bar0, 0x4000, areas).value();
    EXPECT_EQ(exported.size_bytes(), 0x4000u);
    const auto window = peer->open_window({host(0), exported.address(), 0x4000}).value();
    EXPECT_EQ(look(window, 0), 7u);
    EXPECT_EQ(look(window, 0x2000), 0xffff'ffffu);
    EXPECT_EQ(look(window, 0x3000), 7u);
    EXPECT_TRUE(exported.withdraw());
    EXPECT_EQ(look(window, 0), 0xffff'ffffu);
}

TEST(NtbCard, ExportsMemoryBetweenTheAreasOfABar) {
    VirtualSwitch fabric(2);
    auto owner = card(fabric, 0);
    auto peer = card(fabric, 1);
    Device device(0x8000, {{0, 0x8000}});
    std::memset(device.registers.data(), 7, 0x8000);
    const MemoryRef memory{share(create_memory("gaps", 0x8000).value()), 0, 0x4000};
    const auto bytes = Mapping::create(memory).value();
    for (size_t page = 0; page < 4; ++page)
        bytes.data()[page * 0x1000] = static_cast<std::byte>(0x10 + page);
    const std::vector<pci::Area> areas = {{0x1000, 0x2000}, {0x5000, 0x1000}};
    const auto map = [&](uint64_t size, const MemoryRef& in_gaps) {
        return owner->export_areas(device, pci::Region::bar0, size, areas, in_gaps);
    };
    EXPECT_EQ(map(0x8000, memory).error().code(), Errc::invalid_argument);
    const auto exported = map(0x7000, memory).value(); // gaps of 1, 2 and 1 pages
    const auto window = peer->open_window({host(0), exported.address(), 0x7000}).value();
    const std::array<uint32_t, 7> found = {0x10, 0x07070707, 0x07070707, 0x11, 0x12, 0x07070707, 0x13};
    for (size_t page = 0; page < found.size(); ++page)
        EXPECT_EQ(look(window, page * 0x1000), found[page]) << page;
    EXPECT_EQ(window.card_memory().error().code(), Errc::not_supported) << "its BARs are in pieces";
    const std::array<std::byte, 4> written{std::byte{9}};
    ASSERT_TRUE(window.write(0x3000, written));
    EXPECT_EQ(bytes.data()[0x1000], std::byte{9});
    EXPECT_EQ(device.registers.data()[0x3000], std::byte{7});
    // A BAR that is smaller than a page, and nothing but a gap.
    Device small(256, {{0, 256}});
    const auto blank =
        owner->export_areas(small, pci::Region::bar0, 256, {}, {memory.fd, 0x2000, 0x1000}).value();
    EXPECT_EQ(look(peer->open_window({host(0), blank.address(), 256}).value(), 0), 0x12u);
}

TEST(NtbCard, SaysWhichRegistersItCannotReach) {
    VirtualSwitch fabric(2);
    auto owner = card(fabric, 0);
    Device none(128, {});
    const auto refused = owner->export_region(none, pci::Region::bar1, 0, 128);
    EXPECT_EQ(refused.error().code(), Errc::not_supported);
    EXPECT_NE(refused.error().message().find("128 bytes at 0x0 of region 1"), std::string::npos)
        << refused.error().message();
    Device partly(0x4000, {{0, 0x1000}, {0x2000, 0x2000}});
    EXPECT_EQ(owner->export_region(partly, pci::Region::bar0, 0, 0x4000).error().code(), Errc::not_supported);
    EXPECT_TRUE(owner->export_region(partly, pci::Region::bar0, 0x2000, 0x2000));
}

TEST(NtbCard, ItsOwnHostSignalsWithoutTheSwitch) {
    VirtualSwitch fabric(2);
    auto owner = card(fabric, 0);
    Events events(1);
    const auto exported = events.export_on(*owner).value();
    const auto window = owner->open_window({host(0), exported.address(), 4}).value();
    signal(window.event(0).value());
    EXPECT_EQ(drain(events.fds[0]), 1u);
}

TEST(NtbCard, EventWordsAreLimited) {
    VirtualSwitch fabric(2);
    auto owner = card(fabric, 0);
    const auto eventfd = create_eventfd().value();
    const std::vector<int> many(max_event_words, eventfd.get());
    EXPECT_EQ(owner->export_events(std::span(many).first(0)).error().code(), Errc::invalid_argument);
    // One descriptor each would be more than a process has: the limit comes first only for the sum.
    std::vector<Export> kept;
    Result<Export> last;
    while ((last = owner->export_events(std::span(many).first(512)))) {
        kept.push_back(std::move(*last));
        if (kept.size() > max_event_words / 512) break;
    }
    ASSERT_FALSE(last);
    EXPECT_TRUE(last.error().code() == Errc::no_space || last.error().code() == Errc::io)
        << last.error().message();
    const auto size = kept.size();
    kept.clear();
    for (size_t i = 0; i < size / 2; ++i)
        kept.push_back(owner->export_events(std::span(many).first(512)).value());
}

TEST(NtbCard, RelaysAreLimited) {
    const auto loop = io::EventLoop::create().value();
    Relays relays(*loop);
    std::vector<UniqueFd> handed_out;
    Result<UniqueFd> last;
    for (uint64_t i = 0; (last = relays.open(&relays, 4 * i, [] {})); ++i)
        handed_out.push_back(std::move(*last));
    EXPECT_LE(handed_out.size(), max_relays);
    handed_out.clear();
    relays.close(&relays);
    while (loop->run_once(io::Duration(0))) {
    }
    EXPECT_TRUE(relays.open(&relays, 0, [] {}));
}

} // namespace
} // namespace lanepool::ntb
