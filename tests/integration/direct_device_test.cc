// SPDX-License-Identifier: Apache-2.0
//
// A lent device as an application's agent uses it.
#include "smartio/direct_device.h"

#include "integration/direct_user.h"

#include <gmock/gmock.h>

namespace lanepool::test {
namespace {

using smartio::DirectDevice;
using smartio::SegmentScope;

constexpr uint64_t page = 4096;
// Host 0 lends; it and hosts 1 and 2 use.
class OfApplications : public testing::Test {
  protected:
    OfApplications()
        : fabric(folder, 4), store(fabric, 0), a(fabric, 1), b(fabric, 2), engine(folder),
          lending(store, engine.path()) {}
    void SetUp() override {
        ASSERT_TRUE(eventually([&] {
            return store.sees(a) && store.sees(b) && a.sees(store) && b.sees(store) && a.sees(b) && b.sees(a);
        }));
        ASSERT_TRUE(lending.reset());
    }
    void use_alone(Host& host, uint64_t epoch) {
        must(lending.prepare(1, epoch, host));
        Application application(host, store, 1, epoch, false);
        must(application.attach());
        const auto& bars = application.device->bars();
        EXPECT_EQ(bars[0].size_bytes, copy_engine::bar0_bytes);
        ASSERT_EQ(bars[0].memory.size(), 1u);
        EXPECT_EQ(bars[0].memory[0].offset_bytes, copy_engine::doorbell);
        EXPECT_EQ(bars[0].whole(), nullptr);
        EXPECT_EQ(bars[0].card_memory.size_bytes, 0u);
        EXPECT_FALSE(application.device->msix_table_apart());
        EXPECT_EQ(bars[1].size_bytes, 0u);
        EXPECT_TRUE(bars[3].memory.empty());
        EXPECT_EQ(pci::get32(application.device->config(), 0), 0x00101b36u);
        EXPECT_EQ(application.device->interrupts(), copy_engine::msi_vectors);

        auto event = must(create_eventfd());
        must(application.set_interrupt(0, must(event.duplicate())));
        const auto iova = must(application.place_memory());
        std::memcpy(application.memory.bytes.data(), "by an application", 18);
        EXPECT_TRUE(application.copy(iova, iova + page, 18));
        EXPECT_STREQ(reinterpret_cast<const char*>(application.memory.bytes.data() + page),
                     "by an application");
        EXPECT_TRUE(eventually([&] { return drain(event) != 0; }));
        must(application.set_interrupt(0, UniqueFd()));
        EXPECT_TRUE(application.copy(iova, iova + page, 18));
        EXPECT_EQ(drain(event), 0u);
        must(application.unmap(iova));
        for (size_t i = 0; i < max_places; ++i)
            must(application.unmap(must(application.place_memory())));
        EXPECT_FALSE(application.copy(iova, iova + page, 18));

        must(application.place_memory());
        must(application.detach());
        EXPECT_EQ(engine.run([](auto& device) { return device.dma_maps(); }), 0u);
        EXPECT_FALSE(engine.run([](auto& device) { return device.has_interrupts(); }));
        EXPECT_EQ(engine.run([](auto& device) { return device.command() & pci::command::bus_master; }), 0);
        EXPECT_FALSE(application.failure());
        must(lending.cut(epoch));
        must(lending.reset());
    }

