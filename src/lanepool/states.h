// SPDX-License-Identifier: Apache-2.0
//
// What stands behind segments, remote memory and devices: shared by an object and the callbacks of it.
#pragma once

#include "lanepool/connection.h"
#include "lanepool/device.h"
#include "lanepool/extents.h"
#include "lanepool/segment.h"
#include "lanepool/segment_memory.h"

#include <array>
#include <atomic>
#include <memory>
#include <mutex>

namespace lanepool::client {

// What an object that owns a state does when it gets another, or none.
template <class State>
void replace(std::shared_ptr<State>& ours, std::shared_ptr<State> theirs = nullptr) {
    if (ours) ours->drop();
    ours = std::move(theirs);
}

struct SegmentState final : Target {
    explicit SegmentState(SegmentOptions segment_options) : options(std::move(segment_options)) {}
    void on_event(const std::string& event, const Message& message) override;
    void on_lost(const Error& why) override;
    // Gives it back; without FORCE unless it is busy.
    Result<> remove(bool force);
    // The same with force; no callback comes afterwards. For destructors.
    void drop();
    Result<> attach(const std::function<Result<SegmentMemory>()>& make);
    // Its handle. Errors: failed_precondition where it has been removed or has no memory.
    Result<uint64_t> usable();

    const SegmentOptions options;
    std::shared_ptr<Connection> connection;
    uint64_t handle = 0;
    uint32_t id = 0;
    uint64_t size_bytes = 0;

    std::mutex mutex; // of what follows
    SegmentMemory memory;
    bool removed = false;
};

struct RemoteState final : Target {
    // CALL is a call whose answer has a connection and extents.
    static Result<std::shared_ptr<RemoteState>> connect(const std::shared_ptr<Connection>& connection,
                                                        const char* call, Json arguments, Milliseconds wait,
                                                        Shrinkable shrinkable,
                                                        std::function<void(const Error&)> on_lost);
    explicit RemoteState(std::function<void(const Error&)> callback) : lost_callback(std::move(callback)) {}
    void on_event(const std::string& event, const Message& message) override;
    void on_lost(const Error& why) override;
    Result<> disconnect(bool force);
    void drop(); // as SegmentState's
    // Its handle. Errors: failed_precondition where it has been disconnected.
    Result<uint64_t> usable();

    const std::function<void(const Error&)> lost_callback;
    std::shared_ptr<Connection> connection;
    uint64_t handle = 0;
    Extents extents;
    bool was_lost = false; // on the event thread only

    std::mutex mutex; // of what follows
    bool disconnected = false;
};

struct DeviceState final : Target {
    explicit DeviceState(BorrowOptions borrow_options) : options(std::move(borrow_options)) {}
    void on_received(const std::string& event, Message& message) override;
    void on_event(const std::string& event, const Message& message) override;
    void on_lost(const Error& why) override;
    // Of the answer to device_borrow.
    Result<> take(const Message& answer);
    // Errors: failed_precondition where it was given back, disconnected where the loan is over.
    Result<> usable();
    // Asks the agent, about this device. Errors: those of the call and of usable().
    Result<Message> call(const char* name, Json arguments, CallOptions call_options = {});
    // As RemoteState::connect(), of this device's.
    Result<std::shared_ptr<RemoteState>> connect(const char* name, Json arguments, Shrinkable shrinkable);
    Result<> give_back();
    void drop(); // as SegmentState's

    const BorrowOptions options;
    std::shared_ptr<Connection> connection;
    uint64_t handle = 0;
    uint64_t fdid = 0;
    uint64_t loan = 0;
    uint32_t node = 0;
    Sharing sharing = Sharing::shared;
    DeviceIdentity identity;
    uint32_t interrupts = 0;
    std::array<uint64_t, 6> bar_bytes{};
    std::atomic<uint64_t> due_us{0};
    bool was_lost = false; // on the event thread only

    std::mutex mutex; // of what follows
    std::string lost_reason;
    bool lost = false;
    bool returned = false;
};

} // namespace lanepool::client
