// SPDX-License-Identifier: Apache-2.0
//
// The NTB adapter of a host: the only way in which lanepool uses one, model or card. A host *exports* its
// memory, a device's registers or an interrupt at a bus address that only its adapter can reach, and *opens
// windows* to what others export. All of it is given back by RAII.
#pragma once

#include "base/address.h"
#include "base/mapping.h"
#include "base/result.h"
#include "pci/function.h"

#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace lanepool::ntb {

// A port of the switch, and so a host on the fabric: 0..47.
struct Partition {
    uint8_t value = 0;
    auto operator<=>(const Partition&) const = default;
};
inline constexpr unsigned max_partitions = 48;

class AdapterState;

// Something of this host's that others can reach; withdrawn on destruction: their windows then read all-ones.
class Export {
  public:
    Export(); // empty
    Export(Export&&) noexcept;
    Export& operator=(Export&&) noexcept;
    ~Export();
    BusAddress address() const { return address_; }
    uint64_t size_bytes() const { return size_bytes_; }
    // Withdraws now, and says whether the adapter confirmed it: until then peers may still reach the memory.
    // Success when the adapter is dead: then nobody reaches anything through it.
    Result<> withdraw();
    explicit operator bool() const { return state_ != nullptr; }

  private:
    friend class Adapter;
    Export(std::shared_ptr<AdapterState> state, BusAddress address, uint64_t size_bytes)
        : state_(std::move(state)), address_(address), size_bytes_(size_bytes) {}
    std::shared_ptr<AdapterState> state_;
    BusAddress address_;
    uint64_t size_bytes_ = 0;
};

// What a window is opened to.
struct Target {
    Partition partition;
    BusAddress address;
    uint64_t size_bytes = 0;
};

// A way to SIZE bytes that are exported: of another partition's by a window BAR that the switch translates,
// of the own one's without the switch, which leads nobody to himself. Which of them it is makes no difference
// to its users. Closed on destruction.
class Window {
  public:
    Window(); // empty
    Window(Window&&) noexcept;
    Window& operator=(Window&&) noexcept;
    ~Window();

    uint64_t size_bytes() const;
    // Closes now, and says whether the switch confirmed it. Many at once: Adapter::close_windows.
    Result<> close();
    explicit operator bool() const { return state_ != nullptr; }

    // As pci::Function's, relative to the window. Of one that is closed, or whose adapter is dead:
    // `disconnected`.
    Result<> read(uint64_t offset_bytes, std::span<std::byte> data) const;
    Result<> write(uint64_t offset_bytes, std::span<const std::byte> data) const;
    // Descriptors that may be handed on to other processes; extents are relative to the window. None on an
    // adapter that is a card: whoever has its descriptor has all of it.
    Result<std::vector<pci::Extent>> memory(uint64_t offset_bytes, uint64_t size_bytes) const;
    // All of the window as a part of the card's own descriptor, which is all of the card: for this host's
    // kernel only. One of a power of two of bytes lies at a multiple of that, as a BAR does. Errors:
    // not_supported (an adapter that is no card; the own partition), no_space (it lies elsewhere, since there
    // was no such place left).
    Result<MemoryRef> card_memory() const;
    // An eventfd that does what a 4-byte write there does. Where the adapter gives none, its thread waits for
    // it and writes (and sends a message, to event words), until the window is closed: then many signals may
    // become one write. Errors: not_supported (there is no event), no_space.
    Result<UniqueFd> event(uint64_t offset_bytes) const;
    // The whole window as memory of this process; on a card, its registers: use accesses of 4 or 8 aligned
    // bytes. Errors: not_supported when not all of it can be mapped.
    Result<Mapping> map(Access access = Access::read_write) const;
    // Lets DEVICE, which is on this host, reach the whole window from IOVA on: in place where there are
    // descriptors, one call an access elsewhere. All or nothing. The mappings must end before the device and
    // the adapter do; the window may close before. Errors: those of pci::Function::map_dma, invalid_argument
    // (writes to what is exported for reading only), not_found (withdrawn).
    Result<std::vector<pci::DmaMapping>> map_for(pci::Function& device, Iova iova, Access access) const;

  private:
    friend class Adapter;
    struct Way;
    Window(std::shared_ptr<AdapterState> state, std::unique_ptr<Way> way);
    template <class T, class Switched, class Local>
    Result<T> use(uint64_t offset_bytes, uint64_t bytes, Switched switched, Local local) const;
    Result<std::vector<pci::Extent>> extents_of(uint64_t offset_bytes, uint64_t size_bytes) const;
    std::shared_ptr<AdapterState> state_;
    std::unique_ptr<Way> way_;
};

