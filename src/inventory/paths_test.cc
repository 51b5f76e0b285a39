// SPDX-License-Identifier: Apache-2.0
#include "inventory/paths.h"

#include "inventory/reader.h"
#include "inventory/testing/machines.h"

#include <gtest/gtest.h>

namespace lanepool::inventory {
namespace {

using namespace testing;

pci::Address address(const char* text) { return pci::parse_address(text).value(); }
Machine read(MachineBuilder builder) { return read_machine(builder.tree(), "ids"); }

TEST(PeerPath, StaysBelowASwitchWithoutAcs) {
    const auto route =
        peer_route(read(switch_without_acs()), address("0000:04:00.0"), address("0000:06:00.0"));
    EXPECT_EQ(route.path, PeerPath::same_switch);
    EXPECT_EQ(route.common, address("0000:02:00.0"));
}

TEST(PeerPath, IsRedirectedByAcsOfThePortsBetween) {
    const auto route = peer_route(read(switch_with_acs()), address("0000:04:00.0"), address("0000:06:00.0"));
    EXPECT_EQ(route.path, PeerPath::redirected);
    EXPECT_EQ(route.redirects, (std::vector{address("0000:03:00.0"), address("0000:03:02.0")}));
}

TEST(PeerPath, OneRedirectingBitIsEnough) {
    for (const uint16_t bit : {acs::request_redirect, acs::completion_redirect, acs::egress_control})
        EXPECT_EQ(
            peer_path(read(switch_server(Acs{0x7f, bit})), address("0000:04:00.0"), address("0000:06:00.0")),
            PeerPath::redirected);
    EXPECT_EQ(peer_path(read(switch_server(Acs{0x7f, acs::source_validation})), address("0000:04:00.0"),
                        address("0000:06:00.0")),
              PeerPath::same_switch);
}

TEST(PeerPath, GoesThroughTheRootComplexBetweenRootPorts) {
    EXPECT_EQ(peer_path(read(plain_server()), address("0000:01:00.0"), address("0000:04:00.0")),
              PeerPath::root_complex);
}

TEST(PeerPath, KnowsSockets) {
    const auto machine = read(two_sockets());
    EXPECT_EQ(peer_path(machine, address("0000:01:00.0"), address("0000:04:00.0")), PeerPath::root_complex);
    EXPECT_EQ(peer_path(machine, address("0000:81:00.0"), address("0000:04:00.0")),
              PeerPath::between_sockets);
}

TEST(PeerPath, TwoNodesOfOneSocketAreOneSocket) {
    auto builder = two_sockets();
    builder.tree().add_file("/sys/devices/system/cpu/cpu16/topology/physical_package_id", "0\n");
    EXPECT_EQ(peer_path(read(builder), address("0000:81:00.0"), address("0000:04:00.0")),
              PeerPath::root_complex);
}

TEST(PeerPath, IsUnknownWhereAcsCouldNotBeRead) {
    auto builder = switch_with_acs();
    for (const char* port : {"0000:03:00.0", "0000:03:02.0"}) {
        auto& tree = builder.tree();
        const std::string path = builder.folder(port) + "/config";
        tree.add_file(path, tree.read(path, 64).value());
    }
    EXPECT_EQ(peer_path(read(builder), address("0000:04:00.0"), address("0000:06:00.0")), PeerPath::unknown);
}

TEST(Isolation, HoldsWhereEveryPortHasAcs) {
    EXPECT_TRUE(acs_isolated(read(plain_server()), address("0000:01:00.0")));
    EXPECT_TRUE(acs_isolated(read(switch_with_acs()), address("0000:04:00.0")));
}

TEST(Isolation, NamesThePortWithoutIt) {
    const auto gaps = isolation_gaps(read(shared_groups()), address("0000:01:00.0"));
    ASSERT_EQ(gaps.size(), 1u);
    EXPECT_EQ(gaps[0].address, address("0000:00:1c.0"));
    EXPECT_EQ(gaps[0].reason, "port 0000:00:1c.0 has no ACS");
}

TEST(Isolation, NamesThePortWhereItIsOff) {
    const auto gaps = isolation_gaps(read(switch_server(acs_left_off)), address("0000:04:00.0"));
    ASSERT_EQ(gaps.size(), 1u);
    EXPECT_EQ(gaps[0].reason, "port 0000:03:00.0 has ACS, but not all of it is on (SV- TB- RR- CR- UF-)");
}

TEST(Isolation, NamesFunctionsOfOneDevice) {
    const auto gaps = isolation_gaps(read(plain_server()), address("0000:03:00.0"));
    ASSERT_EQ(gaps.size(), 1u);
    EXPECT_EQ(gaps[0].reason, "function 0000:03:00.0 has no ACS");
}

TEST(Isolation, WhatAPortCannotDoIsNotMissed) {
    auto builder = MachineBuilder().add(root_port("0000:00:01.0", 1, Acs{0x01, 0x01}));
    builder.add(nvme_drive("0000:01:00.0", "0000:00:01.0"));
    EXPECT_TRUE(acs_isolated(read(builder), address("0000:01:00.0")));
}

TEST(Isolation, ConventionalPciSeparatesNothing) {
    const auto gaps = isolation_gaps(read(laptop()), address("0000:02:01.0"));
    ASSERT_EQ(gaps.size(), 1u);
    EXPECT_EQ(gaps[0].address, address("0000:00:1e.0"));
    EXPECT_TRUE(acs_isolated(read(small_guest()), address("0000:00:01.0"))); // alone on the root bus
}

TEST(Isolation, AConventionalFunctionAloneBehindAPortIsIsolated) {
    auto builder = MachineBuilder().add(root_port("0000:00:01.0", 1));
    auto card = nvme_drive("0000:01:00.0", "0000:00:01.0");
    card.type = FunctionType::conventional;
    EXPECT_TRUE(acs_isolated(read(builder.add(card)), address("0000:01:00.0")));
}

TEST(Isolation, IsNotKnownWithoutRoot) {
    const auto gaps = isolation_gaps(read(without_root()), address("0000:01:00.0"));
    ASSERT_FALSE(gaps.empty());
    for (const auto& gap : gaps)
        EXPECT_FALSE(gap.known);
}

} // namespace
} // namespace lanepool::inventory
