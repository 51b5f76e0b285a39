// SPDX-License-Identifier: Apache-2.0
//
// What people ask of the pool and what agents tell it, and how much of each it takes.
#pragma once

#include "base/result.h"
#include "pool/records.h"
#include "pool/site.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::pool {

// Who asks. What he may do follows from the site; OWNER is who runs the controller, or root: he may do
// everything. CERTIFIED is there for who comes from another machine: the role that his certificate names is
// the most that he may have, and what he has where the site does not name him. AGENT_OF is there where he
// does not ask himself but the agent of his host does, in his name: this host, or "*" for whichever the
// request is about. He is USER@HOST then, and all that he may do is what agents ask for: loans of access
// model smartio to this host, and their ends.
struct Caller {
    std::string user;
    bool owner = false;
    std::optional<Role> certified{};
    std::string agent_of{};
};

struct BorrowRequest {
    std::vector<Selector> devices; // one loan each, and all or none of them
    std::string host;
    std::string guest;                 // empty: the host's own kernel if it can, else its only guest
    std::string near;                  // a host the devices are to be near; empty: the borrower
    std::optional<int64_t> duration_s; // 0: no due time; nothing: what the policy says
    std::optional<int32_t> priority;   // nothing: what the policy says
    // How long it may be queued where not all of it can be had now. 0: not at all.
    int64_t wait_s = 0;
    static constexpr int64_t wait_for_ever_s = INT64_MAX;
    Caller caller;
    // With smartio the device may be the host's own, and there is no guest. SHARED: only with smartio.
    AccessModel access_model = AccessModel::lending;
    bool shared = false;
    DmaMode dma = DmaMode::none; // only to the host's own kernel; none: what the policy says
};

struct ReturnRequest {
    std::string loan_or_device; // loan:N, fdid or HOST/NAME; a queued loan is withdrawn
    Caller caller;
    uint32_t deadline_ms = 0; // for the guest to let go; 0: the default
    bool to_local = false;    // afterwards the device is its own host's
};

struct ReclaimRequest {
    std::string loan_or_device;
    std::string reason;
    Caller caller;
};

struct RenewRequest {
    std::string loan_or_device;
    int64_t duration_s = 0; // from now on; 0: without a due time
    Caller caller;
};

struct ReassignRequest {
    std::string loan_or_device;
    std::string host;
    std::string guest;
    Caller caller;
    bool force = false; // reclaim instead of return
};

struct ResetRequest {
    std::string device;
    Caller caller;
};

struct DrainRequest {
    std::string host_or_device;
    bool drain = true;  // false: take part again
    bool evict = false; // also ask for what is lent now
    std::string reason;
    Caller caller;
};

struct QuarantineRequest {
    std::string device; // one that is lent is reclaimed first
    std::string reason;
    Caller caller;
};

// From quarantine, or from its own host's use, into the pool: through a verified reset and sanitize.
struct RestoreRequest {
    std::string device;
    Caller caller;
};

// To its own host's use, out of the pool.
struct KeepLocalRequest {
    std::string device; // must not be lent
    Caller caller;
};

// How many SR-IOV functions a device has that its own host has.
struct SetFunctionsRequest {
    std::string device;
    uint32_t functions = 0; // 0: none any more
    Caller caller;
};

// What would become of a borrow request, and why.
struct Explanation {
    bool allowed = false;      // by the site
    bool now = false;          // it would be served at once
    std::vector<Fdid> devices; // by which devices
    std::vector<std::string>
        why; // a line for each thing that was decided, or for each device that cannot be had
};

struct ObservedDevice {
    std::string name;
    DeviceIdentity identity;
    bool answering = false;
    bool clean = false;
    Epoch epoch;
    LoanId loan;
    std::string problem;
    bool iommu = false;           // its host isolates it by an IOMMU
    bool qualified = false;       // there is a stored qualification of it
    std::vector<LoanId> joined{}; // further loans that it is prepared for
    bool local = false;           // its own host has it: it has to be taken before any other step
    std::string parent{};         // of an SR-IOV function: the name of what it is a part of, of this host
    uint32_t functions = 0;       // SR-IOV functions that it has
    uint32_t most_functions = 0;  // that it could have
};

