// SPDX-License-Identifier: Apache-2.0
//
// What the kernel offers to read the same file with: the denominators.
#include "base/mapping.h"
#include "base/unique_fd.h"
#include "host/workload.h"

#include <fcntl.h>
#include <liburing.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lanepool::bench {

namespace {

Result<UniqueFd> open_file(const std::string& path, bool direct) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0)));
    if (!fd) return fail_errno("opening " + path);
    return fd;
}

// One aligned block for each read in flight.
Result<Mapping> make_buffers(uint32_t depth) {
    const auto fd = TRY(create_memory("lanepool-bench", uint64_t{depth} * block_bytes));
    return Mapping::create(fd.get(), 0, uint64_t{depth} * block_bytes);
}

class Pread final : public System {
  public:
    explicit Pread(UniqueFd fd) : fd_(std::move(fd)) {}
    const std::string& name() const override { return name_; }
    Result<Measured> run(const Workload& workload) override {
        if (workload.depth != 1) return fail(Errc::not_supported, "pread reads one block at a time");
        const auto buffer = TRY(make_buffers(1));
        Positions positions(workload.seed, workload.size_bytes);
        Recorder recorder(workload.duration);
        for (auto begun = Recorder::clock_now(); !recorder.over(); begun = recorder.finished(begun)) {
            const auto offset = static_cast<off_t>(positions.next_block() * block_bytes);
            if (::pread(fd_.get(), buffer.data(), block_bytes, offset) != block_bytes)
                return fail_errno("pread");
        }
        return recorder.result();
    }

  private:
    std::string name_ = "pread";
    UniqueFd fd_;
};

class Libaio final : public System {
  public:
    explicit Libaio(UniqueFd fd) : fd_(std::move(fd)) {}
    const std::string& name() const override { return name_; }
    Result<Measured> run(const Workload& workload) override {
        aio_context_t context = 0;
        if (::syscall(SYS_io_setup, workload.depth, &context) != 0) return fail_errno("io_setup");
        auto measured = run(workload, context);
        ::syscall(SYS_io_destroy, context);
        return measured;
    }

  private:
    Result<Measured> run(const Workload& workload, aio_context_t context) {
        const auto buffers = TRY(make_buffers(workload.depth));
        std::vector<iocb> requests(workload.depth);
        std::vector<iocb*> to_submit;
        std::vector<io_event> events(workload.depth);
        std::vector<io::TimePoint> begun(workload.depth);
        Positions positions(workload.seed, workload.size_bytes);
        for (uint32_t i = 0; i < workload.depth; ++i) {
            requests[i].aio_data = i;
            requests[i].aio_lio_opcode = IOCB_CMD_PREAD;
            requests[i].aio_fildes = static_cast<uint32_t>(fd_.get());
            requests[i].aio_buf = reinterpret_cast<uint64_t>(buffers.data() + uint64_t{i} * block_bytes);
            requests[i].aio_nbytes = block_bytes;
            to_submit.push_back(&requests[i]);
        }
        Recorder recorder(workload.duration);
        auto now = Recorder::clock_now();
        while (!recorder.over()) {
            for (auto* request : to_submit) {
                request->aio_offset = static_cast<int64_t>(positions.next_block() * block_bytes);
                begun[request->aio_data] = now;
            }
            const auto count = static_cast<long>(to_submit.size());
            if (::syscall(SYS_io_submit, context, count, to_submit.data()) != count)
                return fail_errno("io_submit");
            const long done = ::syscall(SYS_io_getevents, context, 1L, static_cast<long>(workload.depth),
                                        events.data(), nullptr);
            if (done < 1) return fail_errno("io_getevents");
            to_submit.clear();
            for (long i = 0; i < done; ++i) {
                const auto& event = events[static_cast<size_t>(i)];
                if (event.res != block_bytes) return fail(Errc::io, "libaio read {} bytes", event.res);
                now = recorder.finished(begun[event.data]);
                to_submit.push_back(&requests[event.data]);
            }
        }
        return drain(context, workload.depth - static_cast<uint32_t>(to_submit.size()), recorder.result());
    }

    // Reads still in flight write to buffers that are about to go.
    static Result<Measured> drain(aio_context_t context, uint32_t in_flight, Measured measured) {
        std::vector<io_event> events(in_flight + 1);
        const auto count = static_cast<long>(in_flight);
        if (count > 0 && ::syscall(SYS_io_getevents, context, count, count, events.data(), nullptr) != count)
            return fail_errno("io_getevents");
        return measured;
    }

    std::string name_ = "libaio";
    UniqueFd fd_;
};

class IoUring final : public System {
  public:
    explicit IoUring(UniqueFd fd) : fd_(std::move(fd)) {}
    const std::string& name() const override { return name_; }
    Result<Measured> run(const Workload& workload) override {
        const auto buffers = TRY(make_buffers(workload.depth)); // outlives the ring
        io_uring ring;
        if (const int error = io_uring_queue_init(workload.depth, &ring, 0); error < 0)
            return fail_errno(error, "setting up io_uring");
        auto measured = run(workload, ring, buffers);
        io_uring_queue_exit(&ring);
        return measured;
    }

  private:
    Result<Measured> run(const Workload& workload, io_uring& ring, const Mapping& buffers) {
        std::vector<io::TimePoint> begun(workload.depth);
        Positions positions(workload.seed, workload.size_bytes);
        const auto prepare = [&](uint64_t slot, io::TimePoint now) {
            auto* request = io_uring_get_sqe(&ring);
            io_uring_prep_read(request, fd_.get(), buffers.data() + slot * block_bytes, block_bytes,
                               positions.next_block() * block_bytes);
            io_uring_sqe_set_data64(request, slot);
            begun[slot] = now;
        };
        Recorder recorder(workload.duration);
        for (uint32_t slot = 0; slot < workload.depth; ++slot)
            prepare(slot, Recorder::clock_now());
        uint32_t in_flight = workload.depth;
        while (in_flight > 0) {
            if (const int error = io_uring_submit_and_wait(&ring, 1); error < 0)
                return fail_errno(error, "io_uring_submit_and_wait");
            io_uring_cqe* entry = nullptr;
            while (io_uring_peek_cqe(&ring, &entry) == 0) {
                const auto slot = io_uring_cqe_get_data64(entry);
                const int read = entry->res;
                io_uring_cqe_seen(&ring, entry);
                --in_flight;
                if (read != static_cast<int>(block_bytes))
                    return fail(Errc::io, "io_uring read {} bytes", read);
                if (recorder.over()) continue; // only wait for the rest
                const auto now = recorder.finished(begun[slot]);
                prepare(slot, now);
                ++in_flight;
            }
        }
        return recorder.result();
    }

    std::string name_ = "io_uring";
    UniqueFd fd_;
};

} // namespace

Result<std::unique_ptr<System>> make_pread(const std::string& file, bool direct) {
    return std::unique_ptr<System>(std::make_unique<Pread>(TRY(open_file(file, direct))));
}
Result<std::unique_ptr<System>> make_libaio(const std::string& file, bool direct) {
    return std::unique_ptr<System>(std::make_unique<Libaio>(TRY(open_file(file, direct))));
}
Result<std::unique_ptr<System>> make_io_uring(const std::string& file, bool direct) {
    return std::unique_ptr<System>(std::make_unique<IoUring>(TRY(open_file(file, direct))));
}

} // namespace lanepool::bench
