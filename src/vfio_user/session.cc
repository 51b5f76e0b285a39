// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/session.h"

#include <spdlog/spdlog.h>

namespace lanepool::vfio_user {

using wire::Command;

Result<std::shared_ptr<Session>> Session::create(Environment environment, UniqueFd socket) {
    std::shared_ptr<Session> session(new Session(std::move(environment)));
    const std::weak_ptr<Session> weak = session;
    session->connection_ = TRY(Connection::create(session->environment_.loop, std::move(socket),
                                                  {.message =
                                                       [weak](Message message) {
                                                           if (const auto self = weak.lock())
                                                               self->on_message(std::move(message));
                                                       },
                                                   .closed =
                                                       [weak](const Error& why) {
                                                           if (const auto self = weak.lock()) self->end(why);
                                                       },
                                                   .drained =
                                                       [weak] {
                                                           if (const auto self = weak.lock())
                                                               self->update_pause();
                                                       }}));
    session->handshake_timer_ = session->environment_.loop.after(handshake_timeout, [weak] {
        if (const auto self = weak.lock())
            self->drop(Error(Errc::timeout, "the client did not say its version in time"));
    });
    return session;
}

void Session::drop(const Error& why) {
    const auto self = shared_from_this();
    connection_->close();
    end(why);
}

void Session::close() {
    ended_ = true;
    connection_->close();
    pending_.clear();
    reply_timer_.reset();
    handshake_timer_.reset();
    dma_queue_.clear();
}

void Session::end(const Error& why) {
    if (ended_) return;
    const auto self = shared_from_this();
    spdlog::debug("vfio-user: a client has gone: {}", why.message());
    close();
    if (std::exchange(running_, false)) environment_.handler.disconnected();
    // After disconnected(): who waits for an answer may have been cleaned up by it.
    if (dma_requests_) dma_requests_->abandon(Error(Errc::disconnected, "the client has gone"));
    environment_.ended(*self);
}

void Session::on_message(Message message) {
    if (ended_) return;
    if (!running_) {
        if (const auto agreed = negotiate(message); !agreed) {
            if (!message.header.is_reply())
                connection_->send(
                    wire::encode_error(message.header.id, message.header.command, agreed.error()));
            drop(agreed.error());
        }
        return;
    }
    if (message.header.is_reply()) {
        if (const auto known = dma_requests_->on_reply(message); !known && !ended_) drop(known.error());
        return;
    }
    // The least that an answer takes, and for a read its data.
    size_t reserved_bytes = 64;
    if (message.header.command == static_cast<uint16_t>(Command::region_read)) {
        std::span<const std::byte> payload = message.payload;
        if (const auto access = wire::take<wire::RegionAccess>(payload))
            reserved_bytes += std::min<uint32_t>(access->count, wire::max_data_bytes);
    }
    const Ticket ticket = open_ticket(message.header, reserved_bytes);
    if (const auto error = refusal(message))
        answer(ticket, tl::unexpected<Error>(*error));
    else
        dispatch({ticket, std::move(message)});
    if (!ended_) update_pause();
}

Result<> Session::negotiate(const Message& message) {
    std::span<const std::byte> payload = message.payload;
    if (message.header.is_reply() || message.header.command != static_cast<uint16_t>(Command::version))
        return fail(Errc::protocol, "the first message is command {}, not the version",
                    uint16_t{message.header.command});
    const auto version = TRY(wire::take<wire::Version>(payload));
    if (version.major != wire::version_major)
        return fail(Errc::not_supported, "the client speaks protocol version {}.{}, supported is {}.{}",
                    uint16_t{version.major}, uint16_t{version.minor}, wire::version_major,
                    wire::version_minor);
    client_ = TRY(parse_capabilities(payload));
    server_ = server_capabilities(client_, environment_.options.fresh_memory_on_reset);
    handshake_timer_.reset();
    running_ = true;
    dma_requests_.emplace(environment_.loop, environment_.options.reply_timeout,
                          std::min(client_.max_data_xfer_bytes, wire::max_data_bytes),
                          [this](std::vector<std::byte> bytes) { connection_->send(std::move(bytes)); });
    // "Equal to or less than the minor version proposed": there is nothing below ours.
    Payload reply = Payload::of(wire::Version{wire::version_major, wire::version_minor});
    const std::string json = to_json(server_);
    reply.append(std::as_bytes(std::span(json)));
    send_reply(message.header.id, message.header.command, std::move(reply));
    ++environment_.stats.other;
    // After the reply, so that nothing the function sends from here comes before it.
    environment_.handler.connected(*this);
    return {};
}

// What would be wrong with any command, whichever it is.
std::optional<Error> Session::refusal(const Message& message) const {
    if (message.fds_lost)
        return Error(Errc::no_space, "descriptors of a message were lost: too many are open");
    const auto command = static_cast<Command>(uint16_t{message.header.command});
    const bool takes_fds = command == Command::dma_map || command == Command::device_set_irqs;
    if (!takes_fds && !message.fds.empty())
        return Error(Errc::invalid_argument,
                     fmt::format("command {} takes no descriptors, {} came", uint16_t{message.header.command},
                                 message.fds.size()));
    return std::nullopt;
}

void Session::dispatch(Request request) {
    auto& stats = environment_.stats;
    const Ticket ticket = request.ticket;
    const auto payload = request.payload();
    // For commands whose answer comes from the handler: only a refusal is answered here.
    const auto refuse = [&](Result<> accepted) {
        if (!accepted) answer(ticket, tl::unexpected<Error>(std::move(accepted).error()));
    };
    const auto command = static_cast<Command>(uint16_t{request.message.header.command});
    switch (command) {
    case Command::region_read:
        ++stats.region_reads;
        return refuse(region_read(request));
    case Command::region_write:
        ++stats.region_writes;
        return refuse(region_write(request));
    case Command::region_write_multi:
        ++stats.region_writes;
        return refuse(region_write_multi(request));
    default:
        ++stats.other;
    }
    switch (command) {
    case Command::dma_map:
    case Command::dma_unmap:
        return queue_dma(std::move(request));
    case Command::device_get_info:
        return answer(ticket, device_info(payload));
    case Command::device_get_region_info:
        return answer(ticket, region_info(payload));
    case Command::device_get_region_io_fds:
        return answer(ticket, region_io_fds(payload));
    case Command::device_get_irq_info:
        return answer(ticket, irq_info(payload));
    case Command::device_set_irqs:
        return refuse(set_irqs(request));
    case Command::device_reset:
        return reset(request);
    case Command::lanepool_region_memory:
        if (speaks_lanepool()) return answer(ticket, lanepool_region_memory(payload));
        break;
    case Command::lanepool_region_event:
        if (speaks_lanepool()) return answer(ticket, lanepool_region_event(payload));
        break;
    default:
        break;
    }
    answer(ticket, fail(Errc::not_supported, "command {} is not supported",
                        uint16_t{request.message.header.command}));
}

Session::Ticket Session::open_ticket(const wire::Header& header, size_t reserved_bytes) {
    const Ticket ticket = next_ticket_++;
    pending_.emplace(ticket, Pending{header.id, header.command, header.wants_reply(), reserved_bytes,
                                     environment_.loop.clock().now() + environment_.options.reply_timeout});
    reserved_bytes_ += reserved_bytes;
    return ticket;
}

void Session::answer(Ticket ticket, Result<Payload> result) {
    const auto found = pending_.find(ticket);
    if (found == pending_.end()) return; // the client has gone, or was told of a time-out
    const Pending pending = found->second;
    pending_.erase(found);
    reserved_bytes_ -= pending.reserved_bytes;
    if (!result) spdlog::debug("vfio-user: command {} failed: {}", pending.command, result.error().message());
    if (pending.wants_reply) {
        if (result)
            send_reply(pending.id, pending.command, std::move(*result));
        else
            connection_->send(wire::encode_error(pending.id, pending.command, result.error()));
    }
    update_pause();
}

void Session::send_reply(uint16_t id, uint16_t command, Payload payload) {
    wire::Header header{};
    header.id = id;
    header.command = command;
    header.flags = wire::flags::reply;
    connection_->send(wire::encode(header, {payload.bytes}), std::move(payload.fds));
}

Reply<void> Session::reply_done(Ticket ticket, Payload payload) {
    return {[weak = weak_from_this(), ticket, payload = std::move(payload)](Result<> result) {
        const auto self = weak.lock();
        if (!self) return;
        if (result)
            self->answer(ticket, payload);
        else
            self->answer(ticket, tl::unexpected<Error>(std::move(result).error()));
    }};
}

void Session::update_pause() {
    connection_->pause(pending_.size() >= max_pending ||
                       reserved_bytes_ + connection_->queued_bytes() >= max_pending_bytes);
    arm_reply_timer();
}

void Session::arm_reply_timer() {
    if (pending_.empty() || reply_timer_ || ended_) return;
    reply_timer_ = environment_.loop.at(pending_.begin()->second.deadline, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->expire_replies();
    });
}

void Session::expire_replies() {
    reply_timer_.reset();
    const auto now = environment_.loop.clock().now();
    while (!pending_.empty() && pending_.begin()->second.deadline <= now)
        answer(pending_.begin()->first, fail(Errc::timeout, "the function did not answer in time"));
    arm_reply_timer();
}

void Session::dma_read(Iova address, size_t size_bytes,
                       std::function<void(Result<std::vector<std::byte>>)> done) {
    ++environment_.stats.dma_reads;
    dma_requests_->read(address, size_bytes, std::move(done));
}

void Session::dma_write(Iova address, std::span<const std::byte> data, std::function<void(Result<>)> done) {
    ++environment_.stats.dma_writes;
    dma_requests_->write(address, data, std::move(done));
}

} // namespace lanepool::vfio_user
