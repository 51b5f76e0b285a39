// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace lanepool::pool {

struct Device;

// Which devices are meant: those for which everything that is given holds. One in which nothing is given
// means no device at all: a selector that was forgotten must not act on all of them.
struct Selector {
    std::string device; // one device: its fdid in hexadecimal, or HOST/NAME
    std::string kind;   // "nvme", "gpu", "nic", "fpga" or "other"
    std::string host;   // the lender
    std::string model;  // a part of the model's name; upper and lower case are the same
    uint32_t vendor_id = 0;
    uint32_t device_id = 0;
    uint64_t least_capacity_bytes = 0;

    bool empty() const { return *this == Selector(); }
    auto operator<=>(const Selector&) const = default;
};

bool selects(const Selector& selector, const Device& device);
// "nvme of at least 1.0 TB at host store", for messages.
std::string describe(const Selector& selector);

} // namespace lanepool::pool
