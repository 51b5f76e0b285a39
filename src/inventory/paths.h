// SPDX-License-Identifier: Apache-2.0
//
// How functions reach each other, and what keeps them apart: by the bridges between them and the Access
// Control Services of these (PCI Express Base Specification 6.12). Pure. This is what the configuration says;
// whether a platform lets packets through is seen only by trying.
#pragma once

#include "inventory/machine.h"

#include <string>
#include <string_view>
#include <vector>

namespace lanepool::inventory {

// Bits of Acs::capabilities and Acs::control (7.7.11).
namespace acs {
inline constexpr uint16_t source_validation = 1 << 0;
inline constexpr uint16_t translation_blocking = 1 << 1;
inline constexpr uint16_t request_redirect = 1 << 2;
inline constexpr uint16_t completion_redirect = 1 << 3;
inline constexpr uint16_t upstream_forwarding = 1 << 4;
inline constexpr uint16_t egress_control = 1 << 5;
inline constexpr uint16_t direct_translated = 1 << 6;
} // namespace acs

// "SV+ TB- RR+ CR+ UF+ EC- DT-": + is on, - could be, and is left out where it cannot.
std::string acs_text(const Acs& acs);

// How two functions reach each other without the processor.
enum class PeerPath {
    same_switch,  // below a common bridge, and no ACS redirects on the way
    redirected,   // below a common bridge, but ACS sends it up to the root complex
    root_complex, // through the root complex of one socket
    between_sockets,
    unknown
};
std::string_view name(PeerPath path); // "same_switch"

struct PeerRoute {
    PeerPath path = PeerPath::unknown;
    std::optional<pci::Address> common{};  // the lowest bridge above both
    std::vector<pci::Address> redirects{}; // the bridges and functions whose ACS redirects, for `redirected`
    bool acs_known = true;                 // of all on the way
    std::string reason{};                  // for a person
};
PeerRoute peer_route(const Machine& machine, const pci::Address& from, const pci::Address& to);
PeerPath peer_path(const Machine& machine, const pci::Address& from, const pci::Address& to);

// The bridges above a function, the nearest first.
std::vector<const Function*> bridges_above(const Machine& machine, const Function& function);

// The first place below which functions can reach each other without the IOMMU seeing it.
struct IsolationGap {
    pci::Address address;
    bool known = true; // false: its ACS could not be read
    std::string reason;
};
// What on the way from a function up to the root complex does not separate it from others, as Linux judges
// when it makes groups: source validation, request and completion redirect and upstream forwarding have to be
// on wherever they can be. Linux also knows of ports that isolate without saying so by ACS: where a group has
// one member alone, the kernel is right.
std::vector<IsolationGap> isolation_gaps(const Machine& machine, const pci::Address& address);
bool acs_isolated(const Machine& machine, const pci::Address& address);

// The socket that a function is at; absent: not known.
std::optional<unsigned> socket_of(const Machine& machine, const Function& function);

} // namespace lanepool::inventory
