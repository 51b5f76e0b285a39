// SPDX-License-Identifier: Apache-2.0
#include "lanepool/segment.h"
#include "lanepool/states.h"

namespace lanepool {

namespace client {

Result<std::shared_ptr<RemoteState>> RemoteState::connect(const std::shared_ptr<Connection>& connection,
                                                          const char* call, Json arguments, Milliseconds wait,
                                                          Shrinkable shrinkable,
                                                          std::function<void(const Error&)> on_lost) {
    auto state = std::make_shared<RemoteState>(std::move(on_lost));
    state->connection = connection;
    auto answer = TRY(connection->call(call, std::move(arguments), {.wait = wait, .target = state}));
    state->handle = TRY(session::get_number(answer.body, "connection"));
    auto extents = Extents::take(answer, shrinkable);
    if (!extents) {
        state->drop();
        return tl::unexpected(extents.error().within("the agent's answer"));
    }
    state->extents = std::move(*extents);
    return state;
}

void RemoteState::on_event(const std::string& event, const Message& message) {
    if (event != "connection_lost") return;
    const auto reason = session::get_text(message.body, "reason");
    on_lost(Error(Errc::disconnected, reason ? *reason : "what it led to is gone"));
}

void RemoteState::on_lost(const Error& why) {
    if (!std::exchange(was_lost, true) && lost_callback) lost_callback(why);
}

Result<> RemoteState::disconnect(bool force) {
    TRY(usable());
    TRY(connection->give_back("disconnect", "connection", handle, force));
    const std::lock_guard lock(mutex);
    disconnected = true;
    return {};
}

void RemoteState::drop() {
    close();
    (void)disconnect(true);
}

Result<uint64_t> RemoteState::usable() {
    const std::lock_guard lock(mutex);
    if (disconnected) return fail(Errc::failed_precondition, "it is disconnected already");
    return handle;
}

} // namespace client

RemoteMemory::RemoteMemory(std::shared_ptr<client::RemoteState> state) : state_(std::move(state)) {}
RemoteMemory::RemoteMemory(RemoteMemory&&) noexcept = default;
RemoteMemory& RemoteMemory::operator=(RemoteMemory&& other) noexcept {
    if (this != &other) client::replace(state_, std::move(other.state_));
    return *this;
}
RemoteMemory::~RemoteMemory() { client::replace(state_); }

uint64_t RemoteMemory::size_bytes() const { return state_->extents.size_bytes(); }
bool RemoteMemory::mappable() const { return state_->extents.complete(); }

Result<MappedRange> RemoteMemory::map(const MapOptions& options) const {
    TRY(state_->usable());
    return state_->extents.map(options);
}

Result<> RemoteMemory::disconnect() { return state_->disconnect(false); }

Result<RemoteSegment> RemoteSegment::connect(Session& session, uint32_t node, uint32_t id,
                                             std::chrono::milliseconds timeout,
                                             RemoteSegmentOptions options) {
    auto state = TRY(client::RemoteState::connect(
        session.connection(), "segment_connect",
        {{"node", node}, {"segment_id", id}, {"timeout_ms", client::timeout_ms(timeout)}}, timeout,
        client::Shrinkable::no, std::move(options.on_lost)));
    return RemoteSegment(std::move(state), node, id);
}

} // namespace lanepool
