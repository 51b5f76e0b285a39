// SPDX-License-Identifier: Apache-2.0
//
// Two processes that share memory and wake each other: barely, as the kernel lets them (what is possible), or
// by segments and interrupts of two hosts (what is measured). The same loops run over both.
#pragma once

#include "base/result.h"

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>

namespace lanepool::bench {

// One end. Not thread-safe.
class Link {
  public:
    virtual ~Link() = default;
    virtual std::span<std::byte> here() const = 0;  // memory of this process, which the other writes
    virtual std::span<std::byte> there() const = 0; // memory of the other, as large
    virtual Result<> wake() = 0;                    // the other
    virtual Result<> wait(std::chrono::milliseconds timeout) = 0; // until the other wakes this one
};

inline constexpr size_t link_bytes = 64 << 20;

// What both ends have before fork() makes them two.
class BareLinks {
  public:
    static Result<BareLinks> create();
    BareLinks(BareLinks&&) noexcept;
    ~BareLinks();
    std::unique_ptr<Link> end(bool first) const;

  private:
    struct Shared;
    explicit BareLinks(std::shared_ptr<Shared> shared);
    std::shared_ptr<Shared> shared_;
};

// One end at the agent of a host; NODE is the other's. Both ends must be made at the same time.
Result<std::unique_ptr<Link>> make_segment_link(const char* agent, bool first, uint32_t other_node);
// The node of the host whose agent listens there.
Result<uint32_t> node_of(const char* agent);

} // namespace lanepool::bench
