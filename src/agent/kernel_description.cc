// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel_description.h"

#include "pci/config_space.h"

namespace lanepool::agent {

namespace {

bridge::DeviceConfig config_of(const ReachedDevice& device) {
    bridge::DeviceConfig described{};
    described.config = device.config;
    for (size_t i = 0; i < device.bars.size(); ++i)
        described.bar_bytes[i] = device.bars[i].size_bytes;
    described.msi_vectors = described.msix_vectors = device.interrupts;
    described.msix_table_apart = device.msix_table_apart;
    return described;
}

} // namespace

Result<Described> describe(const ReachedDevice& device) {
    auto shown = TRY(bridge::shown_config(config_of(device)));
    std::array<MemoryRef, pci::bar_count> memory;
    for (size_t i = 0; i < memory.size(); ++i)
        memory[i] = device.bars[i].card_memory;
    Described described;
    described.function.bars = TRY(bridge::described_bars(shown, memory));
    described.function.config = std::move(shown.config);
    described.registers = shown.registers;
    described.class_code = pci::get32(device.config, pci::config::revision) >> 8;
    return described;
}

Result<std::vector<std::byte>> after_reset(const bridge::ShownConfig& before, const ReachedDevice& device) {
    const auto now = TRY(bridge::shown_config(config_of(device))).config;
    if (now.values.size() != before.values.size() || now.vector_count != before.vector_count ||
        now.vectors != before.vectors)
        return fail(Errc::protocol, "the device shows another configuration than before its reset");
    auto values = before.values;
    for (size_t i = 0; i < values.size(); ++i) {
        const auto changing = before.writable[i] | before.cleared[i];
        values[i] = (values[i] & ~changing) | (now.values[i] & changing);
    }
    pci::set16(values, pci::config::command, 0);
    return values;
}

} // namespace lanepool::agent
