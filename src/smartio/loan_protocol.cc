// SPDX-License-Identifier: Apache-2.0
#include "smartio/loan_protocol.h"

#include "base/packed.h"
#include "pci/config_space.h"
#include "smartio/loan_wire.h"
#include "smartio/msix_capability.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace lanepool::smartio {

namespace {

template <class T>
std::vector<std::byte> bytes_of(const T& fields) {
    std::vector<std::byte> out;
    append_packed(out, fields);
    return out;
}

template <class T>
Result<T> head(std::span<const std::byte> body) {
    return packed_head<T>(body, "a loan message");
}

// The whole of BODY.
template <class T>
Result<T> whole(std::span<const std::byte> body) {
    if (body.size() != sizeof(T))
        return fail(Errc::protocol, "a loan message has {} bytes where {} are expected", body.size(),
                    sizeof(T));
    return head<T>(body);
}

wire::Key to_wire(const LoanKey& key) { return {key.fdid, key.loan, key.epoch}; }
LoanKey from_wire(const wire::Key& key) { return {key.fdid, key.loan, key.epoch}; }

Result<pci::Irq> irq_index(uint32_t index) {
    if (index > static_cast<uint32_t>(pci::Irq::msix))
        return fail(Errc::protocol, "interrupt index {} is not one that a loan has", index);
    return static_cast<pci::Irq>(index);
}

Result<> check_zero(uint32_t reserved) {
    if (reserved != 0) return fail(Errc::protocol, "a reserved field of a loan message is {:#x}", reserved);
    return {};
}

// Of memory that may be written or not, as both map and place say it.
uint32_t access_flags(Access access) { return access == Access::read_write ? wire::map_writable : 0; }

Result<Access> access_of(uint32_t flags) {
    TRY(check_zero(flags & ~wire::map_writable));
    return flags & wire::map_writable ? Access::read_write : Access::read_only;
}

} // namespace

Result<LoanRequest> loan_request(uint16_t kind) {
    if (kind < first_loan_kind || kind > static_cast<uint16_t>(LoanRequest::remove_segment))
        return fail(Errc::not_supported, "loan request {:#x} is not known here: is the other agent newer?",
                    kind);
    return static_cast<LoanRequest>(kind);
}

Result<LoanKey> decode_key(std::span<const std::byte> body) { return from_wire(TRY(head<wire::Key>(body))); }
Result<> decode_bare(std::span<const std::byte> body) {
    TRY(whole<wire::Key>(body));
    return {};
}
std::vector<std::byte> encode_key(const LoanKey& key) { return bytes_of(to_wire(key)); }

std::vector<std::byte> encode(const MapRequest& request) {
    return bytes_of(wire::Map{to_wire(request.key), request.range.start().value, request.range.size_bytes(),
                              request.address.value, access_flags(request.access), 0});
}

Result<MapRequest> decode_map(std::span<const std::byte> body) {
    const auto fields = TRY(whole<wire::Map>(body));
    TRY(check_zero(fields.reserved));
    // The export may be anywhere on the borrower's bus, but not wrap around it.
    TRY(Range<BusAddress>::create({fields.address}, fields.size_bytes));
    return MapRequest{from_wire(fields.key), TRY(Range<Iova>::create({fields.iova}, fields.size_bytes)),
                      BusAddress{fields.address}, TRY(access_of(fields.flags))};
}

std::vector<std::byte> encode(const PlaceRequest& request) {
    return bytes_of(wire::Place{to_wire(request.key), request.address.value, request.size_bytes,
                                request.partition.value, access_flags(request.access)});
}

Result<PlaceRequest> decode_place(std::span<const std::byte> body) {
    const auto fields = TRY(whole<wire::Place>(body));
    if (fields.partition >= ntb::max_partitions)
        return fail(Errc::protocol, "partition {} is beyond the {} of a switch",
                    static_cast<uint32_t>(fields.partition), ntb::max_partitions);
    TRY(Range<BusAddress>::create({fields.address}, fields.size_bytes));
    return PlaceRequest{from_wire(fields.key), ntb::Partition{static_cast<uint8_t>(fields.partition)},
                        BusAddress{fields.address}, fields.size_bytes, TRY(access_of(fields.flags))};
}

