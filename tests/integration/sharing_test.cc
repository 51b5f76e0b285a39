// SPDX-License-Identifier: Apache-2.0
//
// One device, lent to several at the same time: each does what an application's agent does, with the lender's
// requests alone.
#include "integration/lending_hosts.h"

#include "smartio/register_windows.h"

#include <gmock/gmock.h>
#include <numeric>

namespace lanepool::test {
namespace {

using smartio::LenderState;
using smartio::LoanRequest;
using smartio::SegmentScope;

constexpr uint64_t page = 4096;
constexpr uint64_t ram_bytes = 16 * page;
using Body = std::vector<std::byte>;

Range<Iova> iovas(uint64_t start, uint64_t size) { return *Range<Iova>::create({start}, size); }

// A user of the device on HOST, with some memory of its own.
class Sharer {
  public:
    Sharer(Host& host, Host& lender, uint64_t loan, uint64_t epoch)
        : key{test_fdid, loan, epoch}, host_(host), lender_(lender),
          ram_memory_{share(must(create_memory("sharer", ram_bytes))), 0, ram_bytes},
          ram(must(Mapping::create(ram_memory_))),
          exported(must(host.adapter().export_memory(ram_memory_, Access::read_write))) {}

    Result<Body> ask(LoanRequest request, const Body& body) {
        const auto answer = std::make_shared<std::promise<Result<Body>>>();
        host_.channel().request(lender_.partition(), static_cast<uint16_t>(request), body,
                                std::chrono::seconds(10),
                                [answer](Result<Body> result) { answer->set_value(std::move(result)); });
        return answer->get_future().get();
    }
    Result<Body> ask(LoanRequest request) { return ask(request, smartio::encode_key(key)); }
    Errc code(LoanRequest request, const Body& body) {
        const auto answer = ask(request, body);
        return answer ? Errc::internal : answer.error().code();
    }
    Errc code(LoanRequest request) { return code(request, smartio::encode_key(key)); }

    Result<> open() {
        const auto opened = TRY(smartio::decode_opened(TRY(ask(LoanRequest::open))));
        windows = TRY(smartio::RegisterWindows::open(host_.adapter(), lender_.partition(), opened));
        const auto extents =
            windows->memory(pci::Region::bar0, copy_engine::doorbell, copy_engine::doorbell_bytes);
        if (extents.size() != 1) return fail(Errc::internal, "the doorbell cannot be mapped");
        doorbell_ = TRY(Mapping::create(extents[0].memory));
        return {};
    }
    Result<> command(uint16_t value) {
        return ask(LoanRequest::config_write, encode(smartio::ConfigWriteRequest{key, 4, value}))
            .map([](auto&&) {});
    }
    Result<Iova> place(ntb::Partition partition, BusAddress address, uint64_t size,
                       Access access = Access::read_write) {
        const auto answer = TRY(
            ask(LoanRequest::place, encode(smartio::PlaceRequest{key, partition, address, size, access})));
        return TRY(smartio::decode_placed(answer)).iova;
    }
    Result<> place_ram() {
        iova = TRY(place(host_.partition(), exported.address(), ram_bytes));
        return {};
    }
    Errc unmap(Iova start, uint64_t size) {
        const auto answer =
            ask(LoanRequest::unmap, encode(smartio::UnmapRequest{key, iovas(start.value, size)}));
        return answer ? Errc::internal : answer.error().code();
    }
    // All that it needs to copy.
    void use() {
        must(open());
        must(place_ram());
        must(command(pci::command::memory_space | pci::command::bus_master));
    }
    uint32_t counter(uint64_t reg) {
        le32 value;
        must(windows->read(pci::Region::bar0, reg, std::as_writable_bytes(std::span(&value, 1))));
        return value;
    }
    // Lets the device copy; whether it could. One user at a time, as they would agree among themselves.
    bool copy(Iova from, Iova to, uint32_t size) {
        const le64 source = from.value, destination = to.value;
        const le32 bytes = size;
        must(windows->write(pci::Region::bar0, copy_engine::source, std::as_bytes(std::span(&source, 1))));
        must(windows->write(pci::Region::bar0, copy_engine::destination,
                            std::as_bytes(std::span(&destination, 1))));
        must(windows->write(pci::Region::bar0, copy_engine::size, std::as_bytes(std::span(&bytes, 1))));
        const uint32_t copies = counter(copy_engine::copies), failures = counter(copy_engine::failures);
        uint32_t rung;
        std::memcpy(&rung, doorbell_.data(), sizeof rung);
        ++rung;
        std::memcpy(doorbell_.data(), &rung, sizeof rung);
        bool copied = false;
        eventually([&] {
            copied = counter(copy_engine::copies) != copies;
            return copied || counter(copy_engine::failures) != failures;
        });
        return copied;
    }
    bool copies_its_own() {
        std::memset(ram.data(), ++value_, page);
        return copy(iova, iova + page, page) && ram.data()[2 * page - 1] == static_cast<std::byte>(value_);
    }

