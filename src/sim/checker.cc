// SPDX-License-Identifier: Apache-2.0
#include "sim/checker.h"

#include <algorithm>

namespace lanepool::sim {

using pool::DeviceState;
using pool::LoanState;

namespace {
// A lender that is connected has closed a loan that is over by then, or nobody ever will.
constexpr int64_t patience_us = 60'000'000;
} // namespace

// ---- devices

void Checker::before_open(SimDevice& device, const agent::Opening& opening) {
    for (const auto& window : device.windows())
        world_.check(window.opening.loan != opening.loan && window.opening.shared && opening.shared &&
                         window.opening.epoch == opening.epoch,
                     "device {}/{} is opened for loan {} while it is open for loan {}", device.host(),
                     device.name(), opening.loan, window.opening.loan);
    world_.check(!device.with_host() && device.there(), "device {}/{} is opened for loan {}, and is {}",
                 device.host(), device.name(), opening.loan,
                 device.with_host() ? "its own host's" : "not there");
    if (!device.parent().empty()) ++world_.result.functions_lent;
    const bool joins = !device.windows().empty();
    if (joins) ++world_.result.joined;
    world_.check(opening.epoch > device.highest_opened() ||
                     (joins && opening.epoch == device.highest_opened()),
                 "device {}/{} is opened at epoch {}, and was opened at epoch {} before", device.host(),
                 device.name(), opening.epoch, device.highest_opened());
    if (joins) return; // it is as those have made it whose device it is, too
    world_.check(!device.state_of() || device.state_of() == opening.loan,
                 "device {}/{} is opened for loan {} with the state of loan {}: its reset has not worked",
                 device.host(), device.name(), opening.loan, device.state_of());
    const auto last = loans_.find(device.data_of().value);
    world_.check(!device.data_of() || device.data_of() == opening.loan ||
                     (last != loans_.end() && !last->second.sanitize),
                 "device {}/{} is opened for loan {} with the data of loan {}: its sanitize has not worked",
                 device.host(), device.name(), opening.loan, device.data_of());
}

// It is given back, or its host starts anew.
void Checker::before_home(const SimDevice& device) {
    const auto last = loans_.find(device.data_of().value);
    const bool own = device.data_of() == SimDevice::of_its_host;
    const bool kept = last != loans_.end() && !last->second.sanitize;
    world_.check(world_.power_fails || !device.data_of() || own || kept,
                 "device {}/{} goes back to its host with the data of loan {}", device.host(), device.name(),
                 device.data_of());
}

void Checker::before_reset(const SimDevice& device) {
    world_.check(!device.with_host(), "device {}/{} is reset while its own host has it", device.host(),
                 device.name());
    for (const auto& window : device.windows()) {
        const auto loan = loans_.find(window.opening.loan.value);
        const bool live = loan != loans_.end() && loan->second.state == LoanState::active &&
                          loan->second.epoch == window.opening.epoch;
        world_.check(!live, "device {}/{} is reset under loan {}, which is active", device.host(),
                     device.name(), window.opening.loan);
    }
}

void Checker::agent_record(const SimDevice& device, uint64_t epoch) {
    View& view = by_name_.at(device.host() + "/" + device.name());
    world_.check(epoch >= view.agent_epoch,
                 "host {} knew epoch {} of device {}, and now knows only {}: its record is not on its disk",
                 device.host(), view.agent_epoch, device.name(), epoch);
    world_.check(epoch >= device.highest_opened().value,
                 "device {}/{} was opened at epoch {}, and its host's disk knows only of {}", device.host(),
                 device.name(), device.highest_opened(), epoch);
    view.agent_epoch = std::max(view.agent_epoch, epoch);
}

// Each window belongs to a loan that is live, at its epoch; or its lender has not been told yet that it is
// over, and the device is kept out of the pool until it has.
void Checker::check_windows(const View& view) {
    if (!view.device) return;
    ++world_.result.checks;
    const auto& windows = view.device->windows();
    if (windows.empty()) return;
    for (const auto& window : windows) {
        const auto& first = windows.front().opening;
        if (window.opening != first &&
            (!window.opening.shared || !first.shared || window.opening.epoch != first.epoch))
            world_.wrong("device {}/{} has {} borrowers: loans {} and {}", view.device->host(),
                         view.device->name(), windows.size(), first.loan, window.opening.loan);
        const auto found = loans_.find(window.opening.loan.value);
        if (found != loans_.end() && !has_ended(found->second.state) &&
            found->second.epoch == window.opening.epoch && found->second.fdid == view.device->fdid)
            continue;
        const auto up = up_.find(view.device->host());
        if (!view.record.fdid || up == up_.end()) continue;
        const bool kept_out = view.record.state == DeviceState::recovering ||
                              view.record.state == DeviceState::offline ||
                              view.record.state == DeviceState::quarantined;
        if (!kept_out)
            world_.wrong("device {}/{} is open for loan {}, which is over, and is {}", view.device->host(),
                         view.device->name(), window.opening.loan, name(view.record.state));
        else if (world_.timeline.now_us() - std::max({view.since_us, window.since_us, up->second}) >
                 patience_us)
            world_.wrong("device {}/{} is still open for loan {}, which is over; the device is {}: {}",
                         view.device->host(), view.device->name(), window.opening.loan,
                         name(view.record.state), view.record.reason);
    }
}

// ---- records

Checker::View* Checker::view_of(pool::Fdid fdid) {
    const size_t index = fdid.value - pool::first_fdid.value;
    return index < by_fdid_.size() ? by_fdid_[index] : nullptr;
}

void Checker::committed(const pool::Outcome& outcome) {
    for (const auto& entry : outcome.audit)
        check_entry(entry);
    for (const auto& host : outcome.hosts) {
        if (host.up)
            up_.emplace(host.name, world_.timeline.now_us());
        else
            up_.erase(host.name);
    }
    for (const auto& loan : outcome.loans)
        check_loan(loan);
    for (const pool::LoanId id : outcome.erased_loans)
        check_erased(id);
    for (const auto& device : outcome.devices) {
        const size_t index = device.fdid.value - pool::first_fdid.value;
        if (index >= by_fdid_.size()) by_fdid_.resize(index + 1);
        if (!by_fdid_[index]) {
            by_fdid_[index] = &by_name_.at(device.host + "/" + device.name);
            by_fdid_[index]->device->fdid = device.fdid;
        }
        check_record(*by_fdid_[index], device);
    }
}

void Checker::check_entry(const pool::AuditEntry& entry) {
    world_.check(entry.sequence == last_sequence_ + 1, "the audit trail goes from {} to {}", last_sequence_,
                 entry.sequence);
    last_sequence_ = entry.sequence;
    auto& digest = world_.result.digest;
    digest = (digest ^ entry.sequence ^ static_cast<uint64_t>(entry.time_us) ^ (entry.epoch.value << 32)) *
             0x100000001b3;
    for (const char each : entry.to)
        digest = (digest ^ static_cast<unsigned char>(each)) * 0x100000001b3;
    ++world_.result.audit_entries;
    if (entry.subject.starts_with("host:")) return;
    if (entry.action == "join" || entry.action == "borrow" || entry.action == "reassign") {
        if (!entry.to.empty()) told_[entry.subject] = entry.to;
        return;
    }
    if (entry.action != "transition") return;
    auto& told = told_[entry.subject];
    world_.check(told == entry.from, "the trail says that {} was {}, and then that it was {}", entry.subject,
                 told, entry.from);
    told = entry.to;
    world_.result.quarantines += entry.to == "quarantined";
}

void Checker::check_loan(const pool::Loan& loan) {
    if (const auto before = loans_.find(loan.id.value);
        before != loans_.end() && has_ended(before->second.state))
        return world_.check(before->second.state == loan.state, "loan {} was {}, and is {} now", loan.id,
                            name(before->second.state), name(loan.state));
    const std::string subject = fmt::format("loan:{}", loan.id);
    const auto told = told_.find(subject);
    world_.check(told != told_.end() && told->second == name(loan.state),
                 "loan {} is {}, and the trail says {}", loan.id, name(loan.state),
                 told == told_.end() ? "nothing" : told->second);
    auto& view = loans_[loan.id.value];
    if (view.state == LoanState::quiescing && loan.state == LoanState::active) check_stayed(loan, view);
    view = {loan.state, loan.epoch, loan.fdid, loan.sanitize, loan.shared, loan.dma, loan.active_us};
    if (has_ended(loan.state)) {
        world_.check(loan.state == LoanState::returned || !loan.reason.empty(),
                     "loan {} has failed without a reason", loan.id);
        promised_.erase(loan.id);
        if (told != told_.end()) told_.erase(told);
    }
}

// It was asked back, and somebody uses it there: it is the very loan that it was.
void Checker::check_stayed(const pool::Loan& loan, const LoanView& before) {
    ++world_.result.stayed;
    world_.check(loan.epoch == before.epoch && loan.fdid == before.fdid && loan.dma == before.dma &&
                     loan.active_us == before.active_us && loan.dma != pool::DmaMode::none,
                 "loan {} goes on after a return, and is another one", loan.id);
    world_.check(loan.reason.ends_with("[busy]"), "loan {} goes on after a return without a reason: '{}'",
                 loan.id, loan.reason);
}

// One that has ended in this very transaction, if there is no room for it.
void Checker::check_erased(pool::LoanId id) {
    const auto told = told_.find(fmt::format("loan:{}", id));
    world_.check(told == told_.end() || told->second == name(LoanState::returned) ||
                     told->second == name(LoanState::failed),
                 "loan {} is forgotten while it is {}", id, told == told_.end() ? "" : told->second);
    if (told != told_.end()) told_.erase(told);
    promised_.erase(id);
    loans_.erase(id.value);
}

// What its own host has is in no loan, and what is a part of it is lent only while it is its host's.
void Checker::check_own_host(const View& view, const pool::Device& record) {
    const auto in_pool = [](const pool::Device& one) {
        return one.state == DeviceState::available || one.state == DeviceState::reserved ||
               one.state == DeviceState::lent;
    };
    world_.check(!in_pool(record) || !record.with_host, "device {} is {}, and its own host has it",
                 record.fdid, name(record.state));
    world_.check(!record.loan || record.functions == 0, "device {} has loan {} and {} functions", record.fdid,
                 record.loan, record.functions);
    if (record.parent.empty() || !record.loan) return;
    const auto parent = by_name_.find(record.host + "/" + record.parent);
    world_.check(parent != by_name_.end() && !in_pool(parent->second.record),
                 "device {} has loan {}, and its parent {} is in the pool", record.fdid, record.loan,
                 view.device->parent());
}

void Checker::check_record(View& view, const pool::Device& record) {
    check_own_host(view, record);
    // Nothing is left of a return that was refused, nor promised by it.
    if (const auto loan = loans_.find(record.loan.value);
        loan != loans_.end() && loan->second.state == LoanState::active)
        world_.check(!record.successor && !record.kept_local,
                     "device {} has loan {}, which is active, and is promised to loan {}, or to its own host",
                     record.fdid, record.loan, record.successor);
    const auto told = told_.find(fmt::format("device:{}", record.fdid));
    world_.check(told != told_.end() && told->second == name(record.state),
                 "device {} is {}, and the trail says {}", record.fdid, name(record.state),
                 told == told_.end() ? "nothing" : told->second);
    world_.check(record.epoch >= view.record.epoch, "device {} goes back from epoch {} to {}", record.fdid,
                 view.record.epoch, record.epoch);
    if (record.state == DeviceState::available)
        world_.check(record.clean && !record.loan, "device {} is available, and is {}", record.fdid,
                     record.loan ? "lent" : "not clean");
    if (record.loan) {
        const auto loan = loans_.find(record.loan.value);
        world_.check(loan != loans_.end() && loan->second.fdid == record.fdid &&
                         !has_ended(loan->second.state),
                     "device {} is held by loan {}, which does not hold it", record.fdid, record.loan);
    }
    if (view.record.loan && view.record.loan != record.loan) {
        const auto before = loans_.find(view.record.loan.value);
        const auto after = loans_.find(record.loan.value);
        const bool passed_on = before != loans_.end() && after != loans_.end() && before->second.shared &&
                               after->second.shared && before->second.epoch == after->second.epoch;
        world_.check(before == loans_.end() || has_ended(before->second.state) || passed_on,
                     "device {} has been taken from loan {}, which is still {}", record.fdid,
                     view.record.loan, before == loans_.end() ? "" : name(before->second.state));
    }
    if (record.state == DeviceState::quarantined)
        world_.check(!record.reason.empty(), "device {} is quarantined without a reason", record.fdid);
    if (view.record.state != record.state) view.since_us = world_.timeline.now_us();
    view.record = record;
    check_windows(view);
}

void Checker::restarted(const pool::Snapshot& stored) {
    for (const auto& device : stored.devices) {
        const View* view = view_of(device.fdid);
        if (!view) continue;
        world_.check(device.epoch >= view->record.epoch,
                     "the controller knew epoch {} of device {}, and knows only {} after its restart",
                     view->record.epoch, device.fdid, device.epoch);
    }
    std::set<pool::LoanId> there;
    for (const auto& loan : stored.loans)
        there.insert(loan.id);
    for (const pool::LoanId id : promised_)
        world_.check(there.contains(id), "loan {} was promised, and is not there after a restart", id);
    world_.check(stored.counters.next_audit == last_sequence_ + 1,
                 "the trail ended at {}, and ends at {} after a restart", last_sequence_,
                 stored.counters.next_audit - 1);
    up_.clear();
}

void Checker::look_at_everything() {
    for (const auto& [name, view] : by_name_)
        check_windows(view);
}

// ---- the end

bool Checker::all_at_rest() const {
    return std::all_of(by_name_.begin(), by_name_.end(), [](const auto& named) {
        return is_at_rest(named.second) && named.second.device->windows().empty();
    });
}

// In the pool, quarantined, with its own host, or a function that is not there.
bool Checker::is_at_rest(const View& view) {
    const SimDevice& device = *view.device;
    if (!view.record.fdid) return !device.parent().empty() && !device.there();
    switch (view.record.state) {
    case DeviceState::available:
    case DeviceState::quarantined:
        return true;
    case DeviceState::local:
        return device.with_host();
    case DeviceState::offline:
        return !device.there();
    default:
        return false;
    }
}

void Checker::finally(size_t live_loans, size_t steps) {
    for (const auto& [name, view] : by_name_) {
        world_.check(is_at_rest(view), "at the end device {} is {}{}{}: {}", name,
                     pool::name(view.record.state), view.device->with_host() ? ", with its host" : "",
                     view.device->there() ? "" : ", not there", view.record.reason);
        world_.check(view.device->windows().empty(), "at the end device {} is open for loan {}", name,
                     view.device->windows().empty() ? pool::LoanId{}
                                                    : view.device->windows()[0].opening.loan);
        world_.check(view.record.state != DeviceState::available || !view.device->state_of(),
                     "at the end device {} is available with the state of loan {}", name,
                     view.device->state_of());
    }
    world_.check(live_loans == 0, "at the end {} loans are live", live_loans);
    world_.check(steps == 0, "at the end {} steps are under way", steps);
}

} // namespace lanepool::sim
