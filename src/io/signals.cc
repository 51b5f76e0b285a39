// SPDX-License-Identifier: Apache-2.0
#include "io/signals.h"

#include <csignal>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace lanepool::io {

Result<SignalStop> stop_on_signals(EventLoop& loop) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    if (const int error = ::pthread_sigmask(SIG_BLOCK, &signals, nullptr))
        return fail_errno(error, "blocking signals");
    UniqueFd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd) return fail_errno("creating a signalfd");
    const int number = fd.get();
    auto watch = TRY(loop.watch(number, EPOLLIN, [&loop, number](uint32_t) {
        signalfd_siginfo info;
        if (::read(number, &info, sizeof info) == sizeof info) loop.stop();
    }));
    return SignalStop(std::move(fd), std::move(watch));
}

} // namespace lanepool::io
