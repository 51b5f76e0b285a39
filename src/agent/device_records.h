// SPDX-License-Identifier: Apache-2.0
//
// What a lender's agent must still know after it was killed: for each of its devices the highest epoch that
// it has accepted, and whether the device may carry somebody's data or state. Written before it acts.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace lanepool::agent {

struct DeviceRecord {
    uint64_t epoch = 0;
    bool clean = false;  // its last use was followed by a verified reset, and a wipe
    std::string problem; // why the last recovery failed
};

// One JSON file, replaced as a whole (write, fsync, rename, fsync of the folder). Thread-safe.
class DeviceRecords {
  public:
    // Reads FILE; a missing one is empty: every device is then not clean. Errors: protocol for a file that is
    // not ours (it is left alone), io.
    static Result<DeviceRecords> open(const std::filesystem::path& file);

    DeviceRecord get(const std::string& device) const;
    // On disk when it returns; on an error nothing has changed.
    Result<> put(const std::string& device, const DeviceRecord& record);

  private:
    explicit DeviceRecords(std::filesystem::path file)
        : file_(std::move(file)), mutex_(std::make_unique<std::mutex>()) {}
    std::filesystem::path file_;
    std::unique_ptr<std::mutex> mutex_;
    std::map<std::string, DeviceRecord> records_;
};

} // namespace lanepool::agent
