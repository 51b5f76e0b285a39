// SPDX-License-Identifier: Apache-2.0
#include "agent/fault_reports.h"

#include <algorithm>
#include <limits>
#include <spdlog/spdlog.h>

namespace lanepool::agent {

void FaultReports::add(const FaultReport& fault) {
    auto& device = devices_[fault.device];
    auto& waiting = device.waiting;
    const bool same_loan = waiting.loan_id == fault.loan_id && waiting.epoch == fault.epoch;
    if (device.timer && same_loan) {
        if (waiting.count == 0) waiting.text = fault.text;
        waiting.count += std::min(fault.count, std::numeric_limits<uint64_t>::max() - waiting.count);
        return;
    }
    if (waiting.count > 0) send(device); // what is left of the loan before
    waiting = fault;
    spdlog::warn("device {}, loan {}, epoch {}: {}", fault.device, fault.loan_id, fault.epoch, fault.text);
    send(device);
    device.timer = loop_.after(interval, [this, name = fault.device] { interval_over(name); });
}

void FaultReports::send(OfDevice& device) {
    if (send_(device.waiting)) device.waiting.count = 0;
}

void FaultReports::interval_over(const std::string& name) {
    auto& device = devices_.at(name);
    const auto& waiting = device.waiting;
    if (waiting.count == 0) {
        devices_.erase(name);
        return;
    }
    spdlog::warn("device {}, loan {}, epoch {}: stopped {} times since, first: {}", name, waiting.loan_id,
                 waiting.epoch, waiting.count, waiting.text);
    send(device);
    device.timer = loop_.after(interval, [this, name] { interval_over(name); });
}

} // namespace lanepool::agent
