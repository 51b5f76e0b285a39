// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>

namespace lanepool {

// What CALL, a system call, returns when no signal has interrupted it; a failure as the negative errno.
template <class Call>
auto call_again_after_signals(Call call) {
    decltype(call()) result;
    do {
        result = call();
    } while (result < 0 && errno == EINTR);
    return result < 0 ? static_cast<decltype(result)>(-errno) : result;
}

} // namespace lanepool
