// SPDX-License-Identifier: Apache-2.0
// The guest's side of the exec channel: runs shell commands that the host sends over a virtio-serial port.
//
// One thread, one poll loop. The protocol is lines of text and is described in docs/guest.md. It is linked
// statically and stands alone, because the guest holds nothing of lanepool: it must look like anybody's Linux
// to the devices lent to it.

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kVersion = "1";
// The kernel takes at most 128 KiB for one argument, and the command becomes an argument of sh.
constexpr std::size_t kMaxCommandBytes = std::size_t{96} << 10;
constexpr std::size_t kMaxLineBytes = kMaxCommandBytes / 3 * 4 + 256;
constexpr std::size_t kMaxOutputBytes = std::size_t{1} << 20;
constexpr std::size_t kMaxJobs = 32;
constexpr std::size_t kMaxIdBytes = 64;
constexpr std::uint64_t kMaxTimeoutMs = 24ULL * 3600 * 1000;
constexpr int kStatusTimedOut = 124; // as timeout(1) has it
// A connection is noticed by SIGIO; this is for the case that one was lost.
constexpr int kIdlePollMs = 1000;

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string base64_encode(std::string_view in) {
    std::string out;
    out.reserve((in.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < in.size(); i += 3) {
        const std::size_t n = std::min<std::size_t>(3, in.size() - i);
        std::uint32_t v = 0;
        for (std::size_t k = 0; k < 3; ++k)
            v = v << 8 | (k < n ? static_cast<unsigned char>(in[i + k]) : 0U);
        for (std::size_t k = 0; k < 4; ++k)
            out += k <= n ? kAlphabet[v >> (18 - 6 * k) & 63] : '=';
    }
    return out;
}

std::optional<std::string> base64_decode(std::string_view in) {
    while (!in.empty() && in.back() == '=')
        in.remove_suffix(1);
    std::string out;
    std::uint32_t bits = 0;
    int count = 0;
    for (const char c : in) {
        const auto value = kAlphabet.find(c);
        if (value == std::string_view::npos) return std::nullopt;
        bits = (bits << 6 | static_cast<std::uint32_t>(value)) & 0xffffff;
        count += 6;
        if (count >= 8) {
            count -= 8;
            out += static_cast<char>(bits >> count & 0xff);
        }
    }
    return out;
}

struct Job {
    std::string id;
    pid_t pid = -1;
    int out_fd = -1;
    std::string output;
    bool truncated = false;
    bool timed_out = false;
    bool unwanted = false; // its client has gone: no answer
    std::optional<Clock::time_point> deadline;
};

// Starts the command in a process group of its own, so that it can be ended with all that it started.
bool start(Job& job, const std::string& command) {
    std::array<int, 2> fds{};
    if (pipe2(fds.data(), O_CLOEXEC) != 0) return false;
    const pid_t pid = fork();
    if (pid < 0) {
        close(fds[0]);
        close(fds[1]);
        return false;
    }
    if (pid == 0) {
        setpgid(0, 0);
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, nullptr);
        const int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(fds[1], 1) < 0 || dup2(fds[1], 2) < 0) _exit(126);
        execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
        _exit(127);
    }
    setpgid(pid, pid); // here too: a kill may come before the child has done it
    close(fds[1]);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    job.pid = pid;
    job.out_fd = fds[0];
    return true;
}

// Reads what there is. False at end of file.
bool drain(Job& job) {
    std::array<char, 16384> buffer;
    for (;;) {
        const ssize_t n = read(job.out_fd, buffer.data(), buffer.size());
        if (n == 0) return false;
        if (n < 0) return errno == EAGAIN || errno == EINTR;
        const std::size_t room = kMaxOutputBytes - job.output.size();
        const std::size_t kept = std::min(room, static_cast<std::size_t>(n));
        job.output.append(buffer.data(), kept);
        if (kept < static_cast<std::size_t>(n)) job.truncated = true;
    }
}

std::string boot_id() {
    std::string id;
    std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
    return id.empty() ? "unknown" : id;
}

