// SPDX-License-Identifier: Apache-2.0
#include "host/process_cpu.h"

#include <filesystem>
#include <fstream>
#include <sched.h>
#include <sstream>
#include <unistd.h>

namespace lanepool::bench {

Result<double> cpu_seconds(pid_t process) {
    std::ifstream file(fmt::format("/proc/{}/stat", process));
    std::string line;
    if (!std::getline(file, line)) return fail(Errc::not_found, "there is no process {}", process);
    // The name, in parentheses, may hold anything; utime and stime are the 12th and 13th fields behind it.
    const auto behind_name = line.rfind(')');
    if (behind_name == std::string::npos)
        return fail(Errc::internal, "/proc/{}/stat cannot be read", process);
    std::istringstream fields(line.substr(behind_name + 1));
    std::string skipped;
    for (int i = 0; i < 11; ++i)
        fields >> skipped;
    double user = 0;
    double system = 0;
    if (!(fields >> user >> system)) return fail(Errc::internal, "/proc/{}/stat cannot be read", process);
    return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

Result<> pin_process(pid_t process, std::span<const int> cores) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int core : cores)
        CPU_SET(static_cast<size_t>(core), &set);
    std::error_code error;
    for (const auto& thread :
         std::filesystem::directory_iterator(fmt::format("/proc/{}/task", process), error)) {
        const auto id = static_cast<pid_t>(std::stol(thread.path().filename().string()));
        if (::sched_setaffinity(id, sizeof set, &set) != 0)
            return fail_errno(fmt::format("putting process {} on its cores", process));
    }
    if (error) return fail(Errc::not_found, "there is no process {}", process);
    return {};
}

} // namespace lanepool::bench
