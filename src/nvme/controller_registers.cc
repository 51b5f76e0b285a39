// SPDX-License-Identifier: Apache-2.0
#include "nvme/controller_registers.h"

#include "pci/config_space.h"

#include <algorithm>
#include <thread>

namespace lanepool::nvme {

using pci::Region;

void Backoff::pause() {
    if (next_.count() > 0) std::this_thread::sleep_for(next_);
    next_ = std::min(limit_, std::max<io::Duration>(2 * next_, std::chrono::microseconds(20)));
}

Result<uint32_t> ControllerRegisters::read_live(uint64_t offset_bytes, const char* name) {
    const uint32_t value = TRY(pci::read32(function_, Region::bar0, offset_bytes));
    if (value == 0xffffffff)
        return fail(Errc::disconnected, "the NVMe controller is gone ({} reads as all-ones)", name);
    return value;
}

Result<uint64_t> ControllerRegisters::capabilities() {
    const uint64_t value = TRY(pci::read64(function_, Region::bar0, reg::cap));
    if (value == ~uint64_t{0})
        return fail(Errc::disconnected, "the NVMe controller is gone (CAP reads as all-ones)");
    return value;
}
Result<uint32_t> ControllerRegisters::configuration() { return read_live(reg::cc, "CC"); }
Result<uint32_t> ControllerRegisters::status() { return read_live(reg::csts, "CSTS"); }
Result<> ControllerRegisters::write32(uint64_t offset_bytes, uint32_t value) {
    return pci::write32(function_, Region::bar0, offset_bytes, value);
}
Result<> ControllerRegisters::write64(uint64_t offset_bytes, uint64_t value) {
    return pci::write64(function_, Region::bar0, offset_bytes, value);
}

io::Duration ControllerRegisters::ready_timeout(uint64_t capabilities) {
    return std::chrono::milliseconds(500) * std::max<uint64_t>(1, cap::to.get(capabilities));
}

Result<> ControllerRegisters::wait_status(uint32_t mask, uint32_t value, io::TimePoint deadline,
                                          const char* what) {
    Backoff backoff;
    for (;;) {
        // Taken before the read: a late look at a controller that is done still counts.
        const bool last = clock_.now() >= deadline;
        const uint32_t status = TRY(this->status());
        if ((status & mask) == value) return {};
        if (csts::cfs.get(status) && value != 0)
            return fail(Errc::io, "the NVMe controller reports a fatal status (CSTS {:#x}): reset it",
                        status);
        if (last)
            return fail(Errc::timeout, "the NVMe controller did not {} in time (CSTS {:#x}): reset it", what,
                        status);
        backoff.pause();
    }
}

Result<> ControllerRegisters::disable(io::TimePoint deadline) {
    const uint32_t configuration = TRY(this->configuration());
    // EN and SHN go together, or a shutdown would be asked for again.
    if (cc::en.get(configuration))
        TRY(write32(reg::cc, cc::shn.set(cc::en.set(configuration, 0), cc::shn_none)));
    return wait_status(csts::rdy.mask, 0, deadline, "stop");
}

Result<> ControllerRegisters::enable(uint32_t configuration, io::TimePoint deadline) {
    TRY(write32(reg::cc, cc::en.set(configuration, 1)));
    return wait_status(csts::rdy.mask, csts::rdy(1), deadline, "get ready");
}

Result<> ControllerRegisters::shut_down(io::TimePoint deadline) {
    const uint32_t configuration = TRY(this->configuration());
    TRY(write32(reg::cc, cc::shn.set(configuration, cc::shn_normal)));
    return wait_status(csts::shst.mask, csts::shst(csts::shst_complete), deadline, "shut down");
}

Result<> ControllerRegisters::set_bus_master(bool on) {
    uint16_t command = TRY(pci::read16(function_, Region::config, pci::config::command));
    if (command == 0xffff)
        return fail(Errc::disconnected, "the NVMe controller is gone (its config space reads as all-ones)");
    command = static_cast<uint16_t>(command | pci::command::memory_space | pci::command::interrupt_disable);
    command =
        static_cast<uint16_t>(on ? command | pci::command::bus_master : command & ~pci::command::bus_master);
    return pci::write16(function_, Region::config, pci::config::command, command);
}

} // namespace lanepool::nvme
