// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/wire.h"

#include <cerrno>

namespace lanepool::vfio_user::wire {

Result<> check(const Header& header) {
    const uint32_t type = header.flags & flags::type_mask;
    if (header.size_bytes < sizeof(Header))
        return fail(Errc::protocol, "a message says it has {} bytes, less than its header",
                    uint32_t{header.size_bytes});
    if (header.size_bytes > max_message_bytes)
        return fail(Errc::protocol, "a message of {} bytes, allowed are {}", uint32_t{header.size_bytes},
                    max_message_bytes);
    if (type != flags::command && type != flags::reply)
        return fail(Errc::protocol, "a message of type {}", type);
    if (type == flags::command && (header.flags & flags::error) != 0)
        return fail(Errc::protocol, "a command that reports an error");
    return {};
}

std::vector<std::byte> encode(Header header, std::initializer_list<std::span<const std::byte>> parts) {
    size_t size_bytes = sizeof header;
    for (const auto& part : parts)
        size_bytes += part.size();
    header.size_bytes = static_cast<uint32_t>(size_bytes);
    std::vector<std::byte> bytes;
    bytes.reserve(size_bytes);
    const auto head = bytes_of(header);
    bytes.insert(bytes.end(), head.begin(), head.end());
    for (const auto& part : parts)
        bytes.insert(bytes.end(), part.begin(), part.end());
    return bytes;
}

std::vector<std::byte> encode_command(Command command, uint16_t id,
                                      std::initializer_list<std::span<const std::byte>> parts,
                                      uint32_t extra_flags) {
    Header header{};
    header.id = id;
    header.command = static_cast<uint16_t>(command);
    header.flags = flags::command | extra_flags;
    return encode(header, parts);
}

std::vector<std::byte> encode_error(uint16_t id, uint16_t command, const Error& error) {
    Header header{};
    header.id = id;
    header.command = command;
    header.flags = flags::reply | flags::error;
    header.error = static_cast<uint32_t>(errno_of(error.code()));
    return encode(header, {});
}

int errno_of(Errc code) {
    switch (code) {
    case Errc::invalid_argument:
    case Errc::out_of_range:
    case Errc::protocol:
    case Errc::failed_precondition:
        return EINVAL;
    case Errc::not_found:
        return ENOENT;
    case Errc::already_exists:
        return EEXIST;
    case Errc::busy:
        return EBUSY;
    case Errc::permission_denied:
    case Errc::stale_epoch:
        return EACCES;
    case Errc::no_space:
        return ENOSPC;
    case Errc::timeout:
        return ETIMEDOUT;
    case Errc::unavailable:
        return EAGAIN;
    case Errc::disconnected:
        return ECONNRESET;
    case Errc::not_supported:
        return ENOTSUP;
    case Errc::cancelled:
        return ECANCELED;
    case Errc::io:
    case Errc::internal:
        return EIO;
    }
    return EIO;
}

} // namespace lanepool::vfio_user::wire
