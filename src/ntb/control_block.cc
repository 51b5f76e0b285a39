// SPDX-License-Identifier: Apache-2.0
#include "ntb/control_block.h"

#include <thread>

namespace lanepool::ntb {

using switchtec::ControlOp;
using switchtec::ControlStatus;
namespace gas = switchtec::gas;
namespace bar_ctl = switchtec::bar_ctl;

namespace {
using namespace std::chrono_literals;

std::string_view name(ControlOp op) {
    switch (op) {
    case ControlOp::lock:
        return "lock";
    case ControlOp::config:
        return "configure";
    case ControlOp::reset:
        return "reset";
    }
    return "?";
}

bool in_progress(ControlStatus status) {
    return status == ControlStatus::locking || status == ControlStatus::configuring ||
           status == ControlStatus::resetting;
}

uint64_t bar_entry(unsigned slot) {
    return offsetof(switchtec::ControlBlock, bar_entry) + slot * sizeof(switchtec::BarEntry);
}

// The control word of a BAR without its direct window. Valid is the switch's own.
uint32_t lut_control(unsigned entries, unsigned entry_log2) {
    if (entries == 0) return 0;
    return bar_ctl::Lut::of(true) | bar_ctl::LutSizeLog2::of(entry_log2) |
           bar_ctl::LutCountMinus1::of(entries - 1);
}
} // namespace

uint64_t ControlBlock::at(uint64_t offset_bytes) const { return gas::control(partition_) + offset_bytes; }

Result<ControlStatus> ControlBlock::status() const {
    return switchtec::ControlStatusField::get(
        TRY(registers_.read32(at(offsetof(switchtec::ControlBlock, status)))));
}

// Writes OP and waits for WANTED. While somebody else holds the lock, operations are ignored: asked for
// again.
Result<> ControlBlock::run(ControlOp op, ControlStatus wanted) const {
    const auto& clock = io::system_clock();
    const auto deadline = clock.now() + control_timeout;
    io::Duration pause = 20us;
    TRY(registers_.write32(at(offsetof(switchtec::ControlBlock, op)), static_cast<uint32_t>(op)));
    for (;;) {
        const auto now_status = TRY(status());
        if (now_status == wanted) return {};
        if (!in_progress(now_status))
            return fail(Errc::io, "the switch refused to {} the control block of partition {}: status {}",
                        name(op), partition_, static_cast<unsigned>(now_status));
        if (clock.now() >= deadline)
            return fail(
                Errc::timeout,
                "the control block of partition {} is still in status {} after {} ms of waiting to {} it: "
                "another owner holds its lock, or the switch hangs",
                partition_, static_cast<unsigned>(now_status),
                std::chrono::duration_cast<std::chrono::milliseconds>(control_timeout).count(), name(op));
        std::this_thread::sleep_for(pause);
        pause = std::min<io::Duration>(2 * pause, 10ms);
        if (now_status == ControlStatus::locking && op != ControlOp::config)
            TRY(registers_.write32(at(offsetof(switchtec::ControlBlock, op)), static_cast<uint32_t>(op)));
    }
}

Result<> ControlBlock::reset() const { return run(ControlOp::reset, ControlStatus::normal); }

// A refused configuration leaves the block locked and names what is wrong in its error registers.
Result<> ControlBlock::config() const {
    auto done = run(ControlOp::config, ControlStatus::normal);
    if (done || done.error().code() != Errc::io) return done;
    const auto bars = TRY(registers_.read32(at(offsetof(switchtec::ControlBlock, bar_error))));
    const auto lut = TRY(registers_.read32(at(offsetof(switchtec::ControlBlock, lut_error))));
    const auto requester = TRY(registers_.read32(at(offsetof(switchtec::ControlBlock, requester_error))));
    return fail(Errc::io, "{} (bar_error {:#x}, lut_error {:#x}, requester_error {:#x})",
                done.error().message(), bars, lut, requester);
}

Result<> ControlBlock::change(const std::function<Result<>()>& write, const std::function<Result<>()>& undo,
                              bool& clean) const {
    clean = true;
    TRY(run(ControlOp::lock, ControlStatus::locked));
    auto done = write();
    if (done) done = config();
    if (done) return {};
    auto undone = undo();
    if (undone) undone = config();
    if (undone) return done;
    clean = false;
    // The lock is still ours, so the next change goes on from here.
    return fail(done.error().code(), "{}; taking it back failed as well: {}", done.error().message(),
                undone.error().message());
}

Result<> ControlBlock::write_bar(const BarWindows& bar) const {
    TRY(registers_.write32(at(bar_entry(bar.slot) + offsetof(switchtec::BarEntry, ctl)),
                           lut_control(bar.entries, bar.entry_log2)));
    TRY(registers_.write32(at(bar_entry(bar.slot) + offsetof(switchtec::BarEntry, win_size)), 0));
    TRY(registers_.write32(
        at(offsetof(switchtec::ControlBlock, bar_ext_entry) + bar.slot * sizeof(switchtec::BarExtEntry)), 0));
    return registers_.write64(at(bar_entry(bar.slot) + offsetof(switchtec::BarEntry, xlate)), 0);
}

Result<> ControlBlock::write_window(const BarWindows& bar, const Placement& placement,
                                    Partition partition) const {
    if (!placement.direct) {
        for (unsigned i = 0; i < placement.count; ++i)
            TRY(write_lut(placement.table_entry + i,
                          switchtec::lut::entry(partition.value, placement.base.value +
                                                                     (uint64_t{i} << placement.size_log2))));
        return {};
    }
    const uint64_t entry = bar_entry(placement.slot);
    TRY(registers_.write32(
        at(entry + offsetof(switchtec::BarEntry, win_size)),
        switchtec::bar_win::XlateLog2::of(placement.size_log2) |
            (static_cast<uint32_t>(placement.window_bytes) & switchtec::bar_win::size_mask)));
    TRY(registers_.write32(at(offsetof(switchtec::ControlBlock, bar_ext_entry) +
                              placement.slot * sizeof(switchtec::BarExtEntry)),
                           static_cast<uint32_t>(placement.window_bytes >> 32)));
    TRY(registers_.write64(at(entry + offsetof(switchtec::BarEntry, xlate)),
                           switchtec::bar_xlate::TargetPartition::of(partition.value) |
                               (placement.base.value & switchtec::bar_xlate::address_mask)));
    return registers_.write32(at(entry + offsetof(switchtec::BarEntry, ctl)),
                              lut_control(bar.entries, bar.entry_log2) | bar_ctl::Direct::of(true));
}

Result<> ControlBlock::clear_window(const BarWindows& bar, const Placement& placement) const {
    if (placement.direct) return write_bar(bar);
    for (unsigned i = 0; i < placement.count; ++i)
        TRY(write_lut(placement.table_entry + i, 0));
    return {};
}

Result<> ControlBlock::write_lut(unsigned entry, uint64_t value) const {
    return registers_.write64(at(offsetof(switchtec::ControlBlock, lut_entry) + entry * sizeof(uint64_t)),
                              value);
}

Result<> ControlBlock::write_requester(unsigned slot, uint32_t entry) const {
    return registers_.write32(
        at(offsetof(switchtec::ControlBlock, requester_entry) + slot * sizeof(uint32_t)), entry);
}

Result<> ControlBlock::write_partition_ctrl(uint32_t value) const {
    return registers_.write32(at(offsetof(switchtec::ControlBlock, partition_ctrl)), value);
}

// The table sizes are 16 bits wide: read with their neighbours, so that a full table is not all-ones.
Result<unsigned> ControlBlock::lut_entries() const {
    const auto both = TRY(registers_.read32(at(offsetof(switchtec::ControlBlock, lut_entries))));
    return std::min<unsigned>(both & 0xffff, switchtec::max_lut_entries);
}

Result<unsigned> ControlBlock::requesters() const {
    const auto both = TRY(registers_.read32(at(offsetof(switchtec::ControlBlock, requesters))));
    return std::min<unsigned>(both & 0xffff, switchtec::max_requesters);
}

Result<bool> ControlBlock::has_windows(unsigned slot) const {
    return bar_ctl::Valid::get(
        TRY(registers_.read32(at(bar_entry(slot) + offsetof(switchtec::BarEntry, ctl)))));
}

} // namespace lanepool::ntb
