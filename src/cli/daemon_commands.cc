// SPDX-License-Identifier: Apache-2.0
//
// The commands that stay: controller, agent, fabric, model.
#include "agent/run.h"
#include "cli/context.h"
#include "cli/log.h"
#include "cli/units.h"
#include "controller/run.h"
#include "dma_model/run.h"
#include "fabric/run.h"
#include "nvme/model/run.h"

#include <array>
#include <regex>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace lanepool::cli {

void set_up_log(const std::string& daemon) {
    auto logger = spdlog::stderr_logger_mt(daemon);
    logger->set_pattern("%Y-%m-%d %H:%M:%S.%f %l %n: %v");
    logger->flush_on(spdlog::level::info);
    spdlog::set_default_logger(std::move(logger));
}

namespace {

CLI::App* daemon(CLI::App& app, const char* name, const char* help) {
    return app.add_subcommand(name, help)->group("Daemons");
}

std::string host_name() {
    std::array<char, 256> name{};
    return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

// "NAME=PATH"
Result<std::pair<std::string, std::string>> named_path(const std::string& text) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
        return fail(Errc::invalid_argument, "'{}' is not of the form NAME=PATH", text);
    const std::string name = text.substr(0, equals);
    static const std::regex allowed("[A-Za-z0-9][A-Za-z0-9._-]{0,62}");
    if (!std::regex_match(name, allowed))
        return fail(Errc::invalid_argument, "'{}' is no name: letters, digits, '.', '_' and '-', at most 63",
                    name);
    return std::pair(name, text.substr(equals + 1));
}

Result<int> run_agent(agent::AgentOptions options, const std::vector<std::string>& devices,
                      const std::vector<std::string>& guests) {
    for (const auto& text : devices) {
        auto [name, path] = TRY(named_path(text));
        options.devices.push_back({name, path});
    }
    for (const auto& text : guests) {
        auto [name, path] = TRY(named_path(text));
        options.guests.push_back({name, path});
    }
    return agent::run_agent(options);
}

void add_agent(CLI::App& app, Context& context) {
    auto* sub = daemon(app, "agent", "Run the agent of one host");
    sub->footer("A host with a card (--adapter pci:ADDRESS) and the kernel module lanepool_bridge loaded "
                "borrows with its own kernel, too.");
    auto options = std::make_shared<agent::AgentOptions>();
    auto devices = std::make_shared<std::vector<std::string>>();
    auto guests = std::make_shared<std::vector<std::string>>();
    sub->add_option("--host", options->host, "this host's name")->required();
    sub->add_option(
           "--adapter", options->adapter,
           "this host's port of the fabric: the path of a vfio-user socket, or pci:ADDRESS for a card "
           "of this machine (its NT endpoint, as in pci:0000:3b:00.1)")
        ->required();
    sub->add_option("--state", options->state, "a folder for what must survive a restart")->required();
    sub->add_option("--admin", options->admin, "the administration socket to make")->required();
    sub->add_option(
        "--device", *devices,
        "NAME=SOCKET: a device of this host that can be lent, served over vfio-user; or "
        "NAME=pci:ADDRESS: a function of this machine, which is taken from its driver when it is restored to "
        "the pool; its SR-IOV functions are devices NAME.vf0, ... (may be repeated)");
    sub->add_option(
        "--guest", *guests,
        "NAME=SOCKET: a guest of this host that can borrow, by a QMP socket of its own (may be repeated)");
    sub->add_option("--application", options->application,
                    "the socket to make for applications (SISCI); by default there is none");
    sub->add_option("--application-users", options->application_users,
                    "who may use it besides root and the agent's own user: names separated by commas, or '*' "
                    "for everybody");
    sub->callback([=, &context] {
        set_up_log("agent");
        options->controllers = context.client();
        finish(context, run_agent(*options, *devices, *guests));
    });
}

void add_controller(CLI::App& app, Context& context) {
    auto* sub = daemon(app, "controller", "Run the controller, which owns the records and decides");
    auto options = std::make_shared<controller::ControllerOptions>();
    sub->add_option("--listen", options->listen,
                    "where to listen: unix:/path for this machine, HOST:PORT for others (that takes "
                    "certificates), separated by commas")
        ->required();
    auto* state = sub->add_option("--state", options->state, "a folder for the database");
    auto* etcd = sub->add_option("--etcd", options->etcd,
                                 "one of several controllers: the members of etcd that has their records, "
                                 "HOST:PORT, separated by commas (instead of --state)")
                     ->delimiter(',');
    state->excludes(etcd);
    sub->add_option("--etcd-prefix", options->etcd_prefix, "under which keys, for another pool in one etcd")
        ->capture_default_str()
        ->needs(etcd);
    options->name = host_name();
    sub->add_option("--name", options->name, "of this controller among the others")->capture_default_str();
    sub->add_option("--advertise", options->advertise,
                    "where others are told to reach this controller (default: what --listen says)");
    auto ttl_ms = std::make_shared<int64_t>(options->election_ttl.count());
    sub->add_option("--election-ttl", *ttl_ms,
                    "after how many milliseconds without a sign of the leading controller another one leads")
        ->capture_default_str()
        ->check(CLI::Range(100, 60'000))
        ->needs(etcd);
    sub->add_option("--tls-crl", options->tls_crl, "the CA's list of revoked certificates, crl.pem");
    sub->add_option("--admin", options->admin, "the administration socket to make");
    sub->add_option("--group", options->group,
                    "whose members may connect, too (default: only the owner and root)");
    sub->callback([=, &context] {
        if (state->empty() && etcd->empty()) throw CLI::RequiredError("--state or --etcd");
        options->election_ttl = std::chrono::milliseconds(*ttl_ms);
        if (context.tls != api::TlsFiles()) options->tls = context.tls;
        set_up_log("controller");
        finish(context, controller::run_controller(*options));
    });
}

void add_fabric(CLI::App& app, Context& context) {
    auto* sub = daemon(app, "fabric", "Run the virtual NTB switch");
    auto options = std::make_shared<fabric::FabricOptions>();
    sub->add_option("--dir", options->dir, "a folder for its sockets: port0.sock and up, admin.sock")
        ->required();
    sub->add_option("--ports", options->ports, "how many ports it has")
        ->capture_default_str()
        ->check(CLI::Range(2, 48));
    sub->add_flag("--pairs", options->pairs,
                  "ports 2k and 2k+1 know each other only, and each may set the other's windows: for "
                  "drivers that know one peer, such as Linux's");
    sub->add_option("--lut-entries", options->lut_entries,
                    "how many small windows a port has at most; Linux's own driver works with up to 64")
        ->capture_default_str()
        ->check(CLI::Range(1, 512));
    add_capacity(sub, "--bar2", options->bar2_bytes,
                 "the size of each port's BAR with many small windows, a power of two such as 64MiB")
        ->capture_default_str();
    add_capacity(sub, "--bar4", options->bar4_bytes,
                 "the size of the one with large windows; a machine into which a port is plugged as a card "
                 "must find room for it: 4GiB")
        ->capture_default_str();
    auto read_timeout_ms = std::make_shared<int64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(options->peer_read_timeout).count());
    sub->add_option("--read-timeout-ms", *read_timeout_ms,
                    "how long a read through a window waits for another machine's answer; below QEMU's "
                    "x-msg-timeout, which is 5000 by default")
        ->capture_default_str()
        ->check(CLI::Range(1, 60000));
    sub->callback([=, &context] {
        set_up_log("fabric");
        options->peer_read_timeout = std::chrono::milliseconds(*read_timeout_ms);
        finish(context, fabric::run_fabric(*options));
    });
}

void add_dma_model(CLI::App& model, Context& context) {
    auto* sub =
        model.add_subcommand("dma", "A DMA engine that copies, fills, checks and adds, as an FPGA would");
    auto options = std::make_shared<dma_model::DmaModelOptions>();
    sub->add_option("--socket", options->socket, "the vfio-user socket to serve")->required();
    sub->add_option("--admin,--admin-socket", options->admin_socket, "the administration socket to make");
    sub->callback([=, &context] {
        set_up_log("dma");
        finish(context, dma_model::run_dma_model(*options));
    });
}

void add_nvme_model(CLI::App& model, Context& context) {
    auto* sub = model.add_subcommand("nvme", "An NVMe drive whose content is a file");
    auto options = std::make_shared<nvme::model::NvmeModelOptions>();
    sub->add_option("--socket", options->socket, "the vfio-user socket to serve")->required();
    sub->add_option("--file", options->file, "the file with the drive's content; made if missing")
        ->required();
    sub->add_option("--size", options->size_bytes,
                    "the drive's size, for example 4G; by default that of the file")
        ->transform(CLI::AsSizeValue(false));
    sub->add_option("--serial", options->serial,
                    "its serial number; by default it follows from the file's path");
    sub->add_option("--admin", options->admin_socket, "the administration socket to make");
    sub->add_flag("!--no-msix", options->msix,
                  "offer MSI only (QEMU aborts when it removes a function that has MSI-X)");
    sub->add_flag(
        "--map-registers", options->map_registers,
        "let clients map all of BAR0, for programs that use it by pointers; register writes are then "
        "noticed by polling, but for INTMS and INTMC: interrupts by MSI-X or MSI only");
    sub->callback([=, &context] {
        set_up_log("nvme");
        finish(context, nvme::model::run_nvme_model(*options));
    });
}

void add_model(CLI::App& app, Context& context) {
    auto* model = daemon(app, "model", "Run a virtual device");
    model->require_subcommand(1);
    add_nvme_model(*model, context);
    add_dma_model(*model, context);
}

} // namespace

void add_daemon_commands(CLI::App& app, Context& context) {
    add_controller(app, context);
    add_agent(app, context);
    add_fabric(app, context);
    add_model(app, context);
}

} // namespace lanepool::cli
