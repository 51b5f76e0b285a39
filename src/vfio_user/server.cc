// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/server.h"

#include "io/unix_socket.h"
#include "vfio_user/session.h"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <unistd.h>

namespace lanepool::vfio_user {

class Server::Impl {
  public:
    Impl(io::EventLoop& loop, std::filesystem::path path, Handler& handler, ServerOptions options,
         UniqueFd listener)
        : loop_(loop), path_(std::move(path)), handler_(handler), options_(options),
          listener_(std::move(listener)) {}
    ~Impl() {
        if (session_) session_->close();
        ::unlink(path_.c_str());
    }

    Result<> listen() {
        watch_ = TRY(loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { accept(); }));
        return {};
    }

    bool has_client() const { return session_ != nullptr; }
    void drop_client() {
        if (const auto session = session_) session->drop(Error(Errc::cancelled, "the server let it go"));
    }
    const ServerStats& stats() const { return stats_; }

  private:
    void accept() {
        auto socket = io::accept_unix(listener_);
        if (!socket) {
            if (socket.error().code() == Errc::unavailable) return;
            // Out of descriptors, most likely. The connection stays in the backlog and the listener ready,
            // so take a break instead of turning in a circle.
            spdlog::warn("vfio-user: {}: {}; trying again in a second", path_.string(),
                         socket.error().message());
            watch_.reset();
            retry_ = loop_.after(std::chrono::seconds(1), [this] {
                if (const auto listening = listen(); !listening)
                    spdlog::error("vfio-user: {}: {}; no client can connect any more", path_.string(),
                                  listening.error().message());
            });
            return;
        }
        // A client that died a moment ago does not keep the next one out.
        if (session_ && session_->peer_has_gone())
            session_->drop(Error(Errc::disconnected, "the other side closed the connection"));
        if (session_) {
            spdlog::info("vfio-user: {}: refused a second client", path_.string());
            return;
        }
        auto session = Session::create({loop_, handler_, options_, stats_,
                                        [this](Session& ended) {
                                            if (session_.get() == &ended) session_.reset();
                                        }},
                                       std::move(*socket));
        if (session)
            session_ = std::move(*session);
        else
            spdlog::warn("vfio-user: {}: {}", path_.string(), session.error().message());
    }

    io::EventLoop& loop_;
    std::filesystem::path path_;
    Handler& handler_;
    ServerOptions options_;
    ServerStats stats_;
    UniqueFd listener_;
    io::EventLoop::Registration watch_;
    io::EventLoop::Registration retry_;
    std::shared_ptr<Session> session_;
};

Result<std::unique_ptr<Server>> Server::create(io::EventLoop& loop, const std::filesystem::path& path,
                                               Handler& handler, ServerOptions options) {
    auto listener = TRY(io::listen_unix(path));
    auto impl = std::make_unique<Impl>(loop, path, handler, options, std::move(listener));
    TRY(impl->listen());
    return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;
bool Server::has_client() const { return impl_->has_client(); }
void Server::drop_client() { impl_->drop_client(); }
const ServerStats& Server::stats() const { return impl_->stats(); }

} // namespace lanepool::vfio_user
