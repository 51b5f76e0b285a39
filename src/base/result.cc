// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <cerrno>
#include <cstring>

namespace lanepool {

std::string_view name(Errc code) {
    switch (code) {
    case Errc::invalid_argument:
        return "invalid_argument";
    case Errc::not_found:
        return "not_found";
    case Errc::already_exists:
        return "already_exists";
    case Errc::busy:
        return "busy";
    case Errc::permission_denied:
        return "permission_denied";
    case Errc::out_of_range:
        return "out_of_range";
    case Errc::no_space:
        return "no_space";
    case Errc::timeout:
        return "timeout";
    case Errc::unavailable:
        return "unavailable";
    case Errc::disconnected:
        return "disconnected";
    case Errc::protocol:
        return "protocol";
    case Errc::stale_epoch:
        return "stale_epoch";
    case Errc::failed_precondition:
        return "failed_precondition";
    case Errc::not_supported:
        return "not_supported";
    case Errc::io:
        return "io";
    case Errc::cancelled:
        return "cancelled";
    case Errc::internal:
        return "internal";
    }
    return "unknown";
}

std::optional<Errc> code_named(std::string_view text) {
    // The codes are numbered from zero without gaps; `internal` is the last.
    for (int i = 0; i <= static_cast<int>(Errc::internal); ++i)
        if (name(static_cast<Errc>(i)) == text) return static_cast<Errc>(i);
    return std::nullopt;
}

static Errc code_of(int error_number) {
    switch (error_number) {
    case EINVAL:
        return Errc::invalid_argument;
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return Errc::not_found;
    case EEXIST:
    case EADDRINUSE:
        return Errc::already_exists;
    case EBUSY:
        return Errc::busy;
    case EPERM:
    case EACCES:
        return Errc::permission_denied;
    case ERANGE:
    case EOVERFLOW:
    case EFAULT:
        return Errc::out_of_range;
    case ENOSPC:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EDQUOT:
        return Errc::no_space;
    case ETIMEDOUT:
        return Errc::timeout;
    case EAGAIN:
    case ECONNREFUSED:
        return Errc::unavailable;
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
        return Errc::disconnected;
    case EPROTO:
    case EBADMSG:
        return Errc::protocol;
    case ENOTSUP:
    case ENOSYS:
    case ENOTTY:
        return Errc::not_supported;
    case ECANCELED:
        return Errc::cancelled;
    default:
        return Errc::io;
    }
}

tl::unexpected<Error> fail_errno(int error_number, std::string_view what) {
    if (error_number < 0) error_number = -error_number;
    return tl::unexpected<Error>(
        Error(code_of(error_number), fmt::format("{}: {}", what, std::strerror(error_number))));
}

tl::unexpected<Error> fail_errno(std::string_view what) { return fail_errno(errno, what); }

} // namespace lanepool
