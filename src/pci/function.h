// SPDX-License-Identifier: Apache-2.0
//
// The one seam: a PCI function as VFIO sees it. A lent device, an NTB adapter, a model in another process:
// all are reached through this interface, so that a driver of ours cannot tell hardware from a model.
// Back-ends: the kernel's VFIO (src/vfio) and a vfio-user socket (src/vfio_user).
//
// Calls block until the function has answered, at most for the back-end's time-out (`timeout`), and may be
// made from any thread. A function that has gone away answers `disconnected` to everything; as on a bus, a
// memory mapping of it then simply points at nothing.
#pragma once

#include "base/address.h"
#include "base/mapping.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "pci/types.h"

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace lanepool::pci {

// What a function's DMA reaches where there is no memory that could be mapped: each access is a call. Called
// on a thread of the back-end's, one call at a time; must not block for longer than a register access takes.
class DmaTarget {
  public:
    virtual ~DmaTarget() = default;
    virtual Result<> read(uint64_t offset_bytes, std::span<std::byte> data) = 0;
    virtual Result<> write(uint64_t offset_bytes, std::span<const std::byte> data) = 0;
};

// The memory behind a part of a region.
struct Extent {
    uint64_t offset_bytes = 0; // in the region
    MemoryRef memory;
};

class Function;

// A range of IOVAs that the function may reach; unmapped on destruction. Must not outlive its function.
class DmaMapping {
  public:
    DmaMapping() = default;
    DmaMapping(Function& function, Range<Iova> range) : function_(&function), range_(range) {}
    DmaMapping(DmaMapping&& other) noexcept;
    DmaMapping& operator=(DmaMapping&& other) noexcept;
    ~DmaMapping();

    // Unmaps now and says whether the function confirmed it: until then it may still be using the memory.
    Result<> unmap();
    explicit operator bool() const { return function_ != nullptr; }

  private:
    Function* function_ = nullptr;
    std::optional<Range<Iova>> range_;
};

class Function {
  public:
    virtual ~Function() = default;

    // What there is. Constant for the function's life, but for the memory behind regions (see memory()).
    virtual const RegionInfo& region(Region index) const = 0;
    virtual const IrqInfo& irq(Irq index) const = 0;
    virtual bool can_reset() const = 0;

    // Reads or writes as one access where the size is 1, 2, 4 or 8 and aligned. Errors: out_of_range.
    virtual Result<> read(Region region, uint64_t offset_bytes, std::span<std::byte> data) = 0;
    virtual Result<> write(Region region, uint64_t offset_bytes, std::span<const std::byte> data) = 0;

    // The descriptors behind a part of a region, as far as there are any: gaps are reached by read() and
    // write() only. What is behind a region may change by reset() or, for a window of an adapter, when the
    // window does.
    virtual Result<std::vector<Extent>> memory(Region region, uint64_t offset_bytes, uint64_t size_bytes) = 0;
    // The descriptor that does what a 4-byte write there would do: an eventfd behind a doorbell or an MSI
    // window. Errors: not_supported where the back-end or that place has none.
    virtual Result<UniqueFd> event(Region region, uint64_t offset_bytes) = 0;

    // Lets the function reach memory, another function's registers, or an eventfd (signalled by each write of
    // 4 bytes; reads give zero) at RANGE. Errors: already_exists when it overlaps a mapping, no_space,
    // not_supported.
    virtual Result<DmaMapping> map_dma(Range<Iova> range, const MemoryRef& memory, Access access) = 0;
    virtual Result<DmaMapping> map_dma(Range<Iova> range, std::shared_ptr<DmaTarget> target,
                                       Access access) = 0;
    virtual Result<DmaMapping> map_dma_event(Iova address, const UniqueFd& eventfd) = 0;
    // Called by DmaMapping. Returns when the function no longer uses the range. RANGE is one that was mapped.
    virtual Result<> unmap_dma(Range<Iova> range) = 0;

    // Vector FIRST and on signal these eventfds (duplicated; -1: none) from now on. An empty list with FIRST
    // 0 turns the whole index off. Errors: out_of_range.
    virtual Result<> set_irqs(Irq index, uint32_t first, std::span<const int> eventfds) = 0;
    virtual Result<> mask_irq(Irq index, uint32_t vector, bool masked) = 0;

    // Function-level reset. Afterwards registers have their initial values, no interrupt is set up, and with
    // `fresh_memory_on_reset` old descriptors of its regions point at memory that nobody looks at any more.
    // Not so the reset that a driver starts by Initiate Function Level Reset in config space (PCI Express
    // Base Specification 7.5.3.4): it leaves the same memory behind the regions, because a guest that mapped
    // them goes on with its mappings.
    virtual Result<> reset() = 0;
    virtual bool fresh_memory_on_reset() const = 0;

    // Whether somebody else may be handed the descriptors behind what this function reaches (map_dma()), as
    // on a virtual fabric: then closing the way does not take back what he has mapped. What translates in
    // hardware hands out nothing.
    virtual bool hands_out_memory() const { return true; }

    // Files that keep the function, and what it reaches, as they are for as long as anybody has them open.
    virtual std::vector<SharedFd> lifelines() const { return {}; }

    // CALLBACK is called once, on a thread of the back-end's, when the function has gone away. At most one.
    virtual void on_disconnect(std::function<void()> callback) = 0;
};

// Reads or writes one register of WIDTH 1, 2, 4 or 8 bytes, little-endian.
Result<uint8_t> read8(Function& function, Region region, uint64_t offset_bytes);
Result<uint16_t> read16(Function& function, Region region, uint64_t offset_bytes);
Result<uint32_t> read32(Function& function, Region region, uint64_t offset_bytes);
Result<uint64_t> read64(Function& function, Region region, uint64_t offset_bytes);
Result<> write8(Function& function, Region region, uint64_t offset_bytes, uint8_t value);
Result<> write16(Function& function, Region region, uint64_t offset_bytes, uint16_t value);
Result<> write32(Function& function, Region region, uint64_t offset_bytes, uint32_t value);
Result<> write64(Function& function, Region region, uint64_t offset_bytes, uint64_t value);

// Lets FUNCTION reach SIZE bytes at OFFSET of PEER's region (peer-to-peer) from IOVA on: memory in place
// where PEER has descriptors, one call an access elsewhere. PEER must outlive what is returned. All or
// nothing.
Result<std::vector<DmaMapping>> map_peer(Function& function, Iova iova, Function& peer, Region region,
                                         uint64_t offset_bytes, uint64_t size_bytes, Access access);

} // namespace lanepool::pci