    Result<Body> create_segment(uint32_t id, uint64_t size, SegmentScope scope) {
        return ask(LoanRequest::create_segment, encode(smartio::CreateSegmentRequest{key, id, scope, size}));
    }
    Result<smartio::ConnectedSegment> connect_segment(uint32_t id, SegmentScope scope) {
        return smartio::decode_connected_segment(
            TRY(ask(LoanRequest::connect_segment, encode(smartio::SegmentRequest{key, id, scope}))));
    }
    Result<Body> remove_segment(uint32_t id, SegmentScope scope) {
        return ask(LoanRequest::remove_segment, encode(smartio::SegmentRequest{key, id, scope}));
    }

    const smartio::LoanKey key;

  private:
    Host& host_;
    Host& lender_;
    MemoryRef ram_memory_;
    Mapping doorbell_;
    int value_ = 0;

  public:
    Mapping ram;
    ntb::Export exported;
    std::shared_ptr<const smartio::RegisterWindows> windows;
    Iova iova;
};

// Host 0 lends; it and hosts 1 and 2 use.
class Shared : public testing::Test {
  protected:
    explicit Shared(smartio::LenderOptions options = {})
        : fabric(folder, 4), store(fabric, 0), a(fabric, 1), b(fabric, 2), engine(folder),
          lending(store, engine.path(), std::chrono::seconds(1), options) {}
    void SetUp() override {
        ASSERT_TRUE(eventually([&] {
            return store.sees(a) && store.sees(b) && a.sees(store) && b.sees(store) && a.sees(b) && b.sees(a);
        }));
        ASSERT_TRUE(lending.reset());
    }
    size_t dma_maps() {
        return engine.run([](auto& device) { return device.dma_maps(); });
    }
    bool bus_master() {
        return engine.run([](auto& device) { return (device.command() & pci::command::bus_master) != 0; });
    }