class Service {
  public:
    Service(int port_fd, int signal_fd) : port_fd_(port_fd), signal_fd_(signal_fd), boot_id_(boot_id()) {}

    [[noreturn]] void run() {
        for (;;) {
            check_connection();
            wait_and_handle();
            expire();
        }
    }

  private:
    void send(const std::string& line) {
        if (connected_) outbox_ += line + '\n';
    }

    void refuse(std::string_view id, std::string_view reason) {
        send("error " + std::string(id) + " " + base64_encode(reason));
    }

    void announce(std::string_view id) {
        send("ready " + std::string(id) + " " + boot_id_ + " " + std::string(kVersion));
    }

    // Ends what an earlier client started. A command that is to outlive its client runs under setsid.
    void drop_jobs() {
        for (Job& job : jobs_) {
            job.unwanted = true;
            kill(-job.pid, SIGKILL);
        }
    }

    void check_connection() {
        pollfd p{port_fd_, POLLIN, 0};
        const bool now = poll(&p, 1, 0) >= 0 && (p.revents & POLLHUP) == 0;
        if (now == connected_) return;
        connected_ = now;
        inbox_.clear();
        outbox_.clear();
        skip_line_ = false;
        if (now) {
            announce("-");
        } else {
            drop_jobs();
        }
    }

