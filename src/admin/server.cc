// SPDX-License-Identifier: Apache-2.0
#include "admin/server.h"

#include "io/unix_socket.h"

#include <array>
#include <list>
#include <map>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <unistd.h>

namespace lanepool::admin {

namespace {

constexpr size_t max_request_bytes = 64 << 10;
constexpr size_t max_answer_bytes = 16 << 20;
constexpr size_t max_clients = 16;

Json failure(const Error& error) {
    return {{"ok", false}, {"code", name(error.code())}, {"error", error.message()}};
}

} // namespace

class Server::Impl {
  public:
    Impl(io::EventLoop& loop, std::filesystem::path path, UniqueFd listener)
        : loop_(loop), path_(std::move(path)), listener_(std::move(listener)) {}
    ~Impl() { ::unlink(path_.c_str()); }

    Result<> start() {
        accepting_ = TRY(loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { accept(); }));
        return {};
    }
    void add(std::string name, Command command) { commands_[std::move(name)] = std::move(command); }

  private:
    struct Session {
        UniqueFd socket;
        std::string input;
        std::string output;
        io::EventLoop::Registration watch; // before the descriptor goes
    };
    using Handle = std::list<Session>::iterator;

    void accept() {
        auto socket = io::accept_unix(listener_);
        if (!socket || sessions_.size() >= max_clients)
            return; // closed at once: the caller sees `disconnected`
        const auto session = sessions_.insert(sessions_.end(), Session{std::move(*socket), {}, {}, {}});
        auto watch = loop_.watch(session->socket.get(), EPOLLIN,
                                 [this, session](uint32_t events) { ready(session, events); });
        if (watch)
            session->watch = std::move(*watch);
        else
            sessions_.erase(session);
    }

    void ready(Handle session, uint32_t events) {
        if ((events & EPOLLOUT) && !flush(session)) return;
        if (events & ~static_cast<uint32_t>(EPOLLOUT)) receive(session);
    }

    void receive(Handle session) {
        std::array<std::byte, 4096> buffer;
        const auto received = io::receive(session->socket.get(), buffer);
        if (!received && received.error().code() == Errc::unavailable) return;
        if (!received || received->bytes == 0) {
            sessions_.erase(session);
            return;
        }
        session->input.append(reinterpret_cast<const char*>(buffer.data()), received->bytes);
        for (size_t end; (end = session->input.find('\n')) != std::string::npos;) {
            session->output += answer(std::string_view(session->input).substr(0, end))
                                   .dump(-1, ' ', false, Json::error_handler_t::replace) +
                               "\n";
            session->input.erase(0, end + 1);
        }
        if (session->input.size() > max_request_bytes || session->output.size() > max_answer_bytes) {
            spdlog::warn("a client of {} sent too much at once, or does not read its answers",
                         path_.string());
            sessions_.erase(session);
            return;
        }
        flush(session);
    }

    // False: the session is gone.
    bool flush(Handle session) {
        while (!session->output.empty()) {
            const auto sent = io::send(session->socket.get(), std::as_bytes(std::span(session->output)));
            if (!sent && sent.error().code() == Errc::unavailable) break;
            if (!sent) {
                sessions_.erase(session);
                return false;
            }
            session->output.erase(0, *sent);
        }
        const uint32_t wanted = session->output.empty() ? uint32_t{EPOLLIN} : uint32_t{EPOLLIN | EPOLLOUT};
        if (!loop_.change(session->watch, wanted)) {
            sessions_.erase(session);
            return false;
        }
        return true;
    }

    Json answer(std::string_view line) {
        const Json request = Json::parse(line, nullptr, false);
        if (!request.is_object() || !request.contains("command") || !request["command"].is_string())
            return failure({Errc::invalid_argument,
                            R"(a request is one JSON object a line, such as {"command": "ping"})"});
        const auto name = request["command"].get<std::string>();
        if (name == "ping") return {{"ok", true}};
        const auto command = commands_.find(name);
        if (command == commands_.end()) {
            std::string known = "ping";
            for (const auto& [other, unused] : commands_)
                known += ", " + other;
            return failure(
                {Errc::not_found, fmt::format("there is no command '{}'; there are: {}", name, known)});
        }
        auto result = command->second(request);
        if (!result) return failure(result.error());
        (*result)["ok"] = true;
        return *result;
    }

    io::EventLoop& loop_;
    const std::filesystem::path path_;
    UniqueFd listener_;
    std::map<std::string, Command> commands_;
    std::list<Session> sessions_;
    io::EventLoop::Registration accepting_; // before the descriptor goes
};

Result<std::unique_ptr<Server>> Server::create(io::EventLoop& loop, const std::filesystem::path& path) {
    auto impl = std::make_unique<Impl>(loop, path, TRY(io::listen_unix(path, 0600)));
    TRY(impl->start());
    return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;
void Server::add(std::string name, Command command) { impl_->add(std::move(name), std::move(command)); }

Result<Json> call(const std::filesystem::path& path, const Json& request, io::Duration timeout) {
    const auto socket = TRY(io::connect_unix(path));
    const std::string line = request.dump() + "\n";
    auto data = std::as_bytes(std::span(line));
    while (!data.empty())
        data = data.subspan(TRY(io::send(socket.get(), data)));

    const auto deadline = io::system_clock().now() + timeout;
    std::string input;
    while (input.find('\n') == std::string::npos) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(deadline - io::system_clock().now()).count();
        pollfd ready{socket.get(), POLLIN, 0};
        if (left <= 0 || ::poll(&ready, 1, static_cast<int>(left)) == 0)
            return fail(Errc::timeout, "{} does not answer", path.string());
        std::array<std::byte, 65536> buffer;
        const auto received = TRY(io::receive(socket.get(), buffer));
        if (received.bytes == 0)
            return fail(Errc::disconnected, "{} has closed the connection", path.string());
        input.append(reinterpret_cast<const char*>(buffer.data()), received.bytes);
        if (input.size() > max_answer_bytes)
            return fail(Errc::protocol, "the answer of {} is too long", path.string());
    }
    Json answer = Json::parse(input, nullptr, false);
    if (!answer.is_object() || !answer.contains("ok") || !answer["ok"].is_boolean())
        return fail(Errc::protocol, "{} answered something else than a result", path.string());
    if (!answer["ok"].get<bool>())
        return tl::unexpected(Error(code_named(answer.value("code", "")).value_or(Errc::internal),
                                    answer.value("error", "without a reason")));
    answer.erase("ok");
    return answer;
}

} // namespace lanepool::admin
