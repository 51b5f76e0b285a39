// SPDX-License-Identifier: Apache-2.0
#include "pci/function.h"

#include "base/endian.h"

#include <algorithm>

namespace lanepool::pci {

DmaMapping::DmaMapping(DmaMapping&& other) noexcept
    : function_(std::exchange(other.function_, nullptr)), range_(other.range_) {}

DmaMapping& DmaMapping::operator=(DmaMapping&& other) noexcept {
    if (this != &other) {
        [[maybe_unused]] auto ignored = unmap();
        function_ = std::exchange(other.function_, nullptr);
        range_ = other.range_;
    }
    return *this;
}

// A destructor cannot report; whoever needs to know calls unmap() first.
DmaMapping::~DmaMapping() { [[maybe_unused]] auto ignored = unmap(); }

Result<> DmaMapping::unmap() {
    auto* function = std::exchange(function_, nullptr);
    return function ? function->unmap_dma(*range_) : Result<>{};
}

namespace {

template <class T>
Result<T> read_register(Function& function, Region region, uint64_t offset_bytes) {
    LittleEndian<T> value;
    TRY(function.read(region, offset_bytes, std::as_writable_bytes(std::span(&value, 1))));
    return static_cast<T>(value);
}

template <class T>
Result<> write_register(Function& function, Region region, uint64_t offset_bytes, T value) {
    const LittleEndian<T> bytes = value;
    return function.write(region, offset_bytes, std::as_bytes(std::span(&bytes, 1)));
}

// The part of a peer's region in which every access is a call.
class PeerRegion final : public DmaTarget {
  public:
    PeerRegion(Function& peer, Region region, uint64_t offset_bytes)
        : peer_(peer), region_(region), offset_bytes_(offset_bytes) {}
    Result<> read(uint64_t offset_bytes, std::span<std::byte> data) override {
        return peer_.read(region_, offset_bytes_ + offset_bytes, data);
    }
    Result<> write(uint64_t offset_bytes, std::span<const std::byte> data) override {
        return peer_.write(region_, offset_bytes_ + offset_bytes, data);
    }

  private:
    Function& peer_;
    Region region_;
    uint64_t offset_bytes_;
};

} // namespace

Result<uint8_t> read8(Function& f, Region region, uint64_t offset_bytes) {
    return read_register<uint8_t>(f, region, offset_bytes);
}
Result<uint16_t> read16(Function& f, Region region, uint64_t offset_bytes) {
    return read_register<uint16_t>(f, region, offset_bytes);
}
Result<uint32_t> read32(Function& f, Region region, uint64_t offset_bytes) {
    return read_register<uint32_t>(f, region, offset_bytes);
}
Result<uint64_t> read64(Function& f, Region region, uint64_t offset_bytes) {
    return read_register<uint64_t>(f, region, offset_bytes);
}
Result<> write8(Function& f, Region region, uint64_t offset_bytes, uint8_t value) {
    return write_register(f, region, offset_bytes, value);
}
Result<> write16(Function& f, Region region, uint64_t offset_bytes, uint16_t value) {
    return write_register(f, region, offset_bytes, value);
}
Result<> write32(Function& f, Region region, uint64_t offset_bytes, uint32_t value) {
    return write_register(f, region, offset_bytes, value);
}
Result<> write64(Function& f, Region region, uint64_t offset_bytes, uint64_t value) {
    return write_register(f, region, offset_bytes, value);
}

Result<std::vector<DmaMapping>> map_peer(Function& function, Iova iova, Function& peer, Region region,
                                         uint64_t offset_bytes, uint64_t size_bytes, Access access) {
    TRY(Range<Iova>::create(iova, size_bytes));
    const uint64_t region_bytes = peer.region(region).size_bytes;
    if (offset_bytes > region_bytes || size_bytes > region_bytes - offset_bytes)
        return fail(Errc::out_of_range, "{} bytes at offset {:#x} lie outside of a region of {} bytes",
                    size_bytes, offset_bytes, region_bytes);

    auto extents = TRY(peer.memory(region, offset_bytes, size_bytes));
    std::sort(extents.begin(), extents.end(),
              [](auto& a, auto& b) { return a.offset_bytes < b.offset_bytes; });
    std::vector<DmaMapping> mappings;
    const auto map_calls = [&](uint64_t from, uint64_t to) -> Result<> {
        if (from == to) return {};
        const auto range = TRY(Range<Iova>::create(iova + (from - offset_bytes), to - from));
        mappings.push_back(
            TRY(function.map_dma(range, std::make_shared<PeerRegion>(peer, region, from), access)));
        return {};
    };
    uint64_t position = offset_bytes;
    const uint64_t end = offset_bytes + size_bytes;
    for (const auto& extent : extents) {
        if (extent.offset_bytes < position || extent.offset_bytes > end ||
            extent.memory.size_bytes > end - extent.offset_bytes)
            return fail(Errc::protocol,
                        "the memory behind a region overlaps or lies outside of what was asked for");
        TRY(map_calls(position, extent.offset_bytes));
        const auto range =
            TRY(Range<Iova>::create(iova + (extent.offset_bytes - offset_bytes), extent.memory.size_bytes));
        mappings.push_back(TRY(function.map_dma(range, extent.memory, access)));
        position = extent.offset_bytes + extent.memory.size_bytes;
    }
    TRY(map_calls(position, end));
    return mappings;
}

} // namespace lanepool::pci