struct ObservedLoan {
    LoanId loan;
    Fdid fdid;
    Epoch epoch;
    bool attached = false;
};

struct Hello {
    std::string host;
    uint32_t partition = 0;
    std::string instance;
    std::string version;
    std::vector<ObservedDevice> devices;
    std::vector<ObservedLoan> loans;
    std::vector<std::string> guests;
    uint32_t windows = 0;
    uint32_t windows_free = 0;
    std::vector<DmaMode> dma_modes{}; // in which its own kernel can borrow
};

// What the host's own kernel got.
struct Attached {
    uint64_t dma_bytes = 0;
    std::string function;
    std::string driver;
};

struct StepAnswer {
    StepId step;
    LoanId loan;
    Epoch epoch;
    StepKind kind = StepKind::prepare;
    bool ok = false;
    std::string code; // name of an Errc when not ok
    std::string message;
    std::optional<Attached> attached{}; // of attach to the host's own kernel
};

struct LoanLost {
    LoanId loan;
    Epoch epoch;
    bool as_lender = false;
    std::string reason;
};

// Accesses of a lent device that its host's IOMMU has stopped.
struct DeviceFault {
    std::string device; // the host's name for it
    LoanId loan;        // 0: none
    Epoch epoch;
    std::string text;
    uint64_t count = 1;
};

// Deadlines and limits. Deadlines of steps are what the agent is given; the pool waits MARGIN_MS longer.
struct Options {
    uint32_t prepare_ms = 15'000;
    uint32_t attach_ms = 60'000; // a guest's driver has to find and identify the device
    uint32_t detach_ms = 10'000;
    uint32_t detach_longest_ms = 600'000; // that a return may ask for
    uint32_t cut_ms = 5'000;
    uint32_t reset_ms = 70'000; // a function may take 60 s to come back from an FLR
    uint32_t sanitize_ms = 120'000;
    uint32_t take_ms = 30'000;
    uint32_t give_back_ms = 30'000;
    uint32_t functions_ms = 60'000; // a driver of the host finds each of them
    uint32_t margin_ms = 2'000;
    // How long an agent may be away before the loans that its host borrows, or lends, are given up.
    uint32_t borrower_grace_ms = 2'000;
    uint32_t lender_grace_ms = 10'000;
    uint32_t restart_grace_ms = 10'000; // both, after the controller itself was away
    uint32_t loans_per_device = 64;     // that share it
    uint32_t sendings = 8;              // of one step to an agent that comes and goes
    // How much longer than to its due time a lender goes on with a loan while it hears nothing from a
    // controller: long enough for another one to take over and to have the loan returned.
    uint32_t lease_grace_ms = 60'000;

    // How often the audit trail tells of faults of one device and loan; those in between are counted. Agents
    // report less often.
    uint32_t fault_interval_ms = 5'000;

    size_t hosts = 4096;
    size_t devices_per_host = 256;
    size_t guests_per_host = 256;
    size_t observed_loans = 1024;
    size_t live_loans = 200'000;
    size_t devices_per_request = 64;
    size_t ended_loans_kept = 10'000;
    size_t timers_per_tick = 512; // the rest is for the next call, so that requests come in between
    int64_t longest_loan_s = 10LL * 366 * 24 * 3600;
};

// In bytes.
inline constexpr size_t longest_name = 63;                    // of a host, guest or device
inline constexpr size_t longest_text = 256;                   // of a reason, model, serial, ...
inline constexpr size_t longest_asker = 2 * longest_name + 1; // USER@HOST

// What is kept of a text that somebody else wrote: no control characters, at most LIMIT bytes, whole
// characters.
std::string limited(std::string_view text, size_t limit = longest_text);
// The code with which the step has failed that a reason tells of; the pool puts it at the end of what the
// agent said. failed_precondition: there is none.
Errc code_of(std::string_view reason);
// Whether it can be a host's, guest's or device's name: letters, digits, '.', '_' and '-', the first a letter
// or digit.
bool is_name(std::string_view text);
// The first thing that is wrong with a Hello by itself: names, lengths, numbers, duplicates.
Result<> check(const Hello& hello, const Options& options);

} // namespace lanepool::pool
