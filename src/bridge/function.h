// SPDX-License-Identifier: Apache-2.0
//
// A PCI function that this machine's own kernel finds and binds its drivers to, described by us: one open
// file of kernel/lanepool_bridge. docs/kernel-bridge.md tells what the module makes of it.
//
// Thread-safe. No call waits for a driver: removals and resets are told of by events. Destroying it closes
// the file: a function that is still plugged in goes by surprise.
#pragma once

#include "base/mapping.h"
#include "base/result.h"
#include "pci/types.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace lanepool::bridge {

// What of this machine's memory the function's device reaches: a pool, through which everything is copied;
// the pages that a driver has mapped at the moment; or everything.
enum class DmaMode { bounce, iommu, direct };
std::string_view name(DmaMode mode);
std::optional<DmaMode> dma_mode(std::string_view name);

struct Ability {
    std::vector<DmaMode> dma_modes; // in the order above
    uint32_t max_vectors = 0;
    uint64_t max_pool_bytes = 0;
};

// What drivers read of a configuration space, and what becomes of their writes. All four have
// pci::extended_config_bytes. The module fills in BARs, and serves the command register, BARs, MSI and MSI-X
// itself.
struct ShownConfig {
    enum class Vectors { none, msi, msix };

    std::vector<std::byte> values;
    std::vector<std::byte> writable; // a bit set: a driver's write is kept
    std::vector<std::byte> cleared;  // a written one clears it
    std::vector<std::byte> noticed;  // a write to it is an event
    Vectors vectors = Vectors::none;
    uint32_t vector_count = 0;
};

struct Bar {
    MemoryRef memory; // of a VFIO device's descriptor; its size is a power of two; 0: there is none
    bool is_64bit = false;
    bool prefetchable = false;
};

struct Description {
    ShownConfig config;
    std::array<Bar, pci::bar_count> bars;
    DmaMode dma_mode = DmaMode::bounce;
    uint64_t pool_bytes = 0; // bounce: whole pages
    // Otherwise: addresses of the adapter's IOMMU domain in which nothing is, and nothing will be, mapped by
    // us; and a BAR whose memory is the adapter's.
    unsigned dma_bar = 0;
    uint64_t iova_base = 0;
    uint64_t iova_bytes = 0;
    std::vector<SharedFd> held; // VFIO files, at most 8, that stay open until the removal has ended
};

struct Event {
    enum class Kind {
        config_write, // offset_bytes, size_bytes, value
        reset,        // a driver asked for a function level reset: nothing answers it before end_reset()
        attached,     // drivers have been offered it; their probes may go on
        removed,      // its driver has gone; BARs, vectors and files are given back
        released,     // nobody holds its DMA memory any more: this object can go
        presence,     // its user has bound or unbound a driver, taken it off its bus or found it again
    };
    Kind kind{};
    bool lost_before = false; // events before this one are lost: read_config() says how things stand
    uint32_t offset_bytes = 0;
    uint32_t size_bytes = 0;
    uint32_t value = 0;
};

struct Stats {
    uint64_t config_reads = 0;
    uint64_t config_writes = 0;
    uint64_t events_lost = 0;
    uint64_t vectors_delivered = 0;
    uint64_t vectors_dropped = 0;
    uint64_t dma_maps = 0;
    uint64_t dma_unmaps = 0;
    uint64_t dma_failures = 0;
    uint64_t bytes_copied = 0;
    uint64_t pool_used_bytes = 0;
    uint64_t pool_peak_bytes = 0;
};

class Function {
  public:
    virtual ~Function() = default;

    // Errors: what the module refuses, as invalid_argument, not_supported, busy, no_space,
    // failed_precondition; it says little about why, so these name what was asked for.
    virtual Result<> create(const Description& description) = 0;
    // Bounce mode, after create(): the pool, for mapping. Whoever has the descriptor keeps the file open.
    virtual Result<MemoryRef> pool() const = 0;
    // Injects the function, whose device sees the pool (or iova_base) at DMA_BASE, a multiple of the page
    // size. Where it is. Drivers are offered it afterwards (Event::Kind::attached).
    virtual Result<pci::Address> plug(uint64_t dma_base) = 0;
    // Begins its removal. SURPRISE: the device is gone already; also while an orderly one is under way.
    virtual Result<> unplug(bool surprise) = 0;
    // Vectors from FIRST on are signalled by EVENTFDS from now on (-1: by none). Not once it is removed.
    virtual Result<> set_vectors(uint32_t first, std::span<const int> eventfds) = 0;
    virtual Result<> update_config(uint32_t offset_bytes, std::span<const std::byte> data) = 0;
    virtual Result<std::vector<std::byte>> read_config(uint32_t offset_bytes, size_t size_bytes) const = 0;
    // From begin (or the event reset) to end drivers read all-ones, and their writes and the vectors are
    // dropped.
    virtual Result<> begin_reset() = 0;
    virtual Result<> end_reset() = 0;
    virtual Result<Stats> stats() const = 0;

    // Readable when there are events. For an event loop; whoever closes it does harm.
    virtual int event_fd() const = 0;
    // Those that are there; none: empty. Never blocks.
    virtual Result<std::vector<Event>> take_events() = 0;
};

// Where functions come from: the module, or made up for a test.
class Bridge {
  public:
    virtual ~Bridge() = default;
    // Asked anew each time: modules come and go. Errors: not_supported, saying what is missing (no module,
    // another version of its interface).
    virtual Result<Ability> ability() const = 0;
    virtual Result<std::unique_ptr<Function>> open() = 0;
};

// The module of this machine, by its device node.
std::unique_ptr<Bridge> kernel_bridge(std::filesystem::path node = "/dev/lanepool_bridge");

} // namespace lanepool::bridge