    TemporaryFolder folder;
    Fabric fabric;
    Host store;
    Host a;
    Host b;
    ServedEngine engine;
    Lending lending;
};

TEST_F(OfApplications, OneHasItAlone) { use_alone(a, 1); }
TEST_F(OfApplications, OneOnTheLendersHostHasItAlone) { use_alone(store, 1); }

TEST_F(OfApplications, NothingIsLeftBehind) {
    use_alone(a, 1);
    use_alone(store, 2);
    const auto count = [] { return vfio_user::testing::open_descriptors(); };
    const size_t before = count();
    const auto windows =
        std::array{store.adapter().capacity().windows_free, a.adapter().capacity().windows_free};
    for (uint64_t epoch = 3; epoch < 9; ++epoch)
        use_alone(epoch % 2 ? a : store, epoch);
    EXPECT_TRUE(eventually([&] { return count() == before; }))
        << count() << " descriptors, before " << before;
    EXPECT_EQ(store.adapter().capacity().windows_free, windows[0]);
    EXPECT_EQ(a.adapter().capacity().windows_free, windows[1]);
}

TEST_F(OfApplications, OneWithoutAFunctionLevelResetIsNotResetUnderIt) {
    engine.run([](auto& device) { device.hide_flr(); });
    must(lending.prepare(1, 1, a));
    Application user(a, store, 1, 1, false);
    must(user.attach());
    EXPECT_EQ(user.reset().error().code(), Errc::not_supported);
    const auto iova = must(user.place_memory());
    EXPECT_TRUE(user.copy(iova, iova + page, page));
}

TEST_F(OfApplications, OneIsResetUnderItsApplication) {
    must(lending.prepare(1, 1, a));
    Application user(a, store, 1, 1, false);
    must(user.attach());
    const auto iova = must(user.place_memory());
    EXPECT_TRUE(user.copy(iova, iova + page, page));
    EXPECT_EQ(pci::get16(must(user.reset()), pci::config::command), 0);
    EXPECT_EQ(user.counter(copy_engine::copies), 0u);
    must(user.set_command(pci::command::bus_master));
    EXPECT_TRUE(user.copy(iova, iova + page, page));
}

TEST_F(OfApplications, SeveralShareIt) {
    must(lending.prepare(1, 1, a, true));
    must(lending.prepare(2, 1, b, true));
    Application one(a, store, 1, 1, true), two(b, store, 2, 1, true);
    must(one.attach());
    must(two.attach());
    EXPECT_EQ(one.device->interrupts(), 0u);
    EXPECT_EQ(one.set_interrupt(0, must(create_eventfd())).error().code(), Errc::not_supported);
    const auto first = must(one.place_memory());
    const auto second = must(two.place_memory());
    EXPECT_TRUE(one.copy(first, first + page, page));
    EXPECT_TRUE(two.copy(second, second + page, page));
    must(lending.expel(1, 1));
    EXPECT_FALSE(one.failure()); // nobody has told it
    EXPECT_EQ(one.place_memory().error().code(), Errc::stale_epoch);
    ASSERT_TRUE(eventually([&] { return one.failure().has_value(); }));
    EXPECT_EQ(one.failure()->code(), Errc::stale_epoch);
    EXPECT_EQ(one.read(0, 0, 4).error().code(), Errc::stale_epoch);
    EXPECT_FALSE(one.detach()); // not confirmed, but ended
    EXPECT_TRUE(two.copy(second, second + page, page));
    EXPECT_FALSE(two.copy(second, first, page));
    EXPECT_FALSE(two.failure());
}

TEST_F(OfApplications, MemoryBesideTheDevice) {
    must(lending.prepare(1, 1, a, true));
    must(lending.prepare(2, 1, store, true));
    Application remote(a, store, 1, 1, true), local(store, store, 2, 1, true);
    must(remote.attach());
    must(local.attach());
    must(remote.create_segment(3, 2 * page, SegmentScope::device));
    EXPECT_EQ(local.create_segment(3, page, SegmentScope::device).error().code(), Errc::already_exists);
    EXPECT_EQ(local.connect_segment(3, SegmentScope::loan).error().code(), Errc::not_found);
    EXPECT_EQ(local.remove_segment(3, SegmentScope::device).error().code(), Errc::failed_precondition);
    EXPECT_EQ(local.create_segment(4, 0, SegmentScope::loan).error().code(), Errc::invalid_argument);
    for (auto* user : {&remote, &local}) {
        auto& host = user == &remote ? a : store;
        const auto target = must(user->connect_segment(3, SegmentScope::device));
        EXPECT_EQ(target.size_bytes, 2 * page);
        EXPECT_EQ(target.partition, store.partition());
        const auto bytes = must(must(host.adapter().open_window(target)).map());
        std::memcpy(bytes.data(), "beside the device", 18);
        const auto segment = must(user->place(target));
        const auto own = must(user->place_memory());
        EXPECT_TRUE(user->copy(segment, own, 18));
        EXPECT_STREQ(reinterpret_cast<const char*>(user->memory.bytes.data()), "beside the device");
        std::memset(bytes.data(), 0, 18);
    }
    must(remote.remove_segment(3, SegmentScope::device));
    EXPECT_EQ(local.connect_segment(3, SegmentScope::device).error().code(), Errc::not_found);
}

// One device's DMA goes to another device, on another host: here its doorbell.
TEST_F(OfApplications, DevicesReachEachOther) {
    const TemporaryFolder other_folder;
    ServedEngine other_engine(other_folder);
    Lending other_lending(a, other_engine.path());
    must(other_lending.reset());
    must(lending.prepare(1, 1, b));
    must(other_lending.prepare(1, 1, b));
    Application one(b, store, 1, 1, false), two(b, a, 1, 1, false);
    must(one.attach());
    must(two.attach());
    auto doorbell = two.device->bars()[0].target;
    EXPECT_EQ(doorbell.partition, a.partition());
    doorbell = {doorbell.partition, doorbell.address + copy_engine::doorbell, copy_engine::doorbell_bytes};
    const auto first = must(one.place_memory());
    const auto second = must(two.place_memory());
    const auto bell = must(one.place(doorbell));
    std::memcpy(two.memory.bytes.data(), "rung", 5);
    two.set_registers(second, second + page, 5);
    const uint32_t value = 1;
    std::memcpy(one.memory.bytes.data(), &value, sizeof value);
    ASSERT_TRUE(one.copy(first, bell, sizeof value));
    EXPECT_TRUE(eventually([&] { return two.counter(copy_engine::copies) == 1; }));
    EXPECT_STREQ(reinterpret_cast<const char*>(two.memory.bytes.data() + page), "rung");
}

TEST_F(OfApplications, MisuseIsRefused) {
    must(lending.prepare(1, 1, a));
    Application user(a, store, 1, 1, false);
    must(user.attach());
    const auto access = [&](unsigned bar, uint64_t offset, size_t size) {
        return user.read(bar, offset, size).error().code();
    };
    EXPECT_EQ(access(6, 0, 4), Errc::out_of_range);
    EXPECT_EQ(access(1, 0, 4), Errc::out_of_range);
    EXPECT_EQ(access(0, copy_engine::bar0_bytes - 3, 4), Errc::out_of_range);
    EXPECT_EQ(access(0, ~uint64_t{0}, 4), Errc::out_of_range);
    EXPECT_EQ(access(0, 0, 0), Errc::out_of_range);
    EXPECT_EQ(access(0, 0, 4097), Errc::out_of_range);
    EXPECT_EQ(user.write(0, copy_engine::bar0_bytes, uint32_t{0}).error().code(), Errc::out_of_range);
    EXPECT_EQ(user.place(a.partition(), {0x123000}, 0).error().code(), Errc::out_of_range);
    EXPECT_EQ(user.place(store.partition(), {0x123000}, page).error().code(), Errc::not_found);
    EXPECT_EQ(user.place(ntb::Partition{40}, {0x123000}, page).error().code(), Errc::out_of_range);
    EXPECT_EQ(user.place(ntb::Partition{3}, {uint64_t{1} << 33}, page).error().code(),
              Errc::failed_precondition); // is down
    EXPECT_EQ(user.unmap({0x123000}).error().code(), Errc::not_found);
    EXPECT_EQ(user.set_interrupt(copy_engine::msi_vectors, must(create_eventfd())).error().code(),
              Errc::out_of_range);
    EXPECT_FALSE(user.failure());
    Application nobody(b, store, 1, 1, false);
    EXPECT_EQ(nobody.attach().error().code(), Errc::permission_denied);
    EXPECT_FALSE(nobody.device->attached());
    EXPECT_EQ(nobody.read(0, 0, 4).error().code(), Errc::permission_denied);
    EXPECT_TRUE(nobody.detach());
    EXPECT_FALSE(nobody.failure());
}

TEST_F(OfApplications, ALenderIsNotBelieved) {
    must(lending.prepare(1, 1, a));
    Application user(a, store, 1, 1, false);
    const auto says = [&](smartio::LoanRequest request, std::optional<Body> answer) {
        store.thread.run([&] {
            store.lie = [request, answer](uint16_t kind) {
                return kind == static_cast<uint16_t>(request) ? answer : std::nullopt;
            };
        });
    };
    says(smartio::LoanRequest::open, Body(100));
    EXPECT_EQ(user.attach().error().code(), Errc::protocol);
    says(smartio::LoanRequest::open, std::nullopt);
    must(user.attach());
    const auto iova = must(user.place_memory());
    for (const Body& answer :
         {Body(7), Body(9), encode(smartio::Placed{iova}), encode(smartio::Placed{iova + page}),
          encode(smartio::Placed{{iova.value - page}})}) {
        says(smartio::LoanRequest::place, answer);
        EXPECT_EQ(user.place_memory().error().code(), Errc::protocol);
    }
    says(smartio::LoanRequest::place, encode(smartio::Placed{{~uint64_t{0}}}));
    EXPECT_EQ(user.place_memory().error().code(), Errc::out_of_range);
    says(smartio::LoanRequest::connect_segment, encode(smartio::ConnectedSegment{{~uint64_t{0}}, page}));
    EXPECT_EQ(user.connect_segment(1, SegmentScope::loan).error().code(), Errc::out_of_range);
    says(smartio::LoanRequest::close, std::nullopt);
    EXPECT_TRUE(user.copy(iova, iova + page, page));
}

TEST_F(OfApplications, ALenderThatDiesEndsTheLoan) {
    must(lending.prepare(1, 1, a));
    Application user(a, store, 1, 1, false);
    must(user.attach());
    a.thread.run([&] { user.device->lender_lost(); });
    ASSERT_TRUE(eventually([&] { return user.failure().has_value(); }));
    EXPECT_EQ(user.failure()->code(), Errc::disconnected);
    EXPECT_EQ(user.place_memory().error().code(), Errc::disconnected);
    EXPECT_EQ(user.detach().error().code(), Errc::disconnected);
}

TEST_F(OfApplications, OneMayBeForgottenAtAnyTime) {
    must(lending.prepare(1, 1, a));
    for (int round = 0; round < 8; ++round) {
        Application user(a, store, 1, 1, false);
        a.thread.run([&] {
            user.device = must(DirectDevice::attach(
                {&a.thread.loop(),
                 &a.adapter(),
                 &a.channel(),
                 store.partition(),
                 {test_fdid, 1, 1},
                 false,
                 true,
                 {}},
                {[&](Result<>) { user.device.reset(); }, {}})); // also from inside its own event
        });
        std::this_thread::sleep_for(std::chrono::microseconds(200 * round));
    }
    Application user(a, store, 1, 1, false);
    EXPECT_TRUE(user.attach());
}

} // namespace
} // namespace lanepool::test
