// SPDX-License-Identifier: Apache-2.0
#include "cli/trial_borrower.h"

#include "cli/trial_drive.h"
#include "cli/trial_pool.h"

#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <iostream>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace lanepool::cli {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds start_limit{90}; // the loan, and the first of its writes
constexpr uint64_t work_bytes = 64 * 1024;
constexpr size_t most_said = 4096;

// What the process says: a line with a number, or why it has failed (both standard output and error).
Result<std::string> read_line(int fd) {
    const auto deadline = Clock::now() + start_limit;
    std::string text;
    while (text.size() < most_said) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
        if (left <= 0)
            return fail(Errc::timeout, "the borrower did not begin within {}", start_limit.count());
        pollfd waiting{fd, POLLIN, 0};
        const int ready = ::poll(&waiting, 1, static_cast<int>(left));
        if (ready < 0 && errno != EINTR) return fail_errno("waiting for the borrower");
        if (ready <= 0) continue;
        std::array<char, 512> part{};
        const auto got = ::read(fd, part.data(), part.size());
        if (got <= 0) break;
        text.append(part.data(), static_cast<size_t>(got));
        if (text.ends_with('\n')) break;
    }
    while (text.ends_with('\n'))
        text.pop_back();
    return text;
}

Result<pid_t> spawn(const std::vector<std::string>& words, int output) {
    std::vector<char*> argv;
    for (const auto& word : words)
        argv.push_back(const_cast<char*>(word.c_str())); // posix_spawn() takes them so, and changes none
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    pid_t process = 0;
    const int error = ::posix_spawn(&process, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) return fail_errno(error, "starting a borrower");
    return process;
}

Result<uint64_t> work_once(qualify::TrialDrive& drive, uint64_t seed) {
    const uint64_t blocks = std::min<uint64_t>(work_bytes / drive.block_bytes(), drive.blocks());
    std::vector<std::byte> data(drive.transfer_blocks() * uint64_t{drive.block_bytes()});
    for (uint64_t block = 0; block < blocks; block += drive.transfer_blocks()) {
        const auto now = std::min<uint64_t>(drive.transfer_blocks(), blocks - block);
        const auto part = std::span(data).first(now * drive.block_bytes());
        qualify::fill(part, drive.block_bytes(), block, seed);
        TRY(drive.write(block, part));
    }
    return blocks;
}

} // namespace

Result<std::unique_ptr<BorrowerProcess>> BorrowerProcess::start(uint64_t fdid, const std::string& agent,
                                                                uint64_t seed) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("making a pipe");
    const UniqueFd from(ends[0]);
    UniqueFd to(ends[1]);
    std::vector<std::string> words{"lanepool", "qualify", fmt::format("{:x}", fdid), "--as-borrower",
                                   std::to_string(seed)};
    if (!agent.empty()) words.insert(words.end(), {"--agent", agent});
    std::unique_ptr<BorrowerProcess> borrower(new BorrowerProcess(TRY(spawn(words, to.get()))));
    to.reset();
    const auto line = TRY(read_line(from.get()));
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), borrower->blocks_);
    if (error != std::errc() || end != line.data() + line.size())
        return fail(Errc::failed_precondition, "the borrower that was to be killed has failed: {}",
                    line.empty() ? "it said nothing" : line);
    return borrower;
}

BorrowerProcess::~BorrowerProcess() {
    if (process_ == 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
}

Result<> BorrowerProcess::kill() {
    ::kill(process_, SIGKILL);
    int status = 0;
    ::waitpid(std::exchange(process_, 0), &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        return fail(Errc::failed_precondition, "the borrower ended by itself while it was at work");
    return {};
}

Result<int> work_until_killed(uint64_t fdid, const std::string& agent, uint64_t seed) {
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return fail_errno("binding it to its parent's life");
    auto session = TRY(Session::open({.socket = agent}));
    const auto loan = TRY(SessionLoan::borrow(session, fdid));
    if (loan->class_code() != nvme_class) {
        std::cout << 0 << std::endl;
        while (true)
            ::pause();
    }
    auto* drive = TRY(loan->drive());
    std::cout << TRY(work_once(*drive, seed)) << std::endl;
    while (true)
        TRY(work_once(*drive, seed));
}

} // namespace lanepool::cli
