// SPDX-License-Identifier: Apache-2.0
//
// The first bytes choose BAR sizes, vectors and whether the MSI-X table is apart; then comes the config space
// of a hostile lender's device. Whatever it is, what a host's own kernel is shown is what the module takes:
// sound chains of capabilities that concern the borrower alone, and nothing of what is hidden.
#include "bridge/module_rules_for_test.h"
#include "bridge/shown_config.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

using namespace lanepool;

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

constexpr size_t front_bytes = 12;

bridge::DeviceConfig device_of(const uint8_t* data, std::span<const std::byte> config) {
    bridge::DeviceConfig device{config, {}, 0, 0, (data[6] & 1) != 0};
    for (size_t i = 0; i < device.bar_bytes.size(); ++i)
        device.bar_bytes[i] = data[i] ? uint64_t{1} << (data[i] % 41) : 0;
    device.msi_vectors = data[8];
    device.msix_vectors = data[9] | static_cast<uint32_t>(data[10]) << 8;
    return device;
}

// Kept are those that the module takes, less those that lead to registers of their own.
void check_kept(const bridge::ShownConfig& config) {
    const auto chain = pci::capabilities(config.values);
    require(chain.has_value());
    std::vector<bool> in_chain(pci::extended_config_bytes);
    for (const auto& entry : *chain) {
        require(entry.id == 0x01 || entry.id == 0x05 || entry.id == 0x09 || entry.id == 0x10 ||
                entry.id == 0x11);
        require(!in_chain[entry.offset]);
        in_chain[entry.offset] = true;
    }
    const auto extended = pci::extended_capabilities(config.values);
    require(extended.has_value());
    size_t shown = 0;
    for (const auto& entry : *extended) {
        require(entry.id == 0x03 || (entry.id == 0 && entry.offset == 0x100));
        shown += entry.id == 0x03 ? 12 : 4;
    }
    // Beside serial numbers not a byte is left of extended space.
    const auto rest = std::span(config.values).subspan(0x100);
    require(static_cast<size_t>(std::ranges::count_if(rest, [](std::byte b) { return b != std::byte{0}; })) <=
            shown);
}

// Drivers write registers of known capabilities only, never what leads from one to the next.
void check_masks(const bridge::Shown& shown) {
    const auto& config = shown.config;
    const auto chain = pci::capabilities(config.values);
    for (const auto& entry : *chain)
        for (size_t at = entry.offset; at < entry.offset + 2u; ++at)
            require(config.writable[at] == std::byte{0} && config.cleared[at] == std::byte{0});
    for (size_t at = 0x100; at < pci::extended_config_bytes; ++at)
        require(config.writable[at] == std::byte{0} && config.cleared[at] == std::byte{0} &&
                config.noticed[at] == std::byte{0});
    if (shown.registers.power_state) {
        require(*shown.registers.power_state < pci::conventional_config_bytes);
        require(pci::get16(config.noticed, *shown.registers.power_state) == 3);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < front_bytes) return 0;
    // A short input stands for an image whose rest is zero.
    std::vector<std::byte> image(data[7] & 1 ? pci::extended_config_bytes : pci::conventional_config_bytes);
    std::memcpy(image.data(), data + front_bytes, std::min(image.size(), size - front_bytes));
    const auto shown = bridge::shown_config(device_of(data, image));
    if (!shown) return 0;
    bridge::test::BarBytes bars;
    std::ranges::transform(shown->bars, bars.begin(), &bridge::ShownBar::size_bytes);
    require(bridge::test::module_takes(shown->config, bars).has_value());
    check_kept(shown->config);
    check_masks(*shown);
    return 0;
}
