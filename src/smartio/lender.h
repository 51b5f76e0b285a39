// SPDX-License-Identifier: Apache-2.0
//
// The lender's side of one device: opens the ways of a loan, serves its borrower's requests, and is the fence
// that closes every way again without asking the borrower.
//
// Life: a new lender does not know what its device was used for before, so it begins `unverified`; reset()
// makes it `ready`; prepare() lends it (`lent`); cut() closes everything and leaves it `unverified`. A device
// that does not answer or does not reset is `broken`: quarantine it; reset() may bring it back.
//
// All methods are called on the loop's thread and return at once; the device and the adapter are used on a
// thread of the lender's own, one step after the other. Callbacks come on the loop's thread, once, at the
// latest at the step's deadline: then with `timeout`, the device counts as broken, and whatever the late step
// still made is undone when it ends.
//
// Shared: several loans of one epoch may be lent the device at the same time, each with ways of its own: what
// it has mapped, placed and made is its own, requests are checked against it alone, interrupts it has none.
// What would harm the others is refused. One of them can be expelled without a reset: then it can open
// nothing more and the device reaches none of its memory, but register memory that it had mapped stays what
// it is until the device is cut; so share a device only among those who may disturb each other at its
// registers.
//
// Revocation: with descriptors behind windows, what a borrower mapped can only be revoked by putting fresh
// memory behind it. So a device whose regions can be mapped is lent only if its resets do that
// (`pci::Function::fresh_memory_on_reset`); one whose registers are all reached by calls may be lent in any
// case, as closing the window ends the calls.
#pragma once

#include "io/event_loop.h"
#include "ntb/adapter.h"
#include "ntb/channel.h"
#include "pci/function.h"
#include "smartio/device_class.h"
#include "smartio/epoch_store.h"
#include "smartio/loan_key.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::smartio {

struct LenderOptions {
    // For prepare, reset and identify.
    io::Duration step_deadline = std::chrono::seconds(10);
    // How long cut() waits for the device before it is reported as silent. The way through the adapter is
    // closed in any case. A device that ends its work first may take its time: the NVMe model up to
    // 1.5 s. Give the device's client a time-out below this deadline.
    io::Duration cut_deadline = std::chrono::seconds(5);
    size_t max_memory_maps = 1024; // of one loan
    // Of one loan. What one maps costs the others time on this device's thread (and a cut waits for it), and
    // the device's address space; a card has no windows for more than its BARs anyway. All memory of a host
    // (4 TiB) is not too much.
    uint64_t max_mapped_bytes = uint64_t{1} << 42;
    size_t max_segments = 64;                       // of one loan, beside the device
    uint64_t max_segment_bytes = uint64_t{1} << 30; // of one loan
    size_t max_queued_requests = 512;               // of one loan
    size_t max_shared_loans = 64;                   // at the same time
};

// The references and what is pointed to must outlive the lender.
struct LenderSetup {
    io::EventLoop* loop = nullptr;
    ntb::Adapter* adapter = nullptr;
    pci::Function* device = nullptr;
    DeviceClass* device_class = nullptr;
    EpochStore* epochs = nullptr;
    uint64_t fdid = 0;
    // What the switch must let pass for the device to reach the borrower; none for a device that does not
    // sit on this host's bus (a vfio-user socket).
    std::optional<pci::RequesterId> requester;
    LenderOptions options;
};

enum class LenderState { unverified, ready, preparing, lent, cutting, resetting, wiping, broken };
std::string_view name(LenderState state);

struct LentLoan {
    uint64_t loan = 0;
    ntb::Partition borrower;
    bool operator==(const LentLoan&) const = default;
};

struct LenderStatus {
    LenderState state = LenderState::unverified;
    LoanKey key;             // of the loan that is lent, of several the first; else zeroes but for the fdid
    ntb::Partition borrower; // of that loan
    bool shared = false;     // others may join
    std::vector<LentLoan> loans; // that are lent, in the order in which they came
    uint64_t requests = 0;       // served since creation, refused ones included
    uint64_t refused = 0;        // for a wrong partition, loan or epoch
    size_t memory_maps = 0;      // of all borrowers', now
    std::string reason;          // why it is broken
};

class Lender {
  public:
    using Done = std::function<void(Result<>)>;

    static Result<std::unique_ptr<Lender>> create(LenderSetup setup);
    // Ends the step that is under way (at most the device's time-out), withdraws the exports and closes the
    // windows. Does not reset the device: cut() first where that matters. No callbacks come afterwards.
    ~Lender();

    // Lends the device to BORROWER, whose agent may then open it. EPOCH must be higher than any that the
    // device has seen; it is stored before anything is opened. The same loan, epoch and borrower again while
    // it is lent: success, nothing happens. SHARED: a further loan, of the same epoch, joins while all that
    // are lent are shared. Errors: stale_epoch (also a loan that was expelled in this epoch), busy (lent to
    // another loan, and not both shared in this epoch), failed_precondition (state), not_supported (cannot be
    // revoked), no_space (windows, too many share it). A failure leaves it unlent, or lent to whom it was.
    void prepare(uint64_t loan, uint64_t epoch, ntb::Partition borrower, bool shared, Done done);
    // Closes the ways of one loan of several that share the device: its requests are refused at once, its
    // registers withdrawn, its memory unmapped, its device segments gone. No reset; the others go on. One
    // that is not there any more: success. Errors: stale_epoch; failed_precondition for the last one (cut it)
    // and in any other state; what the device or the adapter said: then cut the device.
    void expel(uint64_t loan, uint64_t epoch, Done done);

    // A request of loan_protocol.h from the channel (ChannelEvents::request, for kinds from first_loan_kind
    // to last_loan_kind, with decode_key() naming this device).
    void serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply);

    // Closes every way now, without asking the borrower: requests refused, interrupts and bus master off, DMA
    // unmapped, exports withdrawn, windows closed, device reset. EPOCH: the loan's own or a newer one (then
    // stored, so that the loan cannot come back). No loan: only the epoch is stored, once the step under way
    // has ended. Errors: stale_epoch (nothing happens); timeout or what the device said: every way through
    // the adapter is closed, but the device must be quarantined.
    void cut(uint64_t epoch, Done done);

    // Resets the device and verifies it: config space is that of the same device, bus master off, and what
    // its class checks. Only while it is not lent (failed_precondition). Success: ready.
    void reset(Done done);
    // The class's wipe, then a reset as above. Only when `ready`.
    void wipe(io::Duration deadline, Done done);
    // Only when `ready`.
    void identify(std::function<void(Result<DeviceIdentity>)> done);

    LenderStatus status() const;

  private:
    class Impl;
    explicit Lender(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
    std::shared_ptr<Impl> impl_;
};

} // namespace lanepool::smartio
