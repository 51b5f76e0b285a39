// SPDX-License-Identifier: Apache-2.0
#include "dev/cluster.h"

#include "admin/server.h"
#include "dev/control_plane.h"
#include "dev/guest_command.h"
#include "dev/guest_exec.h"
#include "dev/host_setup.h"
#include "dev/whole_cluster.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <thread>
#include <unistd.h>

namespace lanepool::dev {

using namespace std::chrono_literals;

namespace {

constexpr auto start_timeout = 20s;
constexpr auto boot_timeout = 90s; // 2 s alone; several guests under TCG on two busy cores take their time
constexpr auto stop_grace = 5s;

// One cluster being brought up.
class Builder {
  public:
    Builder(const ClusterOptions& options, const ControlPlane& plane, ProcessTable& table,
            const Report& report)
        : options_(options), plane_(plane), starter_(options.folder, table, report) {}

    Result<> run() {
        TRY(start_all());
        TRY(starter_.wait_for_daemons());
        if (options_.guests)
            for (const auto& host : options_.borrowers)
                TRY(wait_for_guest(host));
        TRY(wait_for_agents());
        return {};
    }

  private:
    std::filesystem::path path(const std::string& name) const { return starter_.path(name); }

    Result<> start_all() {
        const std::string self = options_.program;
        TRY(starter_.daemon("fabric", {self, "fabric", "--dir", path("fabric"), "--ports",
                                       std::to_string(std::max<size_t>(16, options_.borrowers.size() + 1))}));
        TRY(plane_.start(starter_, self));
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
                                             std::to_string(options_.drive_bytes),
                                             "--serial",
                                             fmt::format("LP{:06}", i + 1)};
            if (options_.map_registers) argv.push_back("--map-registers");
            TRY(device(drive, std::move(argv), lender));
        }
        for (unsigned i = 0; i < options_.dma_engines; ++i) {
            const std::string engine = fmt::format("dma{}", i);
            TRY(device(engine, {self, "model", "dma", "--socket", path(engine + ".sock")}, lender));
        }
        TRY(starter_.daemon("agent-" + options_.lender, lender));
        unsigned port = 1;
        for (const auto& host : options_.borrowers) {
            auto argv = agent(host, port++);
            const auto monitor = path("guest-" + host) / "agent.qmp.sock";
            if (options_.guests)
                argv.insert(argv.end(), {"--guest", fmt::format("{}={}", host, monitor.string())});
            TRY(starter_.daemon("agent-" + host, argv));
            if (options_.guests) TRY(guest(host));
        }
        return {};
    }

    // One of the lender's, whose agent is told of it by AGENT.
    Result<> device(const std::string& name, std::vector<std::string> argv, std::vector<std::string>& agent) {
        TRY(starter_.daemon(name, std::move(argv)));
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

    Result<> guest(const std::string& host) {
        const std::string name = "guest-" + host;
        if (starter_.running(name)) return {};
        const auto folder = path(name);
        std::filesystem::create_directories(folder);
        return starter_.start(name, TRY(guest_command({host, folder, options_.guest_memory_mib})));
    }

    Result<> wait_for_guest(const std::string& host) {
        const std::string name = "guest-" + host;
        starter_.report(fmt::format("waiting for the guest of host {} to boot", host));
        const auto deadline = io::system_clock().now() + boot_timeout;
        while (true) {
            auto exec = GuestExec::connect(exec_socket(options_.folder, host),
                                           std::min<io::Duration>(5s, deadline - io::system_clock().now()));
            if (exec) return {};
            if (!starter_.running(name)) return starter_.died(name);
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
            starter_.report(fmt::format("waiting for the agent of host {} to join", host));
            while (true) {
                const auto answer =
                    admin::call(admin_socket(options_.folder, name), {{"command", "status"}}, 1s);
                if (answer && answer->value("ready", false)) break;
                if (!starter_.running(name)) return starter_.died(name);
                TRY(plane_.check_members(starter_));
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
    Starter starter_;
};

// The order in which things are taken down: what uses before what is used.
std::vector<std::string> stop_order(const ProcessTable& table) {
    std::vector<std::string> names;
    for (const char* prefix : {"guest-", "host-", "agent-", "controller", "etcd", "nvme", "dma", "fabric"})
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
    if (const auto whole = folder / ("host-" + host); std::filesystem::exists(whole))
        return whole / "exec.sock";
    return folder / ("guest-" + host) / "exec.sock";
}

Result<> up(const ClusterOptions& options, const Report& report) {
    if (options.whole_hosts || TRY(WholePlan::read(options.folder))) return up_whole_hosts(options, report);
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

namespace {

// The port of a host of HOST's name: the one of the adapter with which its agent was started, .../portN.sock.
std::optional<unsigned> agent_port(const std::vector<Process>& processes, const std::string& host) {
    for (const auto& process : processes) {
        if (process.name != "agent-" + host) continue;
        for (const auto& word : process.argv) {
            const auto name = std::filesystem::path(word).stem().string();
            if (name.starts_with("port")) return static_cast<unsigned>(std::stoul(name.substr(4)));
        }
    }
    return std::nullopt;
}

std::optional<unsigned> whole_host_port(const WholePlan& plan, const std::string& host) {
    const auto hosts = plan.hosts();
    const auto found = std::find(hosts.begin(), hosts.end(), host);
    if (found == hosts.end()) return std::nullopt;
    return static_cast<unsigned>(found - hosts.begin());
}

// The agent in a whole host, whose sockets are in there.
Result<admin::Json> ask_whole_host(const std::filesystem::path& folder, const std::string& host,
                                   const std::string& command) {
    auto channel = TRY(GuestExec::connect(exec_socket(folder, host), 5s));
    const auto result =
        TRY(channel.run(fmt::format("lanepool dev ask {} {}", host_admin_socket, shell_word(command)), 20s));
    auto answer = admin::Json::parse(result.output, nullptr, false);
    if (result.status != 0 || answer.is_discarded())
        return fail(Errc::unavailable, "the agent in host {} does not answer: {}", host, result.output);
    return answer;
}

} // namespace

Result<> change_port(const std::filesystem::path& folder, const std::string& host,
                     const std::string& change) {
    const auto plan = TRY(WholePlan::read(folder));
    const auto port = plan ? whole_host_port(*plan, host) : agent_port(TRY(ProcessTable::read(folder)), host);
    if (!port) return fail(Errc::not_found, "the cluster in {} has no host {}", folder.string(), host);
    admin::Json request = {{"command", change}, {"port", *port}};
    if (change == "up" || change == "down")
        request = {{"command", "link"}, {"port", *port}, {"up", change == "up"}};
    else if (plan)
        return fail(Errc::not_supported,
                    "the adapter of a whole host stays where it is, because QEMU would not find it again: "
                    "take the link down instead");
    TRY(admin::call(admin_socket(folder, "fabric"), request));
    return {};
}

Result<std::vector<Answer>> ask_daemons(const std::filesystem::path& folder, const std::string& command) {
    std::vector<Answer> answers;
    for (const auto& process : TRY(ProcessTable::read(folder))) {
        const auto& name = process.name;
        if (name.starts_with("guest-") || name.starts_with("etcd")) continue;
        if (name.starts_with("host-"))
            answers.push_back({"agent-" + name.substr(5), ask_whole_host(folder, name.substr(5), command)});
        else
            answers.push_back({name, admin::call(admin_socket(folder, name), {{"command", command}})});
    }
    return answers;
}

} // namespace lanepool::dev
