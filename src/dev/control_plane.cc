// SPDX-License-Identifier: Apache-2.0
#include "dev/control_plane.h"

#include "base/unique_fd.h"
#include "dev/certificates.h"
#include "dev/whole_host.h"
#include "io/replace_file.h"

#include <arpa/inet.h>
#include <cstdlib>
#include <fstream>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <sstream>
#include <sys/socket.h>
#include <unistd.h>

namespace lanepool::dev {

namespace {

using Json = nlohmann::json;

std::filesystem::path file_in(const std::filesystem::path& folder) { return folder / "control-plane.json"; }

std::string url(uint16_t port) { return fmt::format("http://127.0.0.1:{}", port); }

bool is_installed(const std::string& program) {
    const char* path = std::getenv("PATH");
    std::istringstream folders(path ? path : "/usr/bin");
    for (std::string folder; std::getline(folders, folder, ':');)
        if (::access((std::filesystem::path(folder) / program).c_str(), X_OK) == 0) return true;
    return false;
}

// So many ports of 127.0.0.1 that nobody has now.
Result<std::vector<uint16_t>> free_ports(size_t count) {
    std::vector<UniqueFd> sockets; // kept until all are chosen: none is chosen twice
    std::vector<uint16_t> ports;
    while (ports.size() < count) {
        sockets.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        if (!sockets.back() ||
            ::bind(sockets.back().get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
            ::getsockname(sockets.back().get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
            return fail_errno("looking for a free port of 127.0.0.1");
        ports.push_back(ntohs(address.sin_port));
    }
    return ports;
}

} // namespace

Result<ControlPlane> ControlPlane::read(const std::filesystem::path& folder) {
    ControlPlane plane;
    std::ifstream stream(file_in(folder));
    if (!stream) return plane;
    const Json json = Json::parse(stream, nullptr, false);
    const auto damaged = [&] {
        return fail(Errc::protocol, "{} is damaged; stop the cluster and remove its folder",
                    file_in(folder).string());
    };
    if (!json.is_object() || !json.contains("etcd") || !json["etcd"].is_array()) return damaged();
    for (const auto& ports : json["etcd"]) {
        if (!ports.is_object() || !ports.value("client", Json()).is_number_unsigned() ||
            !ports.value("peer", Json()).is_number_unsigned())
            return damaged();
        plane.etcd.push_back({ports["client"].get<uint16_t>(), ports["peer"].get<uint16_t>()});
    }
    plane.controllers = static_cast<unsigned>(std::max<size_t>(1, plane.etcd.size()));
    for (const auto& port : json.value("tcp", Json::array())) {
        if (!port.is_number_unsigned()) return damaged();
        plane.tcp.push_back(port.get<uint16_t>());
    }
    if (!plane.tcp.empty() && plane.tcp.size() != plane.controllers) return damaged();
    return plane;
}

Result<ControlPlane> ControlPlane::open(const std::filesystem::path& folder, unsigned wanted, bool over_tcp) {
    const bool there = std::filesystem::exists(file_in(folder));
    auto plane = TRY(read(folder));
    if (there && wanted != 0 && wanted != plane.controllers)
        return fail(
            Errc::failed_precondition,
            "the cluster in {} has {} controller(s): stop it first (`lanepool dev down`), or use another "
            "folder",
            folder.string(), plane.controllers);
    if (!there) plane.controllers = std::max(1U, wanted);
    if (plane.controllers > 1 && !is_installed("etcd"))
        return fail(Errc::not_found,
                    "several controllers keep their records in etcd, and there is no program 'etcd' "
                    "here: run script/bootstrap, or install Debian's package etcd-server");
    if (there) return plane;
    Json json{{"etcd", Json::array()}};
    const size_t for_etcd = plane.controllers > 1 ? 2 * size_t{plane.controllers} : 0;
    const auto ports = TRY(free_ports(for_etcd + (over_tcp ? plane.controllers : 0)));
    for (size_t i = 0; i < for_etcd; i += 2) {
        plane.etcd.push_back({ports[i], ports[i + 1]});
        json["etcd"].push_back({{"client", ports[i]}, {"peer", ports[i + 1]}});
    }
    plane.tcp.assign(ports.begin() + static_cast<ptrdiff_t>(for_etcd), ports.end());
    json["tcp"] = plane.tcp;
    TRY(io::replace_file(file_in(folder), json.dump(1) + "\n"));
    return plane;
}

Result<> ControlPlane::start(Starter& starter, const std::string& program) const {
    for (const auto& member : members(starter.folder()))
        if (!starter.running(member.name)) TRY(starter.start(member.name, member.argv));
    for (const auto& controller : TRY(daemons(starter.folder(), program)))
        TRY(starter.daemon(controller.name, controller.argv));
    return {};
}

Result<> ControlPlane::check_members(const Starter& starter) const {
    for (const auto& member : members(starter.folder()))
        if (!starter.running(member.name)) return starter.died(member.name);
    return {};
}

std::string ControlPlane::name(unsigned number) const {
    return controllers == 1 ? "controller" : fmt::format("controller{}", number);
}

std::string ControlPlane::endpoints(const std::filesystem::path& folder) const {
    std::string list;
    for (unsigned i = 0; i < controllers; ++i)
        list += fmt::format("{}unix:{}.sock", list.empty() ? "" : ",", (folder / name(i)).string());
    return list;
}

std::string ControlPlane::tcp_endpoints(const std::string& address) const {
    std::string list;
    for (const auto port : tcp)
        list += fmt::format("{}{}:{}", list.empty() ? "" : ",", address, port);
    return list;
}

std::vector<ControlPlane::Daemon> ControlPlane::members(const std::filesystem::path& folder) const {
    std::string cluster;
    for (size_t i = 0; i < etcd.size(); ++i)
        cluster += fmt::format("{}etcd{}={}", cluster.empty() ? "" : ",", i, url(etcd[i].peer));
    std::vector<Daemon> list;
    for (size_t i = 0; i < etcd.size(); ++i) {
        const std::string member = fmt::format("etcd{}", i);
        const std::string data = folder / member;
        list.push_back(
            {member,
             {"etcd", "--name", member, "--data-dir", data, "--listen-client-urls", url(etcd[i].client),
              "--advertise-client-urls", url(etcd[i].client), "--listen-peer-urls", url(etcd[i].peer),
              "--initial-advertise-peer-urls", url(etcd[i].peer), "--initial-cluster", cluster,
              "--initial-cluster-token", "lanepool-dev", "--auto-compaction-mode=periodic",
              "--auto-compaction-retention=10m"}});
    }
    return list;
}

// One certificate for all of them: they are on the same machine, and speak for the same records.
Result<std::vector<std::string>> ControlPlane::certificate_words(const std::filesystem::path& folder) const {
    if (tcp.empty()) return std::vector<std::string>();
    const auto files = TRY(certificate_files(folder, {.name = "controller",
                                                      .role = pki::Role::controller,
                                                      .host = {},
                                                      .dns = {},
                                                      .ip = {this_machine, "127.0.0.1"}}));
    return std::vector<std::string>{"--tls-ca",  files.ca,  "--tls-cert", files.certificate,
                                    "--tls-key", files.key, "--tls-crl",  files.revoked};
}

Result<std::vector<ControlPlane::Daemon>> ControlPlane::daemons(const std::filesystem::path& folder,
                                                                const std::string& program) const {
    std::string members;
    for (const auto& ports : etcd)
        members += fmt::format("{}127.0.0.1:{}", members.empty() ? "" : ",", ports.client);
    const auto certificates = TRY(certificate_words(folder));
    std::vector<Daemon> list;
    for (unsigned i = 0; i < controllers; ++i) {
        std::string listen = fmt::format("unix:{}.sock", (folder / name(i)).string());
        if (!tcp.empty()) listen += fmt::format(",127.0.0.1:{}", tcp[i]);
        Daemon daemon{name(i), {program, "controller", "--listen", listen}};
        const std::vector<std::string> records =
            etcd.empty() ? std::vector<std::string>{"--state", folder / name(i)}
                         : std::vector<std::string>{"--etcd", members, "--name", name(i)};
        daemon.argv.insert(daemon.argv.end(), records.begin(), records.end());
        daemon.argv.insert(daemon.argv.end(), certificates.begin(), certificates.end());
        list.push_back(std::move(daemon));
    }
    return list;
}

} // namespace lanepool::dev
