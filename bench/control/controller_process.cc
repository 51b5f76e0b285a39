// SPDX-License-Identifier: Apache-2.0
#include "control/controller_process.h"

#include "api/client.h"

#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <spawn.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

extern char** environ;

namespace lanepool::bench {

namespace {
constexpr auto start_limit = std::chrono::seconds(60);
using Clock = std::chrono::steady_clock;
} // namespace

ControllerProcess::~ControllerProcess() { kill(); }

void ControllerProcess::kill() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(std::exchange(pid_, 0), nullptr, 0);
}

Result<double> ControllerProcess::start_s() {
    const std::string log = (folder_ / "log").string();
    std::vector<std::string> words{program_.string(), "controller", "--listen",
                                   endpoint(),        "--state",    (folder_ / "state").string()};
    std::vector<char*> arguments;
    for (auto& word : words)
        arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::posix_spawn_file_actions_adddup2(&actions, 1, 2);
    const auto started = Clock::now();
    const int error = ::posix_spawn(&pid_, program_.c_str(), &actions, nullptr, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) return fail_errno(error, fmt::format("starting {}", program_.string()));
    while (Clock::now() - started < start_limit) {
        if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
            pid_ = 0;
            return fail(Errc::internal, "the controller has ended at once; {} tells why", log);
        }
        if (const auto client =
                api::Client::connect({.endpoints = endpoint(), .timeout = std::chrono::milliseconds(200)})) {
            grpc::ClientContext context;
            (*client)->prepare_short(context);
            v1::ShowReply reply;
            v1::ShowRequest request;
            request.set_id("nothing");
            // That there is no such thing is an answer, too.
            if ((*client)->pool().Show(&context, request, &reply).error_code() == grpc::StatusCode::NOT_FOUND)
                return std::chrono::duration<double>(Clock::now() - started).count();
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return fail(Errc::timeout, "the controller does not answer; {} tells why", log);
}

Result<double> ControllerProcess::memory_mib() const {
    std::ifstream status(fmt::format("/proc/{}/status", pid_));
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("VmRSS:")) return std::stod(line.substr(6)) / 1024;
    return fail(Errc::io, "/proc/{}/status does not tell", pid_);
}

Result<double> ControllerProcess::cpu_s() const {
    std::ifstream stat(fmt::format("/proc/{}/stat", pid_));
    std::string line;
    std::getline(stat, line);
    std::istringstream fields(line.substr(line.rfind(')') + 2));
    std::string word;
    double ticks = 0;
    // proc(5): state is field 3; utime and stime are 14 and 15.
    for (int field = 3; fields >> word && field <= 15; ++field)
        if (field >= 14) ticks += std::stod(word);
    return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

double ControllerProcess::disk_mib() const {
    double bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "state"))
        if (entry.is_regular_file()) bytes += static_cast<double>(entry.file_size());
    return bytes / (1 << 20);
}

} // namespace lanepool::bench
