// SPDX-License-Identifier: Apache-2.0
#include "application/server.h"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <unistd.h>

namespace lanepool::application {

using namespace std::chrono_literals;

namespace {
constexpr size_t max_refused = 64; // at one time
}

Result<std::unique_ptr<Server>> Server::create(io::EventLoop& loop, const ServerOptions& options) {
    auto users = TRY(Users::parse(options.users));
    // Anybody may connect to it where there are several users: who they are is looked at afterwards.
    auto listener =
        TRY(io::listen_unix(options.socket, users.only_owner() ? 0600 : 0666, io::SocketKind::packets));
    auto server = std::unique_ptr<Server>(new Server(loop, options, std::move(users), std::move(listener)));
    TRY(server->listen());
    return server;
}

Server::~Server() { ::unlink(options_.socket.c_str()); }

Result<> Server::listen() {
    watch_ = TRY(loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { accept(); }));
    return {};
}

void Server::accept() {
    auto socket = io::accept_unix(listener_);
    if (!socket) {
        if (socket.error().code() == Errc::unavailable) return;
        spdlog::warn("applications: {}; trying again in a second", socket.error().message());
        watch_.reset(); // the listener stays ready: do not turn in a circle
        retry_ = loop_.after(1s, [this] {
            if (const auto listening = listen(); !listening)
                spdlog::error("applications: {}", listening.error().message());
        });
        return;
    }
    if (const auto opened = open_session(std::move(*socket)); !opened)
        spdlog::warn("an application was sent away: {}", opened.error().message());
}

Result<> Server::open_session(UniqueFd socket) {
    const auto who = TRY(io::peer_credentials(socket));
    if (!users_.allowed(who.uid))
        return refuse(
            std::move(socket),
            Error(Errc::permission_denied,
                  fmt::format("user {} may not use this host's agent; its option --application-users "
                              "says who may",
                              user_name(who.uid))));
    if (!host_)
        return refuse(std::move(socket), Error(Errc::unavailable, "this host is not on the fabric now"));
    if (!host_->has_room())
        return refuse(
            std::move(socket),
            Error(Errc::no_space, fmt::format("{} sessions are open, which is the limit", max_sessions)));
    return host_->add_session(std::move(socket), user_name(who.uid));
}

Result<> Server::refuse(UniqueFd socket, Error why) {
    if (refused_.size() >= max_refused) return tl::unexpected(std::move(why)); // without a word
    const uint64_t id = next_refused_++;
    const int number = socket.get();
    auto& refused = refused_.emplace(id, Refused{std::move(socket), std::move(why), {}, {}}).first->second;
    refused.deadline = loop_.after(1s, [this, id] { refused_.erase(id); });
    auto watch = loop_.watch(number, EPOLLIN, [this, id](uint32_t) { answer_refused(id); });
    if (watch) refused.watch = std::move(*watch);
    return {};
}

void Server::answer_refused(uint64_t id) {
    const auto refused = refused_.extract(id);
    const auto call = session::receive(refused.mapped().socket.get());
    const Error& why = refused.mapped().why;
    if (const auto number = call ? session::get_number(call->body, "id") : tl::unexpected(call.error())) {
        [[maybe_unused]] const auto sent = session::send(
            refused.mapped().socket.get(),
            Fields{{"id", *number}, {"ok", false}, {"code", name(why.code())}, {"error", why.message()}});
    }
}

void Server::fabric_up(ntb::Adapter& adapter, ntb::Channel& channel) {
    host_ = std::make_unique<Host>(loop_, adapter, channel, options_.host, options_.controller,
                                   options_.broken, options_.look_interval);
}

void Server::fabric_down() { host_.reset(); }

void Server::peer_changed(ntb::Partition peer, bool alive) {
    if (host_) host_->peer_changed(peer, alive);
}

void Server::serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply) {
    if (!host_) return reply(fail(Errc::unavailable, "this host is not on the fabric now"));
    host_->serve(from, kind, std::move(body), std::move(reply));
}

void Server::attach(const AttachOrder& order, DeviceUse::Done done) {
    if (!host_) return done(fail(Errc::unavailable, "this host is not on the fabric now"));
    host_->devices().attach(order, std::move(done));
}

void Server::detach(uint64_t loan, DeviceUse::Done done) {
    if (!host_) return done({});
    host_->devices().detach(loan, std::move(done));
}

std::vector<Devices::Loan> Server::loans() const {
    return host_ ? host_->devices().loans() : std::vector<Devices::Loan>{};
}

session::Json Server::counts() const { return host_ ? host_->counts() : session::Json::object(); }

} // namespace lanepool::application
