// SPDX-License-Identifier: Apache-2.0
//
// The adapter driver against the virtual switch.
#include "base/endian.h"
#include "integration/virtual_switch.h"
#include "ntb/switchtec.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>

namespace lanepool::ntb {
namespace {

using integration::VirtualSwitch;

constexpr uint64_t mib = uint64_t{1} << 20;

Partition host(unsigned index) { return Partition{static_cast<uint8_t>(index)}; }

MemoryRef memory_of(uint64_t size_bytes) {
    return {share(create_memory("test", size_bytes).value()), 0, size_bytes};
}

// Something exported, and the same seen by its owner.
struct Shared {
    Shared(Adapter& owner, uint64_t size_bytes)
        : memory(memory_of(size_bytes)), bytes(Mapping::create(memory).value()),
          exported(owner.export_memory(memory, Access::read_write).value()) {}
    Target target(Adapter& owner) const { return {owner.partition(), exported.address(), memory.size_bytes}; }
    MemoryRef memory;
    Mapping bytes;
    Export exported;
};

std::array<std::byte, 4> word(const Window& window) {
    std::array<std::byte, 4> data{};
    EXPECT_TRUE(window.read(0, data));
    return data;
}
constexpr std::array<std::byte, 4> all_ones = {std::byte{0xff}, std::byte{0xff}, std::byte{0xff},
                                               std::byte{0xff}};

TEST(Adapter, KnowsWhereItIs) {
    VirtualSwitch fabric(4);
    auto adapter = fabric.adapter(2);
    EXPECT_EQ(adapter->partition(), host(2));
    EXPECT_EQ(adapter->peers(), (std::vector<Partition>{host(0), host(1), host(3)}));
    EXPECT_TRUE(adapter->link_up(host(2)).value());
    EXPECT_FALSE(adapter->link_up(host(0)).value());
    EXPECT_EQ(adapter->link_up(host(9)).error().code(), Errc::not_found);
    EXPECT_GE(adapter->capacity().windows, 512u);
}

// With 32 ports the lower half of the switch's map of partitions is all-ones.
TEST(Adapter, KnowsAsManyOthersAsASwitchCanHave) {
    for (const unsigned ports : {32u, 33u, 48u}) {
        VirtualSwitch fabric(ports);
        EXPECT_EQ(fabric.adapter(0)->peers().size(), ports - 1);
    }
}

TEST(Adapter, AWindowIsTheMemoryThatWasExported) {
    VirtualSwitch fabric(2);
    auto lender = fabric.adapter(0);
    auto borrower = fabric.adapter(1);
    Shared shared(*lender, 64 * 1024);
    auto window = borrower->open_window(shared.target(*lender)).value();

    auto mapped = window.map().value();
    std::memcpy(shared.bytes.data() + 100, "hello", 5);
    EXPECT_EQ(std::memcmp(mapped.data() + 100, "hello", 5), 0);
    mapped.data()[200] = std::byte{7};
    EXPECT_EQ(shared.bytes.data()[200], std::byte{7});

    const std::array data = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
    EXPECT_TRUE(window.write(300, data));
    EXPECT_EQ(std::memcmp(shared.bytes.data() + 300, data.data(), 4), 0);
    std::array<std::byte, 4> read{};
    EXPECT_EQ(window.read(64 * 1024 - 3, read).error().code(), Errc::out_of_range);
}

TEST(Adapter, APartOfAnExportCanBeTheTarget) {
    VirtualSwitch fabric(2);
    auto lender = fabric.adapter(0);
    auto borrower = fabric.adapter(1);
    Shared shared(*lender, 64 * 1024);
    shared.bytes.data()[0x5123] = std::byte{9};
    auto window =
        borrower->open_window({lender->partition(), shared.exported.address() + 0x5123, 17}).value();
    EXPECT_EQ(window.map().value().data()[0], std::byte{9});
    EXPECT_EQ(window.size_bytes(), 17u);
}

// Guest memory: larger than any small slot, and than any LUT slot.
TEST(Adapter, OpensLargeWindows) {
    fabric::SwitchOptions options;
    options.ports = 2;
    options.bar4_bytes = 1024 * mib; // 64 x 8 MiB, and a direct window of 512 MiB
    VirtualSwitch fabric(options);
    auto lender = fabric.adapter(0);
    auto borrower = fabric.adapter(1);
    for (const uint64_t size : {3 * mib, 20 * mib, 511 * mib}) {
        Shared shared(*borrower, size);
        auto window = lender->open_window(shared.target(*borrower)).value();
        auto mapped = window.map();
        ASSERT_TRUE(mapped) << size << ": " << mapped.error().message();
        mapped->data()[size - 1] = std::byte{5};
        EXPECT_EQ(shared.bytes.data()[size - 1], std::byte{5});
    }
    // All LUT windows together, and the direct window.
    Shared first(*borrower, 511 * mib), second(*borrower, 511 * mib);
    const std::array targets = {first.target(*borrower), second.target(*borrower)};
    auto both = lender->open_windows(targets).value();
    both[0].map().value().data()[0] = std::byte{1};
    both[1].map().value().data()[511 * mib - 1] = std::byte{2};
    EXPECT_EQ(first.bytes.data()[0], std::byte{1});
    EXPECT_EQ(second.bytes.data()[511 * mib - 1], std::byte{2});
    EXPECT_TRUE(lender->close_windows(std::move(both)));
    Shared too_large(*borrower, 513 * mib);
    const auto refused = lender->open_window(too_large.target(*borrower));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::no_space);
}

TEST(Adapter, AWindowToNothingReadsAllOnes) {
    VirtualSwitch fabric(2);
    auto lender = fabric.adapter(0);
    auto borrower = fabric.adapter(1);
    auto window = borrower->open_window({host(0), BusAddress{uint64_t{1} << 40}, 4096}).value();
    EXPECT_EQ(word(window), all_ones);
    EXPECT_EQ(window.map().error().code(), Errc::not_supported);
}

TEST(Adapter, AWithdrawnExportReadsAllOnes) {
    VirtualSwitch fabric(2);
    auto lender = fabric.adapter(0);
    auto borrower = fabric.adapter(1);
    auto shared = std::make_optional<Shared>(*lender, 4096);
    auto window = borrower->open_window(shared->target(*lender)).value();
    EXPECT_EQ(word(window), (std::array<std::byte, 4>{}));
    EXPECT_TRUE(shared->exported.withdraw());
    EXPECT_EQ(word(window), all_ones);
    // The address is free again, and whoever gets it next is what the old window shows: so close first.
    shared.reset();
    EXPECT_TRUE(window.close());
    std::array<std::byte, 4> data;
    EXPECT_EQ(window.read(0, data).error().code(), Errc::disconnected);
}

TEST(Adapter, EventsArriveAsSignals) {
    VirtualSwitch fabric(2);
    auto borrower = fabric.adapter(0);
    auto lender = fabric.adapter(1);
    const auto first = create_eventfd().value();
    const auto third = create_eventfd().value();
    const std::array eventfds = {first.get(), -1, third.get()};
    auto exported = borrower->export_events(eventfds).value();
    EXPECT_EQ(exported.size_bytes(), 12u);
    auto window = lender->open_window({host(0), exported.address(), 12}).value();
    const auto event = window.event(8).value();
    signal(event);
    EXPECT_EQ(drain(third), 1u);
    const std::array<std::byte, 4> data{};
    EXPECT_TRUE(window.write(0, data));
    EXPECT_EQ(drain(first), 1u);
    EXPECT_TRUE(window.write(4, data)); // nobody there
    EXPECT_EQ(window.event(4).error().code(), Errc::not_supported);
    EXPECT_EQ(drain(first) + drain(third), 0u);
}

TEST(Adapter, ExportsAreNeverNeighbours) {
    VirtualSwitch fabric(2);
    auto adapter = fabric.adapter(0);
    std::vector<Export> exports;
    for (int i = 0; i < 20; ++i) {
        exports.push_back(adapter->export_memory(memory_of(4096), Access::read_only).value());
        for (size_t k = 0; k + 1 < exports.size(); ++k)
            EXPECT_NE(exports[k].address().value >> 14, exports.back().address().value >> 14);
    }
}

TEST(Adapter, AFixedAddressIsExportedOnce) {
    VirtualSwitch fabric(2);
    auto adapter = fabric.adapter(0);
    const BusAddress address{uint64_t{3} << 30};
    auto exported = adapter->export_memory_at(address, memory_of(4096), Access::read_write).value();
    EXPECT_EQ(adapter->export_memory_at(address, memory_of(4096), Access::read_write).error().code(),
              Errc::already_exists);
    EXPECT_TRUE(exported.withdraw());
    EXPECT_TRUE(adapter->export_memory_at(address, memory_of(4096), Access::read_write));
}

TEST(Adapter, WindowsAreOpenedAndClosedWithoutLeaks) {
    VirtualSwitch fabric(3);
    auto one = fabric.adapter(0);
    auto two = fabric.adapter(1);
    auto three = fabric.adapter(2);
    Shared in_two(*two, 8192);
    Shared in_three(*three, 2 * mib);
    const auto before = one->capacity();
    const auto descriptors = [] {
        return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                             std::filesystem::directory_iterator());
    };
    const auto descriptors_before = descriptors();
    for (int round = 0; round < 15; ++round) {
        std::vector<Target> targets;
        for (int i = 0; i < 20; ++i)
            targets.push_back(i % 7 == 0 ? in_three.target(*three) : in_two.target(*two));
        auto windows = one->open_windows(targets).value();
        in_two.bytes.data()[0] = std::byte(round);
        EXPECT_EQ(windows[1].map().value().data()[0], std::byte(round));
        EXPECT_LE(one->capacity().windows_free, before.windows_free - 20);
        if (round % 2 == 0) {
            EXPECT_TRUE(one->close_windows(std::move(windows)));
        }
    }
    EXPECT_EQ(one->capacity().windows_free, before.windows_free);
    EXPECT_EQ(descriptors(), descriptors_before);
}

