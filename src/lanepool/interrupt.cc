// SPDX-License-Identifier: Apache-2.0
#include "lanepool/interrupt.h"

#include "lanepool/interrupt_states.h"

namespace lanepool {

namespace client {
struct InterruptState final : LocalInterrupt {
    explicit InterruptState(InterruptOptions options)
        : LocalInterrupt(std::move(options.on_lost)), callback(std::move(options.on_interrupt)) {}
    const std::function<void(uint64_t)> callback;
};
} // namespace client

Interrupt::Interrupt(std::shared_ptr<client::InterruptState> state) : state_(std::move(state)) {}
Interrupt::Interrupt(Interrupt&&) noexcept = default;
Interrupt& Interrupt::operator=(Interrupt&& other) noexcept {
    if (this != &other) client::replace(state_, std::move(other.state_));
    return *this;
}
Interrupt::~Interrupt() { client::replace(state_); }

Result<Interrupt> Interrupt::create(Session& session, InterruptOptions options) {
    const auto number = options.number;
    auto state = std::make_shared<client::InterruptState>(std::move(options));
    TRY(state->create(state, session.connection(), number, false));
    if (state->callback)
        TRY(state->watch(state, [raw = state.get()] {
            if (const uint64_t count = drain(raw->eventfd)) raw->callback(count);
        }));
    return Interrupt(std::move(state));
}

uint32_t Interrupt::number() const { return state_->number; }
int Interrupt::descriptor() const { return state_->eventfd.get(); }

Result<uint64_t> Interrupt::wait(std::chrono::milliseconds timeout) {
    if (state_->callback) return fail(Errc::failed_precondition, "the interrupt has a callback");
    if (state_->removed) return fail(Errc::failed_precondition, "the interrupt is removed");
    return state_->wait(client::deadline_after(timeout));
}

Result<> Interrupt::remove() { return state_->remove(false); }

RemoteInterrupt::RemoteInterrupt(std::shared_ptr<client::RemoteInterruptState> state)
    : state_(std::move(state)) {}
RemoteInterrupt::RemoteInterrupt(RemoteInterrupt&&) noexcept = default;
RemoteInterrupt& RemoteInterrupt::operator=(RemoteInterrupt&& other) noexcept {
    if (this != &other) client::replace(state_, std::move(other.state_));
    return *this;
}
RemoteInterrupt::~RemoteInterrupt() { client::replace(state_); }

Result<RemoteInterrupt> RemoteInterrupt::connect(Session& session, uint32_t node, uint32_t number,
                                                 std::chrono::milliseconds timeout,
                                                 RemoteInterruptOptions options) {
    auto state = std::make_shared<client::RemoteInterruptState>(std::move(options.on_lost));
    TRY(state->connect(state, session.connection(), {{"node", node}, {"number", number}, {"data", false}},
                       timeout, 1));
    return RemoteInterrupt(std::move(state));
}

Result<> RemoteInterrupt::trigger() {
    TRY(state_->usable());
    signal(state_->eventfd);
    return {};
}

Result<> RemoteInterrupt::disconnect() { return state_->disconnect(false); }

} // namespace lanepool
