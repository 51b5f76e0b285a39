// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lanepool::smartio {

// What a function writes to signal: DATA to ADDRESS of its host.
struct MsixMessage {
    uint64_t address = 0;
    uint32_t data = 0;
    bool operator==(const MsixMessage&) const = default;
};

// The MSI-X table and pending bits that a borrower's guest programs (PCI Express Base Specification 6.1.4,
// 7.7.2). Pure: it says which vectors have to be signalled now, and how.
class MsixTable {
  public:
    explicit MsixTable(uint32_t vectors) : entries_(vectors) { reset(); }

    // As after a reset: every vector masked, MSI-X off.
    void reset();

    // Ranges of the table and of the pending bit array; what lies beyond reads as zero and is not written.
    // Writing answers the vectors that were pending and are masked no more: signal() them.
    void read_table(uint64_t offset_bytes, std::span<std::byte> data) const;
    std::vector<uint32_t> write_table(uint64_t offset_bytes, std::span<const std::byte> data);
    void read_pending(uint64_t offset_bytes, std::span<std::byte> data) const;

    // What the capability's control register says. Answers as write_table().
    std::vector<uint32_t> set_control(bool enabled, bool masked);
    bool enabled() const { return enabled_; }

    // The device has signalled VECTOR: what the guest is to be told, or nothing while it does not want to
    // hear it; then the vector is pending.
    std::optional<MsixMessage> signal(uint32_t vector);

    // How many vectors have to be set up for what the guest uses: up to the last one with an address. None
    // while all are masked or MSI-X is off.
    uint32_t wanted() const;

  private:
    struct Entry {
        uint64_t address = 0;
        uint32_t data = 0;
        bool masked = true;
        bool pending = false;
    };
    std::vector<uint32_t> due() const;
    static uint32_t word(const Entry& entry, unsigned index);
    static void set_word(Entry& entry, unsigned index, uint32_t value);

    std::vector<Entry> entries_;
    bool enabled_ = false;
    bool masked_ = false;
};

} // namespace lanepool::smartio