std::vector<std::byte> encode(const Placed& answer) { return bytes_of(wire::Placed{answer.iova.value}); }

Result<Placed> decode_placed(std::span<const std::byte> body) {
    return Placed{{TRY(whole<wire::Placed>(body)).iova}};
}

std::vector<std::byte> encode(const UnmapRequest& request) {
    return bytes_of(
        wire::Unmap{to_wire(request.key), request.range.start().value, request.range.size_bytes()});
}

Result<UnmapRequest> decode_unmap(std::span<const std::byte> body) {
    const auto fields = TRY(whole<wire::Unmap>(body));
    return UnmapRequest{from_wire(fields.key), TRY(Range<Iova>::create({fields.iova}, fields.size_bytes))};
}

// ---- Device segments

namespace {

wire::Segment to_wire(const LoanKey& key, uint32_t id, SegmentScope scope) {
    return {to_wire(key), id, scope == SegmentScope::device ? wire::segment_of_device : 0};
}

Result<SegmentRequest> from_wire(const wire::Segment& fields) {
    TRY(check_zero(fields.flags & ~wire::segment_of_device));
    return SegmentRequest{from_wire(fields.key), fields.id,
                          fields.flags & wire::segment_of_device ? SegmentScope::device : SegmentScope::loan};
}

} // namespace

std::vector<std::byte> encode(const CreateSegmentRequest& request) {
    return bytes_of(wire::CreateSegment{to_wire(request.key, request.id, request.scope), request.size_bytes});
}
std::vector<std::byte> encode(const SegmentRequest& request) {
    return bytes_of(to_wire(request.key, request.id, request.scope));
}
std::vector<std::byte> encode(const ConnectedSegment& answer) {
    return bytes_of(wire::ConnectedSegment{answer.address.value, answer.size_bytes});
}

Result<CreateSegmentRequest> decode_create_segment(std::span<const std::byte> body) {
    const auto fields = TRY(whole<wire::CreateSegment>(body));
    const auto segment = TRY(from_wire(fields.segment));
    if (fields.size_bytes == 0) return fail(Errc::protocol, "a device segment of no size");
    return CreateSegmentRequest{segment.key, segment.id, segment.scope, fields.size_bytes};
}

Result<SegmentRequest> decode_segment(std::span<const std::byte> body) {
    return from_wire(TRY(whole<wire::Segment>(body)));
}

Result<ConnectedSegment> decode_connected_segment(std::span<const std::byte> body) {
    const auto fields = TRY(whole<wire::ConnectedSegment>(body));
    TRY(Range<BusAddress>::create({fields.address}, fields.size_bytes));
    return ConnectedSegment{{fields.address}, fields.size_bytes};
}

// ---- Interrupts and config space

bool has_msix_table(const Opened& opened) {
    const auto msix = find_msix(opened.config);
    if (!msix || !*msix) return false;
    const auto& table = (*msix)->table;
    const uint64_t bar_bytes = table.bar < opened.bars.size() ? opened.bars[table.bar].size_bytes : 0;
    return table.offset_bytes <= bar_bytes && table.size_bytes <= bar_bytes - table.offset_bytes;
}

std::vector<std::byte> encode(const SetIrqsRequest& request) {
    auto out = bytes_of(wire::SetIrqs{to_wire(request.key), static_cast<uint32_t>(request.index),
                                      static_cast<uint32_t>(request.present.size()), request.address.value});
    std::vector<std::byte> bits((request.present.size() + 7) / 8);
    for (size_t i = 0; i < request.present.size(); ++i)
        if (request.present[i]) bits[i / 8] |= std::byte{1} << (i % 8);
    out.insert(out.end(), bits.begin(), bits.end());
    return out;
}

