// SPDX-License-Identifier: Apache-2.0
//
// Devices of the pool, driven by this program. Read smartio.h first: threads, callbacks, deadlines.
//
//     auto device = lanepool::Device::borrow(session, fdid, lanepool::Sharing::exclusive, 10s);
//     auto registers = device->bar(0)->map();                     // plain loads and stores
//     auto buffer = lanepool::Segment::create(session, {.size_bytes = 4096, .is_private = true});
//     auto mapping = device->map(*buffer);                        // mapping->address(): tell the device
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "lanepool/segment.h"
#include "lanepool/session.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lanepool {

namespace client {
struct DeviceState;
struct DeviceMappingState;
} // namespace client

// What the pool knows of a device.
struct DeviceInfo {
    uint64_t fdid = 0; // the device, for ever; people write it in hexadecimal
    std::string name;
    std::string host; // in which it sits
    uint32_t node = 0;
    std::string state;  // available, lent, ...
    std::string reason; // why it is in that state, where there is more to say
    uint16_t vendor_id = 0;
    uint16_t device_id = 0;
    uint32_t class_code = 0; // base class, subclass, interface: 0x010802 is an NVMe drive
    std::string kind;        // nvme, gpu, ...
    std::string model;
    std::string serial;
    std::string borrower; // who has it, where it is lent
};

// What is given must be equal; without anything: every device.
struct DeviceFilter {
    std::optional<uint64_t> fdid = {};
    std::optional<uint16_t> vendor_id = {};
    std::optional<uint16_t> device_id = {};
    std::optional<uint32_t> class_code = {};
    std::optional<uint32_t> node = {};
    std::string kind = {};
    std::string serial = {};
};

// How a device is borrowed: alone, or beside other programs on any host that all say `shared`.
enum class Sharing { exclusive, shared };

// Who can reach memory beside a device by its id.
enum class DeviceMemoryScope {
    loan, // this loan only
    all,  // every loan of the device, by the same id
};

// What a device says of itself in the first 64 bytes of its configuration space (PCI Local Bus Specification
// 3.0, 6.1).
struct DeviceIdentity {
    uint16_t vendor_id = 0;
    uint16_t device_id = 0;
    uint32_t class_code = 0;
    uint8_t revision = 0;
    uint16_t subsystem_vendor_id = 0;
    uint16_t subsystem_id = 0;
    std::array<std::byte, 64> config{};
};

struct BorrowOptions {
    // The loan will end then: finish, and give the device back. Microseconds since 1970; 0: no time is set
    // any more.
    std::function<void(uint64_t due_us, const std::string& reason)> on_due = {};
    // The loan is over: reclaimed, expired, the device's host died, or (disconnected) the agent has gone
    // away. Registers and device memory that were mapped lead nowhere. Called once. on_lost of what was
    // connected through the device is not called in addition.
    std::function<void(const Error& why)> on_lost = {};
};

// A BAR of a borrowed device. Let go on destruction.
class DeviceBar : public RemoteMemory {
  public:
    // One access of WIDTH 1, 2, 4 or 8 bytes, aligned, through the agents: for registers that cannot be
    // mapped. The write is done when the device has it. Errors: out_of_range, invalid_argument, disconnected.
    Result<uint64_t> read(uint64_t offset_bytes, unsigned width);
    Result<> write(uint64_t offset_bytes, unsigned width, uint64_t value);

  private:
    friend class Device;
    DeviceBar(std::shared_ptr<client::RemoteState> state, std::shared_ptr<client::DeviceState> device,
              unsigned index)
        : RemoteMemory(std::move(state)), device_(std::move(device)), index_(index) {}
    std::shared_ptr<client::DeviceState> device_;
    unsigned index_ = 0;
};

// Memory beside a device, on its host: for queues and buffers that the device should reach fast. Let go on
// destruction; the memory stays until Device::remove_memory() or the loan's end.
class DeviceMemory : public RemoteMemory {
  public:
    uint32_t id() const { return id_; }

  private:
    friend class Device;
    DeviceMemory(std::shared_ptr<client::RemoteState> state, uint32_t id)
        : RemoteMemory(std::move(state)), id_(id) {}
    uint32_t id_ = 0;
};