TEST(Adapter, RefusesMoreWindowsThanThereAreAndKeepsWhatIsOpen) {
    VirtualSwitch fabric(2);
    auto lender = fabric.adapter(0);
    auto borrower = fabric.adapter(1);
    Shared shared(*lender, 4096);
    auto kept = borrower->open_window(shared.target(*lender)).value();
    const auto free = borrower->capacity().windows_free;
    const std::vector<Target> targets(600, shared.target(*lender));
    const auto refused = borrower->open_windows(targets);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::no_space);
    EXPECT_NE(refused.error().message().find("windows are free"), std::string::npos);
    EXPECT_EQ(borrower->capacity().windows_free, free);
    EXPECT_TRUE(kept.map());
}

TEST(Adapter, RefusesTargetsThatCannotBe) {
    VirtualSwitch fabric(3);
    auto adapter = fabric.adapter(0);
    auto other = fabric.adapter(1);
    const auto code = [&](Target target) { return adapter->open_window(target).error().code(); };
    EXPECT_EQ(code({host(0), {0}, 4096}), Errc::not_found);
    EXPECT_EQ(code({host(3), {0}, 4096}), Errc::out_of_range);
    EXPECT_EQ(code({host(200), {0}, 4096}), Errc::out_of_range);
    EXPECT_EQ(code({host(1), {0}, 0}), Errc::out_of_range);
    EXPECT_EQ(code({host(1), {~uint64_t{0}}, 4096}), Errc::out_of_range);
    EXPECT_EQ(code({host(2), {0}, 4096}), Errc::unavailable); // nobody has taken that port
    const std::array both = {Target{host(1), {0}, 4096}, Target{host(2), {0}, 4096}};
    EXPECT_EQ(adapter->open_windows(both).error().code(), Errc::unavailable);
    fabric.enable_link(1, false);
    EXPECT_EQ(code({host(1), {0}, 4096}), Errc::unavailable);
    fabric.enable_link(1, true);
    EXPECT_TRUE(adapter->open_window({host(1), {0}, 4096}));
}