Result<SetIrqsRequest> decode_set_irqs(std::span<const std::byte> body) {
    const auto fields = TRY(head<wire::SetIrqs>(body));
    const auto index = TRY(irq_index(fields.index));
    const uint32_t count = fields.count;
    if (count > max_loan_vectors)
        return fail(Errc::protocol, "{} interrupt vectors are more than the {} of a loan", count,
                    max_loan_vectors);
    const auto bits = body.subspan(sizeof fields);
    if (bits.size() != (count + 7) / 8)
        return fail(Errc::protocol, "{} bytes of vector bits do not fit {} vectors", bits.size(), count);
    if (count > 0) TRY(Range<BusAddress>::create({fields.address}, uint64_t{count} * 4));
    SetIrqsRequest request{from_wire(fields.key), index, BusAddress{fields.address},
                           std::vector<bool>(count)};
    for (uint32_t i = 0; i < count; ++i)
        request.present[i] = (bits[i / 8] & (std::byte{1} << (i % 8))) != std::byte{0};
    return request;
}

std::vector<std::byte> encode(const MaskIrqRequest& request) {
    return bytes_of(wire::MaskIrq{to_wire(request.key), static_cast<uint32_t>(request.index), request.vector,
                                  uint32_t{request.masked}, 0});
}

Result<MaskIrqRequest> decode_mask_irq(std::span<const std::byte> body) {
    const auto fields = TRY(whole<wire::MaskIrq>(body));
    TRY(check_zero(fields.reserved));
    TRY(check_zero(fields.masked & ~1u));
    if (fields.vector >= max_loan_vectors)
        return fail(Errc::protocol, "interrupt vector {} is beyond the {} of a loan",
                    static_cast<uint32_t>(fields.vector), max_loan_vectors);
    return MaskIrqRequest{from_wire(fields.key), TRY(irq_index(fields.index)), fields.vector,
                          fields.masked == 1};
}

std::vector<std::byte> encode(const ConfigWriteRequest& request) {
    return bytes_of(wire::ConfigWrite{to_wire(request.key), request.offset_bytes, request.value, 0});
}

Result<ConfigWriteRequest> decode_config_write(std::span<const std::byte> body) {
    const auto fields = TRY(whole<wire::ConfigWrite>(body));
    TRY(check_zero(fields.reserved));
    if (fields.offset_bytes % 2 != 0 || fields.offset_bytes >= pci::extended_config_bytes)
        return fail(Errc::protocol, "offset {:#x} is no place for a write of 2 bytes in config space",
                    static_cast<uint16_t>(fields.offset_bytes));
    return ConfigWriteRequest{from_wire(fields.key), fields.offset_bytes, fields.value};
}

Result<std::vector<std::byte>> encode(const Opened& opened) {
    wire::Opened fields{};
    fields.version = wire::opened_version;
    fields.flags = static_cast<uint16_t>((opened.memory_survives_reset ? wire::memory_survives_reset : 0) |
                                         (opened.msix_table_apart ? wire::msix_table_apart : 0));
    fields.config_bytes = static_cast<uint32_t>(opened.config.size());
    if (opened.config.size() != pci::conventional_config_bytes &&
        opened.config.size() != pci::extended_config_bytes)
        return fail(Errc::no_space, "a config space of {} bytes cannot be lent", opened.config.size());
    for (size_t i = 0; i < opened.vectors.size(); ++i)
        fields.vectors[i] = opened.vectors[i];
    fields.flush_address = opened.flush_address.value;
    std::vector<std::byte> areas;
    size_t area_count = 0;
    for (size_t i = 0; i < opened.bars.size(); ++i) {
        const auto& bar = opened.bars[i];
        area_count += bar.mappable.size();
        fields.bars[i] = {bar.size_bytes, bar.address.value,
                          (bar.readable ? wire::region_readable : 0) |
                              (bar.writable ? wire::region_writable : 0),
                          static_cast<uint32_t>(bar.mappable.size())};
        for (const auto& area : bar.mappable)
            append_packed(areas, wire::Area{area.offset_bytes, area.size_bytes});
    }
    if (area_count > max_loan_areas)
        return fail(Errc::no_space, "{} mappable areas are more than the {} of a loan", area_count,
                    max_loan_areas);
    auto out = bytes_of(fields);
    out.insert(out.end(), areas.begin(), areas.end());
    out.insert(out.end(), opened.config.begin(), opened.config.end());
    return out;
}

