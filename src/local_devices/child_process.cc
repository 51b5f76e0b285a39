// SPDX-License-Identifier: Apache-2.0
#include "local_devices/child_process.h"

#include "base/system_call.h"
#include "base/unique_fd.h"

#include <cerrno>
#include <charconv>
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lanepool::local_devices {

namespace {

constexpr size_t most_stuck = 16;
constexpr int killed_status = 255; // no errno is as high
constexpr auto death_grace = std::chrono::milliseconds(100);

struct SharedRange {
    void* start;
    size_t size_bytes;
};

// This process's shared mappings (man 5 proc): registers of devices, and memory that is lent.
std::vector<SharedRange> shared_ranges() {
    std::vector<SharedRange> ranges;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
        uintptr_t start = 0, end = 0;
        const char* const last = line.data() + line.size();
        const auto dash = std::from_chars(line.data(), last, start, 16);
        if (dash.ec != std::errc() || dash.ptr == last || *dash.ptr != '-') continue;
        const auto space = std::from_chars(dash.ptr + 1, last, end, 16);
        if (space.ec != std::errc() || last - space.ptr < 5 || space.ptr[4] != 's') continue;
        ranges.push_back({reinterpret_cast<void*>(start), end - start});
    }
    return ranges;
}

// Makes a process that has copied the memory of one with many threads let go of every descriptor and shared
// mapping: if the kernel keeps it for ever, it must not keep the devices and sockets of the other. From here
// on it makes system calls only. It dies with the other, so that whoever comes after that one finds nothing
// that is still about to be done; only what the kernel has begun goes on.
void let_go(const std::vector<SharedRange>& ranges, pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(killed_status);
    ::signal(SIGBUS, SIG_DFL); // what handles it over there is of no use here
    ::signal(SIGSEGV, SIG_DFL);
    ::syscall(SYS_close_range, 0U, ~0U, 0U);
    for (const auto& range : ranges)
        ::munmap(range.start, range.size_bytes);
}

int write_once(const char* path, std::string_view text) {
    const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0) return errno;
    return static_cast<size_t>(count) == text.size() ? 0 : EIO;
}

// 0: no; all_ones_status: yes; otherwise errno.
constexpr int all_ones_status = 254;
int look_at_register(const char* path) {
    const int fd = ::open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return errno;
    const void* const page = ::mmap(nullptr, sizeof(uint32_t), PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) return errno;
    return *static_cast<const volatile uint32_t*>(page) == ~uint32_t{0} ? all_ones_status : 0;
}

int milliseconds(std::chrono::nanoseconds duration) {
    const auto count = std::chrono::ceil<std::chrono::milliseconds>(duration).count();
    return static_cast<int>(std::clamp<int64_t>(count, 0, 24 * 3600 * 1000));
}

// Whether the process has ended within the time.
bool ended_within(int pid, std::chrono::nanoseconds timeout) {
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U)));
    if (!process) return errno == ESRCH;
    pollfd entry = {process.get(), POLLIN, 0};
    const auto end = std::chrono::steady_clock::now() + timeout;
    while (true) {
        const auto left = end - std::chrono::steady_clock::now();
        const int count = ::poll(&entry, 1, milliseconds(left));
        if (count > 0) return true;
        if (count == 0 || errno != EINTR) return false;
    }
}

int reap(int pid) {
    int status = 0;
    const pid_t result = call_again_after_signals([&] { return ::waitpid(pid, &status, 0); });
    return result == pid && WIFEXITED(status) ? WEXITSTATUS(status) : killed_status;
}

} // namespace

Result<> ChildProcesses::check_stuck(const std::string& what) {
    const std::lock_guard lock(mutex_);
    std::erase_if(stuck_, [](const auto& entry) { return ::waitpid(entry.second, nullptr, WNOHANG) != 0; });
    if (const auto found = stuck_.find(what); found != stuck_.end())
        return fail(Errc::timeout,
                    "{}: the kernel has not finished an earlier try (process {} waits for it; `cat "
                    "/proc/{}/stack` shows where)",
                    what, found->second, found->second);
    if (stuck_.size() >= most_stuck)
        return fail(Errc::timeout,
                    "{}: not tried, because {} operations on devices are hanging in the kernel; "
                    "restart this machine",
                    what, stuck_.size());
    return {};
}

Result<int> ChildProcesses::wait_for(int pid, const std::string& what, std::chrono::nanoseconds timeout) {
    if (ended_within(pid, timeout)) return reap(pid);
    ::kill(pid, SIGKILL);
    if (ended_within(pid, death_grace)) {
        reap(pid);
    } else {
        const std::lock_guard lock(mutex_);
        stuck_[what] = pid;
    }
    return fail(Errc::timeout, "{}: the kernel has not finished it after {} s", what,
                std::chrono::duration<double>(timeout).count());
}

Result<int> ChildProcesses::in_child(const std::string& what, std::chrono::nanoseconds timeout,
                                     const std::function<int()>& work) {
    TRY(check_stuck(what));
    const auto ranges = shared_ranges();
    const pid_t parent = ::getpid();
    const pid_t pid = ::_Fork();
    if (pid < 0) return fail_errno(fmt::format("{}: starting a process for it", what));
    if (pid == 0) {
        let_go(ranges, parent);
        ::_exit(work());
    }
    const int status = TRY(wait_for(pid, what, timeout));
    if (status == killed_status) return fail(Errc::io, "{}: its process was killed", what);
    return status;
}

Result<> ChildProcesses::write(const std::string& path, const std::string& text,
                               std::chrono::nanoseconds timeout) {
    const std::string what =
        fmt::format("writing '{}' to {}", text.substr(0, text.find_last_not_of('\n') + 1), path);
    const char* const where = path.c_str();
    const std::string_view bytes = text;
    const int status = TRY(in_child(what, timeout, [=] { return write_once(where, bytes); }));
    if (status != 0) return fail_errno(status, what);
    return {};
}

Result<bool> ChildProcesses::reads_all_ones(const std::string& path, std::chrono::nanoseconds timeout) {
    const std::string what = "reading " + path;
    const char* const where = path.c_str();
    const int status = TRY(in_child(what, timeout, [=] { return look_at_register(where); }));
    if (status != 0 && status != all_ones_status) return fail_errno(status, what);
    return status == all_ones_status;
}

Result<int> ChildProcesses::run(const std::vector<std::string>& arguments, std::chrono::nanoseconds timeout) {
    const std::string what = fmt::format("running {}", fmt::join(arguments, " "));
    TRY(check_stuck(what));
    std::vector<char*> pointers;
    for (const auto& argument : arguments)
        pointers.push_back(const_cast<char*>(argument.c_str()));
    pointers.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd < 3; ++fd)
        ::posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    ::posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    pid_t pid = -1;
    const int error = ::posix_spawn(&pid, pointers[0], &actions, nullptr, pointers.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) return fail_errno(error, what);
    return wait_for(pid, what, timeout);
}

} // namespace lanepool::local_devices
