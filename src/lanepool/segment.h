// SPDX-License-Identifier: Apache-2.0
//
// Memory that hosts show to each other. Read smartio.h first: threads, callbacks, deadlines.
#pragma once

#include "base/mapping.h"
#include "base/result.h"
#include "lanepool/session.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

namespace lanepool {

namespace client {
struct SegmentState;
struct RemoteState;
} // namespace client

// A piece of a segment or of a device's memory as this process sees it: plain memory. Unmapped on
// destruction; independent of the object that made it. When what it leads to is gone (the other side removed
// it, died, or the loan is over) it stays readable and writable, but leads to nobody's memory.
class MappedRange {
  public:
    MappedRange() = default;
    MappedRange(MappedRange&& other) noexcept;
    MappedRange& operator=(MappedRange&& other) noexcept;
    ~MappedRange() { reset(); }

    std::byte* data() const { return data_; }
    size_t size_bytes() const { return size_bytes_; }
    std::span<std::byte> bytes() const { return {data_, size_bytes_}; }
    Access access() const { return access_; }
    explicit operator bool() const { return data_ != nullptr; }

    // memcpy with its range checked: to, or from, OFFSET_BYTES of this range on. When copy_to() returns the
    // stores have been issued in order; to tell another host, use an interrupt or a store of your own
    // afterwards. Errors: out_of_range; permission_denied (copy_to() where it is read-only).
    Result<> copy_to(uint64_t offset_bytes, std::span<const std::byte> data) const;
    Result<> copy_from(uint64_t offset_bytes, std::span<std::byte> data) const;

    void reset();

    // Of a whole mapping of LENGTH_BYTES at ADDRESS, which it owns from now on, the bytes asked for. For the
    // library.
    MappedRange(void* address, size_t length_bytes, size_t first_byte, size_t size_bytes, Access access);

  private:
    std::byte* data_ = nullptr;
    size_t size_bytes_ = 0;
    void* address_ = nullptr; // the mmap, in whole pages
    size_t length_bytes_ = 0;
    Access access_ = Access::read_write;
};

// Which part is to be mapped, and how.
struct MapOptions {
    uint64_t offset_bytes = 0;
    uint64_t size_bytes = 0; // 0: to the end
    Access access = Access::read_write;
    // Where: a page boundary (plus the offset's place in its page) at which nothing is mapped yet. Null:
    // wherever there is room.
    void* address = nullptr;
};

struct SegmentOptions {
    uint64_t size_bytes = 0; // rounded up to whole pages
    // One for all programs of a host. Absent: the agent chooses.
    std::optional<uint32_t> id = {};
    // A private one cannot be connected; it is for devices (Device::map) and this process.
    bool is_private = false;
    // No memory yet: attach() some before it can be made available or mapped.
    bool empty = false;

    // Somebody has connected to it, or is gone; NODE is his host's.
    std::function<void(uint32_t node)> on_connected = {};
    std::function<void(uint32_t node)> on_disconnected = {};
    // The agent has gone away; the memory stays, but nobody else reaches it.
    std::function<void(const Error& why)> on_lost = {};
};

// Memory of this process that other hosts, and devices, may use.
class Segment {
  public:
    // New memory, full of zeroes, not available yet. Errors: already_exists (the id is used),
    // invalid_argument (no size), no_space.
    static Result<Segment> create(Session& session, SegmentOptions options);

    // Memory that the program has: MEMORY, in whole pages, readable and writable. Its content moves into
    // shared memory under the same address: pointers stay valid. OPTIONS.size_bytes is not looked at. What
    // follows:
    // - No other thread may write to it during this call and during the segment's destruction.
    // - It must stay mapped as it is until the segment is destroyed: free it afterwards, not before.
    // - After a fork() parent and child share it, as they would any shared mapping: a child's writes are
    //   seen. Once the segment is destroyed it is the process's own memory again, and a later fork() copies.
    // - What was behind it (a file, huge pages) is not any more.
    // Errors: invalid_argument (not in whole pages), out_of_range (not all of it is readable and writable
    // memory), already_exists (the id; or a part of it is a segment already), no_space.
    static Result<Segment> create_around(Session& session, std::span<std::byte> memory,
                                         SegmentOptions options = {});

