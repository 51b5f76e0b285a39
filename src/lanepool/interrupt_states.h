// SPDX-License-Identifier: Apache-2.0
//
// What stands behind interrupts with and without data.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "lanepool/connection.h"
#include "lanepool/states.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>

namespace lanepool::client {

// An interrupt of this process.
struct LocalInterrupt : Target {
    explicit LocalInterrupt(std::function<void(const Error&)> callback)
        : lost_callback(std::move(callback)) {}
    ~LocalInterrupt() override;

    // Makes it; SELF is this. Errors: those of interrupt_create.
    Result<> create(const std::shared_ptr<LocalInterrupt>& self, const std::shared_ptr<Connection>& with,
                    std::optional<uint32_t> wanted_number, bool data);
    // Runs WORK on the event thread whenever it is triggered, from now on.
    Result<> watch(const std::shared_ptr<LocalInterrupt>& self, std::function<void()> work);
    // Waits until it is triggered and takes the count. Errors: timeout, disconnected, cancelled.
    Result<uint64_t> wait(std::chrono::steady_clock::time_point deadline);
    Result<> remove(bool force);
    void drop(); // as SegmentState's
    void on_lost(const Error& why) override;

    const std::function<void(const Error&)> lost_callback;
    std::shared_ptr<Connection> connection;
    uint64_t handle = 0;
    uint32_t number = 0;
    UniqueFd eventfd;
    uint64_t watch_id = 0;
    std::atomic<bool> removed{false};
};

// Another process's.
struct RemoteInterruptState : Target {
    explicit RemoteInterruptState(std::function<void(const Error&)> callback)
        : lost_callback(std::move(callback)) {}

    // Connects it; SELF is this. The answer holds what belongs to it beside the eventfd, DESCRIPTORS in all.
    Result<Message> connect(const std::shared_ptr<RemoteInterruptState>& self,
                            const std::shared_ptr<Connection>& with, Json arguments, Milliseconds timeout,
                            size_t descriptors);
    // Errors: disconnected, failed_precondition (it was disconnected here).
    Result<> usable() const;
    Result<> disconnect(bool force);
    void drop();
    void on_received(const std::string& event, Message& message) override;
    void on_event(const std::string& event, const Message& message) override;
    void on_lost(const Error& why) override;

    const std::function<void(const Error&)> lost_callback;
    std::shared_ptr<Connection> connection;
    uint64_t handle = 0;
    UniqueFd eventfd;
    bool was_told = false; // on the event thread only
    std::atomic<bool> is_lost{false};
    std::atomic<bool> disconnected{false};
};

} // namespace lanepool::client
