// SPDX-License-Identifier: Apache-2.0
//
// For tests: an NVMe drive with SR-IOV in the simulated kernel, as far as its primary controller manages the
// secondary ones and their namespaces.
#pragma once

#include "local_devices/simulated_kernel.h"

#include <array>
#include <cstring>
#include <map>
#include <set>
#include <vector>

namespace lanepool::local_devices {

class SimulatedDrive {
  public:
    static constexpr int refused = 0x4120; // what it answers where it refuses
    static constexpr uint16_t primary_id = 0;

    unsigned flexible_queues = 6, flexible_interrupts = 4;
    unsigned primary_queues = 6, primary_interrupts = 4; // of the flexible ones
    unsigned most_functions = 2;
    bool virtualization = true, namespace_management = true;
    std::map<uint32_t, std::set<uint16_t>> namespaces = {{1, {primary_id}}, {2, {}}, {3, {}}};
    struct Secondary {
        unsigned queues = 0, interrupts = 0;
        bool online = false;
    };
    std::map<uint16_t, Secondary> secondaries; // by controller id, which is the VF's number from 1

    explicit SimulatedDrive(SimulatedKernel& kernel) : kernel_(kernel) {
        for (uint16_t id = 1; id <= most_functions; ++id)
            secondaries[id] = {};
        kernel.nvme_admin = [this](const std::string&, nvme_passthru_cmd& command) { return admin(command); };
    }

    // As it was in the beginning.
    void restart() {
        reset();
        primary_queues = flexible_queues;
        primary_interrupts = flexible_interrupts;
        next_queues_.reset();
        next_interrupts_.reset();
        namespaces = {{1, {primary_id}}, {2, {}}, {3, {}}};
    }

    // A function-level reset of the primary.
    void reset() {
        primary_queues = next_queues_.value_or(primary_queues);
        primary_interrupts = next_interrupts_.value_or(primary_interrupts);
        for (auto& [id, secondary] : secondaries)
            secondary = {};
    }

  private:
    using Page = std::array<uint8_t, 4096>;

    Result<int> admin(nvme_passthru_cmd& command) {
        Page page = {};
        auto* const data = reinterpret_cast<uint8_t*>(static_cast<uintptr_t>(command.addr));
        if (command.opcode == 0x06) {
            const int status = identify(command, page);
            std::memcpy(data, page.data(), page.size());
            return status;
        }
        TRY(kernel_.change());
        if (command.opcode == 0x1c) return virtualization_management(command);
        if (command.opcode != 0x15 || !namespace_management) return refused;
        return attach(command, static_cast<uint16_t>(data[2] | data[3] << 8));
    }

    static void put(Page& page, size_t offset, unsigned value) {
        page[offset] = static_cast<uint8_t>(value);
        page[offset + 1] = static_cast<uint8_t>(value >> 8);
    }

    int identify(const nvme_passthru_cmd& command, Page& page) const {
        switch (command.cdw10 & 0xff) {
        case 0x01:
            put(page, 78, primary_id);
            put(page, 256, (virtualization ? 1U << 7 : 0) | (namespace_management ? 1U << 3 : 0));
            return 0;
        case 0x10: {
            size_t offset = 0;
            for (const auto& [id, users] : namespaces) {
                put(page, offset, id);
                offset += 4;
            }
            return 0;
        }
        case 0x12: {
            const auto found = namespaces.find(command.nsid);
            if (found == namespaces.end()) return refused;
            put(page, 0, static_cast<unsigned>(found->second.size()));
            size_t offset = 2;
            for (const uint16_t id : found->second) {
                put(page, offset, id);
                offset += 2;
            }
            return 0;
        }
        case 0x14:
            put(page, 32, flexible_queues);
            put(page, 40, primary_queues);
            put(page, 44, flexible_queues / most_functions);
            put(page, 46, 1);
            put(page, 64, flexible_interrupts);
            put(page, 72, primary_interrupts);
            put(page, 76, flexible_interrupts / most_functions);
            put(page, 78, 1);
            return 0;
        case 0x15: {
            page[0] = static_cast<uint8_t>(secondaries.size());
            size_t entry = 32;
            for (const auto& [id, secondary] : secondaries) {
                put(page, entry, id);
                page[entry + 4] = secondary.online;
                put(page, entry + 8, id);
                entry += 32;
            }
            return 0;
        }
        default:
            return refused;
        }
    }

    int virtualization_management(const nvme_passthru_cmd& command) {
        const unsigned action = command.cdw10 & 0xf;
        const bool interrupts = (command.cdw10 >> 8 & 7) == 1;
        const auto id = static_cast<uint16_t>(command.cdw10 >> 16);
        if (action == 1) {
            if (id != primary_id) return refused;
            (interrupts ? next_interrupts_ : next_queues_) = command.cdw11;
            return 0;
        }
        const auto found = secondaries.find(id);
        if (found == secondaries.end()) return refused;
        auto& secondary = found->second;
        if (action == 7) {
            secondary.online = false;
        } else if (action == 8) {
            unsigned& amount = interrupts ? secondary.interrupts : secondary.queues;
            const unsigned total = interrupts ? flexible_interrupts : flexible_queues;
            unsigned used = interrupts ? primary_interrupts : primary_queues;
            for (const auto& [other, values] : secondaries)
                if (other != id) used += interrupts ? values.interrupts : values.queues;
            if (secondary.online || used + command.cdw11 > total) return refused;
            amount = command.cdw11;
        } else if (action == 9) {
            if (secondary.queues < 2 || secondary.interrupts < 1) return refused;
            secondary.online = true;
        } else {
            return refused;
        }
        return 0;
    }

    int attach(const nvme_passthru_cmd& command, uint16_t controller) {
        const auto found = namespaces.find(command.nsid);
        if (found == namespaces.end()) return refused;
        const bool changed = command.cdw10 == 0 ? found->second.insert(controller).second
                                                : found->second.erase(controller) == 1;
        return changed ? 0 : refused;
    }

    SimulatedKernel& kernel_;
    std::optional<unsigned> next_queues_, next_interrupts_;
};

} // namespace lanepool::local_devices
