// SPDX-License-Identifier: Apache-2.0
//
// What is really there, against what the records say. Every contradiction is resolved on the safe side.
#include "pool/pool.h"

#include <algorithm>
#include <set>

namespace lanepool::pool {

namespace {
constexpr const char* found_with_host =
    "its own host has it again: it was restarted, or somebody has bound a driver";
} // namespace

Result<std::vector<Fdid>> Pool::hello(const Hello& hello, bool connected, Now now) {
    TRY(check(hello, options_));
    TRY(check_place(hello));
    begin(now, "agent:" + hello.host);
    // Only those from before: what this Hello leads to is sent as it arises.
    const std::vector<StepId> unanswered = ledger_.steps_of(hello.host);
    const bool anew = connected || !is_up(hello.host);
    host_arrived(hello);
    for (const Fdid fdid : forgotten_for(hello))
        forget(fdid);
    std::vector<Fdid> fdids;
    std::vector<Fdid> changed; // in how many functions they have
    for (const auto& device : hello.devices) {
        const auto before = known(hello.host, device);
        if (before && ledger_.devices.find(*before)->functions != device.functions)
            changed.push_back(*before);
        fdids.push_back(identify(hello.host, device));
    }
    const std::set<Fdid> present(fdids.begin(), fdids.end());
    for (const Fdid fdid : ledger_.devices_of(hello.host))
        if (!present.contains(fdid)) vanished(fdid);
    for (size_t i = 0; i < fdids.size(); ++i)
        observe(fdids[i], hello.devices[i]);
    for (const Fdid fdid : changed)
        see_functions(fdid);
    reconcile_borrowed(hello);
    if (anew) send_again(unanswered);
    settle_groups();
    return fdids;
}

void Pool::heard(const std::string& host, std::optional<uint32_t> windows_free, Now now) {
    const Host* before = ledger_.hosts.find(host);
    if (!before) return;
    const bool changes = windows_free && *windows_free != before->windows_free;
    if (changes) scheduler_->note(*before, false);
    ledger_.hosts.touch(host, [&](Host& record) {
        record.last_seen_us = now.unix_us;
        if (windows_free) record.windows_free = *windows_free;
    });
    if (!changes) return;
    scheduler_->note(*before, true);
    wants_decision();
}

// Whether there is room for this host and its devices.
Result<> Pool::check_place(const Hello& hello) const {
    if (!ledger_.hosts.find(hello.host) && ledger_.hosts.size() >= options_.hosts)
        return fail(Errc::no_space, "there are {} hosts already, and no more than that are allowed",
                    options_.hosts);
    if (const std::string* name = ledger_.host_at(hello.partition, hello.host))
        return fail(Errc::already_exists,
                    "host {} says that it has partition {}, but that is host {}'s; give each host its own "
                    "adapter",
                    hello.host, hello.partition, *name);
    const size_t known = devices_with(hello) - forgotten_for(hello).size();
    if (known > options_.devices_per_host)
        return fail(Errc::no_space, "host {} has had {} devices in all, and no more than {} are allowed",
                    hello.host, known, options_.devices_per_host);
    return {};
}

// How many there are of the host with those that are new.
size_t Pool::devices_with(const Hello& hello) const {
    size_t count = ledger_.devices_of(hello.host).size();
    for (const auto& device : hello.devices)
        if (!known(hello.host, device)) ++count;
    return count;
}

// SR-IOV functions that are gone, in whose places others come: no more of them than are needed.
std::vector<Fdid> Pool::forgotten_for(const Hello& hello) const {
    std::vector<Fdid> forgotten;
    const size_t count = devices_with(hello);
    if (count <= options_.devices_per_host) return forgotten;
    std::set<Fdid> present;
    for (const auto& device : hello.devices)
        if (const auto fdid = known(hello.host, device)) present.insert(*fdid);
    for (const Fdid fdid : ledger_.devices_of(hello.host)) {
        if (count - forgotten.size() <= options_.devices_per_host) break;
        if (!present.contains(fdid) && is_forgettable(*ledger_.devices.find(fdid))) forgotten.push_back(fdid);
    }
    return forgotten;
}

// An SR-IOV function is the same whenever it is made again under its name; it may not tell a serial number.
std::optional<Fdid> Pool::known(const std::string& host, const ObservedDevice& observed) const {
    if (const auto fdid = ledger_.device_of(host, observed.name, observed.identity.serial)) return fdid;
    if (observed.parent.empty()) return std::nullopt;
    const auto fdid = ledger_.device_named(host + "/" + observed.name);
    if (!fdid || ledger_.devices.find(*fdid)->parent.empty()) return std::nullopt;
    return fdid;
}

void Pool::host_arrived(const Hello& hello) {
    const Host* before = ledger_.hosts.find(hello.host);
    if (!before || !before->up || before->instance != hello.instance) {
        AuditEntry entry;
        entry.subject = "host:" + hello.host;
        entry.action = "transition";
        entry.from = before ? (before->up ? "up" : "down") : "";
        entry.to = "up";
        entry.reason = !before                              ? "a new host"
                       : before->instance != hello.instance ? "its agent was started anew"
                                                            : "its agent is connected again";
        audit(std::move(entry));
    }
    Host host = before ? *before : Host{};
    host.name = hello.host;
    host.up = true;
    host.partition = hello.partition;
    host.instance = hello.instance;
    host.version = limited(hello.version);
    host.guests = hello.guests;
    host.dma_modes = hello.dma_modes;
    host.windows = hello.windows;
    host.windows_free = hello.windows_free;
    host.last_seen_us = now_.unix_us;
    host.borrower_grace_steady_us = 0;
    host.lender_grace_steady_us = 0;
    ledger_.hosts.put(host.name, host);
    for (const LoanId id : ledger_.live_loans_of(host.name))
        if (ledger_.loans.find(id)->crash_steady_us != 0)
            ledger_.change(id, [](Loan& loan) { loan.crash_steady_us = 0; });
    wants_decision();
}

// What its host has found out about it, and may find otherwise the next time.
void Pool::note_traits(Fdid fdid, const ObservedDevice& observed) {
    const Device& before = *ledger_.devices.find(fdid);
    if (before.functions != observed.functions) {
        AuditEntry entry;
        entry.subject = fmt::format("device:{}", fdid);
        entry.action = "functions";
        entry.from = fmt::format("{}", before.functions);
        entry.to = fmt::format("{}", observed.functions);
        entry.fdid = fdid;
        entry.epoch = before.epoch;
        audit(std::move(entry));
    }
    if (before.iommu == observed.iommu && before.qualified == observed.qualified &&
        before.parent == observed.parent && before.functions == observed.functions &&
        before.most_functions == observed.most_functions && !before.gone)
        return;
    ledger_.change(fdid, [&](Device& device) {
        device.iommu = observed.iommu;
        device.qualified = observed.qualified;
        device.parent = observed.parent;
        device.functions = observed.functions;
        device.most_functions = observed.most_functions;
        device.gone = false;
    });
}

// The fdid of what was seen: the same for ever for the same host, name and serial number.
Fdid Pool::identify(const std::string& host, const ObservedDevice& observed) {
    DeviceIdentity identity = observed.identity;
    for (std::string* text : {&identity.kind, &identity.model, &identity.firmware})
        *text = limited(*text);
    if (const auto known = this->known(host, observed)) {
        note_traits(*known, observed);
        // A device that does not answer now has not told what it is.
        if (observed.answering && ledger_.devices.find(*known)->identity != identity)
            ledger_.change(*known, [&](Device& device) { device.identity = identity; });
        return *known;
    }
    Device device;
    device.fdid = ledger_.counters.next_fdid;
    ledger_.counters.next_fdid = device.fdid.next();
    device.host = host;
    device.name = observed.name;
    device.identity = identity;
    device.epoch = observed.epoch;
    device.clean = observed.clean;
    device.iommu = observed.iommu;
    device.qualified = observed.qualified;
    device.parent = observed.parent;
    device.functions = observed.functions;
    device.most_functions = observed.most_functions;
    device.kept_local = observed.local; // until somebody wants it in the pool
    ledger_.devices.put(device.fdid, device);
    AuditEntry entry;
    entry.subject = fmt::format("device:{}", device.fdid);
    entry.action = "join";
    entry.to = name(DeviceState::local);
    entry.reason = fmt::format("{}, {} {}", device.full_name(), identity.model, identity.serial);
    entry.fdid = device.fdid;
    entry.epoch = device.epoch;
    audit(std::move(entry));
    return device.fdid;
}

void Pool::observe(Fdid fdid, const ObservedDevice& observed) {
    const bool ahead = observed.epoch > ledger_.devices.find(fdid)->epoch;
    if (observed.local) seen_with_host(fdid);
    const Device device = *ledger_.devices.find(fdid);
    if (ahead) ledger_.change(fdid, [&](Device& record) { record.epoch = observed.epoch; });
    if (device.state == DeviceState::quarantined) return observe_quarantined(device, observed);
    if (in_recovery(fdid)) {
        reflect(fdid);
        // Its agent will refuse the steps that are under way: their epoch is too low.
        if (ahead)
            return quarantine(
                fdid, fmt::format("its host has seen epoch {}, which these records have not given out",
                                  observed.epoch));
        const StepKind step = awaited(fdid)->kind;
        if (observed.local && step != StepKind::take && step != StepKind::give_back)
            begin_with_take(fdid, found_with_host);
        return;
    }
    if (device.loan) return observe_lent(device, observed, ahead);
    observe_idle(device, observed, ahead);
}

// It stays so until somebody restores it, but nobody is to have it meanwhile.
void Pool::observe_quarantined(const Device& device, const ObservedDevice& observed) {
    if (device.with_host && !observed.local)
        ledger_.change(device.fdid, [](Device& record) { record.with_host = false; });
    const auto steps = ledger_.steps_for(device.fdid);
    const bool told = std::any_of(steps.begin(), steps.end(),
                                  [&](StepId id) { return ledger_.steps.find(id)->kind == StepKind::cut; });
    if (!observed.loan || told) return;
    raise_epoch(device.fdid);
    issue_cleanup(StepKind::cut, device.host, device.fdid, observed.loan,
                  ledger_.devices.find(device.fdid)->epoch);
}

void Pool::observe_idle(const Device& device, const ObservedDevice& observed, bool ahead) {
    const Fdid fdid = device.fdid;
    // Kept for its host, it is that for as long as nobody knows that something was done with it.
    if (device.with_host && !observed.local && !device.kept_local)
        ledger_.change(fdid, [](Device& record) { record.with_host = false; });
    if (!observed.answering) {
        set_state(fdid, DeviceState::offline,
                  observed.problem.empty() ? "it does not answer" : limited(observed.problem));
    } else if (observed.local && device.kept_local) {
        observe_kept_local(device, observed);
    } else if (observed.local) {
        recover(fdid, std::string(found_with_host), false);
    } else if (ahead) {
        recover(
            fdid,
            fmt::format("its host has seen epoch {}, which these records have not given out", observed.epoch),
            false);
    } else if (observed.loan) {
        recover(
            fdid,
            fmt::format("its host has it prepared for loan {}, which is not in these records", observed.loan),
            false);
    } else if (device.kept_local) {
        observe_kept_local(device, observed);
    } else if (!observed.clean || !device.clean) {
        recover(fdid, "it has not been reset and sanitized since its last use", false);
    } else {
        set_state(fdid, DeviceState::available, {});
    }
}

void Pool::observe_lent(const Device& device, const ObservedDevice& observed, bool ahead) {
    const Fdid fdid = device.fdid;
    if (observed.local) return lose_device(fdid, std::string(found_with_host));
    if (!observed.answering)
        return lose_device(fdid,
                           fmt::format("the device does not answer{}{}", observed.problem.empty() ? "" : ": ",
                                       limited(observed.problem)));
    if (ahead)
        return lose_device(
            fdid,
            fmt::format("host {} has seen epoch {} of the device, which these records have not given out",
                        device.host, observed.epoch));
    std::set<LoanId> open(observed.joined.begin(), observed.joined.end());
    if (observed.loan) open.insert(observed.loan);
    const auto loans = ledger_.loans_on(fdid);
    std::vector<LoanId> prepared; // as far as the records know
    std::vector<LoanId> missing;
    for (const LoanId id : loans) {
        const Loan& loan = *ledger_.loans.find(id);
        if (loan.state != LoanState::attaching && loan.state != LoanState::active &&
            loan.state != LoanState::quiescing)
            continue;
        prepared.push_back(id);
        if (!open.contains(id) || observed.epoch != loan.epoch) missing.push_back(id);
    }
    const std::string reason =
        fmt::format("host {} does not have the device prepared for it: its agent was restarted", device.host);
    const bool for_others = !std::includes(loans.begin(), loans.end(), open.begin(), open.end());
    if (for_others || (!missing.empty() && missing.size() == prepared.size()))
        return lose_device(fdid, reason);
    // Of those that share it the lender has closed one by itself.
    for (const LoanId id : missing)
        lose(id, fmt::format("host {} does not have the device prepared for it any more", device.host));
    reflect(fdid);
}

// Known, but not in the Hello.
void Pool::vanished(Fdid fdid) {
    const Device device = *ledger_.devices.find(fdid);
    const std::string reason = fmt::format("host {} has no such device any more", device.host);
    if (!device.gone) ledger_.change(fdid, [](Device& record) { record.gone = true; });
    if (device.state == DeviceState::quarantined) return;
    if (device.loan || in_recovery(fdid)) return give_up(fdid, reason);
    drop_steps(fdid);
    if (!device.parent.empty() && device.clean) // another one may come under its name
        ledger_.change(fdid, [](Device& record) { record.clean = false; });
    set_state(fdid, DeviceState::offline, reason);
}

void Pool::reconcile_borrowed(const Hello& hello) {
    std::set<LoanId> held;
    for (const ObservedLoan& observed : hello.loans) {
        const Loan* loan = ledger_.loans.find(observed.loan);
        const bool recorded = loan && loan->borrower == hello.host && loan->fdid == observed.fdid &&
                              loan->epoch == observed.epoch &&
                              (loan->state == LoanState::attaching || loan->state == LoanState::active ||
                               loan->state == LoanState::quiescing);
        if (recorded) {
            if (observed.attached) held.insert(observed.loan);
            continue;
        }
        const auto steps = ledger_.steps_of(hello.host);
        const bool told = std::any_of(steps.begin(), steps.end(), [&](StepId id) {
            const Step* step = ledger_.steps.find(id);
            return step->loan == observed.loan && step->kind == StepKind::detach;
        });
        if (told) continue;
        const Device* device = ledger_.devices.find(observed.fdid);
        issue_cleanup(StepKind::detach, hello.host, observed.fdid, observed.loan,
                      device ? std::max(device->epoch, observed.epoch) : observed.epoch);
    }
    for (const LoanId id : ledger_.live_loans_of(hello.host))
        if (ledger_.loans.find(id)->state == LoanState::active && !held.contains(id))
            lose(id, fmt::format("host {} has it attached no longer: its agent or its guest was restarted",
                                 hello.host));
}

void Pool::send_again(const std::vector<StepId>& steps) {
    for (const StepId id : steps) {
        const Step* found = ledger_.steps.find(id);
        if (!found) continue; // overtaken by what the Hello showed
        const Step step = *found;
        if (step.sent < options_.sendings) {
            send(id);
            continue;
        }
        ledger_.steps.erase(id);
        if (!step.cleanup)
            step_failed(step,
                        fmt::format("host {} was asked {} times and has not answered", step.host, step.sent));
    }
}

} // namespace lanepool::pool
