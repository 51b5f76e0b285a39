// SPDX-License-Identifier: Apache-2.0
#include "local_devices/nic_functions.h"

#include "local_devices/netlink.h"

#include <algorithm>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <random>

namespace lanepool::local_devices {

namespace {

Result<NicFunctionSettings> settings_in(std::span<const std::byte> information) {
    NicFunctionSettings settings;
    for (const auto& attribute : TRY(attributes_in(information))) {
        if (attribute.type == IFLA_VF_MAC) {
            const auto value = TRY(value_of<ifla_vf_mac>(attribute));
            std::copy_n(value.mac, settings.mac.size(), settings.mac.begin());
        } else if (attribute.type == IFLA_VF_VLAN) {
            const auto value = TRY(value_of<ifla_vf_vlan>(attribute));
            settings.vlan = value.vlan;
            settings.vlan_priority = value.qos;
        } else if (attribute.type == IFLA_VF_RATE) {
            const auto value = TRY(value_of<ifla_vf_rate>(attribute));
            settings.least_rate_mbit_per_s = value.min_tx_rate;
            settings.most_rate_mbit_per_s = value.max_tx_rate;
        } else if (attribute.type == IFLA_VF_SPOOFCHK) {
            // All ones: the driver does not say.
            settings.spoof_check = TRY(value_of<ifla_vf_spoofchk>(attribute)).setting == 1;
        } else if (attribute.type == IFLA_VF_TRUST) {
            settings.trusted = TRY(value_of<ifla_vf_trust>(attribute)).setting == 1;
        } else if (attribute.type == IFLA_VF_LINK_STATE) {
            settings.link_state = TRY(value_of<ifla_vf_link_state>(attribute)).link_state;
        }
    }
    return settings;
}

// Of one VF: they all begin with its number.
Result<uint32_t> number_in(std::span<const std::byte> information) {
    for (const auto& attribute : TRY(attributes_in(information)))
        if (attribute.type == IFLA_VF_MAC) return value_of<uint32_t>(attribute);
    return fail(Errc::protocol, "the kernel does not say which VF it describes");
}

template <class T>
Result<> set(System& system, const std::string& interface, uint16_t attribute, const T& value) {
    LinkRequest request(RTM_SETLINK, NLM_F_ACK, interface);
    request.nest(IFLA_VFINFO_LIST,
                 [&] { request.nest(IFLA_VF_INFO, [&] { request.add(attribute, value); }); });
    const auto answer = TRY(system.route_request(request.bytes()));
    TRY(answer_in(answer));
    return {};
}

ifla_vf_mac mac_setting(unsigned index, const MacAddress& mac) {
    ifla_vf_mac value = {};
    value.vf = index;
    std::ranges::copy(mac, value.mac);
    return value;
}

// Unicast, and of nobody's card (IEEE 802: bit 0 clear, bit 1 set in the first byte).
MacAddress random_mac() {
    std::random_device random;
    MacAddress mac;
    for (auto& byte : mac)
        byte = static_cast<uint8_t>(random());
    mac[0] = static_cast<uint8_t>((mac[0] & 0xfc) | 0x02);
    return mac;
}

// Which MAC address it should have afterwards.
Result<MacAddress> forget_mac(System& system, const std::string& interface, unsigned index,
                              const MacAddress& former) {
    constexpr MacAddress none = {};
    if (former == none) return none;
    if (set(system, interface, IFLA_VF_MAC, mac_setting(index, none))) return none;
    const MacAddress fresh = random_mac();
    const auto done = set(system, interface, IFLA_VF_MAC, mac_setting(index, fresh));
    if (!done)
        return tl::unexpected(
            done.error().within(fmt::format("taking the MAC address from VF {} of {}", index, interface)));
    return fresh;
}

} // namespace

Result<NicFunctionSettings> parse_nic_function(std::span<const std::byte> answer, unsigned index) {
    for (const auto& list : TRY(answer_in(answer))) {
        if (list.type != IFLA_VFINFO_LIST) continue;
        for (const auto& information : TRY(attributes_in(list.bytes)))
            if (information.type == IFLA_VF_INFO && TRY(number_in(information.bytes)) == index)
                return settings_in(information.bytes);
    }
    return fail(Errc::not_found, "the kernel shows no VF {}", index);
}

Result<NicFunctionSettings> nic_function_settings(System& system, const std::string& interface,
                                                  unsigned index) {
    LinkRequest request(RTM_GETLINK, 0, interface);
    request.add(IFLA_EXT_MASK, uint32_t{RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS});
    const auto answer = TRY(system.route_request(request.bytes()));
    auto settings = parse_nic_function(answer, index);
    if (!settings) return tl::unexpected(settings.error().within(interface));
    return settings;
}

Result<> clean_nic_function(System& system, const std::string& interface, unsigned index) {
    const auto before = TRY(nic_function_settings(system, interface, index));
    NicFunctionSettings wanted;
    // Each by itself, and only what differs: a driver refuses what it has no setting for.
    wanted.mac = TRY(forget_mac(system, interface, index, before.mac));
    wanted.spoof_check = true;
    if (before.vlan != 0 || before.vlan_priority != 0)
        TRY(set(system, interface, IFLA_VF_VLAN, ifla_vf_vlan{index, 0, 0}));
    if (before.least_rate_mbit_per_s != 0 || before.most_rate_mbit_per_s != 0)
        TRY(set(system, interface, IFLA_VF_RATE, ifla_vf_rate{index, 0, 0}));
    if (before.trusted) TRY(set(system, interface, IFLA_VF_TRUST, ifla_vf_trust{index, 0}));
    if (before.link_state != 0)
        TRY(set(system, interface, IFLA_VF_LINK_STATE, ifla_vf_link_state{index, IFLA_VF_LINK_STATE_AUTO}));
    if (!before.spoof_check && !set(system, interface, IFLA_VF_SPOOFCHK, ifla_vf_spoofchk{index, 1}))
        wanted.spoof_check = false; // the driver has none
    const auto after = TRY(nic_function_settings(system, interface, index));
    if (after != wanted)
        return fail(Errc::io,
                    "VF {} of {} still has settings of its last borrower; `ip link show {}` shows them",
                    index, interface, interface);
    return {};
}

} // namespace lanepool::local_devices
