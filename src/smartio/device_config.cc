// SPDX-License-Identifier: Apache-2.0
#include "smartio/device_config.h"

#include "pci/config_space.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

namespace lanepool::smartio {

namespace {

namespace express { // PCI Express Base Specification, 7.5.3.3 and 7.5.3.4
constexpr size_t device_capabilities = 4;
constexpr uint32_t flr_capable = 1u << 28;
constexpr size_t device_control = 8;
constexpr uint16_t initiate_flr = 1 << 15;
constexpr size_t shortest = 12; // up to the device status
} // namespace express

namespace power { // PCI Bus Power Management Interface Specification 1.2, 3.2.4
constexpr size_t control = 4;
constexpr size_t bytes = 8;
constexpr uint16_t state = 0x0003;
constexpr uint16_t pme_status = 1 << 15; // a written one clears it
} // namespace power

// A function has 10 ms for the way to D3hot and back (as above, 5.6.1); what says so late has a little more.
constexpr auto power_limit = std::chrono::milliseconds(100);
constexpr auto power_poll = std::chrono::milliseconds(1);

// A function has 100 ms for its reset, and may then ask to be tried again for up to a second (PCI Express
// Base Specification, 6.6.2 and 2.3.1).
constexpr auto flr_limit = std::chrono::milliseconds(1100);
constexpr auto flr_poll = std::chrono::milliseconds(1);

} // namespace

Result<std::vector<std::byte>> read_config(pci::Function& device) {
    const uint64_t size = device.region(pci::Region::config).size_bytes;
    if (size < pci::conventional_config_bytes)
        return fail(Errc::protocol, "the device has a config space of {} bytes", size);
    std::vector<std::byte> config(size < pci::extended_config_bytes ? pci::conventional_config_bytes
                                                                    : pci::extended_config_bytes);
    constexpr size_t chunk = 256;
    for (size_t offset = 0; offset < config.size(); offset += chunk)
        TRY(device.read(pci::Region::config, offset, std::span(config).subspan(offset, chunk)));
    if (pci::get16(config, pci::config::vendor_id) == 0xffff)
        return fail(Errc::disconnected, "config space reads all-ones: the device is gone");
    return config;
}

Result<> change_command(pci::Function& device, uint16_t mask, uint16_t value) {
    const uint16_t before = TRY(pci::read16(device, pci::Region::config, pci::config::command));
    return pci::write16(device, pci::Region::config, pci::config::command,
                        static_cast<uint16_t>((before & ~mask) | (value & mask)));
}

size_t flr_control_offset(std::span<const std::byte> config) {
    const auto chain = pci::capabilities(config);
    if (!chain) return 0;
    for (const auto& entry : *chain) {
        if (static_cast<pci::Capability>(entry.id) != pci::Capability::pci_express) continue;
        if (entry.offset + express::shortest > pci::conventional_config_bytes) return 0;
        if (pci::get32(config, entry.offset + express::device_capabilities) & express::flr_capable)
            return entry.offset + express::device_control;
    }
    return 0;
}

Result<> function_level_reset(pci::Function& device, size_t control_offset) {
    const uint16_t control = TRY(pci::read16(device, pci::Region::config, control_offset));
    TRY(pci::write16(device, pci::Region::config, control_offset, control | express::initiate_flr));
    const auto deadline = std::chrono::steady_clock::now() + flr_limit;
    for (;;) {
        const uint16_t vendor = TRY(pci::read16(device, pci::Region::config, pci::config::vendor_id));
        // 0x0001 is what "try again" looks like to software (PCI Express Base Specification, 2.3.2).
        if (vendor != 0xffff && vendor != 0x0001) return {};
        if (std::chrono::steady_clock::now() >= deadline)
            return fail(Errc::timeout, "the device does not come back from a function-level reset");
        std::this_thread::sleep_for(flr_poll);
    }
}

size_t power_control_offset(std::span<const std::byte> config) {
    const auto chain = pci::capabilities(config);
    if (!chain) return 0;
    for (const auto& entry : *chain)
        if (static_cast<pci::Capability>(entry.id) == pci::Capability::power_management &&
            entry.offset + power::bytes <= pci::conventional_config_bytes)
            return entry.offset + power::control;
    return 0;
}

uint16_t power_state(std::span<const std::byte> config, size_t control_offset) {
    return pci::get16(config, control_offset) & power::state;
}

Result<> set_power_state(pci::Function& device, size_t control_offset, uint16_t state) {
    const uint16_t before = TRY(pci::read16(device, pci::Region::config, control_offset));
    TRY(pci::write16(device, pci::Region::config, control_offset,
                     static_cast<uint16_t>((before & ~(power::state | power::pme_status)) | state)));
    const auto deadline = std::chrono::steady_clock::now() + power_limit;
    for (;;) {
        const uint16_t now = TRY(pci::read16(device, pci::Region::config, control_offset));
        if ((now & power::state) == state && now != 0xffff) return {};
        if (std::chrono::steady_clock::now() >= deadline)
            return fail(Errc::timeout, "the device does not come to power state D{}{}", state,
                        state == power_d3hot ? "hot" : "");
        std::this_thread::sleep_for(power_poll);
    }
}

Result<> check_same_device(std::span<const std::byte> before, std::span<const std::byte> now) {
    struct Field {
        const char* name;
        size_t offset;
        size_t size;
    };
    constexpr std::array fields = {Field{"vendor and device id", pci::config::vendor_id, 4},
                                   Field{"revision and class", pci::config::revision, 4},
                                   Field{"header type", pci::config::header_type, 1},
                                   Field{"subsystem ids", pci::config::subsystem_vendor_id, 4}};
    for (const auto& field : fields)
        if (!std::ranges::equal(before.subspan(field.offset, field.size),
                                now.subspan(field.offset, field.size)))
            return fail(Errc::failed_precondition,
                        "the device is another one than before: its {} changed; check what is in the slot",
                        field.name);
    return {};
}

} // namespace lanepool::smartio
