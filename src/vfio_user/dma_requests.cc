// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/dma_requests.h"

#include <algorithm>

namespace lanepool::vfio_user {

std::optional<Error> DmaRequests::refusal(Iova address, size_t size_bytes) const {
    if (!Range<Iova>::create(address, size_bytes) || size_bytes > max_transfer_bytes)
        return Error(Errc::out_of_range, fmt::format("a DMA of {} bytes at {:#x}: allowed are 1 to {}",
                                                     size_bytes, address.value, max_transfer_bytes));
    const size_t messages = (size_bytes + max_chunk_bytes_ - 1) / max_chunk_bytes_;
    if (outstanding_.size() + expired_.size() + messages > max_outstanding)
        return Error(Errc::no_space,
                     fmt::format("{} DMA messages wait for the client already, {} are allowed",
                                 outstanding_.size() + expired_.size(), max_outstanding));
    return std::nullopt;
}

void DmaRequests::read(Iova address, size_t size_bytes, ReadAnswer answer) {
    if (auto error = refusal(address, size_bytes)) return answer(tl::unexpected<Error>(std::move(*error)));
    auto transfer = std::make_shared<Transfer>();
    transfer->data.resize(size_bytes);
    transfer->done = [answer = std::move(answer)](Transfer& done) {
        if (done.error)
            answer(tl::unexpected<Error>(std::move(*done.error)));
        else
            answer(std::move(done.data));
    };
    start(wire::Command::dma_read, address, size_bytes, {}, std::move(transfer));
}

void DmaRequests::write(Iova address, std::span<const std::byte> data, WriteAnswer answer) {
    if (auto error = refusal(address, data.size())) return answer(tl::unexpected<Error>(std::move(*error)));
    auto transfer = std::make_shared<Transfer>();
    transfer->done = [answer = std::move(answer)](Transfer& done) {
        if (done.error)
            answer(tl::unexpected<Error>(std::move(*done.error)));
        else
            answer({});
    };
    start(wire::Command::dma_write, address, data.size(), data, std::move(transfer));
}

uint16_t DmaRequests::next_id() {
    do
        ++last_id_;
    while (outstanding_.contains(last_id_) || expired_.contains(last_id_));
    return last_id_;
}

void DmaRequests::start(wire::Command command, Iova address, size_t size_bytes,
                        std::span<const std::byte> data, std::shared_ptr<Transfer> transfer) {
    const auto deadline = loop_.clock().now() + timeout_;
    for (size_t offset = 0; offset < size_bytes; offset += max_chunk_bytes_) {
        const size_t chunk = std::min<size_t>(max_chunk_bytes_, size_bytes - offset);
        const wire::DmaAccess access{address.value + offset, chunk};
        const uint16_t id = next_id();
        outstanding_.emplace(id, Outstanding{command, access, offset, deadline, transfer});
        deadlines_.emplace_back(deadline, id);
        ++transfer->outstanding;
        send_(wire::encode_command(
            command, id, {wire::bytes_of(access), data.empty() ? data : data.subspan(offset, chunk)}));
    }
    arm_timer();
}

Result<> DmaRequests::check(const Outstanding& expected, const Message& message) {
    if (message.header.flags & wire::flags::error)
        return fail_errno(
            static_cast<int>(message.header.error & 0xfff),
            fmt::format("the client refused a DMA access to {:#x}", uint64_t{expected.access.address}));
    if (expected.command == wire::Command::dma_write) return {};
    std::span<const std::byte> payload = message.payload;
    const auto access = TRY(wire::take<wire::DmaAccess>(payload));
    if (access.count != expected.access.count || payload.size() != expected.access.count)
        return fail(Errc::protocol, "the client answered a DMA read of {} bytes with {}",
                    uint64_t{expected.access.count}, payload.size());
    std::copy(payload.begin(), payload.end(),
              expected.transfer->data.begin() + static_cast<std::ptrdiff_t>(expected.offset_bytes));
    return {};
}

Result<> DmaRequests::on_reply(const Message& message) {
    const uint16_t id = message.header.id;
    if (expired_.erase(id) > 0) return {};
    const auto found = outstanding_.find(id);
    if (found == outstanding_.end() || static_cast<uint16_t>(found->second.command) != message.header.command)
        return fail(Errc::protocol, "an answer to message {}, which was not asked", id);
    const Outstanding outstanding = std::move(found->second);
    outstanding_.erase(found);
    const auto checked = check(outstanding, message);
    finish(*outstanding.transfer, checked ? std::nullopt : std::optional(checked.error()));
    return {};
}

void DmaRequests::finish(Transfer& transfer, std::optional<Error> error) {
    if (error && !transfer.error) transfer.error = std::move(error);
    if (--transfer.outstanding == 0) std::exchange(transfer.done, nullptr)(transfer);
}

void DmaRequests::abandon(const Error& error) {
    const auto all = std::exchange(outstanding_, {});
    deadlines_.clear();
    expired_.clear();
    timer_.reset();
    for (const auto& [id, outstanding] : all)
        finish(*outstanding.transfer, error);
}

void DmaRequests::arm_timer() {
    while (!deadlines_.empty()) {
        const auto found = outstanding_.find(deadlines_.front().second);
        if (found != outstanding_.end() && found->second.deadline == deadlines_.front().first) break;
        deadlines_.pop_front(); // answered
    }
    if (!deadlines_.empty() && !timer_) timer_ = loop_.at(deadlines_.front().first, [this] { expire(); });
}

void DmaRequests::expire() {
    timer_.reset();
    const auto now = loop_.clock().now();
    std::vector<std::shared_ptr<Transfer>> late;
    while (!deadlines_.empty() && deadlines_.front().first <= now) {
        const auto [deadline, id] = deadlines_.front();
        deadlines_.pop_front();
        const auto found = outstanding_.find(id);
        if (found == outstanding_.end() || found->second.deadline != deadline) continue;
        late.push_back(std::move(found->second.transfer));
        outstanding_.erase(found);
        expired_.insert(id);
    }
    arm_timer();
    // Last: an answer may lead to the end of this object.
    for (const auto& transfer : late)
        finish(*transfer, Error(Errc::timeout, "the client did not answer a DMA message in time"));
}

} // namespace lanepool::vfio_user
