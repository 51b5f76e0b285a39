// SPDX-License-Identifier: Apache-2.0
#include "base/unique_fd.h"
#include "nvme/model/file_queue.h"

#include <cerrno>
#include <deque>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <vector>

namespace lanepool::nvme::model {

namespace {

// At most this many operations are with the kernel; its completion queue has twice the room.
constexpr unsigned depth = 512;

class UringFileQueue final : public FileQueue {
  public:
    UringFileQueue(int fd, UniqueFd event) : fd_(fd), event_(std::move(event)) {}

    Result<> start() {
        if (const int error = ::io_uring_queue_init(depth, &ring_, 0); error != 0)
            return fail_errno(-error, "setting up io_uring");
        started_ = true;
        if (const int error = ::io_uring_register_eventfd(&ring_, event_.get()); error != 0)
            return fail_errno(-error, "registering an eventfd with io_uring");
        return {};
    }

    ~UringFileQueue() override {
        if (!started_) return;
        backlog_.clear();
        ::io_uring_submit(&ring_);
        while (with_kernel_ > 0) {
            io_uring_cqe* cqe = nullptr;
            if (::io_uring_wait_cqe(&ring_, &cqe) != 0) break;
            if (cqe->user_data != cancel_tag) --with_kernel_;
            ::io_uring_cqe_seen(&ring_, cqe);
        }
        ::io_uring_queue_exit(&ring_);
    }

    FileTicket submit(const FileOp& op, FileDone done) override {
        const size_t index = take_slot();
        slots_[index].op = op;
        slots_[index].done = std::move(done);
        ++in_flight_;
        const FileTicket ticket = uint64_t{slots_[index].use} << 32 | index;
        if (with_kernel_ >= depth || !give(ticket)) backlog_.push_back(ticket);
        return ticket;
    }

    void flush() override {
        while (!backlog_.empty() && with_kernel_ < depth && give(backlog_.front()))
            backlog_.pop_front();
        // Refused for want of memory: tried again with the next round.
        if (to_submit_ > 0 && ::io_uring_submit(&ring_) >= 0) to_submit_ = ::io_uring_sq_ready(&ring_);
    }

    size_t poll() override {
        if (::io_uring_cq_ready(&ring_) == 0) return 0;
        size_t count = 0;
        io_uring_cqe* cqe = nullptr;
        while (::io_uring_peek_cqe(&ring_, &cqe) == 0) {
            const uint64_t tag = cqe->user_data;
            const int64_t result = cqe->res;
            ::io_uring_cqe_seen(&ring_, cqe);
            if (tag == cancel_tag) continue;
            --with_kernel_;
            auto done = release_slot(tag);
            --in_flight_;
            ++count;
            done(result);
        }
        flush();
        return count;
    }

    void cancel(FileTicket ticket) override {
        const size_t index = ticket & 0xffffffff;
        if (index >= slots_.size() || slots_[index].use != ticket >> 32 || !slots_[index].done) return;
        if (io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_)) {
            ::io_uring_prep_cancel64(sqe, ticket, 0);
            sqe->user_data = cancel_tag;
            ++to_submit_;
            flush();
        }
    }

    size_t in_flight() const override { return in_flight_; }
    int event_fd() const override { return event_.get(); }
    void acknowledge() override { drain(event_); }

  private:
    static constexpr uint64_t cancel_tag = ~uint64_t{0};
    struct Slot {
        FileOp op;
        FileDone done;
        uint32_t use = 0; // tells a slot's uses apart, so that a late cancel hits nobody else
    };

    size_t take_slot() {
        if (free_.empty()) {
            slots_.emplace_back();
            return slots_.size() - 1;
        }
        const size_t index = free_.back();
        free_.pop_back();
        return index;
    }

    FileDone release_slot(FileTicket ticket) {
        const size_t index = ticket & 0xffffffff;
        FileDone done = std::exchange(slots_[index].done, nullptr);
        ++slots_[index].use;
        free_.push_back(index);
        return done;
    }

    bool give(FileTicket ticket) {
        io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
        if (!sqe) return false;
        const FileOp& op = slots_[ticket & 0xffffffff].op;
        switch (op.kind) {
        case FileOp::Kind::read:
            ::io_uring_prep_readv(sqe, fd_, op.pieces, op.piece_count, op.offset_bytes);
            break;
        case FileOp::Kind::write:
            ::io_uring_prep_writev2(sqe, fd_, op.pieces, op.piece_count, op.offset_bytes,
                                    op.durable ? RWF_DSYNC : 0);
            break;
        case FileOp::Kind::sync:
            ::io_uring_prep_fsync(sqe, fd_, IORING_FSYNC_DATASYNC);
            break;
        case FileOp::Kind::zero:
        case FileOp::Kind::discard:
            ::io_uring_prep_fallocate(
                sqe, fd_,
                FALLOC_FL_KEEP_SIZE |
                    (op.kind == FileOp::Kind::zero ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE),
                static_cast<off_t>(op.offset_bytes), static_cast<off_t>(op.size_bytes));
            break;
        }
        sqe->user_data = ticket;
        ++with_kernel_;
        ++to_submit_;
        return true;
    }

    int fd_;
    UniqueFd event_;
    io_uring ring_{};
    bool started_ = false;
    std::deque<Slot> slots_;
    std::vector<size_t> free_;
    std::deque<FileTicket> backlog_;
    size_t in_flight_ = 0;
    unsigned with_kernel_ = 0;
    unsigned to_submit_ = 0;
};

} // namespace

Result<std::unique_ptr<FileQueue>> FileQueue::create_uring(int fd) {
    auto queue = std::make_unique<UringFileQueue>(fd, TRY(create_eventfd()));
    TRY(queue->start());
    return queue;
}

Result<std::unique_ptr<FileQueue>> FileQueue::create(int fd) {
    if (auto queue = create_uring(fd)) return queue;
    return create_threads(fd);
}

} // namespace lanepool::nvme::model
