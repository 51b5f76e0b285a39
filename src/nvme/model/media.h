// SPDX-License-Identifier: Apache-2.0
//
// The one namespace: its file, how it is formatted, and what has happened to it. What must outlive the
// process (format, sanitize state, counters) lies beside the file, in FILE.state.
#pragma once

#include "base/result.h"
#include "nvme/model/erase_job.h"
#include "nvme/model/file_image.h"
#include "nvme/model/file_queue.h"
#include "nvme/spec.h"

#include <filesystem>
#include <functional>
#include <memory>

namespace lanepool::nvme::model {

inline constexpr uint32_t namespace_id = 1;
// LBA formats by index: 512 and 4096 bytes.
inline constexpr std::array<uint8_t, 2> lba_shifts = {9, 12};

struct Counters {
    uint64_t blocks_read_512 = 0;
    uint64_t blocks_written_512 = 0;
    uint64_t reads = 0;
    uint64_t writes = 0;
    uint64_t media_errors = 0;
    uint64_t power_cycles = 0;
    uint64_t unsafe_shutdowns = 0;
    uint64_t busy_us = 0;
    uint64_t powered_s = 0; // of earlier runs
};

class Media {
  public:
    struct Options {
        std::filesystem::path file;
        uint64_t size_bytes = 0;
        std::function<Result<std::unique_ptr<FileQueue>>(int fd)> make_queue = FileQueue::create;
        bool at_once = true; // false: also what would not have to wait goes through the queue
    };
    static Result<std::unique_ptr<Media>> open(const Options& options);
    ~Media();

    FileImage& image() { return image_; }
    FileQueue& files() { return *files_; }
    Counters& counters() { return counters_; }
    const Counters& counters() const { return counters_; }

    uint8_t lba_format() const { return lba_format_; }
    uint8_t lba_shift() const { return lba_shifts[lba_format_]; }
    uint64_t blocks() const { return image_.size_bytes() >> lba_shift(); }

    // What keeps commands from the blocks now: success, format_in_progress, sanitize_in_progress or
    // sanitize_failed.
    StatusCode availability() const;
    // Called before anything changes a block.
    void will_write() { sanitize_status_ &= static_cast<uint16_t>(~sanitize_status::global_data_erased); }

    // Erases everything and formats with LBA_FORMAT. DONE is called on success or failure.
    void format(uint8_t lba_format, std::function<void(Result<>)> done);
    // Starts a sanitize operation for DWORD10 and DWORD11 of the command, which have been checked, or fails
    // before anything is touched. ON_SANITIZED is called when it ends.
    Result<> sanitize(uint32_t dword10, uint32_t dword11);
    // Exit Failure Mode; false when the operation that failed did not allow it (AUSE).
    bool leave_sanitize_failure();
    void on_sanitized(std::function<void()> callback) { on_sanitized_ = std::move(callback); }
    SanitizeStatusLog sanitize_log() const;

    // Writes the state file. Errors: io, no_space.
    Result<> save();
    // A format or sanitize operation is under way.
    bool busy() const { return job_ != nullptr; }

  private:
    Media(std::filesystem::path state_path, FileImage image, std::unique_ptr<FileQueue> files)
        : state_path_(std::move(state_path)), image_(std::move(image)), files_(std::move(files)) {}
    Result<> load();
    void start_sanitize();
    void sanitized(Result<> outcome);

    std::filesystem::path state_path_;
    FileImage image_;
    std::unique_ptr<FileQueue> files_;
    Counters counters_;
    uint8_t lba_format_ = 0;

    std::unique_ptr<EraseJob> job_;
    bool formatting_ = false;
    bool format_failed_ = false; // nobody knows what the blocks hold
    uint16_t sanitize_status_ = 0;
    bool sanitize_failure_left_ = false;
    uint32_t sanitize_dword10_ = 0;
    uint32_t sanitize_dword11_ = 0;
    std::function<void()> on_sanitized_;
};

} // namespace lanepool::nvme::model
