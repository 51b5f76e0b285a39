// SPDX-License-Identifier: Apache-2.0
//
// Interrupts between programs, without and with data. Read smartio.h first: threads, callbacks, deadlines.
//
// An interrupt is an eventfd at both ends, one with data has a ring of messages beside it: sending and
// receiving asks no agent.
#pragma once

#include "base/result.h"
#include "lanepool/session.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace lanepool {

namespace client {
struct InterruptState;
struct DataInterruptState;
struct RemoteInterruptState;
struct RemoteDataInterruptState;
} // namespace client

// The most bytes that a data interrupt carries.
inline constexpr size_t max_interrupt_bytes = 4096;

struct InterruptOptions {
    // One for all programs of a host, of interrupts with and without data. Absent: the agent chooses.
    std::optional<uint32_t> number = {};
    // Called for what has come; COUNT triggers since the last call, at least one. With it, wait() is
    // failed_precondition.
    std::function<void(uint64_t count)> on_interrupt = {};
    std::function<void(const Error& why)> on_lost = {}; // the agent has gone away; called once
};

// An interrupt of this process, which programs on any host may trigger.
class Interrupt {
  public:
    // Errors: already_exists (the number is used).
    static Result<Interrupt> create(Session& session, InterruptOptions options = {});

    Interrupt(Interrupt&&) noexcept;
    Interrupt& operator=(Interrupt&&) noexcept;
    // Takes it away also from who is connected.
    ~Interrupt();

    uint32_t number() const;
    // Until it has been triggered since the last wait(): how many times, at least once. Of several threads
    // that wait one gets it. Errors: timeout, disconnected, cancelled (remove() by another thread).
    Result<uint64_t> wait(std::chrono::milliseconds timeout);
    // Takes it away when nobody uses it. Errors: busy (somebody is connected): it is as before. Afterwards
    // all answers failed_precondition.
    Result<> remove();

    // For a program's own poll(): readable when triggered. Do not close it; who reads it takes the count.
    int descriptor() const;

  private:
    explicit Interrupt(std::shared_ptr<client::InterruptState> state);
    std::shared_ptr<client::InterruptState> state_;
};

struct RemoteInterruptOptions {
    std::function<void(const Error& why)> on_lost = {}; // it was removed, or its host died; called once
};

// Another process's interrupt. Let go on destruction.
class RemoteInterrupt {
  public:
    // Waits up to TIMEOUT for NODE to have an interrupt of that number. Errors: not_found (it had none in
    // that time), failed_precondition (it is one with data), unavailable (the node is not alive),
    // permission_denied.
    static Result<RemoteInterrupt> connect(Session& session, uint32_t node, uint32_t number,
                                           std::chrono::milliseconds timeout,
                                           RemoteInterruptOptions options = {});

    RemoteInterrupt(RemoteInterrupt&&) noexcept;
    RemoteInterrupt& operator=(RemoteInterrupt&&) noexcept;
    ~RemoteInterrupt();

    // One write to an eventfd. Stores that this thread made before it are seen by who is woken. Errors:
    // disconnected (on_lost was or will be called); one that is lost unnoticed triggers nobody.
    Result<> trigger();
    // What the destructor does, with its outcome.
    Result<> disconnect();

  private:
    explicit RemoteInterrupt(std::shared_ptr<client::RemoteInterruptState> state);
    std::shared_ptr<client::RemoteInterruptState> state_;
};

// Who has connected to a data interrupt, as his host's agent knows him: nothing here is his own words.
struct DataSender {
    uint64_t id = 0; // of this connection; never used twice by a session
    uint32_t node = 0;
    std::string user; // of the process, as Session::user() of it: USER@HOST
};

struct DataInterruptOptions {
    std::optional<uint32_t> number = {}; // as InterruptOptions::number
    // Called for each message; DATA is valid during the call. With it, wait() is failed_precondition.
    std::function<void(std::span<const std::byte> data)> on_message = {};
    // Instead of on_message, for who answers, or decides by who asks.
    std::function<void(const DataSender& sender, std::span<const std::byte> data)> on_message_from = {};
    // He has disconnected, or died: after his last message. Once.
    std::function<void(const DataSender& sender)> on_sender_gone = {};
    std::function<void(const Error& why)> on_lost = {}; // the agent has gone away; called once
};

// An interrupt of this process that carries messages of 0 to max_interrupt_bytes. Messages of one sender come
// in order, each once; senders take turns.
class DataInterrupt {
  public:
    // Errors: already_exists (the number is used).
    static Result<DataInterrupt> create(Session& session, DataInterruptOptions options = {});

    DataInterrupt(DataInterrupt&&) noexcept;
    DataInterrupt& operator=(DataInterrupt&&) noexcept;
    // Takes it away also from who is connected; messages that were not taken are lost.
    ~DataInterrupt();

    uint32_t number() const;
    // The next message, into BUFFER: its size. Errors: no_space (BUFFER is smaller; the message stays),
    // timeout, disconnected, cancelled (remove() by another thread).
    Result<size_t> wait(std::span<std::byte> buffer, std::chrono::milliseconds timeout);
    // Takes it away when nobody uses it. Errors: busy (somebody is connected): it is as before. Afterwards
    // all answers failed_precondition.
    Result<> remove();

  private:
    explicit DataInterrupt(std::shared_ptr<client::DataInterruptState> state);
    std::shared_ptr<client::DataInterruptState> state_;
};

// Another process's data interrupt. Let go on destruction; messages that are under way arrive.
class RemoteDataInterrupt {
  public:
    // As RemoteInterrupt::connect(), to one with data (failed_precondition: it is one without).
    static Result<RemoteDataInterrupt> connect(Session& session, uint32_t node, uint32_t number,
                                               std::chrono::milliseconds timeout,
                                               RemoteInterruptOptions options = {});

    RemoteDataInterrupt(RemoteDataInterrupt&&) noexcept;
    RemoteDataInterrupt& operator=(RemoteDataInterrupt&&) noexcept;
    ~RemoteDataInterrupt();

    // Sends one message; returns at once. Errors: no_space (the receiver has not taken what was sent before:
    // some 60 KiB; try again later), out_of_range (over max_interrupt_bytes), disconnected.
    Result<> send(std::span<const std::byte> data);
    // What the destructor does, with its outcome.
    Result<> disconnect();

  private:
    explicit RemoteDataInterrupt(std::shared_ptr<client::RemoteDataInterruptState> state);
    std::shared_ptr<client::RemoteDataInterruptState> state_;
};

} // namespace lanepool
