// SPDX-License-Identifier: Apache-2.0
#include "controller/peers.h"

#include "api/identity.h"
#include "io/unix_socket.h"

#include <array>
#include <pwd.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

namespace lanepool::controller {

namespace {
// Agents and commands together; each user has a part of it, so that one cannot keep out the others.
constexpr size_t max_connections = 8192;
constexpr size_t max_connections_of_user = 512;
constexpr auto retry_delay = std::chrono::seconds(1);

Result<std::string> random_token() {
    std::array<unsigned char, api::token_bytes> bytes;
    if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        return fail_errno("reading random bytes");
    std::string token;
    for (const unsigned char byte : bytes)
        token += fmt::format("{:02x}", byte);
    return token;
}

std::string user_name(uid_t uid) {
    std::array<char, 4096> buffer;
    passwd entry{};
    passwd* found = nullptr;
    if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found) return found->pw_name;
    return fmt::format("uid:{}", uid);
}

bool is_owner(uid_t uid) { return uid == 0 || uid == ::geteuid(); }
} // namespace

Result<std::unique_ptr<Peers>> Peers::create(io::EventLoop& loop, const std::filesystem::path& path,
                                             mode_t mode) {
    std::unique_ptr<Peers> peers(new Peers(loop, path, TRY(io::listen_unix(path, mode))));
    TRY(peers->listen());
    return peers;
}

Peers::~Peers() { ::unlink(path_.c_str()); }

Result<> Peers::listen() {
    watch_ = TRY(loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { accept(); }));
    return {};
}

void Peers::accept() {
    auto socket = io::accept_unix(listener_);
    if (!socket && socket.error().code() == Errc::unavailable) return;
    if (!socket) {
        spdlog::warn("{}: {}; trying again in a second", path_.string(), socket.error().message());
        watch_.reset(); // the listener stays ready: do not turn in a circle
        retry_ = loop_.after(retry_delay, [this] {
            if (const auto listening = listen(); !listening) spdlog::error("{}", listening.error().message());
        });
        return;
    }
    if (const auto welcomed = welcome(std::move(*socket)); !welcomed)
        spdlog::warn("{}: {}", path_.string(), welcomed.error().message());
}

Result<> Peers::welcome(UniqueFd socket) {
    const uid_t uid = TRY(io::peer_credentials(socket)).uid;
    if (connections_.size() >= max_connections)
        return fail(Errc::no_space, "there are {} connections already", max_connections);
    if (!is_owner(uid) && connections_of_[uid] >= max_connections_of_user)
        return fail(Errc::no_space, "user {} has {} connections already", user_name(uid),
                    max_connections_of_user);
    const std::string token = TRY(random_token());
    {
        const std::lock_guard lock(mutex_);
        users_.emplace(token, uid);
    }
    const uint64_t id = next_id_++;
    Connection& connection = connections_[id];
    connection.socket = std::move(socket);
    connection.token = token;
    ++connections_of_[uid];
    // Nothing is ever to be read from it: whatever happens there is its end.
    auto watch =
        loop_.watch(connection.socket.get(), EPOLLIN | EPOLLRDHUP, [this, id](uint32_t) { leave(id); });
    const auto sent = watch ? io::send(connection.socket.get(), std::as_bytes(std::span(token)))
                            : Result<size_t>(tl::unexpected<Error>(watch.error()));
    if (!sent || *sent != token.size()) {
        leave(id);
        return sent ? fail(Errc::disconnected, "a client takes no token")
                    : tl::unexpected<Error>(sent.error());
    }
    connection.watch = std::move(*watch);
    return {};
}

void Peers::leave(uint64_t id) {
    const auto found = connections_.find(id);
    if (found == connections_.end()) return;
    {
        const std::lock_guard lock(mutex_);
        const auto user = users_.find(found->second.token);
        if (const auto count = connections_of_.find(user->second); --count->second == 0)
            connections_of_.erase(count);
        users_.erase(user);
    }
    connections_.erase(found);
}

Result<Peer> Peers::of(const grpc::ServerContextBase& call) const {
    const auto& metadata = call.client_metadata();
    const auto found = metadata.find(api::token_key);
    if (found == metadata.end())
        return fail(
            Errc::permission_denied,
            "the call does not say whose it is: connect to {} first and send what is read there as '{}'",
            path_.string(), api::token_key);
    const std::lock_guard lock(mutex_);
    const auto user = users_.find(std::string_view(found->second.data(), found->second.size()));
    if (user == users_.end())
        return fail(Errc::permission_denied, "the call's '{}' is nobody's: connect to {} again",
                    api::token_key, path_.string());
    const bool owner = is_owner(user->second);
    return Peer{{user_name(user->second), owner}, owner ? "*" : ""};
}

} // namespace lanepool::controller
