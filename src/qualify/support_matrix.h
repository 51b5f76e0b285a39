// SPDX-License-Identifier: Apache-2.0
//
// What is known to work and not to work: kernels, devices, platforms (data/support-matrix.toml;
// docs/qualify.md has its format). An entry says where it comes from.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::qualify {

enum class Standing { good, limits, bad };

struct Statement {
    std::string name;
    Standing standing = Standing::good;
    std::string reason, remedy, source; // remedy: of what is not good
};

struct KernelVersion {
    unsigned major = 0, minor = 0;
    auto operator<=>(const KernelVersion&) const = default;
};
// "6.1.0-50-amd64" is 6.1. Absent: it does not begin so.
std::optional<KernelVersion> kernel_version(std::string_view release);

struct KernelEntry {
    Statement says;
    KernelVersion from, below; // of the first that it is about, and of the first that it is not
};

struct DeviceEntry {
    Statement says;
    uint16_t vendor_id = 0;
    std::vector<uint16_t> device_ids;   // empty: all of the vendor
    std::optional<uint32_t> class_code; // the upper two bytes of it: 0x0300
    std::string driver;                 // only while it has this one; empty: any
};

struct PlatformEntry {
    Statement says;
    std::string cpu_vendor; // empty: any
    unsigned cpu_family_from = 0;
    uint16_t host_bridge_vendor = 0; // 0: any
    std::vector<uint16_t> host_bridges;
    bool same_socket = false; // it is about packets within one socket only
};

struct SupportMatrix {
    std::vector<KernelEntry> kernels;
    std::vector<DeviceEntry> devices;
    std::vector<PlatformEntry> platforms; // for packets between functions, through the root complex
};

// Errors: invalid_argument, with a line for each problem, as those of a site file.
Result<SupportMatrix> parse_matrix(std::string_view text, std::string_view file_name);

// The one that this program was built with.
std::string_view built_in_matrix_text();
const SupportMatrix& built_in_matrix();

} // namespace lanepool::qualify
