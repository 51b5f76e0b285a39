// SPDX-License-Identifier: Apache-2.0
//
// VFIO's answers of variable length: a struct that begins with its size, and behind it a chain of
// capabilities (linux/vfio.h, struct vfio_info_cap_header).
#pragma once

#include "base/result.h"
#include "vfio/kernel.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace lanepool::vfio {

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
    return std::as_bytes(std::span(&value, 1));
}

// The struct at OFFSET of an answer. Errors: protocol when it does not fit.
template <class T>
Result<> copy_part(std::span<const std::byte> answer, size_t offset_bytes, T& value) {
    if (offset_bytes > answer.size() || sizeof value > answer.size() - offset_bytes)
        return fail(Errc::protocol, "the kernel's answer of {} bytes ends before {} bytes at {}",
                    answer.size(), sizeof value, offset_bytes);
    std::memcpy(&value, answer.data() + offset_bytes, sizeof value);
    return {};
}
// The same, but not for a struct that ends in an array of no length.
template <class T>
Result<T> part_of(std::span<const std::byte> answer, size_t offset_bytes = 0) {
    T value;
    TRY(copy_part(answer, offset_bytes, value));
    return value;
}

// Asks REQUEST of FD: HEAD is its struct, with everything but argsz filled in. Asks again with more room when
// the kernel has more to say. WHAT is for errors. Errors: those of the ioctl, protocol.
Result<std::vector<std::byte>> ask(Kernel& kernel, int fd, unsigned long request,
                                   std::span<const std::byte> head, std::string_view what);

// The capability with this ID, from its header to the end of the answer, in a chain that begins at FIRST;
// empty when there is none. Errors: protocol for a chain that leaves the answer or does not go forward.
Result<std::span<const std::byte>> find_capability(std::span<const std::byte> answer, uint32_t first,
                                                   uint16_t id);

} // namespace lanepool::vfio