    int wait_ms() const {
        auto wait = std::chrono::milliseconds(connected_ ? 60'000 : kIdlePollMs);
        for (const Job& job : jobs_) {
            if (!job.deadline) continue;
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(*job.deadline - Clock::now());
            wait = std::clamp(left, std::chrono::milliseconds(0), wait);
        }
        return static_cast<int>(wait.count());
    }

    void wait_and_handle() {
        std::vector<pollfd> fds;
        fds.push_back({signal_fd_, POLLIN, 0});
        // A port without a client reports POLLHUP all the time: it is left out until SIGIO tells of a change.
        fds.push_back(
            {connected_ ? port_fd_ : -1, static_cast<short>(POLLIN | (outbox_.empty() ? 0 : POLLOUT)), 0});
        for (const Job& job : jobs_)
            fds.push_back({job.out_fd, POLLIN, 0});
        if (poll(fds.data(), fds.size(), wait_ms()) < 0) return;
        std::size_t index = 2;
        for (Job& job : jobs_) {
            if (fds[index++].revents == 0 || drain(job)) continue;
            close(job.out_fd);
            job.out_fd = -1;
        }
        if (fds[0].revents != 0) {
            std::array<signalfd_siginfo, 8> infos;
            (void)!read(signal_fd_, infos.data(), sizeof infos);
            reap();
        }
        if ((fds[1].revents & POLLIN) != 0) receive();
        if (connected_ && !outbox_.empty()) transmit();
    }

    void reap() {
        int status = 0;
        for (pid_t pid = 0; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
            // Others are orphans that a command left behind; this process adopts them only to reap them.
            const auto job =
                std::find_if(jobs_.begin(), jobs_.end(), [pid](const Job& j) { return j.pid == pid; });
            if (job == jobs_.end()) continue;
            if (job->out_fd >= 0) {
                drain(*job);
                close(job->out_fd);
            }
            if (!job->unwanted) answer(*job, status);
            jobs_.erase(job);
        }
    }

    void answer(const Job& job, int wait_status) {
        int status = WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
        const char* note = "ok";
        if (job.timed_out) {
            status = kStatusTimedOut;
            note = "timeout";
        } else if (job.truncated) {
            note = "truncated";
        }
        send("done " + job.id + " " + std::to_string(status) + " " + note + " " +
             (job.output.empty() ? "-" : base64_encode(job.output)));
    }

    void expire() {
        for (Job& job : jobs_) {
            if (!job.deadline || Clock::now() < *job.deadline) continue;
            job.timed_out = true;
            job.deadline.reset();
            kill(-job.pid, SIGKILL);
        }
    }

    void receive() {
        std::array<char, 16384> buffer;
        const ssize_t n = read(port_fd_, buffer.data(), buffer.size());
        if (n <= 0) return; // gone: check_connection sees to it
        for (const char c : std::string_view(buffer.data(), static_cast<std::size_t>(n))) {
            if (c != '\n') {
                if (inbox_.size() < kMaxLineBytes) {
                    inbox_ += c;
                } else {
                    skip_line_ = true;
                }
                continue;
            }
            if (skip_line_) {
                refuse("-", "line longer than " + std::to_string(kMaxLineBytes) + " bytes");
            } else {
                request(inbox_);
            }
            inbox_.clear();
            skip_line_ = false;
        }
    }

    void transmit() {
        const ssize_t n = write(port_fd_, outbox_.data(), std::min<std::size_t>(outbox_.size(), 32768));
        if (n > 0) outbox_.erase(0, static_cast<std::size_t>(n));
    }

    void request(std::string_view line) {
        if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        std::vector<std::string_view> words;
        for (std::size_t at = 0; at < line.size() && words.size() < 5;) {
            const std::size_t end = std::min(line.find(' ', at), line.size());
            if (end > at) words.push_back(line.substr(at, end - at));
            at = end + 1;
        }
        if (words.empty()) return;
        const bool id_good = words.size() > 1 && words[1].size() <= kMaxIdBytes;
        const std::string_view id = id_good ? words[1] : "-";
        if (words[0] == "hello" && id_good && words.size() == 2) {
            drop_jobs();
            announce(id);
        } else if (words[0] == "ping" && id_good && words.size() == 2) {
            send("pong " + std::string(id));
        } else if (words[0] == "kill" && id_good && words.size() == 2) {
            for (Job& job : jobs_) {
                if (job.id == id && !job.unwanted) kill(-job.pid, SIGKILL);
            }
        } else if (words[0] == "exec" && id_good && words.size() == 4) {
            execute(id, words[2], words[3]);
        } else {
            refuse(id, "not a request: 'hello ID', 'ping ID', 'kill ID' or 'exec ID TIMEOUT_MS BASE64'");
        }
    }

    void execute(std::string_view id, std::string_view timeout, std::string_view encoded) {
        char* end = nullptr;
        const std::string digits(timeout);
        const std::uint64_t timeout_ms = std::strtoull(digits.c_str(), &end, 10);
        if (digits.find_first_not_of("0123456789") != std::string::npos || timeout_ms > kMaxTimeoutMs) {
            return refuse(id, "the time-out is not a number of milliseconds up to 86400000");
        }
        const auto command = base64_decode(encoded);
        if (!command || command->empty() || command->size() > kMaxCommandBytes ||
            command->find('\0') != std::string::npos) {
            return refuse(id, "the command is not base64 of 1 to 98304 bytes without a zero byte");
        }
        if (jobs_.size() >= kMaxJobs) return refuse(id, "32 commands are running already");
        for (const Job& job : jobs_) {
            if (job.id == id && !job.unwanted) return refuse(id, "a command with this id is running already");
        }
        Job job;
        job.id = id;
        if (timeout_ms != 0) job.deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
        if (!start(job, *command))
            return refuse(id, std::string("cannot start a process: ") + std::strerror(errno));
        jobs_.push_back(std::move(job));
    }

    const int port_fd_;
    const int signal_fd_;
    const std::string boot_id_;
    bool connected_ = false;
    bool skip_line_ = false;
    std::string inbox_;
    std::string outbox_;
    std::list<Job> jobs_;
};

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }
    // Children inherit none of this: the mask is cleared before exec.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGIO);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    const int port_fd = open(argv[1], O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (port_fd < 0 || signal_fd < 0) {
        std::perror(argv[1]);
        return 1;
    }
    fcntl(port_fd, F_SETOWN, getpid());
    fcntl(port_fd, F_SETFL, O_NONBLOCK | O_ASYNC);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    Service(port_fd, signal_fd).run();
}
