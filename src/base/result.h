// SPDX-License-Identifier: Apache-2.0
//
// Result<T> is how every function of lanepool says that it failed: a value, or an Error that names what went
// wrong in words for a person and in a code for a program. Exceptions do not cross folders.
#pragma once

#include <fmt/format.h>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <type_traits>
#include <utility>

namespace lanepool {

// What kind of failure it is. The names are stable: they travel over RPC and decide exit codes.
enum class Errc {
    invalid_argument, // the caller's words are wrong; the same call will fail again
    not_found,
    already_exists,
    busy, // held by somebody; the message says by whom
    permission_denied,
    out_of_range, // an offset, length or address outside of what is there
    no_space,     // out of windows, memory, disk, or over a limit
    timeout,      // a deadline passed
    unavailable,  // the other side is not there (now)
    disconnected, // the other side went away in the middle
    protocol,     // the other side broke the protocol
    stale_epoch,  // a step of a loan that has been superseded
    failed_precondition,
    not_supported,
    io, // the operating system or the device reported an error
    cancelled,
    internal,
};

// The stable name of a code, for example "not_found".
std::string_view name(Errc code);
// The code of that name, if there is one.
std::optional<Errc> code_named(std::string_view name);

class Error {
  public:
    Error(Errc code, std::string message) : code_(code), message_(std::move(message)) {}

    Errc code() const { return code_; }
    const std::string& message() const { return message_; }

    // The same failure, seen from one level up: "CONTEXT: MESSAGE".
    Error within(std::string_view context) const& {
        return {code_, fmt::format("{}: {}", context, message_)};
    }

  private:
    Errc code_;
    std::string message_;
};

template <class T = void>
using Result = tl::expected<T, Error>;

// return fail(Errc::busy, "device {} is lent to {}", fdid, host);
template <class... Args>
[[nodiscard]] tl::unexpected<Error> fail(Errc code, fmt::format_string<Args...> format, Args&&... args) {
    return tl::unexpected<Error>(Error(code, fmt::format(format, std::forward<Args>(args)...)));
}

// The failure of a system call that has just set errno; WHAT says what was attempted, on what.
[[nodiscard]] tl::unexpected<Error> fail_errno(std::string_view what);
// The same for a call that returned a negative errno.
[[nodiscard]] tl::unexpected<Error> fail_errno(int error_number, std::string_view what);

namespace detail {
template <class T>
T take(Result<T>&& result) {
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}
} // namespace detail

} // namespace lanepool

// auto fd = TRY(open_device(path)); — the value, or return the error to our caller. May be nested.
#define TRY(expression) LANEPOOL_TRY_NAMED(expression, LANEPOOL_JOIN(try_result_, __COUNTER__))
#define LANEPOOL_TRY_NAMED(expression, result)                                                               \
    __extension__({                                                                                          \
        auto result = (expression);                                                                          \
        if (!result) return ::tl::unexpected<::lanepool::Error>(std::move(result).error());                  \
        ::lanepool::detail::take(std::move(result));                                                         \
    })
#define LANEPOOL_JOIN(a, b) LANEPOOL_JOIN_EXPANDED(a, b)
#define LANEPOOL_JOIN_EXPANDED(a, b) a##b
