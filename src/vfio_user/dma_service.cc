// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/dma_service.h"

namespace lanepool::vfio_user {

using wire::Command;

DmaService::DmaService(DmaSpace& space) : space_(space), thread_([this] { run(); }) {}

void DmaService::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        wake_.notify_one();
    }
    if (thread_.joinable()) thread_.join();
}

Result<> DmaService::queue(Message message, Channel& from) {
    const auto command = static_cast<Command>(uint16_t{message.header.command});
    if (command != Command::dma_read && command != Command::dma_write)
        return fail(Errc::protocol, "the server sent command {}, which servers do not send",
                    uint16_t{message.header.command});
    const std::lock_guard lock(mutex_);
    if (disconnected_) return fail(Errc::disconnected, "the function is gone");
    if (queue_.size() >= max_queued || queued_bytes_ + message.payload.size() > max_queued_bytes)
        return fail(Errc::no_space, "the server has {} DMA accesses waiting, more are not taken",
                    queue_.size());
    queued_bytes_ += message.payload.size();
    queue_.emplace_back(std::move(message), &from);
    wake_.notify_one();
    return {};
}

void DmaService::on_disconnect(std::function<void()> callback) {
    const std::lock_guard lock(mutex_);
    callback_ = std::move(callback);
    wake_.notify_one();
}

void DmaService::disconnected() {
    const std::lock_guard lock(mutex_);
    disconnected_ = true;
    queue_.clear(); // nobody waits for the answers
    queued_bytes_ = 0;
    wake_.notify_one();
}

void DmaService::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [this] { return stopping_ || !queue_.empty() || (disconnected_ && callback_); });
        if (stopping_) return;
        if (queue_.empty()) {
            const auto callback = std::exchange(callback_, nullptr);
            lock.unlock();
            callback();
            lock.lock();
            continue;
        }
        const auto [message, from] = std::move(queue_.front());
        queue_.pop_front();
        queued_bytes_ -= message.payload.size();
        lock.unlock();
        const auto reply = serve(message);
        // A lost connection is noticed, and told, by the receiving thread.
        if (message.header.wants_reply()) [[maybe_unused]]
            const auto sent = from->send(reply);
        lock.lock();
    }
}

std::vector<std::byte> DmaService::serve(const Message& message) {
    auto reply = access(message);
    if (reply) return std::move(*reply);
    return wire::encode_error(message.header.id, message.header.command, reply.error());
}

Result<std::vector<std::byte>> DmaService::access(const Message& message) {
    std::span<const std::byte> payload = message.payload;
    const auto access = TRY(wire::take<wire::DmaAccess>(payload));
    if (access.count == 0 || access.count > wire::max_data_bytes)
        return fail(Errc::invalid_argument, "a DMA access of {} bytes, allowed are 1 to {}",
                    uint64_t{access.count}, wire::max_data_bytes);
    wire::Header header{};
    header.id = message.header.id;
    header.command = message.header.command;
    header.flags = wire::flags::reply;
    if (message.header.command == static_cast<uint16_t>(Command::dma_write)) {
        if (payload.size() != access.count)
            return fail(Errc::protocol, "a DMA write of {} bytes comes with {}", uint64_t{access.count},
                        payload.size());
        TRY(space_.write(Iova{access.address}, payload));
        return wire::encode(header, {wire::bytes_of(access)});
    }
    std::vector<std::byte> data(access.count);
    TRY(space_.read(Iova{access.address}, data));
    return wire::encode(header, {wire::bytes_of(access), data});
}

} // namespace lanepool::vfio_user
