// SPDX-License-Identifier: Apache-2.0
//
// What the borrower's agent asks of the lender's for one loan, over ntb::Channel. Every request begins with
// the loan's key; the lender refuses one of another partition or loan (permission_denied) and of another
// epoch (stale_epoch). These two, unavailable and disconnected tell the borrower that the loan is over: what
// is refused within a loan has other codes. Bodies are packed little-endian structs of exactly the size that
// their fields call for; decoding checks every field and answers `protocol` for anything else.
#pragma once

#include "base/address.h"
#include "base/mapping.h"
#include "base/result.h"
#include "ntb/adapter.h"
#include "pci/types.h"
#include "smartio/loan_key.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lanepool::smartio {

// ntb::Channel's kind of a loan request. The numbers are fixed for ever; new ones are added at the end.
enum class LoanRequest : uint16_t {
    open = 0x100, // what is lent: regions, interrupts, config space. Answer: Opened
    map = 0x101,  // device may reach the borrower's memory. Answer: empty, once the device has it
    unmap = 0x102,
    set_irqs = 0x103,
    mask_irq = 0x104,
    config_write = 0x105,
    reset = 0x106, // the guest's function-level reset. Answer: Opened, as registers and exports now are
    close = 0x107, // the client has gone: memory unmapped, interrupts off, device reset
    config_status = 0x108, // the status register as it is now. Answer: 2 bytes
    place = 0x109, // as map, but the lender chooses where, and the memory may be any host's. Answer: Placed
    // Memory beside the device, on the lender's host.
    create_segment = 0x10a,
    connect_segment = 0x10b, // where it is. Answer: ConnectedSegment
    remove_segment = 0x10c,
};
inline constexpr uint16_t first_loan_kind = 0x100;
inline constexpr uint16_t last_loan_kind = 0x1ff; // reserved for loans

// Errors: not_supported for a number that has no meaning (yet).
Result<LoanRequest> loan_request(uint16_t kind);

inline constexpr uint32_t max_loan_vectors = 256; // of one interrupt index
inline constexpr size_t max_loan_areas = 64;      // mappable areas of all regions together
inline constexpr uint64_t flush_bytes = 4;
inline constexpr uint64_t max_loan_bar_bytes = uint64_t{1} << 40;

// Who sees a device segment: the loan that made it, or every loan of the device.
enum class SegmentScope { loan, device };

struct OpenedRegion {
    uint64_t size_bytes = 0; // 0: no such region
    BusAddress address;      // of the lender's export, which is exactly the region
    bool readable = false;
    bool writable = false;
    std::vector<pci::Area> mappable;
    bool operator==(const OpenedRegion&) const = default;
};

struct Opened {
    std::array<OpenedRegion, pci::bar_count> bars;
    std::array<uint32_t, 3> vectors{};  // of INTx, MSI, MSI-X
    bool memory_survives_reset = false; // a LoanRequest::reset leaves the memory behind the regions in place
    // The pages of the MSI-X table and its pending bits are not the device's, but blank ones of the lender's,
    // made for this loan: what is written there has no effect.
    bool msix_table_apart = false;
    // Where a read of flush_bytes goes the way of the register accesses and has no effect, so that it comes
    // back after the device has had every write before it. Zero: no need, writes cannot be overtaken.
    BusAddress flush_address;
    std::vector<std::byte> config; // 256 or 4096 bytes, as the device shows it
    bool operator==(const Opened&) const = default;
};

// Whether there is an MSI-X table, in a BAR that is lent.
bool has_msix_table(const Opened& opened);

