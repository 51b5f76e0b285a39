// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/erase_job.h"

#include <algorithm>
#include <cerrno>

namespace lanepool::nvme::model {

namespace {
// Small enough that progress moves and other operations get their turn.
constexpr uint64_t deallocate_step_bytes = 256 << 20;
constexpr uint64_t write_step_bytes = 1 << 20;
} // namespace

EraseJob::EraseJob(FileImage& image, FileQueue& files, std::vector<Pass> passes, Done done)
    : image_(image), files_(files), passes_(std::move(passes)), done_(std::move(done)) {}

uint16_t EraseJob::progress() const {
    const double share = static_cast<double>(offset_bytes_) / static_cast<double>(image_.size_bytes());
    const double all = (pass_ + share) / static_cast<double>(passes_.size());
    return static_cast<uint16_t>(std::min(65535.0, all * 65536.0));
}

void EraseJob::step() {
    if (pass_ == passes_.size()) {
        FileOp sync;
        sync.kind = FileOp::Kind::sync;
        files_.submit(sync, [this](int64_t result) { synced(result); });
        files_.flush();
        return;
    }
    const Pass& pass = passes_[pass_];
    FileOp op;
    op.offset_bytes = offset_bytes_;
    const uint64_t step_bytes = pass.deallocate ? deallocate_step_bytes : write_step_bytes;
    const uint64_t size = std::min(step_bytes, image_.size_bytes() - offset_bytes_);
    if (pass.deallocate) {
        op.kind = FileOp::Kind::discard;
        op.size_bytes = size;
    } else {
        if (offset_bytes_ == 0) buffer_.assign(write_step_bytes / sizeof(uint32_t), pass.pattern);
        piece_ = {buffer_.data(), size};
        op.kind = FileOp::Kind::write;
        op.pieces = &piece_;
        op.piece_count = 1;
    }
    files_.submit(op, [this, size](int64_t result) { stepped(size, result); });
    files_.flush();
}

void EraseJob::stepped(uint64_t size_bytes, int64_t result) {
    Pass& pass = passes_[pass_];
    if (pass.deallocate && result == -EOPNOTSUPP) {
        // A file system without holes: zeroes do the same to who reads.
        pass.deallocate = false;
        pass.pattern = 0;
        offset_bytes_ = 0;
        step();
        return;
    }
    if (result == -EINTR || result == -EAGAIN) {
        step();
        return;
    }
    if (result < 0) {
        std::exchange(done_, nullptr)(fail_errno(static_cast<int>(-result), "erasing the drive"));
        return;
    }
    // A short write goes on where it stopped; one of nothing must not go on for ever.
    const uint64_t done = pass.deallocate ? size_bytes : static_cast<uint64_t>(result);
    if (done == 0) {
        std::exchange(done_, nullptr)(fail(Errc::io, "erasing the drive: the file takes no more data"));
        return;
    }
    offset_bytes_ += done;
    if (offset_bytes_ >= image_.size_bytes()) {
        offset_bytes_ = 0;
        ++pass_;
    }
    step();
}

void EraseJob::synced(int64_t result) {
    auto done = std::exchange(done_, nullptr);
    if (result < 0) {
        done(fail_errno(static_cast<int>(-result), "making an erasure durable"));
        return;
    }
    if (!passes_.empty() && passes_.back().deallocate) {
        const auto empty = image_.is_empty();
        if (!empty || !*empty) {
            done(empty ? fail(Errc::io, "data is left after erasing") : tl::unexpected(empty.error()));
            return;
        }
    }
    done({});
}

} // namespace lanepool::nvme::model
