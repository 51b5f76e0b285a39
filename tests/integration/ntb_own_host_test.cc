// SPDX-License-Identifier: Apache-2.0
//
// Windows of a host to what it exports itself: everything as over the switch, but without it.
#include "base/endian.h"
#include "integration/virtual_switch.h"

#include <cstring>

namespace lanepool::ntb {
namespace {

using integration::VirtualSwitch;

constexpr uint64_t kib = 1024;
Partition host(unsigned index) { return Partition{static_cast<uint8_t>(index)}; }
MemoryRef memory_of(uint64_t size_bytes) {
    return {share(create_memory("test", size_bytes).value()), 0, size_bytes};
}
constexpr std::array<std::byte, 4> all_ones = {std::byte{0xff}, std::byte{0xff}, std::byte{0xff},
                                               std::byte{0xff}};

TEST(OwnHost, AWindowIsTheMemoryThatWasExported) {
    VirtualSwitch fabric(2);
    auto adapter = fabric.adapter(0);
    const auto memory = memory_of(64 * kib);
    const auto bytes = Mapping::create(memory).value();
    auto exported = adapter->export_memory(memory, Access::read_write).value();
    const auto free = adapter->capacity().windows_free;
    auto window = adapter->open_window({host(0), exported.address() + 0x5123, 4096}).value();
    EXPECT_EQ(adapter->capacity().windows_free, free);
    EXPECT_EQ(window.size_bytes(), 4096u);

    std::memcpy(bytes.data() + 0x5123, "hello", 5);
    EXPECT_EQ(std::memcmp(window.map().value().data(), "hello", 5), 0);
    const std::array data = {std::byte{1}, std::byte{2}};
    EXPECT_TRUE(window.write(100, data));
    EXPECT_EQ(bytes.data()[0x5123 + 101], std::byte{2});
    std::array<std::byte, 2> read{};
    EXPECT_TRUE(window.read(100, read));
    EXPECT_EQ(read, data);
    EXPECT_EQ(window.read(4095, read).error().code(), Errc::out_of_range);
    EXPECT_EQ(window.write(4095, data).error().code(), Errc::out_of_range);
    EXPECT_TRUE(window.close());
    EXPECT_EQ(window.read(0, read).error().code(), Errc::disconnected);
}

TEST(OwnHost, OnlyWhatOneExportHasIsATarget) {
    VirtualSwitch fabric(2);
    auto adapter = fabric.adapter(0);
    auto exported = adapter->export_memory(memory_of(4096), Access::read_write).value();
    const auto code = [&](uint64_t offset, uint64_t size) {
        return adapter->open_window({host(0), exported.address() + offset, size}).error().code();
    };
    EXPECT_EQ(code(1, 4096), Errc::not_found);
    EXPECT_EQ(code(~uint64_t{0}, 4), Errc::not_found);
    EXPECT_EQ(code(4096, 1), Errc::not_found);
    EXPECT_EQ(code(0, 0), Errc::out_of_range);
    EXPECT_EQ(code(16, ~uint64_t{0}), Errc::out_of_range);
}

TEST(OwnHost, WindowsToSeveralHostsAreOpenedTogether) {
    VirtualSwitch fabric(2);
    auto one = fabric.adapter(0);
    auto two = fabric.adapter(1);
    const auto own_memory = memory_of(4096), peers_memory = memory_of(4096);
    auto own = one->export_memory(own_memory, Access::read_write).value();
    auto peers = two->export_memory(peers_memory, Access::read_write).value();
    const std::array targets = {Target{host(1), peers.address(), 4096}, Target{host(0), own.address(), 4096},
                                Target{host(1), peers.address(), 4096}};
    auto windows = one->open_windows(targets).value();
    ASSERT_EQ(windows.size(), 3u);
    for (size_t i = 0; i < windows.size(); ++i)
        windows[i].map().value().data()[i] = std::byte{1};
    EXPECT_EQ(std::memcmp(Mapping::create(peers_memory).value().data(), "\1\0\1", 3), 0);
    EXPECT_EQ(std::memcmp(Mapping::create(own_memory).value().data(), "\0\1\0", 3), 0);
    EXPECT_TRUE(one->close_windows(std::move(windows)));
    EXPECT_EQ(one->capacity().windows_free, one->capacity().windows);
}

TEST(OwnHost, AWithdrawnExportIsGone) {
    VirtualSwitch fabric(2);
    auto adapter = fabric.adapter(0);
    auto exported = adapter->export_memory(memory_of(4096), Access::read_write).value();
    const auto event = create_eventfd().value();
    const std::array eventfds = {event.get()};
    auto events = adapter->export_events(eventfds).value();
    auto window = adapter->open_window({host(0), exported.address(), 4096}).value();
    auto doorbell = adapter->open_window({host(0), events.address(), 4}).value();
    const std::array<std::byte, 4> data{};
    EXPECT_TRUE(doorbell.write(0, data));
    EXPECT_EQ(drain(event), 1u);
    signal(doorbell.event(0).value());
    EXPECT_EQ(drain(event), 1u);

    EXPECT_TRUE(exported.withdraw());
    EXPECT_TRUE(events.withdraw());
    std::array<std::byte, 4> read{};
    EXPECT_TRUE(window.write(0, data));
    EXPECT_TRUE(window.read(0, read));
    EXPECT_EQ(read, all_ones);
    EXPECT_TRUE(window.memory(0, 4096).value().empty());
    EXPECT_EQ(window.map().error().code(), Errc::not_supported);
    EXPECT_TRUE(doorbell.write(0, data));
    EXPECT_EQ(doorbell.event(0).error().code(), Errc::not_supported);
    EXPECT_EQ(drain(event), 0u);
    EXPECT_EQ(adapter->open_window({host(0), exported.address(), 4096}).error().code(), Errc::not_found);
}

TEST(OwnHost, RegistersOfADeviceAreReached) {
    VirtualSwitch fabric(3);
    auto adapter = fabric.adapter(0);
    auto device = fabric.function(2).value(); // a port of the switch, as a device of this host
    auto exported = adapter->export_region(*device, pci::Region::bar0, 0, 16 * kib).value();
    auto window = adapter->open_window({host(0), exported.address() + 0x2000, 4}).value();
    LittleEndian<uint32_t> id;
    ASSERT_TRUE(window.read(0, std::as_writable_bytes(std::span(&id, 1))));
    EXPECT_EQ(id, fabric::endpoint_device_id);
    exported = {};
    device.reset(); // what is kept does not lead to it any more
    ASSERT_TRUE(window.read(0, std::as_writable_bytes(std::span(&id, 1))));
    EXPECT_EQ(id, ~0u);
}

// What a device of this host's reaches at the addresses that a window was mapped to for it, local or not. The
// device is a port of the switch: host 1 looks at its addresses.
TEST(OwnHost, ADeviceReachesWhatAWindowLeadsTo) {
    VirtualSwitch fabric(4);
    auto adapter = fabric.adapter(0);
    auto viewer = fabric.adapter(1);
    auto device = fabric.adapter(2);
    auto peer = fabric.adapter(3);
    for (auto* owner : {adapter.get(), peer.get()}) {
        const auto memory = memory_of(8 * kib);
        const auto bytes = Mapping::create(memory).value();
        auto exported = owner->export_memory(memory, Access::read_write).value();
        auto window = adapter->open_window({owner->partition(), exported.address() + 4096, 4096}).value();
        {
            const auto mappings =
                window.map_for(device->function(), Iova{0x10000}, Access::read_write).value();
            auto view = viewer->open_window({host(2), {0x10000}, 4096}).value();
            view.map().value().data()[7] = std::byte{0x77};
            EXPECT_EQ(bytes.data()[4096 + 7], std::byte{0x77});
        }
        auto view = viewer->open_window({host(2), {0x10000}, 4096}).value();
        EXPECT_TRUE(view.memory(0, 4096).value().empty());
    }
}

TEST(OwnHost, WindowsMayOutliveTheAdapter) {
    VirtualSwitch fabric(2);
    auto adapter = fabric.adapter(0);
    auto exported = adapter->export_memory(memory_of(4096), Access::read_write).value();
    auto window = adapter->open_window({host(0), exported.address(), 4096}).value();
    adapter.reset();
    std::array<std::byte, 4> data;
    EXPECT_EQ(window.read(0, data).error().code(), Errc::disconnected);
    EXPECT_EQ(window.memory(0, 4096).error().code(), Errc::disconnected);
    EXPECT_TRUE(window.close());
}

} // namespace
} // namespace lanepool::ntb