// What comes up from the switch. Called on a thread of the adapter's, perhaps before create() has returned;
// must not block.
struct AdapterEvents {
    std::function<void(Partition from, uint32_t message)> message;
    std::function<void()> link_changed; // some port came up or went down: look at link_up()
    std::function<void()> gone;         // the adapter does not answer any more; every window is dead
};

struct AdapterCapacity {
    unsigned windows = 0; // window slots in all
    unsigned windows_free = 0;
    uint64_t largest_window_bytes = 0;
};

// Thread-safe. Everything made from an adapter may outlive it: then it is dead and gives nothing back.
class Adapter {
  public:
    // Takes over the function, checks that it is a Switchtec NT endpoint, and clears what an earlier owner
    // left. Errors: not_supported (another device), protocol, timeout (another owner holds its control
    // block), and what the function reports.
    static Result<std::unique_ptr<Adapter>> create(std::unique_ptr<pci::Function> function,
                                                   AdapterEvents events);
    // Closes windows, withdraws exports, stops interrupts and bus mastering. Not from an event.
    ~Adapter();

    Partition partition() const;
    // Every other port of the switch that may be reached from here, up or not.
    std::vector<Partition> peers() const;
    Result<bool> link_up(Partition partition) const;
    AdapterCapacity capacity() const;
    pci::Function& function() const;

    // A bus address is chosen so that nothing else lies in the same window of a peer's.
    Result<Export> export_memory(const MemoryRef& memory, Access access);
    // DEVICE must outlive what is returned. A card reaches what the device lets it map, in whole pages.
    // Errors: also not_supported (registers that cannot be mapped, on a card).
    Result<Export> export_region(pci::Function& device, pci::Region region, uint64_t offset_bytes,
                                 uint64_t size_bytes, Access access = Access::read_write);
    // The first SIZE_BYTES of a region, but only AREAS of them can be reached (ascending, each beginning with
    // a page). Between them peers find the pages of IN_GAPS, one after the other, for which there must be
    // enough; without it, nothing.
    Result<Export> export_areas(pci::Function& device, pci::Region region, uint64_t size_bytes,
                                std::span<const pci::Area> areas, const MemoryRef& in_gaps = {});
    // An area of 4 bytes an eventfd: a 4-byte write at 4*i signals EVENTFDS[i] (-1: nothing happens). On a
    // card, which cannot signal eventfds, they are words that this host looks at when a message comes:
    // Window::event() sends one, writes alone are seen with the next (event_words.h).
    Result<Export> export_events(std::span<const int> eventfds);
    // Addresses that lead to nothing yet: this host's own kernel maps there what its drivers use, in the
    // address space that this adapter's function has (bus addresses are its IOVAs). Errors: not_supported on
    // an adapter that is no card.
    Result<Export> export_addresses(uint64_t size_bytes);
    // The same at a fixed address (a rendezvous that peers know beforehand). Errors: already_exists.
    Result<Export> export_memory_at(BusAddress address, const MemoryRef& memory, Access access);

    // One window for each target, all programmed under one lock of the partition's control block; all or
    // nothing. To the own partition: onto the export in which the whole target lies. Errors: no_space (naming
    // what is used and what was asked for), unavailable (that port's link is down), out_of_range, not_found
    // (nothing such is exported, in the own partition; what another one exports is not known here).
    Result<std::vector<Window>> open_windows(std::span<const Target> targets);
    Result<Window> open_window(const Target& target);
    // Closes all under one lock, and says whether the switch confirmed it.
    Result<> close_windows(std::vector<Window> windows);

    // Lets a device behind this adapter send through its windows; the entry is removed on destruction.
    class Requester {
      public:
        Requester() = default;
        Requester(Requester&&) noexcept;
        Requester& operator=(Requester&&) noexcept;
        ~Requester();

      private:
        friend class Adapter;
        std::shared_ptr<AdapterState> state_;
        unsigned slot_ = 0;
    };
    Result<Requester> add_requester(pci::RequesterId id);

    // 32 bits to a message register of PARTITION's, and an interrupt there. Two messages may arrive in either
    // order. Errors: busy (earlier ones were not taken yet), unavailable (link down).
    Result<> send_message(Partition partition, uint32_t message);

  private:
    explicit Adapter(std::shared_ptr<AdapterState> state) : state_(std::move(state)) {}
    std::shared_ptr<AdapterState> state_;
};

} // namespace lanepool::ntb
