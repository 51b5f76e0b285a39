// SPDX-License-Identifier: Apache-2.0
#include "smartio/config_shadow.h"

#include "pci/config_space.h"
#include "smartio/capability_filter.h"

#include <algorithm>
#include <bit>

namespace lanepool::smartio {

namespace {

using namespace pci::config;

// Registers of the capabilities, as offsets in them.
namespace pm { // PCI Bus Power Management Interface Specification 1.2, 3.2
constexpr size_t capabilities_register = 2;
constexpr uint16_t pme_support = 0xf800;
constexpr size_t control = 4;
constexpr uint16_t power_state = 0x0003;
constexpr uint16_t no_soft_reset = 1 << 3;
constexpr size_t data = 6;
} // namespace pm
namespace msi { // PCI Local Bus Specification 3.0, 6.8.1
constexpr size_t control = 2;
constexpr uint16_t enable = 1 << 0;
constexpr uint16_t capable_shift = 1; // 3 bits: log2 of the vectors it can have
constexpr uint16_t capable = 7 << capable_shift;
constexpr uint16_t multiple_enable = 7 << 4;
constexpr uint16_t address_64 = 1 << 7;
constexpr size_t address = 4;
constexpr unsigned max_vectors_log2 = 5;
} // namespace msi
namespace express { // PCI Express Base Specification, 7.5.3
constexpr size_t device_capabilities = 4;
constexpr uint32_t flr_capable = 1u << 28;
constexpr size_t device_control = 8;
constexpr uint16_t initiate_flr = 1 << 15;
constexpr size_t device_status = 0x0a;
constexpr size_t link_control = 0x10;
constexpr uint16_t link_control_writable =
    0x01c3; // ASPM, common clock, extended synch, clock power management
constexpr size_t device_capabilities_2 = 0x24;
constexpr uint32_t ltr_and_obff = 1u << 11 | 3u << 18; // platform mechanisms, which do not cross the fabric
constexpr size_t device_control_2 = 0x28;
} // namespace express

// No guest reads more of config space at a time, and no capability has this id (PCI Code and ID Assignment
// Specification, chapter 2).
constexpr size_t largest_guest_read = 4;
constexpr std::byte unused_capability{0x7f};

constexpr uint32_t bar_io = 1;
constexpr uint32_t bar_type = 6;
constexpr uint32_t bar_type_64 = 4;
constexpr uint32_t bar_flags = 0xf;

void copy_bytes(std::span<const std::byte> from, std::span<std::byte> to, size_t offset, size_t size) {
    std::ranges::copy(from.subspan(offset, size), to.begin() + static_cast<std::ptrdiff_t>(offset));
}

void copy_header(const ShadowSource& source, std::span<std::byte> to) {
    copy_bytes(source.config, to, vendor_id, 4);
    copy_bytes(source.config, to, revision, 4); // and class code
    copy_bytes(source.config, to, subsystem_vendor_id, 4);
    if (source.intx_vectors > 0) copy_bytes(source.config, to, interrupt_pin, 1);
}

void header_masks(std::span<std::byte> writable, bool interrupt_line_writable) {
    constexpr uint16_t parity_and_serr = 1 << 6 | 1 << 8; // kept for the guest to read back, no more
    pci::set16(writable, command, ConfigShadow::forwarded_command_bits | parity_and_serr);
    writable[0x0c] =
        std::byte{0xff}; // cache line size: PCI Express gives it no meaning but keeps it writable
    if (interrupt_line_writable) writable[interrupt_line] = std::byte{0xff};
}

// The registers of BAR: its flags and, in WRITABLE, the bits that its size leaves to the address.
Result<bool> emulate_bar(const ShadowSource& source, unsigned bar, std::span<std::byte> to,
                         std::span<std::byte> writable) {
    const uint64_t size = source.bar_bytes[bar];
    const size_t offset = bar0 + size_t{bar} * 4;
    const uint32_t flags = pci::get32(source.config, offset) & bar_flags;
    if (size == 0 || (flags & bar_io)) return false;
    const bool is_64 = (flags & bar_type) == bar_type_64;
    if (!std::has_single_bit(size) || size < 16)
        return fail(Errc::protocol, "BAR {} has {} bytes, which no BAR can have", bar, size);
    if ((flags & bar_type) != 0 && !is_64)
        return fail(Errc::protocol, "BAR {} is of a kind that does not exist ({:#x})", bar, flags);
    if (!is_64 && size > uint64_t{1} << 31)
        return fail(Errc::protocol, "BAR {} of {} bytes does not fit into 32 bits", bar, size);
    if (is_64 && (bar + 1 >= pci::bar_count || source.bar_bytes[bar + 1] != 0))
        return fail(Errc::protocol, "BAR {} has 64 bits but BAR {} is not its upper half", bar, bar + 1);
    const uint64_t mask = ~(size - 1);
    pci::set32(to, offset, flags);
    pci::set32(writable, offset, static_cast<uint32_t>(mask));
    if (is_64) pci::set32(writable, offset + 4, static_cast<uint32_t>(mask >> 32));
    return true;
}

// Power states are emulated: the device stays in D0, so that nothing is lost on the way back (No_Soft_Reset),
// and no PME is promised.
void emulate_power_management(size_t at, std::span<std::byte> to, std::span<std::byte> writable) {
    const uint16_t abilities = pci::get16(to, at + pm::capabilities_register);
    pci::set16(to, at + pm::capabilities_register, abilities & static_cast<uint16_t>(~pm::pme_support));
    pci::set16(to, at + pm::control, pm::no_soft_reset);
    pci::set16(to, at + pm::data, 0);
    pci::set16(writable, at + pm::control, pm::power_state);
}

// Kept only for the client to find: QEMU programs the interrupts through SET_IRQS.
void emulate_msi(size_t at, uint32_t vectors, std::span<std::byte> to, std::span<std::byte> writable) {
    const uint16_t real = pci::get16(to, at + msi::control);
    const unsigned most =
        std::min<unsigned>(msi::max_vectors_log2, static_cast<unsigned>(std::bit_width(vectors)) - 1);
    const unsigned log2 = std::min<unsigned>((real & msi::capable) >> msi::capable_shift, most);
    const bool is_64 = real & msi::address_64;
    pci::set16(to, at + msi::control,
               static_cast<uint16_t>(log2 << msi::capable_shift | (is_64 ? msi::address_64 : 0)));
    pci::set16(writable, at + msi::control, msi::enable | msi::multiple_enable);
    for (size_t i = msi::address; i < (is_64 ? 14u : 10u); ++i) {
        to[at + i] = std::byte{0};
        writable[at + i] = std::byte{0xff};
    }
    writable[at + msi::address] = std::byte{0xfc}; // addresses of double words
}

// The guest's own: only what it sees of the table's size and place is the device's.
void emulate_msix(const MsixCapability& msix, std::span<std::byte> to, std::span<std::byte> writable) {
    pci::set16(to, msix.offset + MsixCapability::control, static_cast<uint16_t>(msix.vectors - 1));
    pci::set16(writable, msix.offset + MsixCapability::control,
               MsixCapability::enable | MsixCapability::function_mask);
}

// Whether PART lies in a BAR that has room for it.
bool fits(const BarPart& part, const ShadowSource& source) {
    if (part.bar >= pci::bar_count) return false;
    const uint64_t size = source.bar_bytes[part.bar];
    const bool io = pci::get32(source.config, bar0 + size_t{part.bar} * 4) & bar_io;
    return !io && part.offset_bytes <= size && part.size_bytes <= size - part.offset_bytes;
}

// The capability that the guest is shown where the device has no MSI: none where it makes no sense.
Result<std::optional<MsixCapability>> usable_msix(const ShadowSource& source) {
    if (source.msix_vectors == 0 || source.msi_vectors > 0) return std::nullopt;
    auto msix = TRY(find_msix(source.config));
    if (!msix || !fits(msix->table, source) || !fits(msix->pending, source) ||
        msix->table.overlaps(msix->pending.bar, msix->pending.offset_bytes, msix->pending.size_bytes))
        return std::nullopt;
    msix->vectors = std::min(msix->vectors, source.msix_vectors);
    return msix;
}

// Returns whether there is a function-level reset.
bool emulate_express(size_t at, std::span<std::byte> to, std::span<std::byte> writable) {
    const bool version_2 = (pci::get16(to, at + 2) & 0xf) >= 2;
    const uint16_t control = pci::get16(to, at + express::device_control);
    pci::set16(to, at + express::device_control, control & static_cast<uint16_t>(~express::initiate_flr));
    pci::set16(to, at + express::device_status, 0);
    pci::set16(writable, at + express::device_control, static_cast<uint16_t>(~express::initiate_flr));
    pci::set16(writable, at + express::link_control, express::link_control_writable);
    if (version_2) {
        const uint32_t abilities = pci::get32(to, at + express::device_capabilities_2);
        pci::set32(to, at + express::device_capabilities_2, abilities & ~express::ltr_and_obff);
        pci::set16(to, at + express::device_control_2, 0);
        pci::set16(writable, at + express::device_control_2, 0x03ff);
    }
    return pci::get32(to, at + express::device_capabilities) & express::flr_capable;
}

} // namespace

Result<ConfigShadow> ConfigShadow::create(const ShadowSource& source) {
    const size_t size = source.config.size();
    if (size != pci::conventional_config_bytes && size != pci::extended_config_bytes)
        return fail(Errc::protocol, "a config space of {} bytes", size);
    constexpr unsigned layout = 0x7f; // of the header type; the other bit says multi-function
    if ((std::to_integer<unsigned>(source.config[header_type]) & layout) != 0)
        return fail(Errc::protocol, "header type {:#x} is not an endpoint's",
                    std::to_integer<unsigned>(source.config[header_type]));
    if (pci::get16(source.config, vendor_id) == 0xffff)
        return fail(Errc::protocol, "config space reads all-ones: the device is gone");

    ConfigShadow shadow;
    shadow.initial_.resize(size);
    shadow.writable_.resize(size);
    auto& to = shadow.initial_;
    auto& writable = shadow.writable_;
    copy_header(source, to);
    header_masks(writable, source.intx_vectors > 0);
    for (unsigned bar = 0; bar < pci::bar_count; ++bar)
        shadow.bar_visible_[bar] = TRY(emulate_bar(source, bar, to, writable));

    shadow.msix_ = TRY(usable_msix(source));
    const auto messages = source.msi_vectors > 0 ? KeptMessages::msi
                          : shadow.msix_         ? KeptMessages::msix
                                                 : KeptMessages::none;
    const auto kept = TRY(copy_kept_capabilities(source.config, to, messages));
    if (kept.power_management) emulate_power_management(kept.power_management, to, writable);
    if (kept.msi) emulate_msi(kept.msi, source.msi_vectors, to, writable);
    if (shadow.msix_) emulate_msix(*shadow.msix_, to, writable);
    if (kept.pci_express && emulate_express(kept.pci_express, to, writable))
        shadow.flr_offset_ = kept.pci_express + express::device_control + 1;
    if (to[capabilities] != std::byte{0}) pci::set16(to, status, pci::status::capabilities_list);
    shadow.values_ = to;
    return shadow;
}

Result<> ConfigShadow::read(uint64_t offset_bytes, std::span<std::byte> data) const {
    if (offset_bytes > values_.size() || data.size() > values_.size() - offset_bytes)
        return fail(Errc::out_of_range, "{} bytes at {:#x} lie outside of config space", data.size(),
                    offset_bytes);
    std::ranges::copy(std::span(values_).subspan(offset_bytes, data.size()), data.begin());
    if (data.size() > largest_guest_read && msix_ && msix_->offset >= offset_bytes &&
        msix_->offset - offset_bytes < data.size())
        data[msix_->offset - offset_bytes] = unused_capability;
    return {};
}

Result<ShadowEffects> ConfigShadow::write(uint64_t offset_bytes, std::span<const std::byte> data) {
    if (offset_bytes > values_.size() || data.size() > values_.size() - offset_bytes)
        return fail(Errc::out_of_range, "{} bytes at {:#x} lie outside of config space", data.size(),
                    offset_bytes);
    const auto covers = [&](size_t offset) {
        return offset >= offset_bytes && offset - offset_bytes < data.size();
    };
    ShadowEffects effects;
    if (flr_offset_ != 0 && covers(flr_offset_) &&
        (data[flr_offset_ - offset_bytes] & std::byte{express::initiate_flr >> 8}) != std::byte{0}) {
        reset();
        effects.reset = true;
        return effects;
    }
    const uint16_t before = pci::get16(values_, command) & forwarded_command_bits;
    const uint16_t msix_before = msix_control();
    for (size_t i = 0; i < data.size(); ++i) {
        auto& value = values_[offset_bytes + i];
        const auto mask = writable_[offset_bytes + i];
        value = (value & ~mask) | (data[i] & mask);
    }
    const uint16_t after = pci::get16(values_, command) & forwarded_command_bits;
    if (after != before) effects.command = after;
    effects.msix = msix_control() != msix_before;
    return effects;
}

void ConfigShadow::reset() { values_ = initial_; }

uint16_t ConfigShadow::msix_control() const {
    return msix_ ? pci::get16(values_, msix_->offset + MsixCapability::control) : uint16_t{0};
}
bool ConfigShadow::msix_enabled() const { return msix_control() & MsixCapability::enable; }
bool ConfigShadow::msix_masked() const { return msix_control() & MsixCapability::function_mask; }

void ConfigShadow::set_interrupt_status(bool pending) {
    const uint16_t other = pci::get16(values_, status) & static_cast<uint16_t>(~pci::status::interrupt);
    pci::set16(values_, status, pending ? other | pci::status::interrupt : other);
}

} // namespace lanepool::smartio
