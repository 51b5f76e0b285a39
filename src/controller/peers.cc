// SPDX-License-Identifier: Apache-2.0
#include "controller/peers.h"

#include "api/identity.h"
#include "io/unix_socket.h"

#include <algorithm>
#include <array>
#include <grpc/grpc_security_constants.h>
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
// How soon a certificate that was revoked, or has expired, does not count any more for who is connected.
constexpr auto recheck_interval = std::chrono::seconds(1);

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

Peers::~Peers() {
    for (const auto& desk : desks_)
        ::unlink(desk->path.c_str());
}

Result<> Peers::listen(const std::filesystem::path& path, mode_t mode) {
    auto desk = std::make_unique<Desk>();
    desk->path = path;
    desk->listener = TRY(io::listen_unix(path, mode));
    TRY(open(*desk));
    desks_.push_back(std::move(desk));
    return {};
}

Result<> Peers::open(Desk& desk) {
    desk.watch = TRY(loop_.watch(desk.listener.get(), EPOLLIN, [this, &desk](uint32_t) { accept(desk); }));
    return {};
}

void Peers::accept(Desk& desk) {
    auto socket = io::accept_unix(desk.listener);
    if (!socket && socket.error().code() == Errc::unavailable) return;
    if (!socket) {
        spdlog::warn("{}: {}; trying again in a second", desk.path.string(), socket.error().message());
        desk.watch.reset(); // the listener stays ready: do not turn in a circle
        desk.retry = loop_.after(retry_delay, [this, &desk] {
            if (const auto opened = open(desk); !opened) spdlog::error("{}", opened.error().message());
        });
        return;
    }
    if (const auto welcomed = welcome(std::move(*socket)); !welcomed)
        spdlog::warn("{}: {}", desk.path.string(), welcomed.error().message());
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

void Peers::trust(std::unique_ptr<Certificates> certificates) {
    certificates_ = std::move(certificates);
    timer_ = loop_.every(recheck_interval, [this] {
        certificates_->refresh();
        recheck_();
    });
}

Result<> Peers::check(const pki::PeerIdentity& certificate) const {
    if (!certificates_) return {};
    return certificates_->check(certificate);
}

Result<Peer> Peers::of(const grpc::ServerContextBase& call) const {
    // Only a Unix socket is without TLS, and only this machine has one.
    if (call.peer().starts_with("unix:")) return by_token(call);
    const auto shown = call.auth_context()->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
    if (shown.size() != 1 || !certificates_)
        return fail(Errc::permission_denied,
                    "the connection does not say whose it is: it has no certificate");
    auto peer = TRY(certificates_->peer_of({shown[0].data(), shown[0].size()}));
    known_(call.peer());
    return peer;
}

Result<Peer> Peers::person(const grpc::ServerContextBase& call) const {
    auto peer = TRY(of(call));
    if (!peer.certificate) return peer;
    const pki::Role role = peer.certificate->role;
    if (role == pki::Role::agent || role == pki::Role::controller)
        return fail(Errc::permission_denied,
                    "the certificate of {} {} does not ask for anything here; people have certificates of "
                    "the roles user, operator and admin",
                    name(role), peer.certificate->name);
    return peer;
}

Result<Peer> Peers::asker(const grpc::ServerContextBase& call, const std::string& on_behalf_of) const {
    if (on_behalf_of.empty()) return person(call);
    auto peer = TRY(of(call));
    if (peer.agent_of.empty())
        return fail(
            Errc::permission_denied,
            "{} asks in the name of {}, and only the agent of a host may, for the host's users; ask in "
            "your own name",
            pool::limited(peer.caller.user), pool::limited(on_behalf_of));
    const bool readable = std::all_of(on_behalf_of.begin(), on_behalf_of.end(), [](char c) {
        return static_cast<unsigned char>(c) > ' ' && c != 0x7f;
    });
    if (on_behalf_of.size() > pool::longest_name || !readable)
        return fail(Errc::invalid_argument, "'{}' cannot be a user's name: it takes 1 to {} bytes, no spaces",
                    pool::limited(on_behalf_of, pool::longest_name), pool::longest_name);
    // Nobody is more than a user by an agent's word, not even whoever runs it.
    peer.caller = {on_behalf_of, false, pool::Role::user, peer.agent_of};
    return peer;
}

Result<Peer> Peers::onlooker(const grpc::ServerContextBase& call) const {
    auto peer = TRY(of(call));
    if (peer.certificate && peer.certificate->role == pki::Role::agent) return peer;
    return person(call);
}

Result<Peer> Peers::by_token(const grpc::ServerContextBase& call) const {
    const auto& metadata = call.client_metadata();
    const auto found = metadata.find(api::token_key);
    if (found == metadata.end())
        return fail(Errc::permission_denied,
                    "the call does not say whose it is: connect to SOCKET.id first and send what is read "
                    "there as '{}'",
                    api::token_key);
    const std::lock_guard lock(mutex_);
    const auto user = users_.find(std::string_view(found->second.data(), found->second.size()));
    if (user == users_.end())
        return fail(Errc::permission_denied, "the call's '{}' is nobody's: connect to SOCKET.id again",
                    api::token_key);
    const bool owner = is_owner(user->second);
    return Peer{{user_name(user->second), owner, {}, {}}, owner ? "*" : "", {}};
}

} // namespace lanepool::controller
