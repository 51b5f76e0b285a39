// SPDX-License-Identifier: Apache-2.0
//
// The borrower's side of a loan in which no function is served on a socket: its parts (the memory behind
// BARs, IOVAs, interrupts, device segments) are handed to an application, or to this host's own kernel, and
// what is not memory is done for them.
//
// All methods are called on the loop's thread and return at once; the adapter is used on a thread of the
// device's own. Callbacks come on the loop's thread, once, and may destroy the device; after its destruction
// none comes. Each request has the deadline `request_timeout`. A lender is not trusted: what it says is
// checked.
#pragma once

#include "base/result.h"
#include "io/event_loop.h"
#include "ntb/adapter.h"
#include "ntb/channel.h"
#include "pci/function.h"
#include "smartio/loan_key.h"
#include "smartio/loan_protocol.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace lanepool::smartio {

struct DirectDeviceOptions {
    io::Duration request_timeout = std::chrono::seconds(4);
    io::Duration attach_deadline = std::chrono::seconds(10);
    size_t max_waiting_accesses = 1024; // register accesses that wait for the adapter
    size_t max_places = 4096;
};

// What is pointed to must outlive the device.
struct DirectDeviceSetup {
    io::EventLoop* loop = nullptr;
    ntb::Adapter* adapter = nullptr;
    ntb::Channel* channel = nullptr;
    ntb::Partition lender; // may be this host itself
    LoanKey key;
    bool shared = false; // as the loan was prepared; a shared one has no interrupts
    // Memory space and bus master are on once it is attached: for applications. Otherwise set_command() does
    // it.
    bool enable = true;
    DirectDeviceOptions options;
};

struct DirectDeviceEvents {
    // Once: the device is there, its memory space and bus master are on; or why not.
    std::function<void(Result<>)> attached;
    // Once, after `attached`: the loan does not work any more (stale_epoch: the lender closed it;
    // disconnected: its host died; ...). What a process has mapped leads nowhere by now, or soon. Detach.
    std::function<void(const Error& why)> failed;
};

// A BAR as the application may use it.
struct DirectBar {
    uint64_t size_bytes = 0; // 0: there is none
    bool readable = false;
    bool writable = false;
    // Where there is memory behind it, in whole pages, ascending: for handing on. Registers elsewhere are
    // reached by read() and write() only.
    std::vector<pci::Extent> memory;
    // Where the adapter is a card: all of the BAR, as a part of the card's own descriptor. Whoever has that
    // has all of the card, so that it is for this host's kernel only. Size 0: it is none, or is not in one
    // piece.
    MemoryRef card_memory;
    ntb::Target target; // where it lies on the fabric: for another device's place() (peer-to-peer)

    // The memory behind all of it, where there is one piece; else null.
    const MemoryRef* whole() const {
        return memory.size() == 1 && memory[0].offset_bytes == 0 && memory[0].memory.size_bytes == size_bytes
                   ? &memory[0].memory
                   : nullptr;
    }
};

class DirectDevice {
  public:
    using Done = std::function<void(Result<>)>;
    template <class T>
    using Got = std::function<void(Result<T>)>;

    // Starts attaching; `attached` says when it is done. Errors only for a setup that cannot work.
    static Result<std::unique_ptr<DirectDevice>> attach(DirectDeviceSetup setup, DirectDeviceEvents events);
    // Closes windows and withdraws exports, waiting for the adapter only. The lender is not told.
    ~DirectDevice();

    // Tells the lender, which takes away all that this loan has placed and made, and resets a device that
    // nobody else has; then closes windows. DONE comes at the latest after `request_timeout` and the
    // adapter's own; an error says that the lender did not confirm. No other event comes after this call, and
    // no other method may be called.
    void detach(Done done);
    // Feed ChannelEvents::peer_changed(lender, false) here.
    void lender_lost();

    // Constant once attached.
    bool attached() const;
    const std::array<DirectBar, pci::bar_count>& bars() const;
    std::span<const std::byte> config() const; // 256 or 4096 bytes, as the device showed it at first
    // Of MSI-X or, where it has none, of MSI; 0 for a shared loan.
    uint32_t interrupts() const;
    bool interrupts_by_msix() const;
    // The page of the MSI-X table that this loan reaches is a blank one of the lender's, kept for it: what is
    // written there signals nothing.
    bool msix_table_apart() const;

    // Registers, 1 to 4096 bytes as one access. A write is done when the device has it. Errors: out_of_range,
    // busy (too many wait), what broke the loan.
    void read(unsigned bar, uint64_t offset_bytes, size_t size_bytes, Got<std::vector<std::byte>> done);
    void write(unsigned bar, uint64_t offset_bytes, std::span<const std::byte> data, Done done);

    // Lets the device reach what PARTITION (any host, the lender and this one included) exports at ADDRESS.
    // DONE has the address that the device must use. The caller has seen to it that the application may reach
    // it, and keeps it exported until it is unmapped. Errors: not_found (nothing there, of the lender's own),
    // failed_precondition (that host is down), invalid_argument (for reading only), no_space.
    void place(ntb::Partition partition, BusAddress address, uint64_t size_bytes, Access access,
               Got<Iova> done);
    // The same for what this host exports, at addresses that the caller chooses. It may take half a second
    // for each GiB longer than `request_timeout`. Errors also: already_exists.
    void map(Range<Iova> range, BusAddress address, Access access, Done done);
    // Takes one place() or map() away; DONE comes when the device does not reach it any more. Errors:
    // not_found.
    void unmap(Iova iova, Done done);

    // Memory on the lender's host, beside the device, full of zeroes. Reach it from here by a window to its
    // target; let the device reach it by place() of the same. Errors: already_exists (the id, in this scope),
    // no_space.
    void create_segment(uint32_t id, uint64_t size_bytes, SegmentScope scope, Done done);
    // Errors: not_found.
    void connect_segment(uint32_t id, SegmentScope scope, Got<ntb::Target> done);
    // Only by the loan that made it, while that is there (failed_precondition). Windows to it lead nowhere
    // afterwards. Errors: not_found.
    void remove_segment(uint32_t id, SegmentScope scope, Done done);

    // Lets VECTOR (below interrupts()) signal EVENTFD from now on; an empty one turns the vector off. Errors:
    // not_supported (a shared loan, or a device without), out_of_range.
    void set_interrupt(uint32_t vector, UniqueFd eventfd, Done done);
    // The same for all vectors at once, from 0 on; none: turns them off.
    void set_interrupts(std::vector<UniqueFd> eventfds, Done done);

    // What a driver writes to the command register: bits that are not lent are left out.
    void set_command(uint16_t command, Done done);
    // D0 or D3hot (0 or 3), of a device that has power management. Errors: not_supported.
    void set_power_state(unsigned state, Done done);
    // Function level reset; interrupts and memory stay set up. DONE has the config space as the reset left
    // it. Errors also: not_supported (BARs that lie elsewhere afterwards).
    void reset(Got<std::vector<std::byte>> done);

  private:
    class Impl;
    explicit DirectDevice(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
    std::shared_ptr<Impl> impl_;
};

} // namespace lanepool::smartio
