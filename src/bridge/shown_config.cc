// SPDX-License-Identifier: Apache-2.0
#include "bridge/shown_config.h"

#include "pci/config_space.h"
#include "smartio/capability_filter.h"
#include "smartio/msix_capability.h"

#include <algorithm>
#include <bit>

namespace lanepool::bridge {

namespace {

using namespace pci::config;
using smartio::KeptMessages;
using smartio::MsixCapability;
using Vectors = ShownConfig::Vectors;

// Registers of the capabilities, as offsets in them.
namespace pm { // PCI Bus Power Management Interface Specification 1.2, 3.2
constexpr size_t capabilities_register = 2;
constexpr uint16_t version_and_clock = 0x002f; // and what initialisation a device needs; no PME, D1, D2
constexpr size_t control = 4;
constexpr uint16_t power_state = 0x0003;
constexpr uint16_t no_soft_reset = 1 << 3;
constexpr size_t data = 6;
} // namespace pm
namespace msi { // PCI Local Bus Specification 3.0, 6.8.1
constexpr size_t control = 2;
constexpr unsigned capable_shift = 1; // 3 bits: log2 of the vectors it can have
constexpr uint16_t capable = 7 << capable_shift;
constexpr uint16_t address_64 = 1 << 7;
constexpr size_t length_32 = 10;
constexpr size_t length_64 = 14;
constexpr unsigned max_vectors_log2 = 5;
} // namespace msi
namespace express { // PCI Express Base Specification 5.0, 7.5.3
constexpr size_t flags = 2;
constexpr unsigned type_shift = 4;
constexpr size_t device_control = 8;
constexpr uint16_t initiate_flr = 1 << 15;
constexpr size_t device_status = 0x0a;
constexpr uint16_t errors_detected = 0x000f;
constexpr size_t link_control = 0x10;
constexpr uint16_t link_control_writable =
    0x01c3; // ASPM, common clock, extended synch, clock power management
constexpr size_t device_capabilities_2 = 0x24;
constexpr uint32_t ltr_and_obff = 1u << 11 | 3u << 18; // platform mechanisms, which do not cross the fabric
constexpr size_t device_control_2 = 0x28;
constexpr uint16_t device_control_2_writable = 0x03ff;
} // namespace express

constexpr uint32_t bar_io = 1;
constexpr uint32_t bar_type = 6;
constexpr uint32_t bar_type_64 = 4;
constexpr uint32_t bar_prefetchable = 8;
constexpr uint16_t status_errors = 0xf900; // those that a written one clears
constexpr uint32_t most_msix_vectors = 2048;

uint32_t byte_at(std::span<const std::byte> config, size_t offset) {
    return std::to_integer<uint32_t>(config[offset]);
}

Result<> check_endpoint(std::span<const std::byte> config) {
    if (config.size() != pci::conventional_config_bytes && config.size() != pci::extended_config_bytes)
        return fail(Errc::protocol, "a config space of {} bytes", config.size());
    const uint16_t vendor = pci::get16(config, vendor_id);
    if (vendor == 0xffff) return fail(Errc::protocol, "config space reads all-ones: the device is gone");
    if (vendor == 0) return fail(Errc::protocol, "a config space without a vendor");
    constexpr uint32_t layout = 0x7f; // of the header type; the other bit says multi-function
    if ((byte_at(config, header_type) & layout) != 0)
        return fail(Errc::protocol, "header type {:#x} is not an endpoint's", byte_at(config, header_type));
    constexpr uint32_t bridge_class = 6; // PCI Code and ID Assignment Specification 1.7
    if (byte_at(config, class_code + 2u) == bridge_class)
        return fail(Errc::not_supported, "bridges cannot be shown to a host's own kernel");
    return {};
}

Result<ShownBar> shown_bar(const DeviceConfig& device, unsigned bar) {
    const uint64_t size = device.bar_bytes[bar];
    const uint32_t flags = pci::get32(device.config, bar0 + size_t{bar} * 4);
    if (size == 0 || (flags & bar_io)) return ShownBar{};
    const bool is_64bit = (flags & bar_type) == bar_type_64;
    if (!std::has_single_bit(size) || size < 16)
        return fail(Errc::protocol, "BAR {} has {} bytes, which no BAR can have", bar, size);
    if ((flags & bar_type) != 0 && !is_64bit)
        return fail(Errc::protocol, "BAR {} is of a kind that does not exist ({:#x})", bar, flags & 0xf);
    if (!is_64bit && size > uint64_t{1} << 31)
        return fail(Errc::protocol, "BAR {} of {} bytes does not fit into 32 bits", bar, size);
    if (is_64bit && (bar + 1 >= pci::bar_count || device.bar_bytes[bar + 1] != 0))
        return fail(Errc::protocol, "BAR {} has 64 bits but BAR {} is not its upper half", bar, bar + 1);
    return ShownBar{size, is_64bit, (flags & bar_prefetchable) != 0};
}

void copy_bytes(std::span<const std::byte> from, std::span<std::byte> to, size_t offset, size_t size) {
    std::ranges::copy(from.subspan(offset, size), to.begin() + static_cast<std::ptrdiff_t>(offset));
}

void make_header(std::span<const std::byte> config, ShownConfig& shown) {
    copy_bytes(config, shown.values, vendor_id, 4);
    copy_bytes(config, shown.values, revision, 4); // and class code
    copy_bytes(config, shown.values, subsystem_vendor_id, 4);
    if (shown.values[capabilities] != std::byte{0})
        pci::set16(shown.values, status, pci::status::capabilities_list);
    pci::set16(shown.cleared, status, status_errors);
    shown.writable[0x0c] = std::byte{0xff}; // cache line size: no meaning in PCI Express, but writable
    pci::set16(shown.noticed, command, pci::command::memory_space | pci::command::bus_master);
}

// The device stays the judge of what its states lose (No_Soft_Reset).
void make_power_management(size_t at, ShownConfig& shown) {
    auto& to = shown.values;
    pci::set16(to, at + pm::capabilities_register,
               pci::get16(to, at + pm::capabilities_register) & pm::version_and_clock);
    pci::set16(to, at + pm::control, pci::get16(to, at + pm::control) & pm::no_soft_reset);
    pci::set16(to, at + pm::data, 0);
    pci::set16(shown.writable, at + pm::control, pm::power_state);
    pci::set16(shown.noticed, at + pm::control, pm::power_state);
}

Result<> make_express(size_t at, ShownConfig& shown) {
    auto& to = shown.values;
    const uint16_t flags = pci::get16(to, at + express::flags);
    const unsigned type = flags >> express::type_shift & 0xfu;
    if (type != 0 && type != 1 && type != 9) // endpoint, legacy endpoint, root complex integrated endpoint
        return fail(Errc::protocol, "the PCI Express capability at {:#x} is not an endpoint's but of type {}",
                    at, type);
    const uint16_t control = pci::get16(to, at + express::device_control);
    pci::set16(to, at + express::device_control, control & static_cast<uint16_t>(~express::initiate_flr));
    pci::set16(to, at + express::device_status, 0);
    pci::set16(shown.writable, at + express::device_control, static_cast<uint16_t>(~express::initiate_flr));
    pci::set16(shown.cleared, at + express::device_status, express::errors_detected);
    pci::set16(shown.writable, at + express::link_control, express::link_control_writable);
    if ((flags & 0xf) < 2) return {};
    const uint32_t abilities = pci::get32(to, at + express::device_capabilities_2);
    pci::set32(to, at + express::device_capabilities_2, abilities & ~express::ltr_and_obff);
    pci::set16(to, at + express::device_control_2, 0);
    pci::set16(shown.writable, at + express::device_control_2, express::device_control_2_writable);
    return {};
}

bool fits(const smartio::BarPart& part, const std::array<ShownBar, pci::bar_count>& bars) {
    if (part.bar >= bars.size()) return false;
    const uint64_t size = bars[part.bar].size_bytes;
    return part.offset_bytes <= size && part.size_bytes <= size - part.offset_bytes;
}

// Offset of the device's MSI capability, 0: none. Doubles are for copy_kept_capabilities() to refuse.
Result<size_t> find_msi(std::span<const std::byte> config) {
    for (const auto& entry : TRY(pci::capabilities(config)))
        if (static_cast<pci::Capability>(entry.id) == pci::Capability::msi) return entry.offset;
    return 0;
}

// How the function is to signal, and how many vectors the device has for that.
struct Messages {
    Vectors shown = Vectors::none;
    KeptMessages kept = KeptMessages::none; // whose place is used
    uint32_t vectors = 0;
};

Result<Messages> choose_messages(const DeviceConfig& device,
                                 const std::array<ShownBar, pci::bar_count>& bars) {
    const auto msix = TRY(smartio::find_msix(device.config));
    if (msix && device.msix_vectors != 0) {
        const uint32_t vectors = std::min({msix->vectors, device.msix_vectors, most_msix_vectors});
        const bool table_is_seen = fits(msix->table, bars) && fits(msix->pending, bars);
        return Messages{device.msix_table_apart && table_is_seen ? Vectors::msix : Vectors::msi,
                        KeptMessages::msix, vectors};
    }
    const size_t msi = TRY(find_msi(device.config));
    if (msi != 0 && device.msi_vectors != 0) {
        const uint32_t real =
            1u << ((pci::get16(device.config, msi + msi::control) & msi::capable) >> msi::capable_shift);
        return Messages{Vectors::msi, KeptMessages::msi, std::min(real, device.msi_vectors)};
    }
    if (msix || msi != 0)
        return fail(Errc::not_supported,
                    "the device has {}, of which its lender signals no vector: a driver would wait for "
                    "interrupts for ever",
                    msix ? "MSI-X" : "MSI");
    if (device.config[interrupt_pin] != std::byte{0})
        return fail(Errc::not_supported,
                    "the device interrupts by a line (INTx) only, and a host's own kernel can be shown MSI "
                    "and MSI-X: lend it to a guest instead");
    return Messages{};
}

size_t msi_length(std::span<const std::byte> config, size_t at) { // without masks and pending bits
    return pci::get16(config, at + msi::control) & msi::address_64 ? msi::length_64 : msi::length_32;
}

// In the place of the device's own, or of its MSI-X, of which LENGTH bytes are there; the pointer to the next
// one stays. What MSI-X takes is enough for an address of 32 bits, and nothing is ever sent to it.
void make_msi(size_t at, size_t length, uint32_t vectors, ShownConfig& shown) {
    const unsigned log2 =
        std::min<unsigned>(msi::max_vectors_log2, static_cast<unsigned>(std::bit_width(vectors)) - 1);
    const uint16_t address = length >= msi::length_64 ? msi::address_64 : uint16_t{0};
    shown.values[at] = static_cast<std::byte>(pci::Capability::msi);
    std::ranges::fill(std::span(shown.values).subspan(at + msi::control, length - msi::control),
                      std::byte{0});
    pci::set16(shown.values, at + msi::control, static_cast<uint16_t>(log2 << msi::capable_shift | address));
    shown.vectors = Vectors::msi;
    shown.vector_count = 1u << log2;
}

void make_msix(size_t at, uint32_t vectors, ShownConfig& shown) {
    pci::set16(shown.values, at + MsixCapability::control, static_cast<uint16_t>(vectors - 1));
    shown.vectors = Vectors::msix;
    shown.vector_count = vectors;
}

} // namespace

Result<Shown> shown_config(const DeviceConfig& device) {
    TRY(check_endpoint(device.config));
    Shown shown;
    for (unsigned bar = 0; bar < pci::bar_count; ++bar)
        shown.bars[bar] = TRY(shown_bar(device, bar));
    const auto messages = TRY(choose_messages(device, shown.bars));

    auto& config = shown.config;
    config.values.resize(device.config.size());
    for (auto* mask : {&config.writable, &config.cleared, &config.noticed})
        mask->resize(pci::extended_config_bytes);
    const auto kept = TRY(smartio::copy_kept_capabilities(device.config, config.values, messages.kept));
    config.values.resize(pci::extended_config_bytes);
    make_header(device.config, config);
    if (kept.power_management) {
        make_power_management(kept.power_management, config);
        shown.registers.power_state = static_cast<uint32_t>(kept.power_management + pm::control);
    }
    if (kept.pci_express) TRY(make_express(kept.pci_express, config));
    if (messages.shown == Vectors::msix) {
        make_msix(kept.msix, messages.vectors, config);
    } else if (messages.shown == Vectors::msi) {
        const size_t at = kept.msi ? kept.msi : kept.msix;
        make_msi(at, kept.msi ? msi_length(config.values, at) : MsixCapability::length, messages.vectors,
                 config);
    }
    shown.by_msix = messages.kept == KeptMessages::msix;
    return shown;
}

Result<std::array<Bar, pci::bar_count>> described_bars(const Shown& shown,
                                                       std::span<const MemoryRef, pci::bar_count> memory) {
    std::array<Bar, pci::bar_count> bars;
    for (size_t i = 0; i < bars.size(); ++i) {
        const auto& bar = shown.bars[i];
        if (bar.size_bytes == 0) continue;
        if (memory[i].size_bytes != bar.size_bytes || !memory[i].fd)
            return fail(Errc::not_supported,
                        "BAR {} of {} bytes cannot be shown to this host's kernel: {} bytes of it are memory "
                        "of the adapter's in one piece",
                        i, bar.size_bytes, memory[i].fd ? memory[i].size_bytes : 0);
        bars[i] = {memory[i], bar.is_64bit, bar.prefetchable};
    }
    return bars;
}

} // namespace lanepool::bridge
