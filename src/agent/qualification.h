// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/lanepool.pb.h"

#include <filesystem>
#include <string>

namespace lanepool::agent {

// The qualifications that are kept on this host: NAME.json for the device NAME, as `lanepool -o json qualify`
// writes it (docs/qualify.md): of its "qualification" vendor_id and device_id (four hexadecimal digits),
// serial, firmware, kernel_release and result count.
class Qualifications {
  public:
    // KERNEL_RELEASE: of the kernel that runs.
    Qualifications(std::filesystem::path folder, std::string kernel_release)
        : folder_(std::move(folder)), kernel_release_(std::move(kernel_release)) {}
    static std::string running_kernel();

    // Whether there is one that says "fit" of this very device, with the firmware and the kernel that it has
    // now. A file that is not one says nothing.
    bool fit(const std::string& name, const v1::DeviceIdentity& identity) const;

  private:
    const std::filesystem::path folder_;
    const std::string kernel_release_;
};

} // namespace lanepool::agent
