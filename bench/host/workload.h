// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "io/clock.h"
#include "nvme/driver.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lanepool::bench {

inline constexpr uint32_t block_bytes = 4096;

// Random reads of one block each, anywhere in the first SIZE_BYTES, DEPTH at a time, for DURATION.
struct Workload {
    uint64_t size_bytes;
    uint32_t depth;
    io::Duration duration;
    uint64_t seed;
};

struct Measured {
    double iops = 0;
    double mean_us = 0; // between two completions at depth 1; of one read's life at more
    double p50_us = 0;
    double p99_us = 0;
};

// One way of reading the same file. Not thread-safe.
class System {
  public:
    virtual ~System() = default;
    virtual const std::string& name() const = 0;
    virtual Result<Measured> run(const Workload& workload) = 0;
};

// A cheap source of positions: xorshift64*, so that drawing one costs the same nothing for all.
class Positions {
  public:
    Positions(uint64_t seed, uint64_t size_bytes) : state_(seed | 1), blocks_(size_bytes / block_bytes) {}
    uint64_t next_block() {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return (state_ * 0x2545f4914f6cdd1d >> 32) * blocks_ >> 32; // fewer than 2^32 blocks: 16 TiB
    }

  private:
    uint64_t state_;
    uint64_t blocks_;
};

// Counts reads and their latencies in steps of 1/32 of a power of two.
class Recorder {
  public:
    explicit Recorder(io::Duration duration) : start_(clock_now()), end_(start_ + duration), last_(start_) {}
    static io::TimePoint clock_now() { return std::chrono::steady_clock::now(); }

    // A read that began at BEGUN has ended now. Returns now.
    io::TimePoint finished(io::TimePoint begun) {
        last_ = clock_now();
        add(last_ - begun);
        return last_;
    }
    bool over() const { return last_ >= end_; }
    Measured result() const;

  private:
    void add(io::Duration latency);
    double percentile_us(double part) const;

    io::TimePoint start_;
    io::TimePoint end_;
    io::TimePoint last_;
    uint64_t count_ = 0;
    io::Duration sum_{0};
    std::vector<uint64_t> histogram_ = std::vector<uint64_t>(64 * 32);
};

// FILE is opened with O_DIRECT where DIRECT is set.
Result<std::unique_ptr<System>> make_pread(const std::string& file, bool direct);
Result<std::unique_ptr<System>> make_libaio(const std::string& file, bool direct);
Result<std::unique_ptr<System>> make_io_uring(const std::string& file, bool direct);
// The drive that FUNCTION is, which must show FILE and outlive the system.
Result<std::unique_ptr<System>> make_nvme(const std::string& name, pci::Function& function,
                                          nvme::DriverOptions options, const std::string& file);
// The drive at a vfio-user socket, which must show FILE: both are compared at some places first. Errors:
// failed_precondition when they differ.
Result<std::unique_ptr<System>> make_nvme(const std::string& name, const std::string& socket,
                                          const std::string& file);

} // namespace lanepool::bench
