// SPDX-License-Identifier: Apache-2.0
//
// Erases the whole image, step by step, while everything else goes on.
#pragma once

#include "base/result.h"
#include "nvme/model/file_image.h"
#include "nvme/model/file_queue.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace lanepool::nvme::model {

class EraseJob {
  public:
    struct Pass {
        bool deallocate = true; // give the blocks back; they read as zeroes
        uint32_t pattern = 0;   // otherwise: written over everything
    };
    using Done = std::function<void(Result<>)>;

    EraseJob(FileImage& image, FileQueue& files, std::vector<Pass> passes, Done done);
    // The queue must not call us any more.
    ~EraseJob() = default;

    void start() { step(); }
    // Of 65536.
    uint16_t progress() const;
    unsigned passes_done() const { return pass_; }

  private:
    void step();
    void stepped(uint64_t size_bytes, int64_t result);
    void synced(int64_t result);

    FileImage& image_;
    FileQueue& files_;
    std::vector<Pass> passes_;
    Done done_;
    unsigned pass_ = 0;
    uint64_t offset_bytes_ = 0;
    std::vector<uint32_t> buffer_;
    iovec piece_{};
};

} // namespace lanepool::nvme::model