struct MapRequest {
    LoanKey key;
    Range<Iova> range;  // as the device will put it on the bus: the guest's physical address
    BusAddress address; // of the borrower's export
    Access access;
    bool operator==(const MapRequest&) const = default;
};
struct PlaceRequest {
    LoanKey key;
    ntb::Partition partition; // whose export it is: any host's, the lender's included
    BusAddress address;
    uint64_t size_bytes; // not 0
    Access access;
    bool operator==(const PlaceRequest&) const = default;
};
struct Placed {
    Iova iova;
    bool operator==(const Placed&) const = default;
};
struct UnmapRequest {
    LoanKey key;
    Range<Iova> range; // exactly one that was mapped or placed, by the same loan
    bool operator==(const UnmapRequest&) const = default;
};
// All vectors of the index at once: PRESENT says which of them have an event at 4*i of the export. None at
// all turns the index off (then there is no export).
struct SetIrqsRequest {
    LoanKey key;
    pci::Irq index; // intx or msi or msix
    BusAddress address;
    std::vector<bool> present;
    bool operator==(const SetIrqsRequest&) const = default;
};
struct MaskIrqRequest {
    LoanKey key;
    pci::Irq index;
    uint32_t vector;
    bool masked;
    bool operator==(const MaskIrqRequest&) const = default;
};
// Only the command register may be written, and of it only the bits that the lender lets through; and the
// power state, D0 or D3hot (0 or 3), at the control register of the device's power management capability.
struct ConfigWriteRequest {
    LoanKey key;
    uint16_t offset_bytes;
    uint16_t value;
    bool operator==(const ConfigWriteRequest&) const = default;
};

struct CreateSegmentRequest {
    LoanKey key;
    uint32_t id;
    SegmentScope scope;
    uint64_t size_bytes; // not 0
    bool operator==(const CreateSegmentRequest&) const = default;
};
struct SegmentRequest { // connect, remove
    LoanKey key;
    uint32_t id;
    SegmentScope scope;
    bool operator==(const SegmentRequest&) const = default;
};
struct ConnectedSegment {
    BusAddress address; // of the lender's export
    uint64_t size_bytes;
    bool operator==(const ConnectedSegment&) const = default;
};

// The key at the head of any request: for finding the lender whose device it is.
Result<LoanKey> decode_key(std::span<const std::byte> body);

std::vector<std::byte> encode_key(const LoanKey& key); // a whole open, reset, close or config_status
std::vector<std::byte> encode(const MapRequest& request);
std::vector<std::byte> encode(const UnmapRequest& request);
std::vector<std::byte> encode(const SetIrqsRequest& request); // at most max_loan_vectors
std::vector<std::byte> encode(const MaskIrqRequest& request);
std::vector<std::byte> encode(const ConfigWriteRequest& request);
std::vector<std::byte> encode(const PlaceRequest& request);
std::vector<std::byte> encode(const CreateSegmentRequest& request);
std::vector<std::byte> encode(const SegmentRequest& request);
std::vector<std::byte> encode(const Placed& answer);
std::vector<std::byte> encode(const ConnectedSegment& answer);
// Errors: no_space when there are more areas than max_loan_areas or the config space has another size.
Result<std::vector<std::byte>> encode(const Opened& opened);

Result<> decode_bare(std::span<const std::byte> body); // that there is nothing but the key
Result<MapRequest> decode_map(std::span<const std::byte> body);
Result<UnmapRequest> decode_unmap(std::span<const std::byte> body);
Result<SetIrqsRequest> decode_set_irqs(std::span<const std::byte> body);
Result<MaskIrqRequest> decode_mask_irq(std::span<const std::byte> body);
Result<ConfigWriteRequest> decode_config_write(std::span<const std::byte> body);
Result<PlaceRequest> decode_place(std::span<const std::byte> body);
Result<CreateSegmentRequest> decode_create_segment(std::span<const std::byte> body);
Result<SegmentRequest> decode_segment(std::span<const std::byte> body);
Result<Placed> decode_placed(std::span<const std::byte> body);
Result<ConnectedSegment> decode_connected_segment(std::span<const std::byte> body);
Result<Opened> decode_opened(std::span<const std::byte> body);

} // namespace lanepool::smartio