switchtec::ControlStatus control_status(Adapter& adapter) {
    return switchtec::ControlStatusField::get(pci::read32(adapter.function(), pci::Region::bar0,
                                                          switchtec::gas::control(adapter.partition().value) +
                                                              offsetof(switchtec::ControlBlock, status))
                                                  .value());
}

// The switch's own configuration forbids what the adapter asks for.
TEST(Adapter, TakesBackAConfigurationThatTheSwitchRefuses) {
    fabric::SwitchOptions options;
    options.ports = 2;
    options.policies = {{0, 1}, {1, 2}}; // no targets for port 0, each configures itself
    VirtualSwitch fabric(options);
    auto adapter = fabric.adapter(0);
    auto other = fabric.adapter(1);
    const auto free = adapter->capacity().windows_free;
    const std::vector<Target> targets(3, Target{host(1), {0}, 4096});
    const auto refused = adapter->open_windows(targets);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::io);
    EXPECT_NE(refused.error().message().find("lut_error"), std::string::npos) << refused.error().message();
    EXPECT_EQ(adapter->capacity().windows_free, free);
    EXPECT_EQ(control_status(*adapter), switchtec::ControlStatus::normal);
    EXPECT_TRUE(adapter->add_requester({0x100}));
}

TEST(Adapter, WaitsForALockOnlySoLong) {
    fabric::SwitchOptions options;
    options.ports = 2;
    options.policies = fabric::paired_policies(2);
    VirtualSwitch fabric(options);
    auto adapter = fabric.adapter(0);
    auto other = fabric.adapter(1);
    Shared shared(*other, 4096);
    auto window = adapter->open_window(shared.target(*other)).value();
    const uint64_t op = switchtec::gas::control(0) + offsetof(switchtec::ControlBlock, op);
    const auto lock = static_cast<uint32_t>(switchtec::ControlOp::lock);
    const auto config = static_cast<uint32_t>(switchtec::ControlOp::config);
    ASSERT_TRUE(pci::write32(other->function(), pci::Region::bar0, op, lock));
    EXPECT_EQ(adapter->open_window(shared.target(*other)).error().code(), Errc::timeout);
    EXPECT_EQ(window.close().error().code(), Errc::timeout);
    ASSERT_TRUE(pci::write32(other->function(), pci::Region::bar0, op, config));
    // What could not be closed is closed with the next change.
    const auto before = adapter->capacity();
    auto next = adapter->open_window(shared.target(*other)).value();
    EXPECT_EQ(adapter->capacity().windows_free, before.windows_free);
    EXPECT_TRUE(next.close());
    EXPECT_EQ(adapter->capacity().windows_free, before.windows);
    // A lock that is given back in time only delays.
    ASSERT_TRUE(pci::write32(other->function(), pci::Region::bar0, op, lock));
    std::thread owner([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        EXPECT_TRUE(pci::write32(other->function(), pci::Region::bar0, op, config));
    });
    EXPECT_TRUE(adapter->open_window(shared.target(*other)));
    owner.join();
}

