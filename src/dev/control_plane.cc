// SPDX-License-Identifier: Apache-2.0
#include "dev/control_plane.h"

#include "base/unique_fd.h"
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
    return plane;
}

Result<ControlPlane> ControlPlane::open(const std::filesystem::path& folder, unsigned wanted) {
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
    if (plane.controllers > 1) {
        const auto ports = TRY(free_ports(2 * size_t{plane.controllers}));
        for (size_t i = 0; i < ports.size(); i += 2) {
            plane.etcd.push_back({ports[i], ports[i + 1]});
            json["etcd"].push_back({{"client", ports[i]}, {"peer", ports[i + 1]}});
        }
    }
    TRY(io::replace_file(file_in(folder), json.dump(1) + "\n"));
    return plane;
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

std::vector<ControlPlane::Daemon> ControlPlane::daemons(const std::filesystem::path& folder,
                                                        const std::string& program) const {
    std::string members;
    for (const auto& ports : etcd)
        members += fmt::format("{}127.0.0.1:{}", members.empty() ? "" : ",", ports.client);
    std::vector<Daemon> list;
    for (unsigned i = 0; i < controllers; ++i) {
        Daemon daemon{name(i),
                      {program, "controller", "--listen", "unix:" + (folder / name(i)).string() + ".sock"}};
        const std::vector<std::string> records =
            etcd.empty() ? std::vector<std::string>{"--state", folder / name(i)}
                         : std::vector<std::string>{"--etcd", members, "--name", name(i)};
        daemon.argv.insert(daemon.argv.end(), records.begin(), records.end());
        list.push_back(std::move(daemon));
    }
    return list;
}

} // namespace lanepool::dev