namespace {

Result<> check_region(const OpenedRegion& region) {
    if (region.size_bytes == 0) {
        if (!region.mappable.empty() || region.readable || region.writable)
            return fail(Errc::protocol, "a region that does not exist has properties");
        return {};
    }
    if (!std::has_single_bit(region.size_bytes) || region.size_bytes > max_loan_bar_bytes)
        return fail(Errc::protocol, "a BAR of {} bytes: not a power of two up to {}", region.size_bytes,
                    max_loan_bar_bytes);
    TRY(Range<BusAddress>::create(region.address, region.size_bytes));
    uint64_t end = 0;
    for (const auto& area : region.mappable) {
        if (area.size_bytes == 0 || area.offset_bytes < end || area.offset_bytes > region.size_bytes ||
            area.size_bytes > region.size_bytes - area.offset_bytes)
            return fail(Errc::protocol,
                        "the mappable area of {} bytes at {:#x} is empty, overlaps or lies outside",
                        area.size_bytes, area.offset_bytes);
        end = area.offset_bytes + area.size_bytes;
    }
    return {};
}

} // namespace

Result<Opened> decode_opened(std::span<const std::byte> body) {
    const auto fields = TRY(head<wire::Opened>(body));
    if (fields.version != wire::opened_version)
        return fail(Errc::not_supported, "the lender speaks version {} of the loan protocol, we speak {}",
                    static_cast<uint16_t>(fields.version), wire::opened_version);
    TRY(check_zero(fields.reserved));
    TRY(check_zero(fields.flags & ~(wire::memory_survives_reset | wire::msix_table_apart)));
    const uint32_t config_bytes = fields.config_bytes;
    if (config_bytes != pci::conventional_config_bytes && config_bytes != pci::extended_config_bytes)
        return fail(Errc::protocol, "a config space of {} bytes", config_bytes);
    size_t area_count = 0;
    for (const auto& bar : fields.bars) {
        if (bar.areas > max_loan_areas) return fail(Errc::protocol, "too many mappable areas");
        area_count += bar.areas;
    }
    auto rest = body.subspan(sizeof fields);
    if (area_count > max_loan_areas || rest.size() != area_count * sizeof(wire::Area) + config_bytes)
        return fail(Errc::protocol, "an answer of {} bytes does not fit its {} areas and {} of config space",
                    body.size(), area_count, config_bytes);

    Opened opened;
    opened.memory_survives_reset = fields.flags & wire::memory_survives_reset;
    opened.msix_table_apart = fields.flags & wire::msix_table_apart;
    for (size_t i = 0; i < opened.vectors.size(); ++i)
        opened.vectors[i] = std::min<uint32_t>(fields.vectors[i], max_loan_vectors);
    TRY(Range<BusAddress>::create({fields.flush_address}, flush_bytes));
    opened.flush_address = {fields.flush_address};
    for (size_t i = 0; i < opened.bars.size(); ++i) {
        const auto& from = fields.bars[i];
        auto& bar = opened.bars[i];
        TRY(check_zero(from.flags & ~(wire::region_readable | wire::region_writable)));
        bar = {from.size_bytes,
               BusAddress{from.address},
               (from.flags & wire::region_readable) != 0,
               (from.flags & wire::region_writable) != 0,
               {}};
        for (uint32_t area = 0; area < from.areas; ++area) {
            const auto bytes = TRY(head<wire::Area>(rest));
            rest = rest.subspan(sizeof bytes);
            bar.mappable.push_back({bytes.offset_bytes, bytes.size_bytes});
        }
        TRY(check_region(bar));
    }
    opened.config.assign(rest.begin(), rest.end());
    if (opened.msix_table_apart && !has_msix_table(opened))
        return fail(Errc::protocol, "the MSI-X table is said to be apart, but none is lent");
    return opened;
}

} // namespace lanepool::smartio
