// SPDX-License-Identifier: Apache-2.0
//
// What people ask of the pool and what agents tell it, and how much of each it takes.
#pragma once

#include "base/result.h"
#include "pool/records.h"

#include <cstddef>
#include <string>
#include <vector>

namespace lanepool::pool {

struct BorrowRequest {
    std::string device; // fdid in hexadecimal, or HOST/NAME
    std::string host;
    std::string guest;      // empty: the host's only guest
    int64_t duration_s = 0; // 0: no due time
    std::string actor;
};

struct ReturnRequest {
    std::string loan_or_device; // loan:N, fdid or HOST/NAME
    std::string actor;
    uint32_t deadline_ms = 0; // for the guest to let go; 0: the default
};

struct ReclaimRequest {
    std::string loan_or_device;
    std::string reason;
    std::string actor;
};

struct ReassignRequest {
    std::string loan_or_device;
    std::string host;
    std::string guest;
    std::string actor;
    bool force = false; // reclaim instead of return
};

struct ResetRequest {
    std::string device;
    std::string actor;
};

struct ObservedDevice {
    std::string name;
    DeviceIdentity identity;
    bool answering = false;
    bool clean = false;
    Epoch epoch;
    LoanId loan;
    std::string problem;
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
};

struct StepAnswer {
    StepId step;
    LoanId loan;
    Epoch epoch;
    StepKind kind = StepKind::prepare;
    bool ok = false;
    std::string code; // name of an Errc when not ok
    std::string message;
};

struct LoanLost {
    LoanId loan;
    Epoch epoch;
    bool as_lender = false;
    std::string reason;
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
    uint32_t margin_ms = 2'000;
    // How long an agent may be away before the loans that its host borrows, or lends, are given up.
    uint32_t borrower_grace_ms = 2'000;
    uint32_t lender_grace_ms = 10'000;
    uint32_t restart_grace_ms = 10'000; // both, after the controller itself was away
    uint32_t sendings = 8;              // of one step to an agent that comes and goes

    size_t hosts = 4096;
    size_t devices_per_host = 256;
    size_t guests_per_host = 256;
    size_t observed_loans = 1024;
    size_t live_loans = 200'000;
    size_t ended_loans_kept = 10'000;
    int64_t longest_loan_s = 10LL * 366 * 24 * 3600;
};

// In bytes.
inline constexpr size_t longest_name = 63;  // of a host, guest or device
inline constexpr size_t longest_text = 256; // of a reason, model, serial, ...

// What is kept of a text that somebody else wrote: no control characters, at most LIMIT bytes, whole
// characters.
std::string limited(std::string_view text, size_t limit = longest_text);
// Whether it can be a host's, guest's or device's name: letters, digits, '.', '_' and '-', the first a letter
// or digit.
bool is_name(std::string_view text);
// The first thing that is wrong with a Hello by itself: names, lengths, numbers, duplicates.
Result<> check(const Hello& hello, const Options& options);

} // namespace lanepool::pool
