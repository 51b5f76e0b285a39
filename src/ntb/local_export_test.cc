// SPDX-License-Identifier: Apache-2.0
#include "ntb/local_export.h"

#include <future>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace lanepool::ntb {
namespace {

using namespace std::chrono_literals;

// A device of which only BAR 0 matters: page 1 of 4 is memory, the rest are calls, which wait while `hold` is
// set. What it was asked to map is noted down.
class FakeDevice final : public pci::Function {
  public:
    struct Mapped {
        uint64_t iova;
        uint64_t size_bytes;
        char kind; // m(emory), c(alls), e(vent)
        Access access;
        std::shared_ptr<pci::DmaTarget> target;
        bool operator==(const Mapped& other) const {
            return iova == other.iova && size_bytes == other.size_bytes && kind == other.kind &&
                   access == other.access;
        }
    };

    const pci::RegionInfo& region(pci::Region) const override { return bar_; }
    const pci::IrqInfo& irq(pci::Irq) const override { return irq_; }
    bool can_reset() const override { return true; }
    Result<> read(pci::Region, uint64_t offset_bytes, std::span<std::byte> data) override {
        entered.set_value();
        hold.get_future().wait();
        std::ranges::fill(data, static_cast<std::byte>(offset_bytes));
        return {};
    }
    Result<> write(pci::Region, uint64_t offset_bytes, std::span<const std::byte> data) override {
        written.emplace_back(offset_bytes, data[0]);
        return {};
    }
    Result<std::vector<pci::Extent>> memory(pci::Region, uint64_t offset_bytes,
                                            uint64_t size_bytes) override {
        const uint64_t from = std::max<uint64_t>(offset_bytes, 4096),
                       to = std::min<uint64_t>(offset_bytes + size_bytes, 8192);
        if (from >= to) return std::vector<pci::Extent>{};
        return std::vector<pci::Extent>{{from + shift, {page, from - 4096, to - from}}};
    }
    Result<UniqueFd> event(pci::Region, uint64_t) override { return fail(Errc::not_supported, "none"); }
    Result<pci::DmaMapping> map_dma(Range<Iova> range, const MemoryRef&, Access access) override {
        return note({range.start().value, range.size_bytes(), 'm', access, nullptr}, range);
    }
    Result<pci::DmaMapping> map_dma(Range<Iova> range, std::shared_ptr<pci::DmaTarget> target,
                                    Access access) override {
        return note({range.start().value, range.size_bytes(), 'c', access, std::move(target)}, range);
    }
    Result<pci::DmaMapping> map_dma_event(Iova iova, const UniqueFd&) override {
        return note({iova.value, 4, 'e', Access::read_write, nullptr}, *Range<Iova>::create(iova, 4));
    }
    Result<> unmap_dma(Range<Iova> range) override {
        std::erase_if(mapped, [&](auto& one) { return one.iova == range.start().value; });
        return {};
    }
    Result<> set_irqs(pci::Irq, uint32_t, std::span<const int>) override { return {}; }
    Result<> mask_irq(pci::Irq, uint32_t, bool) override { return {}; }
    Result<> reset() override { return {}; }
    bool fresh_memory_on_reset() const override { return true; }
    void on_disconnect(std::function<void()>) override {}

    SharedFd page = share(create_memory("page", 4096).value());
    uint64_t shift = 0; // of where it says that its memory is
    std::vector<Mapped> mapped;
    std::vector<std::pair<uint64_t, std::byte>> written;
    std::promise<void> entered;
    std::promise<void> hold;

  private:
    Result<pci::DmaMapping> note(Mapped one, Range<Iova> range) {
        if (one.iova == refused) return fail(Errc::no_space, "no");
        mapped.push_back(std::move(one));
        return pci::DmaMapping(*this, range);
    }
    pci::RegionInfo bar_{16384, true, true, {{4096, 4096}}};
    pci::IrqInfo irq_;

