// SPDX-License-Identifier: Apache-2.0
//
// Our user-space driver on a drive at a vfio-user socket: what is measured.
#include "base/unique_fd.h"
#include "host/workload.h"
#include "nvme/driver.h"
#include "nvme/io_commands.h"
#include "vfio_user/client.h"

#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace lanepool::bench {

namespace {

constexpr io::Duration read_timeout = std::chrono::seconds(10);
constexpr uint16_t max_depth = 128;

class Nvme final : public System {
  public:
    Nvme(std::string name, std::unique_ptr<pci::Function> own, pci::Function& function,
         nvme::DriverOptions options)
        : name_(std::move(name)), own_(std::move(own)), function_(function), options_(std::move(options)) {}
    const std::string& name() const override { return name_; }

    Result<> start() {
        driver_ = TRY(nvme::Driver::create(function_, io::system_clock(), options_));
        nvme::Driver::QueueOptions options;
        options.depth = max_depth;
        queue_ = TRY(driver_->create_queue(options));
        buffers_ = TRY(driver_->allocate(uint64_t{max_depth} * block_bytes));
        if (driver_->namespaces().empty())
            return fail(Errc::failed_precondition, "the drive has no namespace");
        ns_ = driver_->namespaces()[0];
        if (ns_.block_bytes > block_bytes)
            return fail(Errc::not_supported, "the drive's blocks are longer than {} bytes", block_bytes);
        return {};
    }

    // The drive must be FILE, or nothing is compared.
    Result<> compare_with(const std::string& path) {
        const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!file) return fail_errno("opening " + path);
        Positions positions(1, ns_.size_bytes());
        std::array<std::byte, block_bytes> expected;
        for (int i = 0; i < 256; ++i) {
            const uint64_t block = positions.next_block();
            if (::pread(file.get(), expected.data(), expected.size(),
                        static_cast<off_t>(block * block_bytes)) != block_bytes)
                return fail(Errc::failed_precondition, "{} ends before the drive does", path);
            const auto outcome = queue_->execute(TRY(read_command(block, 0)), read_timeout);
            TRY(outcome.result("reading"));
            if (std::memcmp(buffers_.bytes().data(), expected.data(), expected.size()) != 0)
                return fail(Errc::failed_precondition, "the drive does not show {}: block {} differs", path,
                            block);
        }
        return {};
    }

    Result<Measured> run(const Workload& workload) override {
        if (workload.depth > max_depth)
            return fail(Errc::out_of_range, "at most {} reads at a time", max_depth);
        if (workload.size_bytes > ns_.size_bytes()) return fail(Errc::out_of_range, "the drive is too small");
        Positions positions(workload.seed, workload.size_bytes);
        Run run(workload);
        while (!run.error && !run.recorder.over()) {
            while (!run.free.empty()) {
                const uint32_t slot = run.free.back();
                run.free.pop_back();
                run.begun[slot] = run.now;
                const auto command = TRY(read_command(positions.next_block(), slot));
                // Two words are captured: as much as a std::function holds without allocating.
                TRY(queue_->submit(command, read_timeout, [&run, slot](const nvme::Outcome& outcome) {
                    if (!outcome.ok()) run.error = outcome.result("reading").error();
                    run.now = run.recorder.finished(run.begun[slot]);
                    run.free.push_back(slot);
                }));
            }
            TRY(queue_->poll());
        }
        while (queue_->in_flight() > 0) // their callbacks refer to this call
            TRY(queue_->poll());
        if (run.error) return tl::unexpected(*run.error);
        return run.recorder.result();
    }

  private:
    struct Run {
        explicit Run(const Workload& workload) : begun(workload.depth), recorder(workload.duration) {
            for (uint32_t slot = workload.depth; slot > 0; --slot)
                free.push_back(slot - 1);
        }
        std::vector<io::TimePoint> begun;
        std::vector<uint32_t> free;
        std::optional<Error> error;
        Recorder recorder;
        io::TimePoint now = Recorder::clock_now();
    };

    Result<nvme::Command> read_command(uint64_t block, uint32_t slot) {
        const uint32_t blocks = block_bytes / ns_.block_bytes;
        return nvme::make_read(ns_, block * blocks, blocks, {buffers_, uint64_t{slot} * block_bytes});
    }

    // The order matters: the driver goes before the function, its memory before the driver.
    std::string name_;
    std::unique_ptr<pci::Function> own_; // where the function is nobody else's
    pci::Function& function_;
    nvme::DriverOptions options_;
    std::unique_ptr<nvme::Driver> driver_;
    nvme::DmaMemory buffers_;
    nvme::QueuePair* queue_ = nullptr;
    nvme::NamespaceInfo ns_;
};

} // namespace

static Result<std::unique_ptr<System>> started(std::unique_ptr<Nvme> system, const std::string& file) {
    TRY(system->start());
    TRY(system->compare_with(file));
    return std::unique_ptr<System>(std::move(system));
}

Result<std::unique_ptr<System>> make_nvme(const std::string& name, pci::Function& function,
                                          nvme::DriverOptions options, const std::string& file) {
    return started(std::make_unique<Nvme>(name, nullptr, function, std::move(options)), file);
}

Result<std::unique_ptr<System>> make_nvme(const std::string& name, const std::string& socket,
                                          const std::string& file) {
    auto function = TRY(vfio_user::connect(socket));
    auto& used = *function;
    return started(std::make_unique<Nvme>(name, std::move(function), used, nvme::DriverOptions{}), file);
}

} // namespace lanepool::bench
