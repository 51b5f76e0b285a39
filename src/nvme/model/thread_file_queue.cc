// SPDX-License-Identifier: Apache-2.0
#include "base/unique_fd.h"
#include "nvme/model/file_queue.h"

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <fcntl.h>
#include <linux/falloc.h>
#include <mutex>
#include <thread>
#include <unistd.h>
#include <vector>

namespace lanepool::nvme::model {

namespace {

constexpr unsigned thread_count = 4;

int64_t perform(int fd, const FileOp& op) {
    const auto offset = static_cast<off_t>(op.offset_bytes);
    const auto count = static_cast<int>(op.piece_count);
    int64_t result = 0;
    switch (op.kind) {
    case FileOp::Kind::read:
        result = ::preadv(fd, op.pieces, count, offset);
        break;
    case FileOp::Kind::write:
        result = ::pwritev2(fd, op.pieces, count, offset, op.durable ? RWF_DSYNC : 0);
        break;
    case FileOp::Kind::sync:
        result = ::fdatasync(fd);
        break;
    case FileOp::Kind::zero:
    case FileOp::Kind::discard:
        result = ::fallocate(fd,
                             FALLOC_FL_KEEP_SIZE | (op.kind == FileOp::Kind::zero ? FALLOC_FL_ZERO_RANGE
                                                                                  : FALLOC_FL_PUNCH_HOLE),
                             offset, static_cast<off_t>(op.size_bytes));
        break;
    }
    return result < 0 ? -errno : result;
}

class ThreadFileQueue final : public FileQueue {
  public:
    ThreadFileQueue(int fd, UniqueFd event) : fd_(fd), event_(std::move(event)) {
        for (unsigned i = 0; i < thread_count; ++i)
            threads_.emplace_back([this] { work(); });
    }

    ~ThreadFileQueue() override {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
            waiting_.clear();
        }
        wake_.notify_all();
        for (auto& thread : threads_)
            thread.join();
    }

    FileTicket submit(const FileOp& op, FileDone done) override {
        const FileTicket ticket = next_ticket_++;
        ++in_flight_;
        {
            const std::lock_guard lock(mutex_);
            waiting_.push_back({ticket, op, std::move(done), 0});
        }
        wake_.notify_one();
        return ticket;
    }

    void flush() override {}

    size_t poll() override {
        if (!any_finished_.load(std::memory_order_acquire)) return 0;
        std::vector<Job> finished;
        {
            const std::lock_guard lock(mutex_);
            finished.swap(finished_);
            any_finished_ = false;
        }
        for (auto& job : finished) {
            --in_flight_;
            job.done(job.result);
        }
        return finished.size();
    }

    void cancel(FileTicket ticket) override {
        const std::lock_guard lock(mutex_);
        for (auto job = waiting_.begin(); job != waiting_.end(); ++job)
            if (job->ticket == ticket) {
                job->result = -ECANCELED;
                finish(std::move(*job));
                waiting_.erase(job);
                return;
            }
    }

    size_t in_flight() const override { return in_flight_; }
    int event_fd() const override { return event_.get(); }
    void acknowledge() override { drain(event_); }

  private:
    struct Job {
        FileTicket ticket;
        FileOp op;
        FileDone done;
        int64_t result;
    };

    void finish(Job job) { // with the mutex held
        finished_.push_back(std::move(job));
        any_finished_.store(true, std::memory_order_release);
        signal(event_);
    }

    void work() {
        std::unique_lock lock(mutex_);
        while (true) {
            wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
            if (stopping_) return;
            Job job = std::move(waiting_.front());
            waiting_.pop_front();
            lock.unlock();
            job.result = perform(fd_, job.op);
            lock.lock();
            finish(std::move(job));
        }
    }

    const int fd_;
    UniqueFd event_;
    FileTicket next_ticket_ = 1;
    size_t in_flight_ = 0; // of the caller's thread
    std::mutex mutex_;     // guards what follows
    std::condition_variable wake_;
    std::deque<Job> waiting_;
    std::vector<Job> finished_;
    bool stopping_ = false;
    std::atomic<bool> any_finished_{false};
    std::vector<std::thread> threads_;
};

} // namespace

Result<std::unique_ptr<FileQueue>> FileQueue::create_threads(int fd) {
    return std::make_unique<ThreadFileQueue>(fd, TRY(create_eventfd()));
}

} // namespace lanepool::nvme::model