    Segment(Segment&&) noexcept;
    Segment& operator=(Segment&&) noexcept;
    // Takes it away also from who is connected, and from devices. bytes() are gone; memory that the program
    // gave stays, and holds what the segment held.
    ~Segment();

    // Gives memory to one that was created empty, as create_around() does; as long as the segment (rounded
    // up) or longer. Errors: failed_precondition (it has memory), and those of create_around().
    Result<> attach(std::span<std::byte> memory);
    // New memory, full of zeroes.
    Result<> attach();

    // Whether others can connect. Errors: failed_precondition (it has no memory, or is private), busy
    // (somebody is connected: for false).
    Result<> set_available(bool available);
    // Takes it away when nobody uses it. Errors: busy (somebody is connected, or it is mapped for a device):
    // the segment is as before. Afterwards all answers failed_precondition.
    Result<> remove();

    uint32_t id() const;
    uint32_t node() const; // this host's
    uint64_t size_bytes() const;
    // All of it; empty while it has no memory.
    std::span<std::byte> bytes() const;
    // Another mapping of the same memory. Errors: out_of_range, failed_precondition (it has no memory),
    // already_exists (something is mapped at the address).
    Result<MappedRange> map(const MapOptions& options = {}) const;

    const std::shared_ptr<client::SegmentState>& state() const { return state_; } // for the library

  private:
    explicit Segment(std::shared_ptr<client::SegmentState> state);
    std::shared_ptr<client::SegmentState> state_;
};

// Memory elsewhere: a segment, a BAR of a device, memory beside a device. Let go on destruction.
class RemoteMemory {
  public:
    RemoteMemory(RemoteMemory&&) noexcept;
    RemoteMemory& operator=(RemoteMemory&&) noexcept;
    ~RemoteMemory();

    uint64_t size_bytes() const;
    // Whether all of it can be mapped: not of a BAR with registers that only calls reach.
    bool mappable() const;
    // One piece of this process's address space, whatever it consists of. Errors: out_of_range, not_supported
    // (a part cannot be mapped), already_exists (something is mapped at the address), and what mmap reports.
    Result<MappedRange> map(const MapOptions& options = {}) const;
    // What the destructor does, with its outcome. Mappings stay, and may be used until who owns the memory
    // takes it away. Errors: busy (it is mapped for a device): then it is connected as before. Afterwards all
    // answers failed_precondition.
    Result<> disconnect();

    const std::shared_ptr<client::RemoteState>& state() const { return state_; } // for the library

  protected:
    explicit RemoteMemory(std::shared_ptr<client::RemoteState> state);

  private:
    std::shared_ptr<client::RemoteState> state_;
};

struct RemoteSegmentOptions {
    // What it leads to is gone: removed, its host died, or (disconnected) the agent has gone away. Mappings
    // lead to nobody's memory. Called once.
    std::function<void(const Error& why)> on_lost = {};
};

// Another process's segment; it may also be of this host.
class RemoteSegment : public RemoteMemory {
  public:
    // Waits up to TIMEOUT for NODE to have an available segment of that id. Errors: not_found (it had none in
    // that time), unavailable (the node is not alive), permission_denied.
    static Result<RemoteSegment> connect(Session& session, uint32_t node, uint32_t id,
                                         std::chrono::milliseconds timeout,
                                         RemoteSegmentOptions options = {});

    uint32_t node() const { return node_; }
    uint32_t id() const { return id_; }

  private:
    RemoteSegment(std::shared_ptr<client::RemoteState> state, uint32_t node, uint32_t id)
        : RemoteMemory(std::move(state)), node_(node), id_(id) {}
    uint32_t node_ = 0;
    uint32_t id_ = 0;
};

} // namespace lanepool
