// SPDX-License-Identifier: Apache-2.0
#include "dev/process_table.h"

#include "io/replace_file.h"

#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <spawn.h>
#include <sstream>
#include <sys/file.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

extern char** environ;

namespace lanepool::dev {

namespace {

using Json = nlohmann::json;
using namespace std::chrono_literals;

constexpr auto kill_limit = 5s; // for the kernel to take a killed process apart

struct Stat {
    char state;
    uint64_t start_time;
};

// proc(5): "pid (comm) state ppid ..."; comm may hold anything, so the fields are counted from its last
// bracket.
std::optional<Stat> stat_of(pid_t pid) {
    std::ifstream file(fmt::format("/proc/{}/stat", pid));
    std::string line;
    if (!std::getline(file, line)) return std::nullopt;
    const auto bracket = line.rfind(')');
    if (bracket == std::string::npos) return std::nullopt;
    std::istringstream fields(line.substr(bracket + 1));
    Stat stat{};
    std::string skipped;
    fields >> stat.state;
    for (int field = 4; field < 22; ++field)
        fields >> skipped;
    fields >> stat.start_time;
    if (!fields) return std::nullopt;
    return stat;
}

Result<std::map<std::string, Process>> load(const std::filesystem::path& file) {
    std::map<std::string, Process> processes;
    std::ifstream stream(file);
    if (!stream) return processes;
    const Json json = Json::parse(stream, nullptr, false);
    if (!json.is_object())
        return fail(Errc::protocol,
                    "{} is damaged; stop the cluster's processes by hand and remove the folder",
                    file.string());
    for (const auto& [name, value] : json.items()) {
        if (!value.is_object()) return fail(Errc::protocol, "{} is damaged at '{}'", file.string(), name);
        processes[name] = {name, value.value("pid", 0), value.value("start_time", uint64_t{0}),
                           value.value("argv", std::vector<std::string>{})};
    }
    return processes;
}

std::filesystem::path table_in(const std::filesystem::path& folder) { return folder / "processes.json"; }

} // namespace

bool is_running(const Process& process) {
    const auto stat = process.pid > 0 ? stat_of(process.pid) : std::nullopt;
    return stat && stat->start_time == process.start_time && stat->state != 'Z';
}

Result<std::vector<Process>> ProcessTable::read(const std::filesystem::path& folder) {
    std::vector<Process> list;
    for (auto& [name, process] : TRY(load(table_in(folder))))
        list.push_back(process);
    return list;
}

Result<ProcessTable> ProcessTable::open(const std::filesystem::path& folder, io::Duration timeout) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return fail(Errc::io, "cannot make the folder {}: {}", folder.string(), error.message());
    UniqueFd lock(::open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock) return fail_errno(fmt::format("opening the lock of {}", folder.string()));
    const auto deadline = io::system_clock().now() + timeout;
    while (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
        if (io::system_clock().now() > deadline)
            return fail(Errc::busy,
                        "another command is changing the cluster in {}; try again when it has ended",
                        folder.string());
        std::this_thread::sleep_for(50ms);
    }
    ProcessTable table(table_in(folder), std::move(lock));
    table.processes_ = TRY(load(table.file_));
    return table;
}

bool ProcessTable::running(const std::string& name) const {
    const auto found = processes_.find(name);
    return found != processes_.end() && is_running(found->second);
}

Result<> ProcessTable::save() const {
    Json json = Json::object();
    for (const auto& [name, process] : processes_)
        json[name] = {{"pid", process.pid}, {"start_time", process.start_time}, {"argv", process.argv}};
    return io::replace_file(file_, json.dump(1) + "\n");
}

Result<> ProcessTable::start(const std::string& name, const std::vector<std::string>& argv,
                             const std::filesystem::path& log) {
    if (running(name))
        return fail(Errc::already_exists, "{} runs already (process {})", name, processes_[name].pid);
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                     0644);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    std::vector<char*> arguments;
    for (const auto& argument : argv)
        arguments.push_back(const_cast<char*>(argument.c_str())); // posix_spawn does not write to them
    arguments.push_back(nullptr);
    pid_t pid = 0;
    const int error = ::posix_spawnp(&pid, arguments[0], &actions, &attributes, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) return fail_errno(error, fmt::format("starting {}", argv[0]));
    const auto stat = stat_of(pid);
    processes_[name] = {name, pid, stat ? stat->start_time : 0, argv};
    return save();
}

Result<> ProcessTable::stop(const std::vector<std::string>& names, io::Duration grace) {
    const auto each_running = [&](auto&& act) {
        size_t count = 0;
        for (const auto& name : names) {
            if (!running(name)) continue;
            act(processes_[name].pid);
            ++count;
        }
        return count;
    };
    const auto wait_until_gone = [&](io::Duration limit) {
        const auto deadline = io::system_clock().now() + limit;
        while (each_running([](pid_t) {}) > 0 && io::system_clock().now() < deadline) {
            std::this_thread::sleep_for(5ms);
            for (const auto& name : names) // takes note of those that this very process has started
                if (running(name)) ::waitpid(processes_[name].pid, nullptr, WNOHANG);
        }
    };
    each_running([](pid_t pid) { ::kill(pid, SIGTERM); });
    wait_until_gone(grace);
    if (each_running([](pid_t pid) { ::kill(pid, SIGKILL); }) > 0) wait_until_gone(kill_limit);
    for (const auto& name : names) {
        if (const auto found = processes_.find(name); found != processes_.end()) {
            ::waitpid(found->second.pid, nullptr, WNOHANG);
            processes_.erase(found);
        }
    }
    return save();
}

} // namespace lanepool::dev
