// SPDX-License-Identifier: Apache-2.0
#include "dev/whole_cluster.h"

#include "base/keep_first.h"
#include "dev/certificates.h"
#include "dev/control_plane.h"
#include "dev/guest_exec.h"
#include "dev/host_setup.h"
#include "dev/overlay.h"
#include "dev/starter.h"
#include "dev/whole_host.h"

#include <algorithm>
#include <fcntl.h>
#include <fstream>
#include <future>
#include <iterator>
#include <mutex>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace lanepool::dev {

using namespace std::chrono_literals;

namespace {

constexpr auto boot_timeout = 120s; // 4 s alone; several under TCG on a few busy cores take their time
constexpr auto setup_timeout = 60s;
constexpr unsigned join_timeout_s = 120; // where there is too much to do, a TLS handshake takes seconds
constexpr auto stop_grace = 5s;
constexpr uint64_t state_bytes = 16 << 20;
constexpr const char* large_window = "4GiB"; // a power of two for which a host's firmware has room

std::string process_name(const std::string& host) { return "host-" + host; }

// Makes a sparse file of SIZE where there is none.
Result<> make_disk(const std::filesystem::path& file, uint64_t size) {
    const UniqueFd disk(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!disk) return fail_errno(fmt::format("making the disk {}", file.string()));
    struct stat status {};
    if (::fstat(disk.get(), &status) != 0) return fail_errno(fmt::format("looking at {}", file.string()));
    if (status.st_size == 0 && ::ftruncate(disk.get(), static_cast<off_t>(size)) != 0)
        return fail_errno(fmt::format("making the disk {}", file.string()));
    return {};
}

Result<std::string> text_of(const std::filesystem::path& file) {
    std::ifstream stream(file);
    std::string text{std::istreambuf_iterator<char>(stream), {}};
    if (!stream.is_open() || text.empty()) return fail(Errc::io, "cannot read {}", file.string());
    return text;
}

class Hosts {
  public:
    Hosts(const WholePlan& plan, const ControlPlane& plane, std::filesystem::path program, Starter& starter)
        : plan_(plan), plane_(plane), program_(std::move(program)), starter_(starter) {}

    // A QEMU for each host that has none.
    Result<> start() {
        const auto names = plan_.hosts();
        for (size_t port = 0; port < names.size(); ++port)
            if (!starter_.running(process_name(names[port]))) TRY(start(names[port], port));
        return {};
    }

    // Side by side: each boots, and its agent joins.
    Result<> join() {
        std::vector<std::future<Result<>>> jobs;
        for (const auto& name : plan_.hosts())
            jobs.push_back(std::async(std::launch::async, [this, name] { return join(name); }));
        Result<> result;
        for (auto& job : jobs)
            keep_first(result, job.get());
        return result;
    }

  private:
    Result<WholeHost> describe(const std::string& name, size_t port) const {
        const auto& kernel = plan_.kernels.at(name);
        WholeHost host{.name = name,
                       .folder = starter_.path(process_name(name)),
                       .image = TRY(host_image(kernel)),
                       .initramfs = starter_.path(fmt::format("initramfs-{}.img", kernel)),
                       .adapter = starter_.path("fabric") / fmt::format("port{}.sock", port),
                       .memory_mib = plan_.memory_mib,
                       .devices = {}};
        if (name == plan_.lender) host.devices = devices(host.folder);
        return host;
    }

    std::vector<HostDevice> devices(const std::filesystem::path& folder) const {
        std::vector<HostDevice> list;
        for (unsigned i = 0; i < plan_.drives; ++i) {
            const std::string drive = fmt::format("nvme{}", i);
            list.push_back(nvme_drive(drive, folder / (drive + ".raw")));
        }
        list.push_back(network_card("nic0"));
        list.push_back(teaching_card("edu0"));
        return list;
    }

    Result<> start(const std::string& name, size_t port) {
        const auto host = TRY(describe(name, port));
        std::filesystem::create_directories(host.folder);
        TRY(make_disk(state_disk(host), state_bytes));
        if (name == plan_.lender)
            for (unsigned i = 0; i < plan_.drives; ++i)
                TRY(make_disk(host.folder / fmt::format("nvme{}.raw", i), plan_.drive_bytes));
        if (written_.insert(host.initramfs).second) {
            starter_.report("writing " + host.initramfs.filename().string());
            TRY(write_initramfs(host.initramfs, host.image.initramfs, program_, host.image.bridge_module));
        }
        return starter_.start(process_name(name), whole_host_command(host));
    }

    // From any thread.
    void report(const std::string& step) {
        const std::lock_guard lock(reporting_);
        starter_.report(step);
    }

