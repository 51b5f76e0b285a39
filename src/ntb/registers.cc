// SPDX-License-Identifier: Apache-2.0
#include "ntb/registers.h"

#include <limits>

namespace lanepool::ntb {

namespace {
constexpr auto gas = pci::Region::bar0;

template <class T>
Result<T> live(Result<T> value, uint64_t offset_bytes) {
    if (value && *value == std::numeric_limits<T>::max())
        return fail(Errc::disconnected, "register {:#x} of the adapter reads all-ones: the adapter has gone",
                    offset_bytes);
    return value;
}
} // namespace

Result<uint8_t> Registers::read8(uint64_t offset_bytes) const {
    return live(pci::read8(*function_, gas, offset_bytes), offset_bytes);
}
Result<uint16_t> Registers::read16(uint64_t offset_bytes) const {
    return live(pci::read16(*function_, gas, offset_bytes), offset_bytes);
}
Result<uint32_t> Registers::read32(uint64_t offset_bytes) const {
    return live(pci::read32(*function_, gas, offset_bytes), offset_bytes);
}
Result<uint32_t> Registers::read_text(uint64_t offset_bytes) const {
    return pci::read32(*function_, gas, offset_bytes);
}
Result<uint64_t> Registers::read_partition_map(uint64_t offset_bytes) const {
    // All of the first 32 partitions may be there; there are 48, so that the upper half is never all-ones.
    const uint64_t low = TRY(pci::read32(*function_, gas, offset_bytes));
    const uint64_t high = TRY(read32(offset_bytes + 4));
    return low | high << 32;
}
Result<> Registers::write8(uint64_t offset_bytes, uint8_t value) const {
    return pci::write8(*function_, gas, offset_bytes, value);
}
Result<> Registers::write32(uint64_t offset_bytes, uint32_t value) const {
    return pci::write32(*function_, gas, offset_bytes, value);
}
Result<> Registers::write64(uint64_t offset_bytes, uint64_t value) const {
    return pci::write64(*function_, gas, offset_bytes, value);
}

} // namespace lanepool::ntb
