// SPDX-License-Identifier: Apache-2.0
//
// A loan translates an address several times on its way. Each kind of address is a type of its own, so that a
// guest physical address cannot be handed to who expects a bus address.
#pragma once

#include "base/result.h"

#include <compare>
#include <cstdint>
#include <limits>

namespace lanepool {

template <class Tag>
struct Address {
    uint64_t value = 0;

    auto operator<=>(const Address&) const = default;
    // For offsets already checked to lie in a range; wraps like the integer it is.
    Address operator+(uint64_t bytes) const { return {value + bytes}; }
    uint64_t operator-(Address other) const { return value - other.value; }
};

using Iova = Address<struct IovaTag>;             // what a device puts on the bus, before its IOMMU
using BusAddress = Address<struct BusAddressTag>; // an address on a host's PCIe bus, as its adapter issues it
using GuestPhysical = Address<struct GuestPhysicalTag>; // an address in the borrower's guest
using NtbOffset = Address<struct NtbOffsetTag>;         // an offset in a window BAR of an adapter

// A range of addresses that is not empty and does not wrap around.
template <class A>
class Range {
  public:
    static Result<Range> create(A start, uint64_t size_bytes) {
        // The last byte may be the last of the address space, so the sum may be exactly 2^64.
        if (size_bytes == 0 || size_bytes - 1 > std::numeric_limits<uint64_t>::max() - start.value)
            return fail(Errc::out_of_range, "a range of {} bytes at {:#x} is empty or wraps around",
                        size_bytes, start.value);
        return Range(start, size_bytes);
    }

    A start() const { return start_; }
    uint64_t size_bytes() const { return size_bytes_; }
    A last() const { return {start_.value + (size_bytes_ - 1)}; }
    bool contains(A address) const { return address >= start_ && address <= last(); }
    bool contains(const Range& other) const { return contains(other.start()) && contains(other.last()); }
    bool overlaps(const Range& other) const { return start_ <= other.last() && other.start_ <= last(); }
    bool operator==(const Range&) const = default;

  private:
    Range(A start, uint64_t size_bytes) : start_(start), size_bytes_(size_bytes) {}
    A start_;
    uint64_t size_bytes_;
};

} // namespace lanepool
