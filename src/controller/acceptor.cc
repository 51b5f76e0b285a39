// SPDX-License-Identifier: Apache-2.0
#include "controller/acceptor.h"

#include "io/tcp_socket.h"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/stat.h>

namespace lanepool::controller {

namespace {
constexpr auto retry_delay = std::chrono::seconds(1);
constexpr auto complaint_interval = std::chrono::seconds(10);
constexpr int accepted_at_once = 64; // then it is others' turn

// As gRPC names the other end of a connection: "ipv4:A:PORT", "ipv6:%5BA%5D:PORT".
std::string grpc_name(const std::string& address) {
    if (!address.starts_with('[')) return "ipv4:" + address;
    const auto end = address.rfind(']');
    return "ipv6:%5B" + address.substr(1, end - 1) + "%5D" + address.substr(end + 1);
}

std::string without_port(const std::string& address) { return address.substr(0, address.rfind(':')); }

// 0: it is closed.
ino_t inode_of(int fd) {
    struct stat status {};
    return ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}
} // namespace

Result<> Acceptor::bind(const std::string& where) {
    auto door = std::make_unique<Door>();
    door->listener = TRY(io::listen_tcp(TRY(io::parse_host_port(where))));
    door->address = TRY(io::local_address(door->listener.get()));
    doors_.push_back(std::move(door));
    return {};
}

std::vector<std::string> Acceptor::addresses() const {
    std::vector<std::string> addresses;
    for (const auto& door : doors_)
        addresses.push_back(door->address);
    return addresses;
}

Result<> Acceptor::start(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> handler) {
    handler_ = std::move(handler);
    for (const auto& door : doors_)
        TRY(open(*door));
    return {};
}

void Acceptor::stop() { doors_.clear(); }

Result<> Acceptor::open(Door& door) {
    door.watch = TRY(loop_.watch(door.listener.get(), EPOLLIN, [this, &door](uint32_t) { accept(door); }));
    return {};
}

void Acceptor::accept(Door& door) {
    for (int i = 0; i < accepted_at_once; ++i) {
        auto socket = io::accept_tcp(door.listener);
        if (!socket && socket.error().code() == Errc::unavailable) return;
        if (!socket) {
            spdlog::warn("{}: {}; trying again in a second", door.address, socket.error().message());
            door.watch.reset(); // the listener stays ready: do not turn in a circle
            door.retry = loop_.after(retry_delay, [this, &door] {
                if (const auto opened = open(door); !opened) spdlog::error("{}", opened.error().message());
            });
            return;
        }
        const auto admitted = admit(std::move(*socket));
        // Once in a while: whoever comes again and again is not to fill the log.
        if (!admitted && loop_.clock().now() - complained_ > complaint_interval) {
            complained_ = loop_.clock().now();
            spdlog::warn("{}: {}", door.address, admitted.error().message());
        }
    }
}

Result<> Acceptor::admit(UniqueFd socket) {
    const std::string remote = TRY(io::remote_address(socket.get()));
    const std::string address = without_port(remote);
    {
        const std::lock_guard lock(mutex_);
        TRY(check_room(address));
        // One that had this descriptor is closed, or there would not be a new one by this number.
        if (const auto old = connections_.find(socket.get()); old != connections_.end()) forget(old);
        connections_[socket.get()] = {inode_of(socket.get()), grpc_name(remote), address, false};
        by_peer_[grpc_name(remote)] = socket.get();
        ++strangers_;
        ++strangers_of_[address];
    }
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.fd = socket.release(); // it is closed by gRPC, whatever comes
    handler_->HandleNewConnection(&connection);
    return {};
}

Result<> Acceptor::check_room(const std::string& address) {
    const auto full = [&] {
        const auto of_address = strangers_of_.find(address);
        return connections_.size() >= limits_.connections || strangers_ >= limits_.strangers ||
               (of_address != strangers_of_.end() && of_address->second >= limits_.strangers_of_address);
    };
    if (!full()) return {};
    forget_closed();
    if (!full()) return {};
    return fail(Errc::no_space,
                "a connection from {} is refused: there are {}, of which {} have not said yet whose they are",
                address, connections_.size(), strangers_);
}

void Acceptor::forget_closed() {
    for (auto next = connections_.begin(); next != connections_.end();) {
        const auto connection = next++;
        if (inode_of(connection->first) != connection->second.inode) forget(connection);
    }
}

void Acceptor::forget(std::map<int, Connection>::iterator connection) {
    const Connection& gone = connection->second;
    if (!gone.known) {
        --strangers_;
        if (const auto count = strangers_of_.find(gone.address); --count->second == 0)
            strangers_of_.erase(count);
    }
    if (const auto named = by_peer_.find(gone.peer);
        named != by_peer_.end() && named->second == connection->first)
        by_peer_.erase(named);
    connections_.erase(connection);
}

void Acceptor::known(const std::string& peer) {
    const std::lock_guard lock(mutex_);
    const auto found = by_peer_.find(peer);
    if (found == by_peer_.end()) return;
    Connection& connection = connections_.at(found->second);
    if (std::exchange(connection.known, true)) return;
    --strangers_;
    if (const auto count = strangers_of_.find(connection.address); --count->second == 0)
        strangers_of_.erase(count);
}

} // namespace lanepool::controller
