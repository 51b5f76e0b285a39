// SPDX-License-Identifier: Apache-2.0
#include "ntb/adapter_state.h"

#include <mutex>

namespace lanepool::ntb {

Result<std::shared_ptr<AdapterState>> AdapterState::create(std::unique_ptr<pci::Function> function,
                                                           AdapterEvents events) {
    std::shared_ptr<AdapterState> state(new AdapterState);
    state->identity_ = TRY(probe(*function));
    const Registers registers(*function);
    state->links_ = std::make_unique<Links>(registers, state->identity_);
    state->messages_ = std::make_unique<Messages>(registers, state->identity_.partition);
    state->tables_ = TRY(ControlTables::create(*function, state->identity_));
    state->exports_ = std::make_unique<Exports>(*function);
    state->interrupts_ = TRY(Interrupts::create(*function, state->identity_, *state->links_,
                                                *state->messages_, state->event_words_, std::move(events)));
    state->relays_ = std::make_unique<Relays>(state->interrupts_->loop());
    function->on_disconnect([weak = std::weak_ptr(state)] {
        if (const auto alive = weak.lock()) alive->interrupts_->report_gone();
    });
    state->window_bars_ = std::make_unique<WideAccess>(*function);
    state->function_ = std::move(function);
    return state;
}

void AdapterState::shut_down() {
    interrupts_->stop();
    const std::unique_lock lock(life_);
    if (!function_) return;
    // Nothing of this can be reported, and where the function has gone there is nothing to take back.
    exports_->clear();
    [[maybe_unused]] const auto reset = tables_->reset();
    [[maybe_unused]] const auto masters = enable(*function_, false);
    const auto index = function_->irq(pci::Irq::msix).count > 0 ? pci::Irq::msix : pci::Irq::msi;
    [[maybe_unused]] const auto irqs = function_->set_irqs(index, 0, {});
    window_bars_.reset();
    function_.reset();
}

void AdapterState::check_gone() {
    const auto id =
        Registers(*function_).read32(switchtec::gas::sys_info + offsetof(switchtec::SysInfo, device_id));
    if (!id && id.error().code() == Errc::disconnected) interrupts_->report_gone();
}

Result<> AdapterState::check_link(Partition partition) {
    if (!has_partition(identity_.targets, partition))
        return fail(Errc::out_of_range, "partition {} does not exist or may not be reached from partition {}",
                    partition.value, identity_.partition.value);
    for (const Partition end : {identity_.partition, partition})
        if (!TRY(links_->up(end)))
            return fail(Errc::unavailable, "the link of partition {} is down", end.value);
    return {};
}

} // namespace lanepool::ntb