TEST(Adapter, ClearsWhatAnEarlierOwnerLeft) {
    fabric::SwitchOptions options;
    options.ports = 2;
    options.policies = fabric::paired_policies(2);
    VirtualSwitch fabric(options);
    auto other = fabric.adapter(1);
    // Somebody configured port 0 before its owner came, and holds its lock no more.
    auto& registers = other->function();
    const uint64_t block = switchtec::gas::control(0);
    const auto operate = [&](switchtec::ControlOp op) {
        return pci::write32(registers, pci::Region::bar0, block + offsetof(switchtec::ControlBlock, op),
                            static_cast<uint32_t>(op));
    };
    const uint64_t requester = block + offsetof(switchtec::ControlBlock, requester_entry) + 40;
    ASSERT_TRUE(operate(switchtec::ControlOp::lock));
    ASSERT_TRUE(pci::write32(registers, pci::Region::bar0, requester,
                             switchtec::requester::Enable::of(true) | switchtec::requester::Id::of(0x777)));
    ASSERT_TRUE(operate(switchtec::ControlOp::config));
    ASSERT_NE(pci::read32(registers, pci::Region::bar0, requester).value(), 0u);
    auto adapter = fabric.adapter(0);
    EXPECT_EQ(pci::read32(registers, pci::Region::bar0, requester).value(), 0u);
}

