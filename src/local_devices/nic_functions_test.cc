// SPDX-License-Identifier: Apache-2.0
#include "local_devices/nic_functions.h"

#include "local_devices/netlink.h"
#include "local_devices/simulated_kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <set>

namespace lanepool::local_devices {
namespace {

using testing::HasSubstr;

constexpr MacAddress borrowers = {0x52, 0x54, 0x00, 0x12, 0x34, 0x99};

// The kernel's side: an interface with two VFs.
class Nic {
  public:
    std::array<NicFunctionSettings, 2> functions;
    std::set<uint16_t> unknown; // settings for which the driver has no way
    std::set<uint16_t> ignored; // settings that it accepts and does not make
    bool insists_on_a_mac = false;
    int changes = 0;

    std::vector<std::byte> answer(std::span<const std::byte> request) {
        nlmsghdr header;
        std::memcpy(&header, request.data(), sizeof(header));
        EXPECT_EQ(header.nlmsg_len, request.size());
        const auto attributes = attributes_in(request.subspan(sizeof(header) + sizeof(ifinfomsg))).value();
        EXPECT_EQ(std::string(reinterpret_cast<const char*>(attributes.at(0).bytes.data())), "eth2");
        if (header.nlmsg_type == RTM_GETLINK) return description();
        const auto information = attributes_in(attributes.at(1).bytes).value().at(0);
        return error(change(attributes_in(information.bytes).value().at(0)));
    }

    std::vector<std::byte> description() const {
        LinkRequest message(RTM_NEWLINK, 0, "eth2");
        message.nest(IFLA_VFINFO_LIST, [&] {
            for (uint32_t i = 0; i < functions.size(); ++i)
                message.nest(IFLA_VF_INFO, [&] { describe(message, i); });
        });
        return {message.bytes().begin(), message.bytes().end()};
    }

    static std::vector<std::byte> error(int code) {
        std::vector<std::byte> bytes(sizeof(nlmsghdr) + sizeof(nlmsgerr));
        nlmsghdr header = {};
        header.nlmsg_len = static_cast<uint32_t>(bytes.size());
        header.nlmsg_type = NLMSG_ERROR;
        nlmsgerr body = {};
        body.error = code;
        std::memcpy(bytes.data(), &header, sizeof(header));
        std::memcpy(bytes.data() + sizeof(header), &body, sizeof(body));
        return bytes;
    }

  private:
    void describe(LinkRequest& message, uint32_t index) const {
        const auto& settings = functions.at(index);
        ifla_vf_mac mac = {};
        mac.vf = index;
        std::ranges::copy(settings.mac, mac.mac);
        message.add(IFLA_VF_MAC, mac);
        message.add(IFLA_VF_VLAN, ifla_vf_vlan{index, settings.vlan, settings.vlan_priority});
        message.add(IFLA_VF_RATE,
                    ifla_vf_rate{index, settings.least_rate_mbit_per_s, settings.most_rate_mbit_per_s});
        message.add(IFLA_VF_SPOOFCHK, ifla_vf_spoofchk{index, settings.spoof_check});
        message.add(IFLA_VF_LINK_STATE, ifla_vf_link_state{index, settings.link_state});
        message.add(IFLA_VF_TRUST, ifla_vf_trust{index, settings.trusted});
    }

    int change(const LinkAttribute& attribute) {
        ++changes;
        if (unknown.contains(attribute.type)) return -EOPNOTSUPP;
        if (ignored.contains(attribute.type)) return 0;
        auto& settings = functions.at(value_of<uint32_t>(attribute).value());
        switch (attribute.type) {
        case IFLA_VF_MAC: {
            const auto value = value_of<ifla_vf_mac>(attribute).value();
            MacAddress mac;
            std::copy_n(value.mac, mac.size(), mac.begin());
            if (insists_on_a_mac && mac == MacAddress{}) return -EINVAL;
            settings.mac = mac;
            return 0;
        }
        case IFLA_VF_VLAN:
            settings.vlan = value_of<ifla_vf_vlan>(attribute).value().vlan;
            settings.vlan_priority = value_of<ifla_vf_vlan>(attribute).value().qos;
            return 0;
        case IFLA_VF_RATE:
            settings.least_rate_mbit_per_s = value_of<ifla_vf_rate>(attribute).value().min_tx_rate;
            settings.most_rate_mbit_per_s = value_of<ifla_vf_rate>(attribute).value().max_tx_rate;
            return 0;
        case IFLA_VF_SPOOFCHK:
            settings.spoof_check = value_of<ifla_vf_spoofchk>(attribute).value().setting == 1;
            return 0;
        case IFLA_VF_TRUST:
            settings.trusted = value_of<ifla_vf_trust>(attribute).value().setting == 1;
            return 0;
        case IFLA_VF_LINK_STATE:
            settings.link_state = value_of<ifla_vf_link_state>(attribute).value().link_state;
            return 0;
        default:
            return -EINVAL;
        }
    }
};

class NicFunctions : public testing::Test {
  protected:
    NicFunctions() {
        kernel_.route_request = [this](std::span<const std::byte> request) { return nic_.answer(request); };
        nic_.functions[1] = {borrowers, 7, 3, 100, 200, false, true, IFLA_VF_LINK_STATE_DISABLE};
        nic_.functions[0] = nic_.functions[1];
        fresh_.spoof_check = true;
    }

