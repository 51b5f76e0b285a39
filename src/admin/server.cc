// SPDX-License-Identifier: Apache-2.0
#include "admin/server.h"

#include "io/unix_socket.h"

#include <map>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <unistd.h>

namespace lanepool::admin {

namespace {
constexpr size_t max_request_bytes = 64 << 10;
constexpr size_t max_clients = 16;
// Without a request for so long, or without reading its answer, a client makes room for others.
constexpr io::Duration idle_timeout = std::chrono::seconds(60);

std::string line_of(const Json& answer) {
    // What somebody else's device says of itself may be in any encoding.
    return answer.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json refusal(const Error& error) {
    return {{"ok", false}, {"code", name(error.code())}, {"error", error.message()}};
}
} // namespace

class Server::Impl {
  public:
    Impl(io::EventLoop& loop, std::filesystem::path path, UniqueFd listener)
        : loop_(loop), path_(std::move(path)), listener_(std::move(listener)) {}
    ~Impl() { ::unlink(path_.c_str()); }

    Result<> listen() {
        watch_ = TRY(loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { accept(); }));
        return {};
    }
    void add(std::string name, Command command) {
        commands_.insert_or_assign(std::move(name), std::move(command));
    }

  private:
    struct Peer {
        UniqueFd socket;
        std::string input;
        std::string output; // while there is some, no further request is read
        bool finished = false;
        io::EventLoop::Registration watch;
        io::EventLoop::Registration idle_timer;
    };

    void accept();
    void ready(uint64_t id, uint32_t events);
    bool receive(Peer& peer);
    void handle_lines(Peer& peer);
    bool flush(Peer& peer);
    void restart_idle_timer(uint64_t id, Peer& peer);
    Json answer(std::string_view line);
    Result<Json> run(const Json& request);

    io::EventLoop& loop_;
    std::filesystem::path path_;
    UniqueFd listener_;
    io::EventLoop::Registration watch_;
    io::EventLoop::Registration retry_;
    std::map<std::string, Command> commands_;
    uint64_t next_id_ = 1;
    std::map<uint64_t, Peer> peers_;
};

void Server::Impl::accept() {
    auto socket = io::accept_unix(listener_);
    if (!socket) {
        if (socket.error().code() == Errc::unavailable) return;
        spdlog::warn("admin: {}; trying again in a second", socket.error().message());
        watch_.reset(); // the listener stays ready: do not turn in a circle
        retry_ = loop_.after(std::chrono::seconds(1), [this] {
            if (const auto listening = listen(); !listening)
                spdlog::error("admin: {}", listening.error().message());
        });
        return;
    }
    if (peers_.size() >= max_clients) {
        const auto text = line_of(refusal(
            Error(Errc::busy, fmt::format("{} clients are being served; try again later", peers_.size()))));
        [[maybe_unused]] const auto sent = io::send(socket->get(), std::as_bytes(std::span(text)));
        return;
    }
    const uint64_t id = next_id_++;
    auto& peer = peers_[id];
    peer.socket = std::move(*socket);
    auto watch = loop_.watch(peer.socket.get(), EPOLLIN, [this, id](uint32_t events) { ready(id, events); });
    if (!watch) {
        spdlog::warn("admin: {}", watch.error().message());
        peers_.erase(id);
        return;
    }
    peer.watch = std::move(*watch);
    restart_idle_timer(id, peer);
}

void Server::Impl::restart_idle_timer(uint64_t id, Peer& peer) {
    peer.idle_timer = loop_.after(idle_timeout, [this, id] { peers_.erase(id); });
}

void Server::Impl::ready(uint64_t id, uint32_t events) {
    const auto found = peers_.find(id);
    if (found == peers_.end()) return;
    auto& peer = found->second;
    bool alive = true;
    if (peer.output.empty() && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) alive = receive(peer);
    if (alive) {
        handle_lines(peer);
        alive = flush(peer);
    }
    if (!alive || (peer.finished && peer.output.empty())) {
        peers_.erase(id);
        return;
    }
    restart_idle_timer(id, peer);
    [[maybe_unused]] const auto changed = loop_.change(peer.watch, peer.output.empty() ? EPOLLIN : EPOLLOUT);
}

// Whether the client is worth keeping.
bool Server::Impl::receive(Peer& peer) {
    std::byte buffer[4096];
    const auto received = io::receive(peer.socket.get(), buffer); // descriptors, if any, are closed with it
    if (!received) return received.error().code() == Errc::unavailable;
    if (received->bytes == 0) peer.finished = true;
    peer.input.append(reinterpret_cast<const char*>(buffer), received->bytes);
    return true;
}

void Server::Impl::handle_lines(Peer& peer) {
    // One at a time: an answer that is not read holds up the next request, not us.
    while (peer.output.empty()) {
        const auto end = peer.input.find('\n');
        if (end == std::string::npos) {
            if (peer.input.size() < max_request_bytes) return;
            peer.output = line_of(refusal(Error(
                Errc::invalid_argument, fmt::format("a request has at most {} bytes", max_request_bytes))));
            peer.input.clear();
            peer.finished = true;
            return;
        }
        peer.output = line_of(answer(std::string_view(peer.input).substr(0, end)));
        peer.input.erase(0, end + 1);
        if (!flush(peer)) return;
    }
}

bool Server::Impl::flush(Peer& peer) {
    while (!peer.output.empty()) {
        const auto sent = io::send(peer.socket.get(), std::as_bytes(std::span(peer.output)));
        if (!sent) return sent.error().code() == Errc::unavailable;
        peer.output.erase(0, *sent);
    }
    return true;
}

Json Server::Impl::answer(std::string_view line) {
    const Json request = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!request.is_object())
        return refusal(Error(Errc::invalid_argument, "a request is one JSON object on one line"));
    Result<Json> result;
    try { // a command that takes what it needs from the request with at() need not check each type
        result = run(request);
    } catch (const Json::exception& error) {
        result = fail(Errc::invalid_argument, "the request does not have what it should: {}", error.what());
    }
    if (!result) return refusal(result.error());
    Json answer = result->is_object() ? std::move(*result) : Json::object();
    answer["ok"] = true;
    return answer;
}

Result<Json> Server::Impl::run(const Json& request) {
    const auto command = request.at("command").get<std::string>();
    if (command == "ping") return Json::object();
    const auto found = commands_.find(command);
    if (found != commands_.end()) {
        const Command run = found->second; // survives being replaced by itself
        return run(request);
    }
    std::string known = "ping";
    for (const auto& [other, unused] : commands_)
        known += ", " + other;
    return fail(Errc::not_found, "there is no command '{}'; there are: {}", command, known);
}

Result<std::unique_ptr<Server>> Server::create(io::EventLoop& loop, const std::filesystem::path& path) {
    auto listener = TRY(io::listen_unix(path, 0600));
    auto impl = std::make_unique<Impl>(loop, path, std::move(listener));
    TRY(impl->listen());
    return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;
void Server::add(std::string name, Command command) { impl_->add(std::move(name), std::move(command)); }

} // namespace lanepool::admin
