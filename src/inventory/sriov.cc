// SPDX-License-Identifier: Apache-2.0
//
// SR-IOV: what a parent has and could have, and whose a virtual function is.
#include "inventory/parts.h"
#include "pci/address.h"

#include <algorithm>
#include <fmt/format.h>

namespace lanepool::inventory {

namespace {
constexpr uint64_t most_virtual_functions = 65535; // TotalVFs has 16 bits
}

void read_sriov(Files& files, const std::string& folder, Function& function) {
    if (const auto parent = pci::parse_address(link_name(files, folder + "/physfn"))) {
        function.parent = *parent;
        function.sriov.reset();
        return;
    }
    // Where the kernel shows no control of them, none can be made.
    const auto total = read_number(files, folder + "/sriov_totalvfs");
    if (!total) {
        function.sriov.reset();
        return;
    }
    Sriov sriov;
    sriov.total = static_cast<unsigned>(std::min(*total, most_virtual_functions));
    const auto enabled = read_number(files, folder + "/sriov_numvfs").value_or(0);
    sriov.enabled = static_cast<unsigned>(std::min(enabled, most_virtual_functions));
    for (unsigned i = 0; i < sriov.enabled; ++i) {
        const auto child = pci::parse_address(link_name(files, fmt::format("{}/virtfn{}", folder, i)));
        if (!child) break; // they are numbered without gaps
        sriov.functions.push_back(*child);
    }
    if (sriov.functions.size() != sriov.enabled)
        function.notes.push_back(fmt::format("it has {} virtual functions, but {} are shown", sriov.enabled,
                                             sriov.functions.size()));
    function.sriov = sriov;
}

} // namespace lanepool::inventory
