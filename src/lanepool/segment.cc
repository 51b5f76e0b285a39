// SPDX-License-Identifier: Apache-2.0
#include "lanepool/segment.h"

#include "lanepool/states.h"

#include "session/protocol.h"

#include <fcntl.h>

namespace lanepool {

namespace client {

void SegmentState::on_event(const std::string& event, const Message& message) {
    const auto node = get_u32(message.body, "node");
    if (!node) return;
    if (event == "segment_connected" && options.on_connected) options.on_connected(*node);
    if (event == "segment_disconnected" && options.on_disconnected) options.on_disconnected(*node);
}

void SegmentState::on_lost(const Error& why) {
    if (options.on_lost) options.on_lost(why);
}

Result<> SegmentState::remove(bool force) {
    {
        const std::lock_guard lock(mutex);
        if (removed) return fail(Errc::failed_precondition, "segment {} is removed already", id);
    }
    TRY(connection->give_back("segment_remove", "segment", handle, force));
    SegmentMemory old;
    const std::lock_guard lock(mutex);
    removed = true;
    old = std::move(memory);
    return {};
}

void SegmentState::drop() {
    close();
    (void)remove(true);
    SegmentMemory old; // whatever the agent said
    const std::lock_guard lock(mutex);
    old = std::move(memory);
}

Result<> SegmentState::attach(const std::function<Result<SegmentMemory>()>& make) {
    const std::lock_guard lock(mutex);
    if (removed) return fail(Errc::failed_precondition, "segment {} is removed", id);
    if (memory) return fail(Errc::failed_precondition, "segment {} has memory already", id);
    auto made = TRY(make());
    TRY(connection->call("segment_attach", {{"segment", handle}}, {.fds = {made.fd()}}));
    memory = std::move(made);
    return {};
}

Result<uint64_t> SegmentState::usable() {
    const std::lock_guard lock(mutex);
    if (removed) return fail(Errc::failed_precondition, "segment {} is removed", id);
    if (!memory) return fail(Errc::failed_precondition, "segment {} has no memory yet: attach() some", id);
    return handle;
}

namespace {
Result<std::shared_ptr<SegmentState>> create(Session& session, SegmentOptions options, SegmentMemory memory) {
    auto state = std::make_shared<SegmentState>(std::move(options));
    state->connection = session.connection();
    state->size_bytes = state->options.size_bytes;
    Json arguments = {{"size", state->size_bytes}, {"private", state->options.is_private}};
    if (state->options.id) arguments["segment_id"] = *state->options.id;
    CallOptions call{.target = state};
    if (memory) call.fds.push_back(memory.fd());
    const auto answer = TRY(state->connection->call("segment_create", std::move(arguments), std::move(call)));
    state->handle = TRY(session::get_number(answer.body, "segment"));
    state->id = TRY(get_u32(answer.body, "segment_id"));
    const std::lock_guard lock(state->mutex);
    state->memory = std::move(memory);
    return state;
}
} // namespace

} // namespace client

Segment::Segment(std::shared_ptr<client::SegmentState> state) : state_(std::move(state)) {}
Segment::Segment(Segment&&) noexcept = default;
Segment& Segment::operator=(Segment&& other) noexcept {
    if (this != &other) client::replace(state_, std::move(other.state_));
    return *this;
}
Segment::~Segment() { client::replace(state_); }

Result<Segment> Segment::create(Session& session, SegmentOptions options) {
    const uint64_t page = client::page_bytes();
    if (options.size_bytes == 0 || options.size_bytes > session::max_segment_bytes)
        return fail(Errc::invalid_argument, "a segment of {:#x} bytes; from 1 to {:#x} can be had",
                    options.size_bytes, session::max_segment_bytes);
    options.size_bytes = (options.size_bytes + page - 1) / page * page;
    client::SegmentMemory memory;
    if (!options.empty) memory = TRY(client::SegmentMemory::create(options.size_bytes));
    return Segment(TRY(client::create(session, std::move(options), std::move(memory))));
}

Result<Segment> Segment::create_around(Session& session, std::span<std::byte> memory,
                                       SegmentOptions options) {
    options.size_bytes = memory.size();
    auto moved = TRY(client::SegmentMemory::around(memory));
    return Segment(TRY(client::create(session, std::move(options), std::move(moved))));
}

Result<> Segment::attach(std::span<std::byte> memory) {
    if (memory.size() < state_->size_bytes)
        return fail(Errc::invalid_argument, "{:#x} bytes of memory for a segment of {:#x}", memory.size(),
                    state_->size_bytes);
    return state_->attach([&] { return client::SegmentMemory::around(memory.first(state_->size_bytes)); });
}

Result<> Segment::attach() {
    return state_->attach([&] { return client::SegmentMemory::create(state_->size_bytes); });
}

Result<> Segment::set_available(bool available) {
    const uint64_t handle = TRY(state_->usable());
    TRY(state_->connection->call("segment_available", {{"segment", handle}, {"available", available}}));
    return {};
}

Result<> Segment::remove() { return state_->remove(false); }

uint32_t Segment::id() const { return state_->id; }
uint32_t Segment::node() const { return state_->connection->node(); }
uint64_t Segment::size_bytes() const { return state_->size_bytes; }

std::span<std::byte> Segment::bytes() const {
    const std::lock_guard lock(state_->mutex);
    return state_->memory.bytes();
}

Result<MappedRange> Segment::map(const MapOptions& options) const {
    TRY(state_->usable());
    const std::lock_guard lock(state_->mutex);
    UniqueFd fd(::fcntl(state_->memory.fd(), F_DUPFD_CLOEXEC, 0));
    if (!fd) return fail_errno("mapping a segment once more");
    return client::Extents::whole(std::move(fd), state_->size_bytes).map(options);
}

} // namespace lanepool