TEST(Adapter, ANewOwnerFindsNothingOfTheOld) {
    VirtualSwitch fabric(2);
    auto lender = fabric.adapter(0);
    auto first = fabric.adapter(1);
    Shared shared(*lender, 4096);
    auto window = first->open_window(shared.target(*lender)).value();
    const std::array mark = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
    ASSERT_TRUE(window.write(0, mark));
    // The first window that is opened is the first one of its BAR.
    const auto reachable_through = [&](Adapter& adapter) {
        int bars = 0;
        for (const auto region : {pci::Region::bar2, pci::Region::bar4}) {
            std::array<std::byte, 4> data{};
            EXPECT_TRUE(adapter.function().read(region, 0, data));
            bars += data == mark;
        }
        return bars;
    };
    ASSERT_EQ(reachable_through(*first), 1);
    fabric.unplug(1); // as if it had been killed: nothing is closed
    fabric.plug(1);
    auto second = fabric.adapter(1);
    EXPECT_EQ(reachable_through(*second), 0);
    EXPECT_EQ(second->capacity().windows_free, second->capacity().windows);
}

TEST(Adapter, WhatWasMadeFromItMayOutliveIt) {
    VirtualSwitch fabric(2);
    auto lender = fabric.adapter(0);
    auto borrower = fabric.adapter(1);
    Shared shared(*lender, 4096);
    auto window = borrower->open_window(shared.target(*lender)).value();
    auto requester = borrower->add_requester({0x123}).value();
    lender.reset();
    EXPECT_EQ(word(window), all_ones);
    borrower.reset();
    std::array<std::byte, 4> data;
    EXPECT_EQ(window.read(0, data).error().code(), Errc::disconnected);
    EXPECT_EQ(window.memory(0, 4096).error().code(), Errc::disconnected);
    EXPECT_TRUE(window.close());
    EXPECT_TRUE(shared.exported.withdraw());
}

TEST(Adapter, RequestersAreCountedById) {
    VirtualSwitch fabric(2);
    auto adapter = fabric.adapter(0);
    std::vector<Adapter::Requester> requesters;
    for (int i = 0; i < 600; ++i)
        requesters.push_back(adapter->add_requester({0x100}).value());
    std::vector<Adapter::Requester> others;
    Result<Adapter::Requester> added;
    for (uint16_t id = 0x200; (added = adapter->add_requester({id})); ++id)
        others.push_back(std::move(*added));
    EXPECT_EQ(added.error().code(), Errc::no_space);
    EXPECT_GE(others.size(), 250u);
    requesters.clear();
    EXPECT_TRUE(adapter->add_requester({0x150}));
}