    Result<> join(const std::string& name) {
        report(fmt::format("host {} boots", name));
        auto channel = TRY(wait_until_booted(name));
        report(fmt::format("starting the agent in host {}", name));
        TRY(run(name, channel, TRY(setup(name)), setup_timeout));
        report(fmt::format("waiting for the agent in host {} to join", name));
        return run(name, channel, wait_command(join_timeout_s), std::chrono::seconds(join_timeout_s) + 30s);
    }

    Result<GuestExec> wait_until_booted(const std::string& name) const {
        const auto folder = starter_.path(process_name(name));
        const auto deadline = io::system_clock().now() + boot_timeout;
        while (true) {
            auto exec = GuestExec::connect(folder / "exec.sock", 5s);
            if (exec) return exec;
            if (!starter_.running(process_name(name))) return starter_.died(process_name(name));
            if (io::system_clock().now() > deadline)
                return fail(Errc::timeout, "host {} has not booted in {} s ({}); see {}", name,
                            boot_timeout.count(), exec.error().message(), (folder / "serial.log").string());
            std::this_thread::sleep_for(20ms);
        }
    }

    Result<std::string> setup(const std::string& name) {
        CertificateFiles files;
        {
            const std::lock_guard lock(issuing_); // one at a time works on the CA's folder
            files = TRY(certificate_files(
                starter_.folder(),
                {.name = process_name(name), .role = pki::Role::agent, .host = name, .dns = {}, .ip = {}}));
        }
        HostSetup setup{.host = name,
                        .controllers = plane_.tcp_endpoints(this_machine),
                        .ca = TRY(text_of(files.ca)),
                        .certificate = TRY(text_of(files.certificate)),
                        .key = TRY(text_of(files.key)),
                        .adapter_port = {},
                        .lent = {},
                        .borrows = name != plan_.lender};
        const auto list = name == plan_.lender ? devices({}) : std::vector<HostDevice>();
        for (size_t i = 0; i < list.size(); ++i)
            setup.lent.emplace_back(list[i].name, root_port_address(i));
        setup.adapter_port = root_port_address(list.size());
        return setup_command(setup);
    }

    static Result<> run(const std::string& name, GuestExec& channel, const std::string& command,
                        io::Duration timeout) {
        auto result = TRY(channel.run(command, timeout));
        while (result.output.ends_with('\n'))
            result.output.pop_back();
        if (result.timed_out)
            return fail(Errc::timeout, "host {} does not get on: {}; try `lanepool dev exec {} -- cat {}`",
                        name, result.output, name, host_agent_log);
        if (result.status != 0) return fail(Errc::unavailable, "host {}: {}", name, result.output);
        return {};
    }

    const WholePlan& plan_;
    const ControlPlane& plane_;
    const std::filesystem::path program_;
    Starter& starter_;
    std::set<std::filesystem::path> written_;
    std::mutex reporting_, issuing_;
};

Result<> check_fits(const ClusterOptions& options) {
    if (!options.guests || options.map_registers || options.dma_engines > 0)
        return fail(
            Errc::invalid_argument,
            "the cluster in {} has whole hosts: neither guests nor models of ours, so that --no-guests, "
            "--map-registers and --dma-engines have no meaning",
            options.folder.string());
    return {};
}

// The adapters of whole hosts do not come back when the switch does.
Result<> stop_hosts_without_fabric(const WholePlan& plan, Starter& starter) {
    if (starter.running("fabric")) return {};
    std::vector<std::string> names;
    for (const auto& host : plan.hosts())
        if (starter.running(process_name(host))) names.push_back(process_name(host));
    if (names.empty()) return {};
    starter.report("stopping the hosts, which have lost the fabric");
    return starter.table().stop(names, stop_grace);
}

} // namespace

Result<> up_whole_hosts(const ClusterOptions& options, const Report& report) {
    TRY(check_fits(options));
    const auto plan = TRY(WholePlan::decide(options.folder, options.whole));
    for (const auto& [host, kernel] : plan.kernels)
        TRY(host_image(kernel));
    auto table = TRY(ProcessTable::open(options.folder, 30s));
    TRY(plan.save(options.folder));
    const auto plane = TRY(ControlPlane::open(options.folder, options.controllers, true));
    for (const auto& folder : {options.folder / "fabric", options.folder / "controller"})
        std::filesystem::create_directories(folder);

    Starter starter(options.folder, table, report);
    TRY(stop_hosts_without_fabric(plan, starter));
    TRY(starter.daemon("fabric",
                       {options.program, "fabric", "--dir", starter.path("fabric"), "--ports",
                        std::to_string(std::max<size_t>(2, plan.hosts().size())), "--bar4", large_window}));
    TRY(plane.start(starter, options.program));
    TRY(starter.wait_for_daemons()); // a host's adapter has to be there when it starts
    Hosts hosts(plan, plane, options.program, starter);
    TRY(hosts.start());
    return hosts.join();
}

} // namespace lanepool::dev
