// SPDX-License-Identifier: Apache-2.0
#include "vfio/info.h"

#include <linux/vfio.h>

namespace lanepool::vfio {

// No answer of the kernel's comes near it.
constexpr uint32_t max_answer_bytes = 1 << 20;

Result<std::vector<std::byte>> ask(Kernel& kernel, int fd, unsigned long request,
                                   std::span<const std::byte> head, std::string_view what) {
    auto room = static_cast<uint32_t>(head.size());
    while (true) {
        std::vector<std::byte> answer(room);
        std::memcpy(answer.data(), head.data(), head.size());
        std::memcpy(answer.data(), &room, sizeof room);
        if (const int result = kernel.ioctl(fd, request, answer.data()); result < 0)
            return fail_errno(result, what);
        const auto needed = TRY(part_of<uint32_t>(answer));
        if (needed <= room) return answer;
        if (needed > max_answer_bytes)
            return fail(Errc::protocol, "{}: the kernel has {} bytes to say, allowed are {}", what, needed,
                        max_answer_bytes);
        room = needed;
    }
}

Result<std::span<const std::byte>> find_capability(std::span<const std::byte> answer, uint32_t first,
                                                   uint16_t id) {
    uint32_t previous = 0;
    for (uint32_t offset = first; offset != 0;) {
        if (offset <= previous)
            return fail(Errc::protocol, "a capability at {:#x} follows one at {:#x}", offset, previous);
        const auto header = TRY(part_of<vfio_info_cap_header>(answer, offset));
        if (header.id == id) return answer.subspan(offset);
        previous = offset;
        offset = header.next;
    }
    return std::span<const std::byte>();
}

} // namespace lanepool::vfio
