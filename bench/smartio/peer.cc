// SPDX-License-Identifier: Apache-2.0
#include "smartio/peer.h"

#include "host/ruler.h"

#include <atomic>
#include <cstdio>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lanepool::bench {

namespace {

constexpr std::chrono::seconds patience{10};

// The first word of a memory that the other end writes.
std::atomic_ref<uint32_t> word(std::span<std::byte> memory) {
    return std::atomic_ref(*reinterpret_cast<uint32_t*>(memory.data()));
}

Result<> wait_for(std::span<std::byte> memory, uint32_t value) {
    for (uint64_t spins = 1; word(memory).load(std::memory_order_acquire) != value; ++spins) {
        // A look at the clock costs as much as a round trip.
        if (spins % (1 << 28) == 0) return fail(Errc::timeout, "the other end does not answer");
    }
    return {};
}

} // namespace

Result<Peer> Peer::start(int core,
                         const std::function<Result<std::vector<std::unique_ptr<Link>>>()>& make_links) {
    int requests[2];
    int answers[2];
    if (::pipe2(requests, O_CLOEXEC) != 0 || ::pipe2(answers, O_CLOEXEC) != 0)
        return fail_errno("making a pipe");
    UniqueFd ends[] = {UniqueFd(requests[0]), UniqueFd(requests[1]), UniqueFd(answers[0]),
                       UniqueFd(answers[1])};
    const pid_t process = ::fork();
    if (process < 0) return fail_errno("forking");
    if (process == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ends[1].reset();
        ends[2].reset();
        auto links = pin_to(core) ? make_links() : fail(Errc::not_supported, "there is no core {}", core);
        if (!links) {
            std::fprintf(stderr, "peer: %s\n", links.error().message().c_str());
            ::_exit(1);
        }
        ::_exit(serve(ends[0], ends[3], std::move(*links)));
    }
    return Peer(process, std::move(ends[1]), std::move(ends[2]));
}

Peer::Peer(Peer&& other) noexcept
    : process_(std::exchange(other.process_, -1)), requests_(std::move(other.requests_)),
      answers_(std::move(other.answers_)) {}

Peer::~Peer() {
    if (process_ < 0) return;
    requests_.reset();
    ::waitpid(process_, nullptr, 0);
}

int Peer::serve(const UniqueFd& requests, const UniqueFd& answers, std::vector<std::unique_ptr<Link>> links) {
    Request request;
    while (::read(requests.get(), &request, sizeof request) == sizeof request) {
        if (::write(answers.get(), "r", 1) != 1) return 1;
        if (const auto done = answer(*links.at(request.index), request); !done) {
            std::fprintf(stderr, "peer: %s\n", done.error().message().c_str());
            return 1;
        }
    }
    return 0;
}

Result<> Peer::answer(Link& link, const Request& request) {
    for (uint32_t i = 1; i <= request.count; ++i) {
        if (request.way == Way::polled) {
            TRY(wait_for(link.here(), i));
            word(link.there()).store(i, std::memory_order_release);
        } else {
            TRY(link.wait(patience));
            TRY(link.wake());
        }
    }
    return {};
}

Result<double> Peer::round_trip_ns(Link& link, size_t index, Way way, uint32_t count) {
    word(link.here()).store(0);
    word(link.there()).store(0);
    const Request request{static_cast<uint32_t>(index), way, count};
    char ready = 0;
    if (::write(requests_.get(), &request, sizeof request) != sizeof request ||
        ::read(answers_.get(), &ready, 1) != 1)
        return fail(Errc::disconnected, "the peer has ended");
    const auto start = std::chrono::steady_clock::now();
    for (uint32_t i = 1; i <= count; ++i) {
        if (way == Way::polled) {
            word(link.there()).store(i, std::memory_order_release);
            TRY(wait_for(link.here(), i));
        } else {
            TRY(link.wake());
            TRY(link.wait(patience));
        }
    }
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count() / count;
}

} // namespace lanepool::bench
