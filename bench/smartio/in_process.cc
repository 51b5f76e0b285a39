// SPDX-License-Identifier: Apache-2.0
#include "smartio/in_process.h"

#include "base/unique_fd.h"
#include "host/ruler.h"

#include <array>
#include <atomic>
#include <fcntl.h>
#include <thread>
#include <unistd.h>

namespace lanepool::bench {

namespace {

constexpr uint32_t entries = 256; // of each queue, and the greatest depth

struct alignas(64) Command {
    uint64_t block;
    uint32_t slot;
};
struct Completion {
    uint32_t slot;
    std::atomic<uint32_t> phase; // the round in which it was written, from 1 on
    uint64_t result;
};
struct alignas(64) Doorbell {
    std::atomic<uint32_t> tail{0};
};

class InProcess final : public System {
  public:
    explicit InProcess(UniqueFd file)
        : file_(std::move(file)), completions_(entries), buffers_(size_t{entries} * block_bytes) {}
    ~InProcess() override {
        stopping_ = true;
        if (server_.joinable()) server_.join();
    }
    const std::string& name() const override { return name_; }

    void start(int core) {
        server_ = std::thread([this, core] {
            if (pin_to(core)) serve();
        });
    }

    Result<Measured> run(const Workload& workload) override {
        if (workload.depth > entries) return fail(Errc::out_of_range, "at most {} reads at a time", entries);
        Positions positions(workload.seed, workload.size_bytes);
        Recorder recorder(workload.duration);
        std::vector<io::TimePoint> begun(workload.depth, Recorder::clock_now());
        asleep_ = false;
        for (uint32_t slot = 0; slot < workload.depth; ++slot)
            submit(positions.next_block(), slot);
        doorbell_.tail.store(tail_, std::memory_order_release);
        for (uint32_t waiting = workload.depth; waiting > 0;) {
            bool again = false;
            while (const auto* done = next_completion()) {
                if (done->result != block_bytes) return fail(Errc::io, "a read has failed");
                begun[done->slot] = recorder.finished(begun[done->slot]);
                if (recorder.over()) {
                    --waiting;
                    continue;
                }
                submit(positions.next_block(), done->slot);
                again = true;
            }
            if (again) doorbell_.tail.store(tail_, std::memory_order_release);
        }
        asleep_ = true; // others are measured now
        return recorder.result();
    }

  private:
    void submit(uint64_t block, uint32_t slot) { commands_[tail_++ % entries] = {block, slot}; }
    const Completion* next_completion() {
        const Completion& next = completions_[head_ % entries];
        if (next.phase.load(std::memory_order_acquire) != head_ / entries + 1) return nullptr;
        ++head_;
        return &next;
    }

    void serve() {
        for (uint32_t served = 0; !stopping_;) {
            if (asleep_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
            for (const uint32_t tail = doorbell_.tail.load(std::memory_order_acquire); served != tail;
                 ++served) {
                const Command command = commands_[served % entries];
                Completion& completion = completions_[served % entries];
                const ssize_t read =
                    ::pread(file_.get(), buffers_.data() + size_t{command.slot} * block_bytes, block_bytes,
                            static_cast<off_t>(command.block * block_bytes));
                completion.slot = command.slot;
                completion.result = static_cast<uint64_t>(read);
                completion.phase.store(served / entries + 1, std::memory_order_release);
            }
        }
    }

    const std::string name_ = "in-process";
    UniqueFd file_;
    std::array<Command, entries> commands_{};
    Doorbell doorbell_;
    std::vector<Completion> completions_;
    std::vector<std::byte> buffers_;
    uint32_t tail_ = 0; // counts on, as does the head
    uint32_t head_ = 0;
    std::atomic<bool> asleep_{true};
    std::atomic<bool> stopping_{false};
    std::thread server_;
};

} // namespace

Result<std::unique_ptr<System>> make_in_process(const std::string& file, int server_core) {
    UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return fail_errno("opening " + file);
    auto system = std::make_unique<InProcess>(std::move(fd));
    system->start(server_core);
    return system;
}

} // namespace lanepool::bench
