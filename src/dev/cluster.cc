// SPDX-License-Identifier: Apache-2.0
#include "dev/cluster.h"

#include "admin/server.h"
#include "dev/control_plane.h"
#include "dev/guest_command.h"
#include "dev/guest_exec.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <unistd.h>

namespace lanepool::dev {

using namespace std::chrono_literals;

namespace {

constexpr auto start_timeout = 20s;
constexpr auto boot_timeout = 90s; // 2 s alone; several guests under TCG on two busy cores take their time
constexpr auto stop_grace = 5s;

std::filesystem::path admin_socket(const std::filesystem::path& folder, const std::string& name) {
    return name == "fabric" ? folder / "fabric/admin.sock" : folder / (name + ".admin.sock");
}

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

// One cluster being brought up.
class Builder {
  public:
    Builder(const ClusterOptions& options, const ControlPlane& plane, ProcessTable& table,
            const Report& report)
        : options_(options), plane_(plane), table_(table), report_(report) {}

    Result<> run() {
        TRY(start_all());
        for (const auto& name : daemons_)
            TRY(wait_for_daemon(name));
        if (options_.guests)
            for (const auto& host : options_.borrowers)
                TRY(wait_for_guest(host));
        TRY(wait_for_agents());
        return {};
    }

  private:
    std::filesystem::path path(const std::string& name) const { return options_.folder / name; }

    Result<> start_all() {
        const std::string self = options_.program;
        TRY(daemon("fabric", {self, "fabric", "--dir", path("fabric"), "--ports",
                              std::to_string(std::max<size_t>(16, options_.borrowers.size() + 1))}));
        for (const auto& member : plane_.members(options_.folder))
            if (!table_.running(member.name)) TRY(start(member.name, member.argv));
        for (const auto& controller : plane_.daemons(options_.folder, self))
            TRY(daemon(controller.name, controller.argv));
        std::vector<std::string> lender = agent(options_.lender, 0);
        for (unsigned i = 0; i < options_.drives; ++i) {
            const std::string drive = fmt::format("nvme{}", i);
            std::vector<std::string> argv = {self,
                                             "model",
                                             "nvme",
                                             "--socket",
                                             path(drive + ".sock"),
                                             "--file",
                                             path(drive + ".img"),
                                             "--size",
                                             options_.drive_size,
                                             "--serial",
                                             fmt::format("LP{:06}", i + 1)};
            if (options_.map_registers) argv.push_back("--map-registers");
            TRY(device(drive, std::move(argv), lender));
        }
        for (unsigned i = 0; i < options_.dma_engines; ++i) {
            const std::string engine = fmt::format("dma{}", i);
            TRY(device(engine, {self, "model", "dma", "--socket", path(engine + ".sock")}, lender));
        }
        TRY(daemon("agent-" + options_.lender, lender));
        unsigned port = 1;
        for (const auto& host : options_.borrowers) {
            auto argv = agent(host, port++);
            const auto monitor = path("guest-" + host) / "agent.qmp.sock";
            if (options_.guests)
                argv.insert(argv.end(), {"--guest", fmt::format("{}={}", host, monitor.string())});
            TRY(daemon("agent-" + host, argv));
            if (options_.guests) TRY(guest(host));
        }
        return {};
    }

    // One of the lender's, whose agent is told of it by AGENT.
    Result<> device(const std::string& name, std::vector<std::string> argv, std::vector<std::string>& agent) {
        TRY(daemon(name, std::move(argv)));
        agent.insert(agent.end(), {"--device", fmt::format("{}={}", name, path(name + ".sock").string())});
        return {};
    }

    std::vector<std::string> agent(const std::string& host, unsigned port) const {
        return {options_.program, "agent",
                "--host",         host,
                "--adapter",      path("fabric") / fmt::format("port{}.sock", port),
                "--controller",   plane_.endpoints(options_.folder),
                "--state",        path("agent-" + host),
                "--application",  path("application-" + host + ".sock")};
    }

    Result<> daemon(const std::string& name, std::vector<std::string> argv) {
        daemons_.push_back(name);
        if (table_.running(name)) return {};
        if (name != "fabric") argv.insert(argv.end(), {"--admin", admin_socket(options_.folder, name)});
        return start(name, argv);
    }

    Result<> guest(const std::string& host) {
        const std::string name = "guest-" + host;
        if (table_.running(name)) return {};
        const auto folder = path(name);
        std::filesystem::create_directories(folder);
        return start(name, TRY(guest_command({host, folder, options_.guest_memory_mib})));
    }

    Result<> start(const std::string& name, const std::vector<std::string>& argv) {
        report_("starting " + name);
        return table_.start(name, argv, path(name + ".log"));
    }

    // Without a majority of etcd's members no controller leads, and no agent is ever ready.
    Result<> check_members() const {
        for (const auto& member : plane_.members(options_.folder))
            if (!table_.running(member.name)) return died(member.name);
        return {};
    }

    tl::unexpected<Error> died(const std::string& name) const {
        return fail(Errc::unavailable, "{} ended while it was being started; the end of {}:{}", name,
                    path(name + ".log").string(), last_lines(path(name + ".log")));
    }

    Result<> wait_for_daemon(const std::string& name) {
        const auto deadline = io::system_clock().now() + start_timeout;
        while (true) {
            const auto answer = admin::call(admin_socket(options_.folder, name), {{"command", "ping"}}, 1s);
            if (answer) return {};
            if (!table_.running(name)) return died(name);
            if (io::system_clock().now() > deadline)
                return fail(Errc::timeout, "{} does not answer ({}); see {}", name, answer.error().message(),
                            path(name + ".log").string());
            std::this_thread::sleep_for(20ms);
        }
    }