    TemporaryFolder folder;
    Fabric fabric;
    Host store;
    Host a;
    Host b;
    ServedEngine engine;
    Lending lending;
};

TEST_F(Shared, TwoHostsUseItAtTheSameTime) {
    must(lending.prepare(1, 1, a, true));
    must(lending.prepare(2, 1, b, true));
    EXPECT_TRUE(lending.prepare(2, 1, b, true)); // the same once more is no harm
    EXPECT_EQ(lending.status().loans,
              (std::vector<smartio::LentLoan>{{1, a.partition()}, {2, b.partition()}}));
    EXPECT_TRUE(lending.status().shared);
    Sharer one(a, store, 1, 1), two(b, store, 2, 1);
    one.use();
    two.use();
    EXPECT_NE(one.iova, two.iova);
    EXPECT_TRUE(one.copies_its_own());
    EXPECT_TRUE(two.copies_its_own());
    EXPECT_TRUE(one.copies_its_own());
    EXPECT_EQ(lending.status().memory_maps, 2u);
    // Each is known by its own loan only.
    Sharer thief(b, store, 1, 1), stranger(b, store, 3, 1);
    EXPECT_EQ(thief.open().error().code(), Errc::permission_denied);
    EXPECT_EQ(stranger.open().error().code(), Errc::permission_denied);
}

TEST_F(Shared, TheExpelledOneIsOutAndTheOtherGoesOn) {
    must(lending.prepare(1, 1, a, true));
    must(lending.prepare(2, 1, b, true));
    Sharer one(a, store, 1, 1), two(b, store, 2, 1);
    one.use();
    two.use();
    ASSERT_TRUE(one.copies_its_own());
    must(one.create_segment(1, page, SegmentScope::loan));
    const auto segment = must(one.connect_segment(1, SegmentScope::loan));
    const le64 kept = 0x1122334455667788;
    must(two.windows->write(pci::Region::bar0, copy_engine::scratch, std::as_bytes(std::span(&kept, 1))));

    ASSERT_TRUE(lending.expel(1, 1));
    EXPECT_EQ(lending.status().loans, (std::vector<smartio::LentLoan>{{2, b.partition()}}));
    EXPECT_EQ(lending.status().key.loan, 2u);
    EXPECT_EQ(lending.status().memory_maps, 1u);
    EXPECT_EQ(lending.state(), LenderState::lent);
    // It can ask for nothing, its windows lead nowhere, and the device does not reach its memory.
    EXPECT_EQ(one.code(LoanRequest::open), Errc::stale_epoch);
    EXPECT_EQ(one.place_ram().error().code(), Errc::stale_epoch);
    EXPECT_EQ(one.counter(copy_engine::copies), ~0u);
    EXPECT_EQ(dma_maps(), 1u);
    std::memset(one.ram.data(), 0, ram_bytes);
    EXPECT_FALSE(two.copy(two.iova, one.iova, page));
    EXPECT_FALSE(two.copy(one.iova, two.iova, page));
    EXPECT_EQ(one.ram.data()[0], std::byte{0});
    EXPECT_EQ(
        must(a.adapter().open_window({store.partition(), segment.address, page})).memory(0, page)->size(),
        0u);
    // The other one notices nothing: no reset, bus master on, its memory in place.
    EXPECT_TRUE(bus_master());
    EXPECT_TRUE(two.copies_its_own());
    le64 value;
    must(two.windows->read(pci::Region::bar0, copy_engine::scratch,
                           std::as_writable_bytes(std::span(&value, 1))));
    EXPECT_EQ(value, kept);
    // A step that comes late, or twice.
    EXPECT_TRUE(lending.expel(1, 1));
    EXPECT_EQ(lending.prepare(1, 1, a, true).error().code(), Errc::stale_epoch);
    EXPECT_EQ(lending.expel(2, 0).error().code(), Errc::stale_epoch);
    EXPECT_EQ(lending.expel(2, 2).error().code(), Errc::failed_precondition);
}

TEST_F(Shared, DmaGoesOnWhileOthersComeAndGo) {
    must(lending.prepare(1, 1, a, true));
    Sharer steady(a, store, 1, 1);
    steady.use();
    std::atomic<bool> stop{false};
    auto copies = std::async(std::launch::async, [&] {
        int done = 0;
        while (!stop && steady.copies_its_own())
            ++done;
        return stop ? done : -1;
    });
    for (uint64_t loan = 2; loan < 12; ++loan) {
        must(lending.prepare(loan, 1, b, true));
        Sharer guest(b, store, loan, 1);
        must(guest.open());
        must(guest.place_ram());
        must(guest.command(pci::command::bus_master));
        must(lending.expel(loan, 1));
    }
    stop = true;
    EXPECT_GT(copies.get(), 0);
    EXPECT_EQ(dma_maps(), 1u);
    EXPECT_EQ(lending.status().loans.size(), 1u);
}

TEST_F(Shared, OnlySharedLoansOfOneEpochJoin) {
    must(lending.prepare(1, 5, a, true));
    EXPECT_EQ(lending.prepare(2, 5, b, false).error().code(), Errc::busy);
    EXPECT_EQ(lending.prepare(2, 6, b, true).error().code(), Errc::busy);
    EXPECT_EQ(lending.prepare(2, 4, b, true).error().code(), Errc::stale_epoch);
    EXPECT_EQ(lending.prepare(1, 5, b, true).error().code(),
              Errc::busy); // another host's loan of that number
    EXPECT_EQ(lending.expel(1, 5).error().code(), Errc::failed_precondition); // the last one
    EXPECT_EQ(lending.state(), LenderState::lent);
    must(lending.cut(5));
    EXPECT_EQ(lending.expel(1, 5).error().code(), Errc::failed_precondition);
    must(lending.reset());
    must(lending.prepare(3, 6, a, false));
    for (const bool shared : {false, true})
        EXPECT_EQ(lending.prepare(4, 6, b, shared).error().code(), Errc::stale_epoch);
    EXPECT_EQ(lending.prepare(4, 7, b, true).error().code(), Errc::busy);
}

TEST_F(Shared, ACutClosesThemAll) {
    must(lending.prepare(1, 1, a, true));
    must(lending.prepare(2, 1, b, true));
    Sharer one(a, store, 1, 1), two(b, store, 2, 1);
    one.use();
    two.use();
    must(one.create_segment(1, page, SegmentScope::device));
    const auto segment = must(two.connect_segment(1, SegmentScope::device));
    must(lending.cut(2));
    EXPECT_EQ(dma_maps(), 0u);
    EXPECT_FALSE(bus_master());
    EXPECT_TRUE(lending.status().loans.empty());
    for (auto* user : {&one, &two}) {
        EXPECT_EQ(user->code(LoanRequest::open), Errc::stale_epoch);
        EXPECT_EQ(user->counter(copy_engine::copies), ~0u);
    }
    EXPECT_TRUE(
        must(a.adapter().open_window({store.partition(), segment.address, page})).memory(0, page)->empty());
    EXPECT_EQ(store.adapter().capacity().windows_free, a.adapter().capacity().windows_free + 3);
    must(lending.reset());
    must(lending.prepare(3, 3, b));
}

TEST_F(Shared, NobodyHarmsTheOthers) {
    must(lending.prepare(1, 1, a, true));
    must(lending.prepare(2, 1, b, true));
    Sharer one(a, store, 1, 1), two(b, store, 2, 1);
    one.use();
    two.use();
    EXPECT_EQ(one.code(LoanRequest::reset), Errc::busy);
    EXPECT_EQ(
        one.code(LoanRequest::set_irqs, encode(smartio::SetIrqsRequest{one.key, pci::Irq::msi, {}, {true}})),
        Errc::not_supported);
    EXPECT_EQ(
        one.code(LoanRequest::mask_irq, encode(smartio::MaskIrqRequest{one.key, pci::Irq::intx, 0, true})),
        Errc::not_supported);
    must(one.command(0)); // it has turned off what it had turned on, no more
    EXPECT_TRUE(bus_master());
    EXPECT_TRUE(two.copies_its_own());
    EXPECT_EQ(one.unmap(two.iova, ram_bytes), Errc::not_found);
    // Its client has gone: its own memory only. The addresses that it had chosen are free again.
    const auto map_at_its_choice = [](Sharer& user) {
        return user.ask(LoanRequest::map,
                        encode(smartio::MapRequest{user.key, iovas(0x10000, page), user.exported.address(),
                                                   Access::read_write}));
    };
    must(map_at_its_choice(one));
    EXPECT_FALSE(map_at_its_choice(two));
    must(one.command(pci::command::bus_master));
    must(one.ask(LoanRequest::close));
    EXPECT_EQ(dma_maps(), 1u);
    must(map_at_its_choice(two));
    EXPECT_EQ(two.unmap({0x10000}, page), Errc::internal); // no error
    EXPECT_TRUE(two.copies_its_own());
    // And comes back.
    one.use();
    EXPECT_TRUE(one.copies_its_own());
    must(two.command(0));
    EXPECT_TRUE(bus_master());
    must(one.command(0));
    EXPECT_FALSE(bus_master());
    // Who is alone may reset it.
    must(lending.expel(2, 1));
    EXPECT_TRUE(one.ask(LoanRequest::reset));
    EXPECT_EQ(one.counter(copy_engine::copies), 0u);
}

TEST_F(Shared, PlacesAreChosenByTheLender) {
    must(lending.prepare(1, 1, a, true));
    Sharer one(a, store, 1, 1);
    one.use();
    EXPECT_GE(one.iova.value, uint64_t{1} << 32);
    // Memory of a third host's.
    Sharer other(b, store, 9, 9);
    const auto there = must(one.place(b.partition(), other.exported.address(), ram_bytes));
    std::memcpy(one.ram.data(), "to a third host", 16);
    EXPECT_TRUE(one.copy(one.iova, there, 16));
    EXPECT_STREQ(reinterpret_cast<const char*>(other.ram.data()), "to a third host");
    const auto for_reading =
        must(one.place(b.partition(), other.exported.address(), page, Access::read_only));
    EXPECT_FALSE(one.copy(one.iova, for_reading, 16));
    EXPECT_TRUE(one.copy(for_reading, one.iova, 16));

    const auto map_at = [&](uint64_t at) {
        return one.code(LoanRequest::map,
                        encode(smartio::MapRequest{one.key, iovas(at, page), one.exported.address(),
                                                   Access::read_write}));
    };
    EXPECT_EQ(map_at(there.value + page), Errc::already_exists);
    EXPECT_EQ(map_at(0x10000), Errc::internal); // no error
    EXPECT_EQ(map_at(0x10800), Errc::already_exists);
    EXPECT_EQ(one.unmap({0x10000}, page), Errc::internal);
    EXPECT_EQ(map_at(0x10800), Errc::internal);

    EXPECT_EQ(one.unmap(there + page, page), Errc::not_found);
    EXPECT_EQ(one.unmap(there, page), Errc::not_found);
    EXPECT_EQ(one.unmap(there, ram_bytes), Errc::internal);
    EXPECT_FALSE(one.copy(one.iova, there, 16));

    const auto refused = [&](ntb::Partition partition, uint64_t address, uint64_t size) {
        return one.place(partition, {address}, size).error().code();
    };
    EXPECT_EQ(refused(store.partition(), 0x123000, page), Errc::not_found); // nothing there
    EXPECT_EQ(refused(ntb::Partition{40}, 0, page), Errc::out_of_range);
    EXPECT_EQ(refused(ntb::Partition{3}, 0, page), Errc::failed_precondition);       // nobody has that port
    EXPECT_EQ(refused(b.partition(), 0, uint64_t{1} << 43), Errc::invalid_argument); // over the mailboxes
    EXPECT_EQ(refused(b.partition(), uint64_t{1} << 33, uint64_t{1} << 43), Errc::no_space);
    for (const auto* host : {&store, &a, &b})
        EXPECT_EQ(refused(host->partition(), (uint64_t{1} << 30) + page, page), Errc::invalid_argument);
    EXPECT_EQ(dma_maps(), 3u);
}

TEST_F(Shared, SegmentsBesideTheDevice) {
    must(lending.prepare(1, 1, a, true));
    must(lending.prepare(2, 1, b, true));
    Sharer one(a, store, 1, 1), two(b, store, 2, 1);
    one.use();
    must(one.create_segment(5, 100, SegmentScope::device));
    must(one.create_segment(5, page, SegmentScope::loan));
    must(two.create_segment(5, page, SegmentScope::loan)); // another one
    EXPECT_EQ(two.create_segment(5, page, SegmentScope::device).error().code(), Errc::already_exists);
    EXPECT_EQ(one.create_segment(5, page, SegmentScope::loan).error().code(), Errc::already_exists);
    EXPECT_EQ(one.connect_segment(6, SegmentScope::device).error().code(), Errc::not_found);
    EXPECT_EQ(two.remove_segment(5, SegmentScope::device).error().code(), Errc::failed_precondition);

    // What the device writes to it, both see.
    const auto shared = must(one.connect_segment(5, SegmentScope::device));
    EXPECT_EQ(shared.size_bytes, page);
    EXPECT_EQ(must(two.connect_segment(5, SegmentScope::device)), shared);
    EXPECT_NE(must(one.connect_segment(5, SegmentScope::loan)),
              must(two.connect_segment(5, SegmentScope::loan)));
    const auto iova = must(one.place(store.partition(), shared.address, page));
    std::memcpy(one.ram.data(), "beside", 7);
    EXPECT_TRUE(one.copy(one.iova, iova, 7));
    auto window = must(b.adapter().open_window({store.partition(), shared.address, page}));
    EXPECT_STREQ(reinterpret_cast<const char*>(must(window.map()).data()), "beside");
    EXPECT_TRUE(one.copy(iova + 2, one.iova, 5));
    EXPECT_STREQ(reinterpret_cast<const char*>(one.ram.data()), "side");

    // Its maker goes: what it alone saw goes too. What others see may then be removed by them.
    const auto own = must(one.connect_segment(5, SegmentScope::loan));
    must(lending.expel(1, 1));
    EXPECT_TRUE(
        must(b.adapter().open_window({store.partition(), own.address, page})).memory(0, page)->empty());
    EXPECT_EQ(must(two.connect_segment(5, SegmentScope::device)), shared);
    EXPECT_TRUE(two.remove_segment(5, SegmentScope::device));
    EXPECT_EQ(two.connect_segment(5, SegmentScope::device).error().code(), Errc::not_found);
    EXPECT_TRUE(window.memory(0, page)->empty());
    // The last one's client goes.
    must(two.create_segment(7, page, SegmentScope::device));
    must(two.ask(LoanRequest::close));
    EXPECT_EQ(two.connect_segment(7, SegmentScope::device).error().code(), Errc::not_found);
    EXPECT_EQ(two.connect_segment(5, SegmentScope::loan).error().code(), Errc::not_found);
}

class SharedWithLimits : public Shared {
  protected:
    SharedWithLimits() : Shared(limits()) {}
    static smartio::LenderOptions limits() {
        smartio::LenderOptions options;
        options.max_memory_maps = 2;
        options.max_segments = 2;
        options.max_segment_bytes = 4 * page;
        options.max_shared_loans = 6;
        return options;
    }
};

TEST_F(SharedWithLimits, NothingGrowsWithoutOne) {
    for (uint64_t loan = 1; loan <= 6; ++loan)
        must(lending.prepare(loan, 1, a, true));
    EXPECT_EQ(lending.prepare(7, 1, b, true).error().code(), Errc::no_space);
    Sharer one(a, store, 1, 1);
    must(one.place_ram());
    must(one.place_ram());
    EXPECT_EQ(one.place_ram().error().code(), Errc::no_space);
    EXPECT_EQ(one.create_segment(1, 4 * page + 1, SegmentScope::loan).error().code(), Errc::no_space);
    EXPECT_EQ(one.create_segment(1, ~uint64_t{0}, SegmentScope::loan).error().code(), Errc::no_space);
    must(one.create_segment(1, 3 * page, SegmentScope::loan));
    EXPECT_EQ(one.create_segment(2, 2 * page, SegmentScope::device).error().code(), Errc::no_space);
    must(one.create_segment(2, page, SegmentScope::device));
    must(one.remove_segment(1, SegmentScope::loan));
    must(one.create_segment(3, page, SegmentScope::device));
    EXPECT_EQ(one.create_segment(4, page, SegmentScope::loan).error().code(), Errc::no_space);
    // Who comes later does not get more by what others have left behind.
    uint32_t id = 4;
    for (uint64_t loan = 2; loan <= 4; ++loan) {
        Sharer next(a, store, loan, 1);
        must(next.create_segment(id++, page, SegmentScope::device));
        must(next.create_segment(id++, page, SegmentScope::device));
        must(lending.expel(loan, 1));
    }
    Sharer last(a, store, 5, 1);
    EXPECT_EQ(last.create_segment(99, page, SegmentScope::loan).error().code(), Errc::no_space);
    must(last.remove_segment(4, SegmentScope::device));
    must(last.create_segment(99, page, SegmentScope::loan));
}

TEST_F(Shared, AHostUsesItsOwnDevice) {
    must(lending.prepare(1, 1, store, true));
    must(lending.prepare(2, 1, a, true));
    Sharer own(store, store, 1, 1), remote(a, store, 2, 1);
    const auto windows = store.adapter().capacity().windows_free;
    own.use();
    const auto map = [&](BusAddress address) {
        return own.ask(LoanRequest::map, encode(smartio::MapRequest{own.key, iovas(0x10000, page), address,
                                                                    Access::read_write}));
    };
    EXPECT_EQ(map({0x123000}).error().code(), Errc::not_found);
    EXPECT_TRUE(map(own.exported.address()));              // the failure has left nothing behind
    EXPECT_EQ(own.unmap({0x10000}, page), Errc::internal); // no error
    EXPECT_EQ(store.adapter().capacity().windows_free, windows);
    remote.use();
    EXPECT_TRUE(own.copies_its_own());
    EXPECT_TRUE(remote.copies_its_own());
    std::memcpy(own.ram.data(), "to another host", 16);
    EXPECT_TRUE(own.copy(own.iova, remote.iova, 16));
    EXPECT_STREQ(reinterpret_cast<const char*>(remote.ram.data()), "to another host");
    must(lending.expel(1, 1));
    EXPECT_EQ(own.counter(copy_engine::copies), ~0u);
    EXPECT_TRUE(remote.copies_its_own());
    EXPECT_EQ(dma_maps(), 1u);
    must(lending.cut(1));
}

TEST_F(Shared, AHostHasItsOwnDeviceAloneWithInterrupts) {
    must(lending.prepare(1, 1, store));
    Sharer own(store, store, 1, 1);
    own.use();
    const auto event = must(create_eventfd());
    const std::array eventfds{event.get()};
    const auto exported = must(store.adapter().export_events(eventfds));
    must(own.ask(LoanRequest::set_irqs,
                 encode(smartio::SetIrqsRequest{own.key, pci::Irq::msi, exported.address(), {true}})));
    EXPECT_TRUE(own.copies_its_own());
    EXPECT_TRUE(eventually([&] { return drain(event) != 0; }));
    must(lending.cut(1));
    EXPECT_FALSE(engine.run([](auto& device) { return device.has_interrupts(); }));
}

} // namespace
} // namespace lanepool::test