// Memory that a borrowed device reaches. Unmapped on destruction.
class DeviceMapping {
  public:
    DeviceMapping() = default;
    DeviceMapping(DeviceMapping&&) noexcept;
    DeviceMapping& operator=(DeviceMapping&&) noexcept;
    ~DeviceMapping();

    // What the device has to use for the first byte: a bus address of its own host, chosen there.
    uint64_t address() const;
    uint64_t size_bytes() const;
    // What the destructor does, with its outcome: when it returns without error the device does not use the
    // memory any more. Errors: busy (try again).
    Result<> unmap();

  private:
    friend class Device;
    explicit DeviceMapping(std::shared_ptr<client::DeviceMappingState> state);
    std::shared_ptr<client::DeviceMappingState> state_;
};

// Which part is to be reached, in whole pages, and how.
struct DeviceMapOptions {
    uint64_t offset_bytes = 0;
    uint64_t size_bytes = 0;            // 0: to the end
    Access access = Access::read_write; // the device's
};

class Device {
  public:
    // The devices of the pool that match. A device that is lent is listed, too.
    static Result<std::vector<DeviceInfo>> list(Session& session, const DeviceFilter& filter = {});

    // Borrows a device, waiting up to TIMEOUT for it to be prepared. Memory space and bus master are on then.
    // Errors: not_found (there is no such device), busy (somebody has it, in another way or exclusively),
    // permission_denied (policy, with its reason), timeout.
    static Result<Device> borrow(Session& session, uint64_t fdid, Sharing sharing,
                                 std::chrono::milliseconds timeout, BorrowOptions options = {});

    Device(Device&&) noexcept;
    Device& operator=(Device&&) noexcept;
    // Gives it back, with all that was mapped for it and made beside it.
    ~Device();

    uint64_t fdid() const;
    uint64_t loan() const; // the loan's number, as `lanepool loans` shows it
    uint32_t node() const; // of the host in which it sits
    Sharing sharing() const;
    uint64_t due_us() const; // when the loan ends, microseconds since 1970; 0: no time is set
    const DeviceIdentity& identity() const;
    // Interrupt vectors that set_interrupt() takes; 0 where it is not supported.
    uint32_t interrupts() const;

    uint64_t bar_size_bytes(unsigned index) const; // index 0 to 5; 0: there is none
    // Errors: not_found (there is none), out_of_range.
    Result<DeviceBar> bar(unsigned index);

    // Makes memory beside the device, full of zeroes. Errors: already_exists (the id, in this scope),
    // no_space.
    Result<> create_memory(uint32_t id, uint64_t size_bytes, DeviceMemoryScope scope);
    // Connects to it. Errors: not_found.
    Result<DeviceMemory> connect_memory(uint32_t id, DeviceMemoryScope scope);
    // Takes it away; who is connected loses it. Errors: not_found, permission_denied (another loan made it).
    Result<> remove_memory(uint32_t id, DeviceMemoryScope scope);

    // Lets the device reach memory: of this process, of another, beside this device, or a BAR of another
    // borrowed one (peer-to-peer). What is mapped stays the caller's to keep until it is unmapped. Errors:
    // out_of_range, invalid_argument (not in whole pages), not_found (it is gone), no_space.
    Result<DeviceMapping> map(const Segment& segment, const DeviceMapOptions& options = {});
    Result<DeviceMapping> map(const RemoteMemory& memory, const DeviceMapOptions& options = {});

    // Lets VECTOR of MSI-X or MSI signal EVENTFD from now on; an empty one turns it off. The caller keeps his
    // descriptor. Errors: not_supported (a shared loan, or a device without), out_of_range.
    Result<> set_interrupt(uint32_t vector, const UniqueFd& eventfd);

    // What the destructor does, with its outcome: when it returns without error this host has let the device
    // go. Afterwards all answers failed_precondition.
    Result<> give_back();

    const std::shared_ptr<client::DeviceState>& state() const { return state_; } // for the library

  private:
    explicit Device(std::shared_ptr<client::DeviceState> state);
    std::shared_ptr<client::DeviceState> state_;
};

} // namespace lanepool