    Result<> wait_for_guest(const std::string& host) {
        const std::string name = "guest-" + host;
        report_(fmt::format("waiting for the guest of host {} to boot", host));
        const auto deadline = io::system_clock().now() + boot_timeout;
        while (true) {
            auto exec = GuestExec::connect(exec_socket(options_.folder, host),
                                           std::min<io::Duration>(5s, deadline - io::system_clock().now()));
            if (exec) return {};
            if (!table_.running(name)) return died(name);
            if (io::system_clock().now() > deadline)
                return exec.error().code() == Errc::timeout
                           ? fail(Errc::timeout, "the guest of host {} has not booted in {} s; see {}", host,
                                  std::chrono::seconds(boot_timeout).count(),
                                  (path(name) / "serial.log").string())
                           : tl::unexpected(exec.error());
            std::this_thread::sleep_for(20ms);
        }
    }

    // An agent is there when it has its adapter, its devices and its controller.
    Result<> wait_for_agents() {
        const auto deadline = io::system_clock().now() + start_timeout;
        std::vector<std::string> hosts{options_.lender};
        hosts.insert(hosts.end(), options_.borrowers.begin(), options_.borrowers.end());
        for (const auto& host : hosts) {
            const std::string name = "agent-" + host;
            report_(fmt::format("waiting for the agent of host {} to join", host));
            while (true) {
                const auto answer =
                    admin::call(admin_socket(options_.folder, name), {{"command", "status"}}, 1s);
                if (answer && answer->value("ready", false)) break;
                if (!table_.running(name)) return died(name);
                TRY(check_members());
                if (io::system_clock().now() > deadline)
                    return fail(Errc::timeout, "the agent of host {} is not ready: {}", host,
                                answer ? answer->dump() : answer.error().message());
                std::this_thread::sleep_for(20ms);
            }
        }
        return {};
    }

    const ClusterOptions& options_;
    const ControlPlane& plane_;
    ProcessTable& table_;
    const Report& report_;
    std::vector<std::string> daemons_;
};

// The order in which things are taken down: what uses before what is used.
std::vector<std::string> stop_order(const ProcessTable& table) {
    std::vector<std::string> names;
    for (const char* prefix : {"guest-", "agent-", "controller", "etcd", "nvme", "dma", "fabric"})
        for (const auto& [name, process] : table.processes())
            if (name.starts_with(prefix)) names.push_back(name);
    return names;
}

} // namespace

std::filesystem::path default_folder() {
    if (const char* folder = std::getenv("LANEPOOL_DEV_DIR"); folder && *folder) return folder;
    return std::filesystem::temp_directory_path() / fmt::format("lanepool-dev-{}", ::getuid());
}

std::string controller_endpoints(const std::filesystem::path& folder) {
    const auto plane = ControlPlane::read(folder);
    return (plane ? *plane : ControlPlane{}).endpoints(folder);
}

std::filesystem::path exec_socket(const std::filesystem::path& folder, const std::string& host) {
    return folder / ("guest-" + host) / "exec.sock";
}

Result<> up(const ClusterOptions& options, const Report& report) {
    if (options.guests) TRY(guest_cache());
    auto table = TRY(ProcessTable::open(options.folder, 30s));
    const auto plane = TRY(ControlPlane::open(options.folder, options.controllers));
    for (const auto& folder : {options.folder / "fabric", options.folder / "controller"})
        std::filesystem::create_directories(folder);
    return Builder(options, plane, table, report).run();
}

Result<> down(const std::filesystem::path& folder, bool remove) {
    if (!std::filesystem::exists(folder / "processes.json"))
        return fail(Errc::not_found, "there is no cluster in {}", folder.string());
    auto table = TRY(ProcessTable::open(folder, 30s));
    for (const auto& name : stop_order(table))
        TRY(table.stop({name}, stop_grace));
    if (remove) {
        std::error_code error;
        std::filesystem::remove_all(folder, error);
        if (error) return fail(Errc::io, "cannot remove {}: {}", folder.string(), error.message());
    }
    return {};
}

Result<std::vector<ProcessStatus>> status(const std::filesystem::path& folder) {
    if (!std::filesystem::exists(folder / "processes.json"))
        return fail(Errc::not_found, "there is no cluster in {}; `lanepool dev up` starts one",
                    folder.string());
    std::vector<ProcessStatus> list;
    for (const auto& process : TRY(ProcessTable::read(folder)))
        list.push_back({process.name, process.pid, is_running(process)});
    return list;
}

Result<> change_port(const std::filesystem::path& folder, const std::string& host,
                     const std::string& change) {
    for (const auto& process : TRY(ProcessTable::read(folder))) {
        if (process.name != "agent-" + host) continue;
        // The port is that of the adapter with which the agent was started: .../portN.sock
        for (const auto& word : process.argv) {
            const auto name = std::filesystem::path(word).stem().string();
            if (!name.starts_with("port")) continue;
            const auto port = static_cast<unsigned>(std::stoul(name.substr(4)));
            admin::Json request = {{"command", change}, {"port", port}};
            if (change == "up" || change == "down")
                request = {{"command", "link"}, {"port", port}, {"up", change == "up"}};
            TRY(admin::call(admin_socket(folder, "fabric"), request));
            return {};
        }
    }
    return fail(Errc::not_found, "the cluster in {} has no host {}", folder.string(), host);
}

std::vector<std::pair<std::string, std::filesystem::path>>
admin_sockets(const std::filesystem::path& folder) {
    std::vector<std::pair<std::string, std::filesystem::path>> sockets;
    if (const auto processes = ProcessTable::read(folder))
        for (const auto& process : *processes)
            if (!process.name.starts_with("guest-") && !process.name.starts_with("etcd"))
                sockets.emplace_back(process.name, admin_socket(folder, process.name));
    return sockets;
}

} // namespace lanepool::dev
