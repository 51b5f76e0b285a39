// SPDX-License-Identifier: Apache-2.0
#include "dev/starter.h"

#include "admin/server.h"

#include <fstream>
#include <thread>

namespace lanepool::dev {

using namespace std::chrono_literals;

namespace {

constexpr auto start_timeout = 20s;

std::string last_lines(const std::filesystem::path& log) {
    std::ifstream stream(log);
    std::vector<std::string> lines;
    for (std::string line; std::getline(stream, line);) {
        lines.push_back(line);
        if (lines.size() > 5) lines.erase(lines.begin());
    }
    std::string text;
    for (const auto& line : lines)
        text += "\n    " + line;
    return text;
}

} // namespace

std::filesystem::path admin_socket(const std::filesystem::path& folder, const std::string& name) {
    return name == "fabric" ? folder / "fabric/admin.sock" : folder / (name + ".admin.sock");
}

Result<> Starter::start(const std::string& name, const std::vector<std::string>& argv) {
    report("starting " + name);
    return table_.start(name, argv, path(name + ".log"));
}

Result<> Starter::daemon(const std::string& name, std::vector<std::string> argv) {
    daemons_.push_back(name);
    if (running(name)) return {};
    if (name != "fabric") argv.insert(argv.end(), {"--admin", admin_socket(folder_, name)});
    return start(name, argv);
}

tl::unexpected<Error> Starter::died(const std::string& name) const {
    return fail(Errc::unavailable, "{} ended while it was being started; the end of {}:{}", name,
                path(name + ".log").string(), last_lines(path(name + ".log")));
}

Result<> Starter::wait_for_daemons() const {
    for (const auto& name : daemons_)
        TRY(wait_for_daemon(name));
    return {};
}

Result<> Starter::wait_for_daemon(const std::string& name) const {
    const auto deadline = io::system_clock().now() + start_timeout;
    while (true) {
        const auto answer = admin::call(admin_socket(folder_, name), {{"command", "ping"}}, 1s);
        if (answer) return {};
        if (!running(name)) return died(name);
        if (io::system_clock().now() > deadline)
            return fail(Errc::timeout, "{} does not answer ({}); see {}", name, answer.error().message(),
                        path(name + ".log").string());
        std::this_thread::sleep_for(20ms);
    }
}

} // namespace lanepool::dev
