// SPDX-License-Identifier: Apache-2.0
//
// Two programs on two hosts throw a number to each other, each by a plain store into the other's memory:
//
//     segment_pingpong serve NODE              on one host; NODE is the other's
//     segment_pingpong play NODE [ROUNDS]      on the other; prints how long a round trip takes
//
//     --agent SOCKET     the agent of this program's host (else $LANEPOOL_AGENT, or the usual place)
//     --interrupts       sleep until woken by an interrupt, instead of looking all the time; for both
//
// Built outside of this tree:  c++ -std=c++20 segment_pingpong.cc $(pkg-config --cflags --libs
// lanepool-smartio)
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <lanepool/smartio.h>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr uint32_t id_of_server = 5000, id_of_player = 5001; // of segments, and of interrupts
constexpr uint64_t the_end = UINT64_MAX;
constexpr auto patience = 10s;

struct Arguments {
    lanepool::SessionOptions session;
    bool serve = false;
    bool interrupts = false;
    uint32_t node = 0;
    uint64_t rounds = 10000;
};

// One player's side: what it throws to, and where it catches.
class Side {
  public:
    static lanepool::Result<Side> open(lanepool::Session& session, const Arguments& arguments) {
        const uint32_t own = arguments.serve ? id_of_server : id_of_player;
        const uint32_t other = arguments.serve ? id_of_player : id_of_server;
        Side side;
        // Memory of this host, full of zeroes, that programs of others may connect to ...
        side.segment_ = TRY(lanepool::Segment::create(session, {.size_bytes = 4096, .id = own}));
        side.interrupt_ = TRY(lanepool::Interrupt::create(session, {.number = own}));
        TRY(side.segment_->set_available(true));
        // ... and the other host's, as soon as it is there. All of it is given back by destructors.
        side.remote_ = TRY(lanepool::RemoteSegment::connect(session, arguments.node, other, patience));
        side.wake_ = TRY(lanepool::RemoteInterrupt::connect(session, arguments.node, other, patience));
        side.view_ = TRY(side.remote_->map());
        side.sleeps_ = arguments.interrupts;
        return side;
    }

    // The fabric's memory is memory: an atomic store is all that it takes.
    lanepool::Result<> throw_it(uint64_t ball) {
        word(view_.data()).store(ball, std::memory_order_release);
        if (sleeps_) TRY(wake_->trigger());
        return {};
    }
    // The next ball after OLD.
    lanepool::Result<uint64_t> catch_it(uint64_t old) {
        const auto deadline = Clock::now() + patience;
        for (unsigned looks = 1;; ++looks) {
            const uint64_t ball = word(segment_->bytes().data()).load(std::memory_order_acquire);
            if (ball != old) return ball;
            if (sleeps_) {
                TRY(interrupt_->wait(patience));
            } else if (looks % 1024 == 0) {
                std::this_thread::yield(); // whoever throws may need this processor
                if (Clock::now() > deadline)
                    return lanepool::fail(lanepool::Errc::timeout, "the other side throws nothing any more");
            }
        }
    }

  private:
    static std::atomic_ref<uint64_t> word(std::byte* at) {
        return std::atomic_ref(*reinterpret_cast<uint64_t*>(at));
    }
    std::optional<lanepool::Segment> segment_;
    std::optional<lanepool::Interrupt> interrupt_;
    std::optional<lanepool::RemoteSegment> remote_;
    std::optional<lanepool::RemoteInterrupt> wake_;
    lanepool::MappedRange view_;
    bool sleeps_ = false;
};

lanepool::Result<> serve(Side& side) {
    for (uint64_t ball = 0; ball != the_end;) {
        ball = TRY(side.catch_it(ball));
        TRY(side.throw_it(ball));
    }
    return {};
}

lanepool::Result<> play(Side& side, uint64_t rounds) {
    const auto start = Clock::now();
    for (uint64_t ball = 1; ball <= rounds; ++ball) {
        TRY(side.throw_it(ball));
        TRY(side.catch_it(ball - 1));
    }
    const std::chrono::duration<double, std::nano> took = Clock::now() - start;
    std::printf("%llu round trips, %.0f ns each\n", static_cast<unsigned long long>(rounds),
                took.count() / static_cast<double>(rounds));
    TRY(side.throw_it(the_end));
    TRY(side.catch_it(rounds)); // it has seen that this was the end
    return {};
}

lanepool::Result<> run(const Arguments& arguments) {
    auto session = TRY(lanepool::Session::open(arguments.session));
    auto side = TRY(Side::open(session, arguments));
    return arguments.serve ? serve(side) : play(side, arguments.rounds);
}

std::optional<Arguments> parse(int argc, char** argv) {
    Arguments arguments;
    std::vector<const char*> words;
    for (int i = 1; i < argc; ++i) {
        if (!std::strcmp(argv[i], "--agent") && i + 1 < argc)
            arguments.session.socket = argv[++i];
        else if (!std::strcmp(argv[i], "--interrupts"))
            arguments.interrupts = true;
        else
            words.push_back(argv[i]);
    }
    if (words.size() < 2 || (std::strcmp(words[0], "serve") && std::strcmp(words[0], "play"))) return {};
    arguments.serve = !std::strcmp(words[0], "serve");
    arguments.node = static_cast<uint32_t>(std::strtoul(words[1], nullptr, 10));
    if (words.size() > 2) arguments.rounds = std::strtoull(words[2], nullptr, 10);
    return arguments;
}

} // namespace

int main(int argc, char** argv) {
    const auto arguments = parse(argc, argv);
    if (!arguments) {
        std::fprintf(stderr, "usage: %s [--agent SOCKET] [--interrupts] serve|play NODE [ROUNDS]\n", argv[0]);
        return 2;
    }
    if (const auto done = run(*arguments); !done) {
        std::fprintf(stderr, "%s: %s\n", argv[0], done.error().message().c_str());
        return 1;
    }
    return 0;
}
