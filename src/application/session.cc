// SPDX-License-Identifier: Apache-2.0
#include "application/session.h"

#include "application/host.h"
#include "session/protocol.h"

#include <algorithm>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>

namespace lanepool::application {

using session::Json;
using session::Message;

namespace {
constexpr size_t max_calls_under_way = 64;
// What waits for a process that does not read: after that it has had its chance.
constexpr size_t max_output = 1024;
// Taken at one time, so that one process's flood does not keep the others waiting.
constexpr int max_calls_a_turn = 16;

Fields refusal(uint64_t id, const Error& error) {
    return {{"id", id}, {"ok", false}, {"code", name(error.code())}, {"error", error.message()}};
}
} // namespace

// ---- Life

Session::Session(Host& host, uint64_t id, UniqueFd socket, std::string user)
    : host_(host), id_(id), socket_(std::move(socket)), user_(std::move(user)),
      self_(std::make_shared<Session*>(this)) {}

Session::~Session() {
    self_.reset(); // nothing is answered any more
    std::vector<std::shared_ptr<DeviceUse>> uses;
    for (const auto& [handle, device] : devices_)
        uses.push_back(device.use);
    host_.devices().abandon(std::move(uses), user_, peer_mappings());
    for (auto& [handle, held] : connections_)
        if (held.window) host_.fabric().errands.dispose(std::move(held.window));
    connections_.clear(); // those that a device reaches are closed when it does not any more
    for (auto& [handle, interrupt] : interrupts_)
        host_.showing().withdraw(*interrupt);
    for (auto& [handle, segment] : segments_)
        host_.showing().withdraw(*segment);
}

Result<> Session::start() {
    watch_ =
        TRY(host_.fabric().loop.watch(socket_.get(), EPOLLIN, [this](uint32_t events) { ready(events); }));
    return {};
}

void Session::end(const Error& why) {
    if (std::exchange(ended_, true)) return;
    if (why.code() != Errc::disconnected)
        spdlog::warn("the session of {} is ended: {}", user_, why.message());
    watch_.reset();
    host_.end_session(id_);
}

// ---- The socket

void Session::ready(uint32_t events) {
    if (events & EPOLLOUT)
        if (const auto sent = flush(); !sent) return end(sent.error());
    for (int i = 0; i < max_calls_a_turn && output_.empty() && !ended_; ++i) {
        const auto received = receive_one();
        if (!received) return end(received.error());
        if (!*received) break;
    }
    // A process that has gone while answers wait for it.
    if (!output_.empty() && (events & (EPOLLHUP | EPOLLERR)))
        end(Error(Errc::disconnected, "it has closed the connection"));
}

Result<bool> Session::receive_one() {
    auto message = session::receive(socket_.get());
    if (!message) {
        if (message.error().code() == Errc::unavailable) return false;
        return tl::unexpected(std::move(message).error());
    }
    TRY(take(std::move(*message)));
    return true;
}

// An error ends the session.
Result<> Session::take(Message message) {
    const uint64_t id = TRY(session::get_number(message.body, "id"));
    const std::string name = TRY(session::get_text(message.body, "call"));
    const Handler handle = handler(name);
    const auto refuse = [&](Errc code, std::string why) {
        ++under_way_; // as any answer takes it off again
        reply_to(id)(tl::unexpected(Error(code, std::move(why))));
    };
    if (under_way_ >= max_calls_under_way)
        refuse(Errc::no_space, fmt::format("{} calls are under way, which is the limit", under_way_));
    else if (!greeted_ && name != "hello")
        refuse(Errc::failed_precondition, "a session begins with hello");
    else if (!handle)
        refuse(Errc::not_supported, fmt::format("there is no call '{}'", name.substr(0, 64)));
    else {
        ++under_way_;
        const auto reply = reply_to(id);
        if (auto taken = (this->*handle)(message, reply); !taken)
            reply(tl::unexpected(std::move(taken).error()));
    }
    return {};
}

Session::Reply Session::reply_to(uint64_t id) {
    return [weak = std::weak_ptr(self_), id](Result<Answer> answer) {
        const auto self = weak.lock();
        if (!self) return;
        --(*self)->under_way_;
        if (!answer) return (*self)->send({refusal(id, answer.error()), {}});
        answer->fields["id"] = id;
        answer->fields["ok"] = true;
        (*self)->send({std::move(answer->fields), std::move(answer->fds)});
    };
}

void Session::event(Fields fields, std::vector<SharedFd> fds) { send({std::move(fields), std::move(fds)}); }

void Session::send(Outgoing message) {
    if (ended_) return;
    if (output_.size() >= max_output) return end(Error(Errc::no_space, "it does not read what it is sent"));
    output_.push_back(std::move(message));
    if (output_.size() > 1) return;
    if (const auto sent = flush(); !sent) end(sent.error());
}

Result<> Session::flush() {
    while (!output_.empty()) {
        const Outgoing& next = output_.front();
        std::vector<int> fds;
        for (const auto& fd : next.fds)
            fds.push_back(fd->get());
        auto sent = session::send(socket_.get(), next.fields, fds);
        if (const auto id = next.fields.find("id");
            !sent && sent.error().code() == Errc::no_space && id != next.fields.end()) // too long
            sent = session::send(socket_.get(), refusal(id->second.get<uint64_t>(), sent.error()));
        if (!sent && sent.error().code() == Errc::unavailable) break; // later
        TRY(sent);
        output_.pop_front();
    }
    // A level-triggered wait for room would turn in a circle while there is nothing to send.
    if (watch_ && waits_for_room_ == output_.empty()) {
        waits_for_room_ = !output_.empty();
        TRY(host_.fabric().loop.change(watch_, waits_for_room_ ? EPOLLOUT : EPOLLIN));
    }
    return {};
}

// ---- Calls about the host

Session::Handler Session::handler(const std::string& name) {
    static const std::map<std::string, Handler, std::less<>> handlers = {
        {"hello", &Session::hello},
        {"nodes", &Session::nodes},
        {"probe", &Session::probe},
        {"segment_create", &Session::segment_create},
        {"segment_attach", &Session::segment_attach},
        {"segment_available", &Session::segment_available},
        {"segment_remove", &Session::segment_remove},
        {"segment_connect", &Session::segment_connect},
        {"disconnect", &Session::disconnect},
        {"interrupt_create", &Session::interrupt_create},
        {"interrupt_remove", &Session::interrupt_remove},
        {"interrupt_connect", &Session::interrupt_connect},
        {"device_list", &Session::device_list},
        {"device_borrow", &Session::device_borrow},
        {"device_return", &Session::device_return},
        {"device_bar", &Session::device_bar},
        {"register_read", &Session::register_read},
        {"register_write", &Session::register_write},
        {"device_segment_create", &Session::device_segment_create},
        {"device_segment_remove", &Session::device_segment_remove},
        {"device_segment", &Session::device_segment},
        {"device_map", &Session::device_map},
        {"device_unmap", &Session::device_unmap},
        {"device_interrupt", &Session::device_interrupt},
        {"requester_register", &Session::requester_register},
        {"requester_unregister", &Session::requester_unregister},
    };
    const auto found = handlers.find(name);
    return found == handlers.end() ? nullptr : found->second;
}

Result<> Session::hello(Message& call, Reply reply) {
    const auto version = TRY(session::get_number(call.body, "version"));
    if (version != session::protocol_version)
        return fail(Errc::not_supported, "the library speaks version {}, the agent {}: install the same",
                    version, session::protocol_version);
    greeted_ = true;
    reply(Answer{{{"version", session::protocol_version},
                  {"host", host_.name()},
                  {"node", host_.fabric().own.value},
                  {"user", user_},
                  {"nodes", node_list()}},
                 {}});
    return {};
}

Result<> Session::nodes(Message&, Reply reply) {
    reply(Answer{{{"nodes", node_list()}}, {}});
    return {};
}

Json Session::node_list() const {
    const Fabric& fabric = host_.fabric();
    auto all = fabric.adapter.peers();
    all.push_back(fabric.own);
    std::ranges::sort(all);
    Json list = Json::array();
    for (const auto node : all)
        list.push_back({{"node", node.value}, {"alive", fabric.reaches(node)}});
    return list;
}

Result<> Session::probe(Message& call, Reply reply) {
    const auto number = TRY(session::get_number(call.body, "node"));
    const Fabric& fabric = host_.fabric();
    const auto peers = fabric.adapter.peers();
    if (number != fabric.own.value &&
        std::ranges::none_of(peers, [&](const auto peer) { return peer.value == number; }))
        return fail(Errc::not_found, "there is no node {}", number);
    if (!fabric.reaches({static_cast<uint8_t>(number)}))
        return fail(Errc::unavailable, "node {} does not answer", number);
    reply(Answer{});
    return {};
}

// ---- What several calls need

void add_extents(Session::Answer& answer, const std::vector<pci::Extent>& extents) {
    Json list = Json::array();
    for (const auto& extent : extents) {
        list.push_back({{"offset", extent.offset_bytes},
                        {"size", extent.memory.size_bytes},
                        {"fd_offset", extent.memory.offset_bytes}});
        answer.fds.push_back(extent.memory.fd);
    }
    answer.fields["extents"] = std::move(list);
}

Result<uint32_t> get_number32(const Json& body, const char* field) {
    const auto number = TRY(session::get_number(body, field));
    if (number > UINT32_MAX) return fail(Errc::invalid_argument, "{} is {}, above 32 bits", field, number);
    return static_cast<uint32_t>(number);
}

} // namespace lanepool::application
