// SPDX-License-Identifier: Apache-2.0
#include "pool/market.h"

#include <algorithm>
#include <charconv>

namespace lanepool::pool {
namespace {

// The fdid that a selector's `device` is, unless it is a name.
std::optional<Fdid> as_fdid(std::string_view text) {
    if (text.starts_with("0x") || text.starts_with("0X")) text.remove_prefix(2);
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return Fdid{value};
}

// Of several that share a device the last counts, which is this. 0: soon.
int64_t ends_us(const Loan& loan) {
    const bool ending = loan.state == LoanState::quiescing || loan.state == LoanState::detaching ||
                        loan.state == LoanState::resetting;
    if (ending || loan.preempted_by) return 0;
    return loan.due_us > 0 ? loan.due_us : never_us;
}

bool is_setting_up(LoanState state) {
    return state == LoanState::reserved || state == LoanState::preparing || state == LoanState::attaching;
}

} // namespace

Market::Market(Reservations& reservations, int64_t turnaround_us)
    : reservations_(reservations), turnaround_us_(turnaround_us) {}

void Market::mark(DeviceEntry& entry) {
    if (!std::exchange(entry.dirty, true)) dirty_devices_.push_back(&entry);
}

void Market::mark(HostEntry& host) {
    if (!std::exchange(host.dirty, true)) dirty_hosts_.push_back(&host);
}

HostEntry* Market::host(const std::string& name) {
    const auto [found, added] = hosts_.try_emplace(name);
    HostEntry& host = found->second;
    if (added) {
        host.name = name;
        locate(host);
    }
    return &host;
}

DeviceEntry* Market::device(Fdid fdid) {
    const auto found = devices_.find(fdid);
    return found == devices_.end() ? nullptr : &found->second;
}

const DeviceEntry* Market::find(Fdid fdid) const {
    const auto found = devices_.find(fdid);
    return found == devices_.end() ? nullptr : &found->second;
}

const DeviceEntry* Market::held_by(LoanId loan) const {
    const auto found = device_of_loan_.find(loan);
    const DeviceEntry* device = found == device_of_loan_.end() ? nullptr : find(found->second);
    return device != nullptr && device->loan != nullptr ? device : nullptr;
}

const std::map<Fdid, LoanId>& Market::ending_for(LoanId group) const {
    static const std::map<Fdid, LoanId> none;
    const auto found = ending_for_.find(group);
    return found == ending_for_.end() ? none : found->second;
}

void Market::locate(HostEntry& host) {
    host.rule = HostRule();
    if (const auto rule = rules_.find(host.name); rule != rules_.end()) host.rule = rule->second;
    host.nodes.clear();
    for (size_t depth = 0; depth <= host.rule.location.size(); ++depth)
        host.nodes.push_back(&nodes_[Location(
            host.rule.location.begin(), host.rule.location.begin() + static_cast<std::ptrdiff_t>(depth))]);
}

void Market::note(const Host& record, bool comes) {
    HostEntry& entry = *host(record.name);
    entry.record = comes ? &record : nullptr;
    mark(entry);
}

void Market::note(const Device& record, bool comes) {
    DeviceEntry& entry = devices_[record.fdid];
    entry.fdid = record.fdid;
    entry.record = comes ? &record : nullptr;
    mark(entry);
}

void Market::note(const Loan& loan, bool comes) {
    if (is_setting_up(loan.state)) {
        HostEntry& borrower = *host(loan.borrower);
        borrower.borrowing += comes ? 1 : -1;
        mark(borrower);
    }
    if (!loan.fdid) return;
    if (comes)
        device_of_loan_[loan.id] = loan.fdid;
    else
        device_of_loan_.erase(loan.id);
    if (loan.preempted_by) {
        auto& ending = ending_for_[loan.preempted_by];
        if (comes)
            ending[loan.fdid] = loan.id;
        else
            ending.erase(loan.fdid);
        if (ending.empty()) ending_for_.erase(loan.preempted_by);
    }
    DeviceEntry& entry = devices_[loan.fdid];
    entry.fdid = loan.fdid;
    if (comes)
        entry.loans.push_back(&loan);
    else
        std::erase(entry.loans, &loan);
    const auto last =
        std::max_element(entry.loans.begin(), entry.loans.end(),
                         [](const Loan* one, const Loan* other) { return ends_us(*one) < ends_us(*other); });
    entry.loan = last == entry.loans.end() ? nullptr : *last;
    mark(entry);
}

void Market::set_site(const Site& site) {
    settle();
    for (auto& [fdid, entry] : devices_) {
        list(entry, false);
        entry.listing = {};
        mark(entry);
    }
    rules_.clear();
    for (const auto& rule : site.hosts)
        rules_[rule.name] = rule;
    nodes_.clear();
    reservations_.set_site(site);
    for (auto& [name, entry] : hosts_) {
        locate(entry);
        mark(entry);
    }
}

DeviceType* Market::type_of(const DeviceEntry& entry) {
    const auto& identity = entry.record->identity;
    const auto is_of = [&](const DeviceIdentity& sample) {
        return sample.kind == identity.kind && sample.model == identity.model &&
               sample.vendor_id == identity.vendor_id && sample.device_id == identity.device_id &&
               sample.capacity_bytes == identity.capacity_bytes;
    };
    if (entry.listing.type != nullptr && is_of(entry.listing.type->sample.identity))
        return entry.listing.type;
    const TypeKey key{identity.kind, identity.model, identity.vendor_id, identity.device_id,
                      identity.capacity_bytes};
    const auto [found, added] = by_type_.try_emplace(key, nullptr);
    if (added) {
        types_.push_back(std::make_unique<DeviceType>());
        found->second = types_.back().get();
        found->second->number = static_cast<uint32_t>(types_.size() - 1);
        found->second->sample.identity = identity;
        for (auto& [selector, want] : wants_)
            want.matches.push_back(!want.scoped && selects(selector, found->second->sample));
    }
    return found->second;
}

DeviceEntry::Listing Market::wanted_listing(const DeviceEntry& entry) {
    DeviceEntry::Listing listing;
    if (entry.record == nullptr) return listing;
    const Device& device = *entry.record;
    listing.type = type_of(entry);
    HostEntry* const listed = entry.listing.host;
    listing.host = listed != nullptr && listed->name == device.host ? listed : host(device.host);
    listing.name = device.full_name();
    const bool may_be_lent = device.draining.empty() && !device.kept_local && !device.successor &&
                             device.functions == 0 && !device.parent_changing && listing.host->rule.lends;
    const bool healthy = device.state == DeviceState::available || device.state == DeviceState::reserved ||
                         device.state == DeviceState::lent || device.state == DeviceState::recovering;
    if (may_be_lent && healthy) listing.classes = reservations_.classes_of(device);
    listing.free =
        may_be_lent && device.state == DeviceState::available && entry.loan == nullptr && listing.host->lends;
    if (entry.loan == nullptr) {
        listing.held = device.state == DeviceState::recovering;
        listing.back_us = 0;
        return listing;
    }
    const Loan& loan = *entry.loan;
    const bool ending = loan.state != LoanState::active && !is_setting_up(loan.state);
    listing.held = may_be_lent && healthy;
    if (ending || loan.preempted_by)
        listing.back_us = 0;
    else if (loan.due_us > 0)
        listing.back_us = loan.due_us;
    else if (loan.duration_s > 0)
        listing.back_us = 0; // it has no due time yet
    // One that counts for a reservation already does not count twice.
    listing.counts_back =
        listing.held && listing.back_us > 0 && listing.back_us != never_us && loan.reservation.empty();
    listing.setting_up = is_setting_up(loan.state);
    listing.victim = listing.held && loan.state == LoanState::active && loan.preemptible &&
                     !loan.preempted_by && loan.reservation.empty() && listing.host->takes_part &&
                     entry.loans.size() == 1; // several are not made to end for one
    if (listing.victim) {
        listing.victim_priority = loan.priority;
        listing.victim_active_us = loan.active_us;
        listing.victim_loan = loan.id;
    }
    return listing;
}

void Market::list(DeviceEntry& entry, bool comes) {
    const auto& now = entry.listing;
    if (now.type == nullptr) return;
    now.type->devices += comes ? 1 : size_t(-1);
    if (comes) {
        now.host->devices.insert(&entry);
        by_name_[now.name].insert(&entry);
    } else {
        now.host->devices.erase(&entry);
        const auto named = by_name_.find(now.name);
        named->second.erase(&entry);
        if (named->second.empty()) by_name_.erase(named);
    }
    reservations_.note_member(now.classes, comes);
    if (now.free) list_free(entry, comes);
    if (now.counts_back) reservations_.note_back(now.classes, now.back_us + turnaround_us_, comes);
    const std::pair held{now.back_us, entry.fdid};
    const std::tuple victim{now.victim_priority, -now.victim_active_us, now.victim_loan, entry.fdid};
    if (now.held && comes) now.type->held.insert(held);
    if (now.held && !comes) now.type->held.erase(held);
    if (now.victim && comes) now.type->victims.insert(victim);
    if (now.victim && !comes) now.type->victims.erase(victim);
    if (now.setting_up) {
        now.host->lending += comes ? 1 : -1;
        mark(*now.host);
    }
}

void Market::list_free(DeviceEntry& entry, bool comes) {
    const auto& now = entry.listing;
    HostEntry& host = *now.host;
    const uint32_t type = now.type->number;
    place(host, type, false);
    if (comes) {
        host.free[type].insert(entry.fdid);
    } else if (auto& of_type = host.free[type]; of_type.erase(entry.fdid) > 0 && of_type.empty()) {
        host.free.erase(type);
    }
    place(host, type, true);
    reservations_.note_free(now.classes, comes);

    now.type->free += comes ? 1 : size_t(-1);
    if (now.type->free == (comes ? 1 : 0))
        for (auto& [number, want] : general_wants_)
            if (want->matches[type]) set_live(*want, want->live + (comes ? 1 : size_t(-1)));
    const auto count = [&](auto& index, const auto& key) {
        if (const auto found = index.find(key); found != index.end())
            for (Want* want : found->second)
                if (!std::exchange(want->stale, true)) stale_wants_.push_back(want);
    };
    count(wants_of_host_, host.name);
    count(wants_of_name_, now.name);
    count(wants_of_fdid_, entry.fdid);
}

void Market::place(HostEntry& host, uint32_t type, bool comes) {
    const auto found = host.free.find(type);
    if (found == host.free.end() || found->second.empty()) return;
    const std::tuple key{-host.room, *found->second.begin(), &host};
    for (Node* node : host.nodes) {
        if (comes) {
            node->hosts[type].insert(key);
        } else {
            auto& hosts = node->hosts[type];
            hosts.erase(key);
            if (hosts.empty()) node->hosts.erase(type);
        }
    }
}

void Market::set_live(Want& want, size_t live) {
    const bool wakes_or_dies = (want.live == 0) != (live == 0);
    want.live = live;
    if (wakes_or_dies && !std::exchange(want.changed, true)) woken_.push_back(&want);
}

void Market::refresh(DeviceEntry& entry) {
    auto listing = wanted_listing(entry);
    if (listing == entry.listing) return;
    list(entry, false);
    entry.listing = std::move(listing);
    list(entry, true);
}

void Market::refresh(HostEntry& host) {
    int64_t room = 0;
    if (host.record != nullptr)
        room = host.record->windows == 0 ? unlimited_room
                                         : int64_t{host.record->windows_free} - host.borrowing - host.lending;
    const bool takes_part = host.record != nullptr && host.record->up && host.record->draining.empty();
    const bool lends = takes_part && host.rule.lends && room > 0;
    const bool borrows = takes_part && host.rule.borrows && room > 0;
    if (room != host.room) {
        for (const auto& [type, fdids] : host.free)
            place(host, type, false);
        host.room = room;
        for (const auto& [type, fdids] : host.free)
            place(host, type, true);
    }
    if (lends != host.lends || takes_part != host.takes_part) {
        host.lends = lends;
        host.takes_part = takes_part;
        for (DeviceEntry* entry : host.devices)
            mark(*entry);
    }
    if (borrows != host.borrows) {
        host.borrows = borrows;
        changed_hosts_.push_back(&host);
    }
}

void Market::settle() {
    while (!dirty_devices_.empty() || !dirty_hosts_.empty()) {
        for (DeviceEntry* entry : std::exchange(dirty_devices_, {})) {
            entry->dirty = false;
            refresh(*entry);
            if (entry->record == nullptr && entry->loan == nullptr) devices_.erase(Fdid(entry->fdid));
        }
        for (HostEntry* entry : std::exchange(dirty_hosts_, {})) {
            entry->dirty = false;
            refresh(*entry);
        }
    }
    for (Want* want : std::exchange(stale_wants_, {})) {
        want->stale = false;
        size_t live = 0;
        for (const DeviceEntry* entry : devices_of(*want))
            live += entry->listing.free ? 1 : 0;
        set_live(*want, live);
    }
}

Want* Market::use(const Selector& selector) {
    const auto [found, added] = wants_.try_emplace(selector);
    Want& want = found->second;
    ++want.users;
    if (!added) return &want;
    want.number = next_want_++;
    want.selector = selector;
    want.scoped = !selector.host.empty() || !selector.device.empty();
    want.fdid = as_fdid(selector.device);
    for (const auto& type : types_) {
        want.matches.push_back(!want.scoped && selects(selector, type->sample));
        if (want.matches.back() && type->free > 0) ++want.live;
    }
    if (!want.scoped) {
        general_wants_[want.number] = &want;
        return &want;
    }
    if (selector.device.empty())
        wants_of_host_[selector.host].insert(&want);
    else if (want.fdid)
        wants_of_fdid_[*want.fdid].insert(&want);
    else
        wants_of_name_[selector.device].insert(&want);
    for (const DeviceEntry* entry : devices_of(want))
        if (entry->listing.free) ++want.live;
    return &want;
}

void Market::release(Want* want) {
    if (--want->users > 0) return;
    const auto forget = [&](auto& index, const auto& key) {
        if (const auto found = index.find(key); found != index.end()) {
            found->second.erase(want);
            if (found->second.empty()) index.erase(found);
        }
    };
    forget(wants_of_host_, want->selector.host);
    forget(wants_of_name_, want->selector.device);
    if (want->fdid) forget(wants_of_fdid_, *want->fdid);
    general_wants_.erase(want->number);
    if (want->changed) std::erase(woken_, want);
    if (want->stale) std::erase(stale_wants_, want);
    wants_.erase(Selector(want->selector));
}

bool Market::is_meant(const Want& want, const DeviceEntry& entry) {
    if (entry.record == nullptr || entry.listing.type == nullptr) return false;
    if (want.scoped) return selects(want.selector, *entry.record);
    const uint32_t type = entry.listing.type->number;
    return type < want.matches.size() && want.matches[type];
}

std::optional<std::vector<Want*>> Market::wants_by_fdid(const DeviceEntry& entry) const {
    const auto any_in = [&](const auto& index, const auto& key) {
        const auto found = index.find(key);
        return found != index.end() && std::any_of(found->second.begin(), found->second.end(),
                                                   [&](const Want* want) { return is_meant(*want, entry); });
    };
    if (any_in(wants_of_name_, entry.listing.name) || any_in(wants_of_host_, entry.record->host))
        return std::nullopt;
    for (const auto& [number, want] : general_wants_)
        if (is_meant(*want, entry)) return std::nullopt;
    const auto found = wants_of_fdid_.find(entry.fdid);
    if (found == wants_of_fdid_.end()) return std::vector<Want*>();
    return std::vector<Want*>(found->second.begin(), found->second.end());
}

std::vector<DeviceEntry*> Market::devices_of(const Want& want) const {
    std::vector<DeviceEntry*> found;
    const auto add = [&](const auto& entries) {
        for (DeviceEntry* entry : entries)
            if (is_meant(want, *entry)) found.push_back(entry);
    };
    const Selector& selector = want.selector;
    if (want.fdid) {
        if (const auto device = devices_.find(*want.fdid); device != devices_.end())
            if (is_meant(want, device->second)) found.push_back(const_cast<DeviceEntry*>(&device->second));
    } else if (selector.device.empty()) {
        if (const auto host = hosts_.find(selector.host); host != hosts_.end()) add(host->second.devices);
    } else if (const auto named = by_name_.find(selector.device); named != by_name_.end()) {
        add(named->second);
    }
    std::sort(found.begin(), found.end(), [](const DeviceEntry* one, const DeviceEntry* other) {
        const auto capacity = [](const DeviceEntry* entry) {
            return entry->listing.type->sample.identity.capacity_bytes;
        };
        return std::tuple(capacity(one), one->fdid) < std::tuple(capacity(other), other->fdid);
    });
    return found;
}

} // namespace lanepool::pool
