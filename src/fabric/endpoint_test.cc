// SPDX-License-Identifier: Apache-2.0
//
// What a host finds at its port before it does anything: identity, capabilities, information blocks.
#include "fabric/test_ports.h"

#include <gtest/gtest.h>

namespace lanepool::fabric {
namespace {

namespace switchtec = ntb::switchtec;
namespace gas = switchtec::gas;
using pci::Region;

TEST(Endpoint, IsASwitchtecBridge) {
    TestFabric f;
    EXPECT_EQ(f[1].get<uint16_t>(pci::config::vendor_id, Region::config), switchtec::vendor_id);
    const auto device = f[1].get<uint16_t>(pci::config::device_id, Region::config);
    EXPECT_EQ(switchtec::generation(device), switchtec::Generation::gen4);
    EXPECT_EQ(f[1].get<uint32_t>(pci::config::revision, Region::config) >> 8, switchtec::class_code);
    EXPECT_EQ(f[1].get<uint32_t>(gas::sys_info), device);
}

TEST(Endpoint, HasPowerManagementMsiExpressAndMsix) {
    TestFabric f;
    const auto config = f[0].read(Region::config, 0, pci::extended_config_bytes).value();
    const auto chain = pci::capabilities(config).value();
    std::vector<pci::Capability> ids;
    for (const auto& entry : chain)
        ids.push_back(static_cast<pci::Capability>(entry.id));
    EXPECT_EQ(ids, (std::vector{pci::Capability::power_management, pci::Capability::msi,
                                pci::Capability::pci_express, pci::Capability::msix}));
    // The MSI-X table lies in BAR 0, in the partition's own message block.
    EXPECT_EQ(pci::get32(config, chain[3].offset + 4u), gas::messages(0) + 0x2000);
}

TEST(Endpoint, BarsTellTheirSize) {
    TestFabric f;
    for (const unsigned slot : {0u, 2u, 4u}) {
        const uint64_t offset = pci::config::bar0 + 4 * slot;
        f[0].put<uint32_t>(offset, 0xffff'ffff, Region::config);
        f[0].put<uint32_t>(offset + 4, 0xffff'ffff, Region::config);
        const uint64_t bar = f[0].get<uint64_t>(offset, Region::config);
        EXPECT_EQ(bar & 0xf, 0xcu) << "64-bit, prefetchable";
        EXPECT_EQ(~(bar & ~uint64_t{0xf}) + 1, f[0].port().region(static_cast<Region>(slot)).size_bytes);
    }
}

TEST(Endpoint, IdentityCannotBeWritten) {
    TestFabric f;
    f[0].put<uint32_t>(0, 0x12345678, Region::config);
    EXPECT_EQ(f[0].get<uint16_t>(0, Region::config), switchtec::vendor_id);
}

TEST(Endpoint, TellsItsPartitionAndTheOthers) {
    TestFabric f({.ports = 5});
    EXPECT_EQ(f[3].get<uint8_t>(gas::partition_id(switchtec::Generation::gen4)), 3);
    EXPECT_EQ(f[3].get<uint8_t>(gas::ntb_info), 5);
    EXPECT_EQ(f[3].get<uint8_t>(gas::ntb_info + 1), 3);
    EXPECT_EQ(f[3].get<uint64_t>(gas::ntb_info + 4), 0b11111u);
    EXPECT_EQ(f[3].get<uint32_t>(gas::ntb_info + 0x20 + 3 * 16 + 4), 0b10111u);
    EXPECT_EQ(f[3].get<uint16_t>(gas::ntb_info + 0xc), host_requester.value);
}

TEST(Endpoint, PartitionsNameTheirPffAndTheLastPffIsFollowedByNone) {
    TestFabric f;
    for (unsigned p = 0; p < 4; ++p) {
        const auto pff = f[0].get<uint32_t>(gas::part_cfg(p) + 0x14);
        EXPECT_EQ(f[0].get<uint16_t>(gas::pff(pff)), switchtec::vendor_id);
    }
    EXPECT_EQ(f[0].get<uint16_t>(gas::pff(4)), 0xffff);
    EXPECT_EQ(f[0].get<uint32_t>(gas::part_cfg(4) + 0x14), switchtec::no_pff);
}

TEST(Endpoint, FirmwareKnowsNoCommand) {
    TestFabric f;
    f[0].connect();
    const auto vectors = f[0].take_vectors();
    f[0].put<uint32_t>(gas::part_cfg(0) + 0x13c, 0x9); // clear, enable interrupt
    f[0].put<uint32_t>(gas::mrpc + 0x800, 0x41);
    EXPECT_EQ(f[0].get<uint32_t>(gas::mrpc + 0x804), 2u);
    EXPECT_EQ(f[0].get<uint32_t>(gas::mrpc + 0x808), 0x64005u);
    EXPECT_EQ(drain(vectors[0]), 1u);
    EXPECT_EQ(f[0].get<uint32_t>(gas::part_cfg(0) + 0x13c) & 1, 1u);
    f[0].put<uint32_t>(gas::part_cfg(0) + 0x13c, 0x9);
    EXPECT_EQ(f[0].get<uint32_t>(gas::part_cfg(0) + 0x13c) & 1, 0u);
    EXPECT_EQ(f[0].get<uint32_t>(gas::part_cfg(0) + 0x124) >> 31, 1u) << "not supported";
}

TEST(Endpoint, ReadsAcrossBlocksAndOddSizesAreOneImage) {
    TestFabric f;
    const auto whole = f[2].read(Region::bar0, gas::sys_info, 0x20000).value();
    for (const auto& [offset, size] : {std::pair<uint64_t, size_t>{gas::ntb_info - 3, 7},
                                       {gas::sys_info + 1, 3},
                                       {gas::control(2) + 0x13, 5}}) {
        const auto part = f[2].read(Region::bar0, offset, size).value();
        EXPECT_TRUE(std::equal(part.begin(), part.end(),
                               whole.begin() + static_cast<ptrdiff_t>(offset - gas::sys_info)));
    }
}

TEST(Endpoint, AccessesOutsideAreRefused) {
    TestFabric f;
    EXPECT_EQ(f[0].read(Region::bar0, gas::size_bytes - 2, 4).error().code(), Errc::out_of_range);
    EXPECT_EQ(f[0].read(Region::bar1, 0, 4).error().code(), Errc::out_of_range);
    EXPECT_EQ(f[0].read(Region::bar2, ~uint64_t{0}, 4).error().code(), Errc::out_of_range);
    EXPECT_EQ(f[0].read(Region::config, 4096, 1).error().code(), Errc::out_of_range);
    EXPECT_EQ(f[0].port().memory(Region::bar4, uint64_t{256} << 30, 1).error().code(), Errc::out_of_range);
    EXPECT_EQ(f[0].port().event(Region::bar0, 0).error().code(), Errc::not_supported);
}

TEST(Endpoint, OptionsAreChecked) {
    auto loop = io::EventLoop::create().value();
    const auto code = [&](SwitchOptions options) { return Switch::create(*loop, options).error().code(); };
    EXPECT_EQ(code({.ports = 0}), Errc::invalid_argument);
    EXPECT_EQ(code({.ports = 49}), Errc::invalid_argument);
    EXPECT_EQ(code({.ports = 2, .bar2_bytes = 3 << 20}), Errc::invalid_argument);
    EXPECT_EQ(code({.ports = 2, .bar4_bytes = uint64_t{1} << 50}), Errc::invalid_argument);
    EXPECT_EQ(code({.ports = 2, .lut_entries = 0}), Errc::invalid_argument);
    EXPECT_EQ(code({.ports = 2, .lut_entries = 513}), Errc::invalid_argument);
    EXPECT_EQ(code({.ports = 3, .policies = open_policies(2)}), Errc::invalid_argument);
    EXPECT_EQ(code({.ports = 2, .policies = open_policies(3)}), Errc::invalid_argument);
    EXPECT_EQ(code({.ports = 2, .policies = {{.targets = 4, .control = 1}, {}}}), Errc::invalid_argument);
    EXPECT_TRUE(Switch::create(*loop, {.ports = 48}).has_value());
}

} // namespace
} // namespace lanepool::fabric
