// SPDX-License-Identifier: Apache-2.0
//
// What the state file of a Custody holds: for every IOMMU group that is not as its host had it, what it was
// like before. It is written before the first change and says nothing of single steps: from what was and what
// is there now, the way back can always be found.
#pragma once

#include "base/result.h"
#include "local_devices/pci_tree.h"
#include "local_devices/system.h"
#include "pci/types.h"

#include <optional>
#include <string>
#include <vector>

namespace lanepool::local_devices {

// One function as its host had it.
struct Member {
    pci::Address address;
    Identity identity;
    std::string driver;                      // empty: none
    std::string driver_override;             // empty: none
    std::optional<std::string> reset_method; // the list that stood there, if any
};

// A group has a number, too, but that may change with every boot.
struct Group {
    // `taking` and `returning`: under way, or interrupted. Both are settled by going back.
    enum class State { taking, taken, returning };
    State state = State::taking;
    std::vector<pci::Address> wanted; // the members that were asked for; the others only had to come along
    std::vector<Member> members;      // ascending
};

struct Journal {
    std::string boot; // the kernel's boot id: after another boot nothing of it holds any more
    std::vector<Group> groups;
};

std::string to_text(const Journal& journal);
// Errors: protocol, with what is wrong about it.
Result<Journal> parse_journal(const std::string& text);

} // namespace lanepool::local_devices
