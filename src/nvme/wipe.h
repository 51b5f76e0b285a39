// SPDX-License-Identifier: Apache-2.0
//
// What a lender does with a drive between two borrowers. Each of these takes the function over in whatever
// state it is and leaves it quiet: controller disabled, no bus mastering, no interrupts, no DMA mapping of
// ours. The function must have no other user meanwhile. They block; call them from a thread that may.
#pragma once

#include "base/result.h"
#include "io/clock.h"
#include "pci/function.h"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::nvme {

struct DriveIdentity {
    std::string model;
    std::string serial;
    std::string firmware;
    uint16_t vendor_id = 0;
    uint64_t capacity_bytes = 0;
    struct Namespace {
        uint32_t nsid;
        uint64_t size_bytes;
        uint32_t block_bytes;
    };
    std::vector<Namespace> namespaces;
};

// Errors: those of Driver::create().
Result<DriveIdentity> identify(pci::Function& function, const io::Clock& clock = io::system_clock());

// Whether a function has really been reset: its config space is that of an NVMe controller and not all-ones,
// the command register is clear of bus mastering, CC.EN = 0, and CSTS.RDY = 0 without fatal status within
// CAP.TO. Errors: disconnected, failed_precondition naming what is not as after a reset, timeout, io.
Result<> verify_reset(pci::Function& function, const io::Clock& clock = io::system_clock());

enum class WipeMethod {
    sanitize_block_erase,
    sanitize_crypto_erase,
    sanitize_overwrite,
    format_crypto_erase,
    format_user_data_erase,
    write_zeroes, // by the command of that name
    overwrite,    // zeroes written as data: what every drive can do
};
// The stable name, for example "sanitize_block_erase".
std::string_view name(WipeMethod method);

struct WipeProgress {
    WipeMethod method;
    std::string_view step; // "waiting for an earlier sanitize", "erasing", "zeroing", "verifying"
    double done;           // 0 to 1
};

struct WipeReport {
    WipeMethod method;
    io::Duration erase_time;              // from the first command until the drive said that it is done
    io::Duration verify_time;             // of the samples
    uint64_t blocks_verified;             // read back and found empty, in all namespaces
    uint64_t seed;                        // what the random samples were drawn from
    std::vector<std::string> passed_over; // better methods that failed or would be too slow, and why
};

struct WipeOptions {
    io::TimePoint deadline = io::TimePoint::max();
    uint64_t seed = 0;             // of the samples; hand in a random one
    uint32_t random_samples = 256; // per namespace, of 4 KiB, beside the first and the last 1 MiB
    std::function<void(const WipeProgress&)> on_progress; // may be empty; on the calling thread
};

// Erases all namespaces by the best method that the drive supports: sanitize (block erase, crypto erase,
// overwrite), format with secure erase, write zeroes, plain writes; a method that the drive refuses is passed
// over. Then reads samples back: each must be zeroes, or what the drive says deallocated blocks read as.
// Errors: failed_precondition when something is still there or the drive says that sanitizing failed (do not
// lend it), timeout, disconnected, and those of Driver::create().
Result<WipeReport> wipe(pci::Function& function, const io::Clock& clock, const WipeOptions& options);

} // namespace lanepool::nvme
