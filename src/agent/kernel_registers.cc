// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel_registers.h"

#include "pci/config_space.h"

#include <algorithm>
#include <spdlog/spdlog.h>

namespace lanepool::agent {

namespace {

// Nobody waits for what is forwarded: a driver that becomes bus master and rings a doorbell next would find
// the device off. Interrupts are messages.
constexpr uint16_t always_on =
    pci::command::memory_space | pci::command::bus_master | pci::command::interrupt_disable;
// PMCSR (PCI Power Management Specification, 3.2.4).
constexpr uint16_t power_state_mask = 3;

// What drivers can write, in VALUES, put into the shadow; the rest has not changed. The module's own
// registers are not ours to write.
Result<> restore_shadow(bridge::Function& function, const bridge::ShownConfig& shown,
                        std::span<const std::byte> values) {
    const auto changes = [&](size_t at) {
        return at >= pci::config::capabilities && (shown.writable[at] | shown.cleared[at]) != std::byte{0};
    };
    TRY(function.update_config(pci::config::command, values.subspan(pci::config::command, 2)));
    for (size_t at = pci::config::capabilities; at < values.size(); ++at) {
        if (!changes(at)) continue;
        size_t end = at + 1;
        while (end < values.size() && changes(end))
            ++end;
        TRY(function.update_config(static_cast<uint32_t>(at), values.subspan(at, end - at)));
        at = end;
    }
    return {};
}

} // namespace

KernelRegisters::KernelRegisters(Background& background, smartio::DirectDevice& device,
                                 std::shared_ptr<bridge::Function> function, bridge::ShownConfig shown,
                                 bridge::ServedRegisters registers, std::function<void(const Error&)> failed)
    : background_(background), device_(device), function_(std::move(function)), shown_(std::move(shown)),
      registers_(registers), failed_(std::move(failed)) {}

void KernelRegisters::turn_on(smartio::DirectDevice::Done done) {
    command_ = always_on;
    device_.set_command(always_on, std::move(done));
}

void KernelRegisters::changed() {
    changed_ = true;
    next();
}

void KernelRegisters::reset() {
    reset_asked_ = true;
    next();
}

void KernelRegisters::next() {
    if (busy_) return;
    if (reset_asked_) {
        busy_ = true;
        reset_asked_ = false;
        ++resets_;
        device_.reset([this, alive = alive_](Result<std::vector<std::byte>> config) {
            if (*alive) was_reset(std::move(config));
        });
    } else if (changed_) {
        busy_ = true;
        changed_ = false;
        read_registers();
    }
}

void KernelRegisters::finish() {
    busy_ = false;
    next();
}

// ---- Writes

// The shadow has what was written last.
void KernelRegisters::read_registers() {
    background_.run(
        [function = function_, registers = registers_]() -> Result<Written> {
            Written written;
            written.command = pci::get16(TRY(function->read_config(registers.command, 2)), 0);
            if (registers.power_state)
                written.power_state =
                    pci::get16(TRY(function->read_config(*registers.power_state, 2)), 0) & power_state_mask;
            return written;
        },
        [this, alive = alive_](const Result<Written>& written) {
            if (!*alive) return;
            if (written) return forward(*written);
            spdlog::warn("what a driver has written cannot be read: {}", written.error().message());
            finish();
        });
}

void KernelRegisters::forward(const Written& written) {
    if (written.power_state && *written.power_state != power_state_)
        return set_power(*written.power_state, written);
    const uint16_t command = written.command | always_on;
    if (command == command_) return finish();
    set_command(command);
}

// A device that wakes up may have forgotten its command register.
void KernelRegisters::set_power(unsigned state, const Written& then) {
    ++forwarded_;
    power_state_ = state;
    device_.set_power_state(state, [this, alive = alive_, state, then](const Result<>& result) {
        if (!*alive) return;
        if (!result) spdlog::warn("power state D{} is not set: {}", state, result.error().message());
        if (state != 0) return finish();
        set_command(then.command | always_on);
    });
}

void KernelRegisters::set_command(uint16_t command) {
    ++forwarded_;
    command_ = command;
    device_.set_command(command, [this, alive = alive_](const Result<>& result) {
        if (!*alive) return;
        if (!result) spdlog::warn("the command register is not set: {}", result.error().message());
        finish();
    });
}

// ---- Resets

void KernelRegisters::was_reset(Result<std::vector<std::byte>> config) {
    if (!config) return failed_(config.error().within("the reset that a driver asked for"));
    power_state_ = 0;
    command_ = always_on;
    device_.set_command(always_on,
                        [this, alive = alive_, config = std::move(*config)](const Result<>& result) {
                            if (*alive) restore(result, config);
                        });
}

void KernelRegisters::restore(Result<> on, const std::vector<std::byte>& config) {
    if (!on) return failed_(on.error().within("turning the device on after a reset"));
    const auto values =
        after_reset(shown_, {config, device_.bars(), device_.interrupts(), device_.msix_table_apart()});
    if (!values) return failed_(values.error().within("after a reset"));
    background_.run(
        [function = function_, shown = shown_, values = *values]() -> Result<> {
            if (const auto kept = restore_shadow(*function, shown, values); !kept)
                spdlog::warn("configuration space is not as a reset leaves it: {}", kept.error().message());
            return function->end_reset();
        },
        [this, alive = alive_](const Result<>& ended) {
            if (!*alive) return;
            if (!ended) return failed_(ended.error().within("ending a reset"));
            finish();
        });
}

} // namespace lanepool::agent
