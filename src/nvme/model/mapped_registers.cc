// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/mapped_registers.h"

namespace lanepool::nvme::model {

Registers::Written MappedRegisters::look() {
    Registers::Written written{registers_.cc(), false, false};
    // CC goes first into our hands and last into the registers: what was written before it must count before
    // it does.
    const uint32_t configuration = memory_.load(reg::cc);
    for (uint64_t offset = 0; offset < Registers::size_bytes; offset += 4) {
        if (offset == reg::cc) continue;
        const uint32_t value = memory_.load(offset);
        if (value == shown(offset)) [[likely]]
            continue;
        shown(offset) = value;
        registers_.write_mapped(offset, value, written);
    }
    if (configuration != shown(reg::cc)) {
        shown(reg::cc) = configuration;
        registers_.write_mapped(reg::cc, configuration, written);
    }
    return written;
}

void MappedRegisters::show() {
    generation_ = registers_.generation();
    // CSTS goes last: who has waited for it may go on with all the others.
    const auto show_one = [this](uint64_t offset) {
        const uint32_t value = registers_.word(offset);
        if (value == shown(offset)) [[likely]]
            return;
        memory_.replace(offset, shown(offset), value);
        shown(offset) = value;
    };
    for (uint64_t offset = 0; offset < Registers::size_bytes; offset += 4)
        if (offset != reg::csts) show_one(offset);
    show_one(reg::csts);
}

void MappedRegisters::show_all() {
    generation_ = registers_.generation();
    for (uint64_t offset = 0; offset < Registers::size_bytes; offset += 4) {
        shown(offset) = registers_.word(offset);
        memory_.store(offset, shown(offset));
    }
}

} // namespace lanepool::nvme::model