    Nic nic_;
    SimulatedKernel kernel_;
    SimulatedSystem system_{kernel_};
    NicFunctionSettings fresh_;
};

TEST_F(NicFunctions, AreRead) {
    EXPECT_EQ(nic_function_settings(system_, "eth2", 1).value(), nic_.functions[1]);
}

TEST_F(NicFunctions, ThatAreNotThere) {
    EXPECT_EQ(nic_function_settings(system_, "eth2", 2).error().code(), Errc::not_found);
}

TEST_F(NicFunctions, KeepNothingOfTheirBorrower) {
    const auto sibling = nic_.functions[0];
    ASSERT_TRUE(clean_nic_function(system_, "eth2", 1));
    EXPECT_EQ(nic_.functions[1], fresh_);
    EXPECT_EQ(nic_.functions[0], sibling);
}

TEST_F(NicFunctions, CleanOnesAreNotTouched) {
    ASSERT_TRUE(clean_nic_function(system_, "eth2", 1));
    nic_.changes = 0;
    ASSERT_TRUE(clean_nic_function(system_, "eth2", 1));
    EXPECT_EQ(nic_.changes, 0);
}

TEST_F(NicFunctions, GetARandomAddressWhereOneIsNeeded) {
    nic_.insists_on_a_mac = true;
    ASSERT_TRUE(clean_nic_function(system_, "eth2", 1));
    const auto& mac = nic_.functions[1].mac;
    EXPECT_NE(mac, borrowers);
    EXPECT_EQ(mac[0] & 3, 2); // unicast, locally administered
}

TEST_F(NicFunctions, ADriverWithoutSpoofCheckIsNoError) {
    nic_.unknown = {IFLA_VF_SPOOFCHK};
    EXPECT_TRUE(clean_nic_function(system_, "eth2", 1));
}

TEST_F(NicFunctions, WhatCannotBeTakenAwayIsAnError) {
    nic_.unknown = {IFLA_VF_VLAN};
    EXPECT_EQ(clean_nic_function(system_, "eth2", 1).error().code(), Errc::not_supported);
}

TEST_F(NicFunctions, WhatStaysIsNoticed) {
    nic_.ignored = {IFLA_VF_RATE};
    const auto cleaned = clean_nic_function(system_, "eth2", 1);
    ASSERT_FALSE(cleaned);
    EXPECT_THAT(cleaned.error().message(), HasSubstr("still has settings of its last borrower"));
}

TEST_F(NicFunctions, TheKernelsRefusalIsTold) {
    kernel_.route_request = [](std::span<const std::byte>) { return Nic::error(-EPERM); };
    EXPECT_EQ(nic_function_settings(system_, "eth2", 1).error().code(), Errc::permission_denied);
}

// Cut off anywhere, or with any one byte wrong: an error or something, but nothing is read that is not there.
TEST_F(NicFunctions, BrokenAnswersAreSurvived) {
    const auto whole = nic_.description();
    for (size_t size = 0; size < whole.size(); ++size)
        EXPECT_FALSE(
            parse_nic_function(std::vector(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)), 1));
    for (size_t at = 0; at < whole.size(); ++at) {
        for (const int value : {0x00, 0x01, 0x7f, 0xff}) {
            auto broken = whole;
            broken[at] = static_cast<std::byte>(value);
            (void)parse_nic_function(std::vector(broken), 1);
        }
    }
}

} // namespace
} // namespace lanepool::local_devices
