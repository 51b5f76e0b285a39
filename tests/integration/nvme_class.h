// SPDX-License-Identifier: Apache-2.0
//
// For tests: what a lender knows of NVMe drives.
#pragma once

#include "io/clock.h"
#include "nvme/wipe.h"
#include "smartio/device_class.h"

namespace lanepool::test {

class NvmeClass final : public smartio::DeviceClass {
  public:
    Result<smartio::DeviceIdentity> identify(pci::Function& device) override {
        const auto drive = TRY(nvme::identify(device));
        return smartio::DeviceIdentity{drive.model, drive.serial, drive.firmware, drive.capacity_bytes};
    }
    Result<> verify_reset(pci::Function& device) override { return nvme::verify_reset(device); }
    Result<> wipe(pci::Function& device, io::Duration deadline) override {
        nvme::WipeOptions options;
        options.deadline = io::system_clock().now() + deadline;
        TRY(nvme::wipe(device, io::system_clock(), options));
        return {};
    }
};

} // namespace lanepool::test