TEST(Adapter, MessagesArriveWithTheirSender) {
    VirtualSwitch fabric(3);
    std::mutex mutex;
    std::vector<std::pair<Partition, uint32_t>> arrived;
    AdapterEvents events;
    events.message = [&](Partition from, uint32_t message) {
        const std::lock_guard lock(mutex);
        arrived.emplace_back(from, message);
    };
    auto receiver = fabric.adapter(0, std::move(events));
    auto one = fabric.adapter(1);
    auto two = fabric.adapter(2);
    constexpr uint32_t count = 50;
    for (uint32_t i = 0; i < count; ++i)
        for (auto* sender : {one.get(), two.get()})
            ASSERT_TRUE(eventually([&] {
                const auto done = sender->send_message(host(0), 0xffff'ff00 + i);
                EXPECT_TRUE(done || done.error().code() == Errc::busy) << done.error().message();
                return done.has_value();
            }));
    EXPECT_TRUE(eventually([&] {
        const std::lock_guard lock(mutex);
        return arrived.size() == 2 * count;
    }));
    for (uint32_t i = 0; i < count; ++i)
        for (const unsigned sender : {1, 2})
            EXPECT_EQ(std::count(arrived.begin(), arrived.end(), std::pair(host(sender), 0xffff'ff00 + i)),
                      1);
    EXPECT_EQ(two->send_message(host(7), 1).error().code(), Errc::out_of_range);
    receiver.reset();
    EXPECT_EQ(two->send_message(host(0), 1).error().code(), Errc::unavailable);
}

TEST(Adapter, HearsOfLinksThatChange) {
    VirtualSwitch fabric(3);
    std::atomic<int> changes{0};
    AdapterEvents events;
    events.link_changed = [&] { ++changes; };
    auto adapter = fabric.adapter(0, std::move(events));
    EXPECT_FALSE(adapter->link_up(host(1)).value());
    const int before = changes;
    auto other = fabric.adapter(1);
    EXPECT_TRUE(eventually([&] { return changes > before && adapter->link_up(host(1)).value(); }));
    const int up = changes;
    fabric.enable_link(1, false);
    EXPECT_TRUE(eventually([&] { return changes > up && !adapter->link_up(host(1)).value(); }));
    // The event was taken: the register does not say that it has occurred any more.
    const uint64_t header = switchtec::gas::pff(1) + offsetof(switchtec::PffCsr, link_state);
    EXPECT_FALSE(
        switchtec::event::Occurred::get(pci::read32(adapter->function(), pci::Region::bar0, header).value()));
}

TEST(Adapter, SaysOnceThatItHasGone) {
    VirtualSwitch fabric(2);
    std::atomic<int> gone{0};
    AdapterEvents events;
    events.gone = [&] { ++gone; };
    auto lender = fabric.adapter(0);
    auto adapter = fabric.adapter(1, std::move(events));
    Shared shared(*lender, 4096);
    auto window = adapter->open_window(shared.target(*lender)).value();
    fabric.unplug(1);
    EXPECT_TRUE(eventually([&] { return gone == 1; }));
    std::array<std::byte, 4> data;
    EXPECT_FALSE(window.read(0, data));
    EXPECT_EQ(adapter->open_window(shared.target(*lender)).error().code(), Errc::disconnected);
    EXPECT_TRUE(window.close());
    adapter.reset();
    EXPECT_EQ(gone, 1);
}

// An adapter that is pulled from its slot: no message says so, reads give all-ones and writes go nowhere.
class Pulled final : public pci::Function {
  public:
    Pulled(std::unique_ptr<pci::Function> function, std::shared_ptr<std::atomic<bool>> pulled)
        : function_(std::move(function)), pulled_(std::move(pulled)) {}
    const pci::RegionInfo& region(pci::Region index) const override { return function_->region(index); }
    const pci::IrqInfo& irq(pci::Irq index) const override { return function_->irq(index); }
    bool can_reset() const override { return function_->can_reset(); }
    Result<> read(pci::Region region, uint64_t offset_bytes, std::span<std::byte> data) override {
        if (!*pulled_) return function_->read(region, offset_bytes, data);
        std::fill(data.begin(), data.end(), std::byte{0xff});
        return {};
    }
    Result<> write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data) override {
        return *pulled_ ? Result<>{} : function_->write(region, offset_bytes, data);
    }
    Result<std::vector<pci::Extent>> memory(pci::Region region, uint64_t offset_bytes,
                                            uint64_t size) override {
        return function_->memory(region, offset_bytes, size);
    }
    Result<UniqueFd> event(pci::Region region, uint64_t offset_bytes) override {
        return function_->event(region, offset_bytes);
    }
    Result<pci::DmaMapping> map_dma(Range<Iova> range, const MemoryRef& memory, Access access) override {
        return function_->map_dma(range, memory, access);
    }
    Result<pci::DmaMapping> map_dma(Range<Iova> range, std::shared_ptr<pci::DmaTarget> target,
                                    Access access) override {
        return function_->map_dma(range, std::move(target), access);
    }
    Result<pci::DmaMapping> map_dma_event(Iova address, const UniqueFd& eventfd) override {
        return function_->map_dma_event(address, eventfd);
    }
    Result<> unmap_dma(Range<Iova> range) override { return function_->unmap_dma(range); }
    Result<> set_irqs(pci::Irq index, uint32_t first, std::span<const int> eventfds) override {
        return function_->set_irqs(index, first, eventfds);
    }
    Result<> mask_irq(pci::Irq index, uint32_t vector, bool masked) override {
        return function_->mask_irq(index, vector, masked);
    }
    Result<> reset() override { return function_->reset(); }
    bool fresh_memory_on_reset() const override { return function_->fresh_memory_on_reset(); }
    void on_disconnect(std::function<void()> callback) override {
        function_->on_disconnect(std::move(callback));
    }

  private:
    std::unique_ptr<pci::Function> function_;
    std::shared_ptr<std::atomic<bool>> pulled_;
};

TEST(Adapter, AllOnesMeansThatItHasGone) {
    VirtualSwitch fabric(2);
    auto lender = fabric.adapter(0);
    Shared shared(*lender, 4096);
    const auto pulled = std::make_shared<std::atomic<bool>>(false);
    std::atomic<int> gone{0};
    AdapterEvents events;
    events.gone = [&] { ++gone; };
    auto adapter =
        Adapter::create(std::make_unique<Pulled>(fabric.function(1).value(), pulled), std::move(events))
            .value();
    auto window = adapter->open_window(shared.target(*lender)).value();
    *pulled = true;
    EXPECT_EQ(word(window), all_ones); // what a window reads says nothing about the adapter
    EXPECT_EQ(adapter->link_up(host(0)).error().code(), Errc::disconnected);
    EXPECT_EQ(adapter->open_window(shared.target(*lender)).error().code(), Errc::disconnected);
    EXPECT_EQ(adapter->send_message(host(0), 1).error().code(), Errc::disconnected);
    EXPECT_TRUE(window.close());
    EXPECT_TRUE(eventually([&] { return gone == 1; }));
    adapter.reset();
    EXPECT_EQ(gone, 1);
    const auto dead = Adapter::create(std::make_unique<Pulled>(fabric.function(1).value(), pulled), {});
    ASSERT_FALSE(dead);
    EXPECT_EQ(dead.error().code(), Errc::disconnected);
}

TEST(Adapter, RegistersOfAnotherFunctionAreReachedByCalls) {
    VirtualSwitch fabric(3);
    auto lender = fabric.adapter(0);
    auto borrower = fabric.adapter(1);
    // Another function on the lender's side: here the switch's third port, whose BAR 0 has no descriptor.
    auto device = fabric.function(2).value();
    auto exported = lender->export_region(*device, pci::Region::bar0, 0, 16 * 1024).value();
    auto window = borrower->open_window({host(0), exported.address(), 16 * 1024}).value();
    // The window is read by a message that the lender's side forwards to the device.
    LittleEndian<uint32_t> id;
    ASSERT_TRUE(window.read(0x2000, std::as_writable_bytes(std::span(&id, 1))));
    EXPECT_EQ(id, fabric::endpoint_device_id);
}

} // namespace
} // namespace lanepool::ntb
