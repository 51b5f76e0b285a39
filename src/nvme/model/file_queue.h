// SPDX-License-Identifier: Apache-2.0
//
// Asynchronous operations on the image: io_uring, or threads where the kernel or a sandbox has none.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <sys/uio.h>

namespace lanepool::nvme::model {

struct FileOp {
    enum class Kind : uint8_t { read, write, sync, zero, discard };
    Kind kind = Kind::read;
    bool durable = false; // write: on stable storage before it is done
    uint64_t offset_bytes = 0;
    uint64_t size_bytes = 0;       // zero, discard
    const iovec* pieces = nullptr; // read, write; must live until it is done, and so must what they name
    unsigned piece_count = 0;
};

// The number of bytes, 0, or a negative errno.
using FileDone = std::function<void(int64_t result)>;
using FileTicket = uint64_t;

class FileQueue {
  public:
    // FD must outlive the queue. Destroying waits for what is in flight, without calling anybody.
    static Result<std::unique_ptr<FileQueue>> create_uring(int fd);
    static Result<std::unique_ptr<FileQueue>> create_threads(int fd);
    // The first one that works.
    static Result<std::unique_ptr<FileQueue>> create(int fd);

    virtual ~FileQueue() = default;
    virtual FileTicket submit(const FileOp& op, FileDone done) = 0;
    // Hands what was submitted to the kernel; submit() alone need not.
    virtual void flush() = 0;
    // Calls the FileDone of what has ended; returns how many. Nothing else calls them.
    virtual size_t poll() = 0;
    // Asks for an end; the operation is done as ever, perhaps with -ECANCELED.
    virtual void cancel(FileTicket ticket) = 0;
    virtual size_t in_flight() const = 0;
    // Readable when poll() may have something to do, until acknowledge(). Only for who does not poll anyway:
    // it costs a system call.
    virtual int event_fd() const = 0;
    virtual void acknowledge() = 0;
};

} // namespace lanepool::nvme::model