  public:
    uint64_t refused = ~uint64_t{0};
};

std::shared_ptr<LocalExport> registers_of(FakeDevice& device, uint64_t offset_bytes, uint64_t size_bytes,
                                          Access access = Access::read_write) {
    return std::make_shared<LocalExport>(LocalExport::Registers{&device, pci::Region::bar0, offset_bytes},
                                         size_bytes, access);
}
using Mapped = FakeDevice::Mapped;
constexpr auto rw = Access::read_write;
constexpr Iova iova{0x100000};

TEST(LocalExport, WithdrawingWaitsForWhoUsesIt) {
    FakeDevice device;
    const auto exported = registers_of(device, 0, 16384);
    std::array<std::byte, 4> data{};
    auto reading = std::async(std::launch::async, [&] { return exported->read(8192, data).has_value(); });
    device.entered.get_future().wait();
    auto withdrawing = std::async(std::launch::async, [&] { exported->withdraw(); });
    EXPECT_EQ(withdrawing.wait_for(20ms), std::future_status::timeout);
    device.hold.set_value();
    withdrawing.get();
    EXPECT_TRUE(reading.get());
    EXPECT_EQ(data[0], std::byte{0});        // of 8192
    EXPECT_TRUE(exported->read(8192, data)); // asks the device no more: a second promise would throw
    EXPECT_EQ(data[3], std::byte{0xff});
    EXPECT_TRUE(exported->write(0, data));
    EXPECT_TRUE(device.written.empty());
}

TEST(LocalExport, AnotherDeviceReachesMemoryInPlaceAndTheRestByCalls) {
    FakeDevice device, other;
    const auto exported = registers_of(device, 2048, 8192);
    {
        const auto mappings = exported->map_for(other, iova, 1024, 7168, rw).value();
        EXPECT_EQ(other.mapped, (std::vector<Mapped>{{0x100000, 1024, 'c', rw, {}},
                                                     {0x100400, 4096, 'm', rw, {}},
                                                     {0x101400, 2048, 'c', rw, {}}}));
        const std::array data = {std::byte{7}};
        EXPECT_TRUE(other.mapped[2].target->write(16, data));
        EXPECT_EQ(device.written, (std::vector{std::pair{uint64_t{8192 + 16}, std::byte{7}}}));
        exported->withdraw();
        EXPECT_TRUE(other.mapped[2].target->write(16, data));
        EXPECT_EQ(device.written.size(), 1u);
        std::array<std::byte, 2> read{};
        EXPECT_TRUE(other.mapped[0].target->read(0, read));
        EXPECT_EQ(read[1], std::byte{0xff});
    }
    EXPECT_TRUE(other.mapped.empty());
    EXPECT_EQ(exported->map_for(other, iova, 0, 4096, rw).error().code(), Errc::not_found);
}

TEST(LocalExport, MapsAllOrNothing) {
    FakeDevice device, other;
    other.refused = 0x102000;
    EXPECT_FALSE(registers_of(device, 0, 16384)->map_for(other, iova, 0, 16384, rw));
    EXPECT_TRUE(other.mapped.empty());
}

TEST(LocalExport, ADeviceDoesNotWaitForItself) {
    FakeDevice device;
    EXPECT_EQ(registers_of(device, 0, 16384)->map_for(device, iova, 0, 4096, rw).error().code(),
              Errc::not_supported);
}

TEST(LocalExport, ADeviceThatNamesMemoryElsewhereIsRefused) {
    FakeDevice device, other;
    const auto exported = registers_of(device, 0, 8192);
    for (const uint64_t shift : {uint64_t{1}, uint64_t{8192}, ~uint64_t{4095}}) {
        device.shift = shift;
        EXPECT_FALSE(exported->memory(4096, 4096)) << shift;
        EXPECT_FALSE(exported->map_for(other, iova, 4096, 4096, rw)) << shift;
        EXPECT_TRUE(other.mapped.empty());
    }
}

TEST(LocalExport, WhatIsForReadingIsNotWritten) {
    const MemoryRef memory{share(create_memory("test", 8192).value()), 4096, 4096};
    const auto exported = std::make_shared<LocalExport>(memory, 4096, Access::read_only);
    const std::array data = {std::byte{1}};
    EXPECT_TRUE(exported->write(0, data));
    std::array<std::byte, 1> read{std::byte{9}};
    EXPECT_TRUE(exported->read(0, read));
    EXPECT_EQ(read[0], std::byte{0});
    const auto extents = exported->memory(16, 32).value();
    ASSERT_EQ(extents.size(), 1u);
    EXPECT_EQ(extents[0].memory.offset_bytes, 4112u);
    EXPECT_FALSE(Mapping::create(extents[0].memory, rw));
    EXPECT_TRUE(Mapping::create(extents[0].memory, Access::read_only));
    FakeDevice other;
    EXPECT_EQ(exported->map_for(other, iova, 0, 4096, rw).error().code(), Errc::invalid_argument);
    const auto mapped = exported->map_for(other, iova, 0, 4096, Access::read_only);
    EXPECT_EQ(other.mapped, (std::vector<Mapped>{{0x100000, 4096, 'm', Access::read_only, {}}}));
}

TEST(LocalExport, EventsAreMappedOneByOne) {
    LocalExport::Events events{{share(create_eventfd().value()), nullptr, share(create_eventfd().value())}};
    const auto exported = std::make_shared<LocalExport>(events, 12, rw);
    FakeDevice other;
    const auto mapped = exported->map_for(other, iova, 0, 12, rw);
    EXPECT_EQ(other.mapped, (std::vector<Mapped>{{0x100000, 4, 'e', rw, {}}, {0x100008, 4, 'e', rw, {}}}));
    const std::array<std::byte, 4> data{};
    EXPECT_TRUE(exported->write(8, data));
    EXPECT_TRUE(exported->write(4, data)); // nobody there
    EXPECT_TRUE(exported->write(1, data)); // no event is there
    EXPECT_EQ(drain(*events.eventfds[2]), 1u);
    EXPECT_EQ(drain(*events.eventfds[0]), 0u);
    EXPECT_TRUE(exported->event(0));
    EXPECT_EQ(exported->event(4).error().code(), Errc::not_supported);
    EXPECT_EQ(exported->event(2).error().code(), Errc::not_supported);
    std::array<std::byte, 4> read{std::byte{5}};
    EXPECT_TRUE(exported->read(0, read));
    EXPECT_EQ(read, data);
}

TEST(LocalExport, AddressesLeadNowhereOnTheirOwnHost) {
    const auto exported = std::make_shared<LocalExport>(LocalExport::Addresses{}, 8192, rw);
    std::array<std::byte, 4> data{};
    EXPECT_TRUE(exported->write(4096, data));
    EXPECT_TRUE(exported->read(4096, data));
    EXPECT_EQ(data, (std::array{std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff}}));
    EXPECT_TRUE(exported->memory(0, 8192).value().empty());
    EXPECT_EQ(exported->event(0).error().code(), Errc::not_supported);
    FakeDevice device;
    EXPECT_EQ(exported->map_for(device, iova, 0, 4096, rw).error().code(), Errc::not_supported);
    EXPECT_TRUE(device.mapped.empty());
}

TEST(LocalExport, MemoryThatHasBecomeShorterIsAnError) {
    UniqueFd fd(::memfd_create("test", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(fd.get(), 4096), 0);
    const auto shared = share(std::move(fd));
    const LocalExport exported(MemoryRef{shared, 0, 4096}, 4096, rw);
    std::array<std::byte, 8> data{};
    EXPECT_TRUE(exported.read(4088, data));
    ASSERT_EQ(::ftruncate(shared->get(), 0), 0);
    EXPECT_EQ(exported.read(4088, data).error().code(), Errc::out_of_range);
}

} // namespace
} // namespace lanepool::ntb
