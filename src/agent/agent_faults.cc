// SPDX-License-Identifier: Apache-2.0
//
// Accesses of lent devices that this host's IOMMU has stopped: said in the log, and to the controller.
#include "agent/agent.h"

#include <algorithm>
#include <spdlog/spdlog.h>

namespace lanepool::agent {

void Agent::watch_iommu() {
    if (std::none_of(devices_.begin(), devices_.end(),
                     [](const auto& entry) { return address_of(entry.second->place()).has_value(); }))
        return;
    auto log = open_kernel_log();
    auto watch = log ? IommuFaultWatch::create(loop_, std::move(*log),
                                               [this](const IommuFault& fault, uint64_t left_out) {
                                                   iommu_stopped(fault, left_out);
                                               })
                     : tl::unexpected<Error>(log.error());
    if (watch)
        iommu_faults_ = std::move(*watch);
    else
        spdlog::warn("what the IOMMU stops is not reported: {}", watch.error().message());
}

void Agent::iommu_stopped(const IommuFault& fault, uint64_t left_out) {
    const LentDevice* from = nullptr;
    for (const auto& [name, device] : devices_) {
        auto address = address_of(device->place());
        if (!address) continue;
        if (!fault.domain_known) address->domain = fault.address.domain;
        if (address != fault.address) continue;
        if (from) return; // of two domains: whoever says which may be wrong
        from = device.get();
    }
    if (!from) return; // the kernel's log has it
    const auto observed = from->observed();
    FaultReport report;
    report.device = from->name();
    report.loan_id = observed.loan_id();
    report.epoch = observed.epoch();
    report.count = 1;
    report.text = to_string(fault);
    if (left_out > 0)
        report.text += fmt::format("; before it the kernel left out {}, of this or other devices", left_out);
    fault_reports_.add(report);
}

bool Agent::report(const FaultReport& fault) {
    if (!welcomed_ || !control_->connected()) return false;
    v1::AgentMessage message;
    auto& to = *message.mutable_device_fault();
    to.set_device(fault.device);
    to.set_loan_id(fault.loan_id);
    to.set_epoch(fault.epoch);
    to.set_text(fault.text);
    to.set_count(fault.count);
    control_->send(std::move(message));
    return true;
}

} // namespace lanepool::agent
