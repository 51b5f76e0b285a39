// SPDX-License-Identifier: Apache-2.0
//
// What a lender's agent must still know after it was killed: for each of its devices the highest epoch that
// it has accepted, and whether the device may carry somebody's data or state. Written before it acts.
//
// A device is a place in this host and the serial number of what is in it, as it is for the controller: a
// drive that was put in another one's place has a record of its own, and begins as not clean.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace lanepool::agent {

struct DeviceRecord {
    uint64_t epoch = 0;
    bool clean = false;  // its last use was followed by a verified reset, and a wipe
    std::string problem; // why the last recovery failed

    bool operator==(const DeviceRecord&) const = default;
};

// One JSON file, replaced as a whole (write, fsync, rename, fsync of the folder). Thread-safe.
class DeviceRecords {
  public:
    // Reads FILE; a missing one is empty: every device is then not clean. A file from before there were
    // serial numbers in it is read too: whatever is in a place then gets the epoch of that place, and is not
    // clean. Errors: protocol for a file that is not ours (it is left alone), io.
    static Result<DeviceRecords> open(const std::filesystem::path& file);

    // SERIAL is in the place NAME. What was there before is not clean any more: nobody knows what happens to
    // it elsewhere. Nor is a device without a serial number, which cannot be told from any other. On disk
    // when it returns.
    Result<DeviceRecord> found(const std::string& name, const std::string& serial);
    // The serial number of what was found in the place NAME last; empty: it has none, or nothing was.
    std::string last_serial(const std::string& name) const;
    // On disk when it returns; on an error nothing has changed.
    Result<> put(const std::string& name, const std::string& serial, const DeviceRecord& record);

  private:
    struct Entry {
        std::string name;
        std::string serial;
        bool serial_known = true; // false: from before there were serial numbers
        DeviceRecord record;

        bool operator==(const Entry&) const = default;
    };

    explicit DeviceRecords(std::filesystem::path file)
        : file_(std::move(file)), mutex_(std::make_unique<std::mutex>()) {}
    static void forget_the_oldest(std::vector<Entry>& entries);
    Result<> store(std::vector<Entry> entries);

    std::filesystem::path file_;
    std::unique_ptr<std::mutex> mutex_;
    std::vector<Entry> entries_; // the last of a name is what was last found there
};

} // namespace lanepool::agent
