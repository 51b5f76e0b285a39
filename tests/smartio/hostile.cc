// SPDX-License-Identifier: Apache-2.0
#include "lanepool/smartio.h"
#include "smartio/roles.h"

#include <cstdio>
#include <cstring>
#include <random>
#include <sys/wait.h>
#include <unistd.h>

namespace lanepool::load {

namespace {

using namespace std::chrono_literals;

constexpr uint64_t segment_bytes = 8192;

void say(const char* what) {
    std::puts(what);
    std::fflush(stdout);
}

// What a child that writes to ADDRESS dies of; 0: of nothing.
int signal_of_write(std::byte* address) {
    const pid_t child = ::fork();
    if (child == 0) {
        *static_cast<volatile std::byte*>(address) = std::byte{1};
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

// Behind the end of what is connected there is nothing of anybody's.
Result<> write_outside(Session& session, const Options& options) {
    auto remote = TRY(RemoteSegment::connect(session, options.node, options.id, 5s));
    // At an address of its own, so that what lies behind it is known to be nothing of this process's.
    std::byte* const hole = static_cast<std::byte*>(
        TRY(Segment::create(session, {.size_bytes = 1 << 20, .is_private = true})).bytes().data());
    auto mapped = TRY(remote.map({.address = hole}));
    if (signal_of_write(mapped.data() + mapped.size_bytes() - 1) != 0)
        wrong("the last byte cannot be written");
    if (signal_of_write(mapped.data() + mapped.size_bytes()) != SIGSEGV)
        wrong("there is something behind the segment");
    if (remote.map({.size_bytes = mapped.size_bytes() + 4096})) wrong("more than the segment was mapped");
    say("outside");
    return {};
}

// Whatever id or number one tries: only what is shown is there.
Result<> connect_anywhere(Session& session, const Options& options) {
    auto hidden = TRY(Segment::create(session, {.size_bytes = segment_bytes}));
    auto other = TRY(Session::open({.socket = options.agent}));
    if (RemoteSegment::connect(other, session.node(), hidden.id(), 0ms))
        wrong("a segment that is not available was connected");
    for (uint32_t id = 0; id < 2000; ++id)
        if (id != options.id && RemoteSegment::connect(other, options.node, id, 0ms))
            wrong(fmt::format("segment {} is nobody's, and was connected", id));
    say("anywhere");
    return {};
}

Result<> ask_for_too_much(Session& session) {
    std::vector<Segment> many;
    while (true) {
        auto next = Segment::create(session, {.size_bytes = 4096, .is_private = true});
        if (!next) {
            if (next.error().code() != Errc::no_space) return tl::unexpected(next.error());
            break;
        }
        many.push_back(std::move(*next));
        if (many.size() > 100'000) wrong("there is no limit to segments");
    }
    say("too much");
    return {};
}

} // namespace

Result<> hostile(const Options& options, Progress& progress) {
    auto session = TRY(Session::open({.socket = options.agent}));
    TRY(write_outside(session, options));
    TRY(connect_anywhere(session, options));
    TRY(ask_for_too_much(session));

    // Takes the drive, and goes on with all it had after it has been taken away.
    auto device = TRY(Device::borrow(session, options.fdid, Sharing::exclusive, 10s));
    auto bar = TRY(device.bar(0));
    auto registers = TRY(bar.map());
    auto memory = TRY(Segment::create(session, {.size_bytes = segment_bytes, .is_private = true}));
    auto mapping = TRY(device.map(memory));
    say("holding");
    std::minstd_rand random(std::random_device{}());
    for (uint64_t round = 0;; ++round) {
        // CC, the admin queue's addresses, every doorbell; where the drive was told to look.
        for (size_t at = 0; at + 4 <= registers.size_bytes(); at += 4)
            *reinterpret_cast<volatile uint32_t*>(registers.data() + at) = static_cast<uint32_t>(random());
        std::memset(memory.bytes().data(), static_cast<int>(round), memory.bytes().size());
        if (round % 64 == 0) progress.step();
    }
}

} // namespace lanepool::load
