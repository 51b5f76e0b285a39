// SPDX-License-Identifier: Apache-2.0
//
// For the random walk: what people ask for, and the sites that decide about it.
#pragma once

#include "pool/pool.h"

#include <map>
#include <random>
#include <string>

namespace lanepool::pool::testing {

// Chance, from a seed.
class Dice {
  public:
    explicit Dice(uint64_t seed) : random_(seed) {}
    uint32_t pick(uint32_t below) { return static_cast<uint32_t>(random_() % below); }
    bool chance(uint32_t percent) { return pick(100) < percent; }

  private:
    std::mt19937_64 random_;
};

// Sites that differ in all that leads somewhere else.
inline std::map<std::string, Site> walk_sites() {
    std::map<std::string, Site> sites;
    Site strict;
    strict.tenants = {{"red", 1, 8}};
    strict.users = {{"u", "red", Role::user}};
    Rule low;
    low.name = "low";
    low.hosts = {"a", "c"};
    low.preemptible = true;
    low.grace_s = 2;
    low.sanitize = false;
    low.longest_s = 50;
    Rule high;
    high.name = "high";
    high.hosts = {"b"};
    high.preempts = true;
    high.priority = 10;
    high.highest_priority = 20;
    strict.rules = {low, high};
    strict.failures.resize(1);
    strict.failures[0].on_borrower_crash = OnBorrowerCrash::wait;
    strict.failures[0].wait_s = 5;
    strict.failures[0].on_missed_due = OnMissedDue::reclaim;
    strict.failures[0].on_failed_reset = OnFailedReset::retry;
    strict.failures[0].reset_retries = 2;
    strict.warn_before_due_s = 5;
    sites["strict"] = strict;
    Site mild = strict;
    mild.rules[0].hosts.clear();
    mild.failures.clear();
    mild.tenants[0].most_loans = 0;
    Reservation reservation;
    reservation.name = "soon";
    reservation.tenant = "red";
    reservation.device_class = "all";
    DeviceClass all;
    all.name = "all";
    all.any_of.resize(1);
    all.any_of[0].kind = "nvme";
    mild.classes = {all};
    reservation.once = Interval{1'700'000'010'000'000, 1'700'000'100'000'000};
    mild.reservations = {reservation};
    sites["mild"] = mild;
    sites["open"] = Site();
    return sites;
}

class Wishes {
  public:
    // OWN_HOSTS: there are devices that their own hosts have at first, and SR-IOV functions.
    explicit Wishes(Dice& dice, bool own_hosts = false) : dice_(dice), own_hosts_(own_hosts) {}

    // Anything that somebody may want.
    void ask(Pool& pool, Now now) {
        pool_ = &pool;
        now_ = now;
        if (own_hosts_ && dice_.chance(25)) return leave_or_bring();
        switch (dice_.pick(16)) {
        case 0:
            static_cast<void>(pool_->give_back({any_loan(), any_caller(), 0, dice_.chance(10)}, now_));
            break;
        case 1:
            static_cast<void>(pool_->reclaim({any_loan(), "", owner}, now_));
            break;
        case 2:
            static_cast<void>(
                pool_->reassign({any_loan(), any_borrower(), "", any_caller(), dice_.chance(30)}, now_));
            break;
        case 3:
            static_cast<void>(pool_->reset({any_device(), owner}, now_));
            break;
        case 4:
        case 5:
            static_cast<void>(
                pool_->renew({any_loan(), dice_.chance(20) ? 0 : 1 + dice_.pick(40), any_caller()}, now_));
            break;
        case 6:
            operate();
            break;
        case 7:
        case 8:
        case 9:
        case 10:
            share();
            break;
        default:
            static_cast<void>(pool_->borrow(any_wish(), now_));
        }
    }

    const std::map<std::string, Site> sites = walk_sites();
    const Caller owner{"owner", true};

  private:
    void operate() {
        switch (dice_.pick(8)) {
        case 0:
            return static_cast<void>(pool_->drain({any_device(), true, dice_.chance(50), "", owner}, now_));
        case 1:
            return static_cast<void>(pool_->drain({any_borrower(), true, dice_.chance(50), "", owner}, now_));
        case 2:
            for (const char* host : {"a", "b", "c"})
                static_cast<void>(pool_->drain({host, false, false, "", owner}, now_));
            return static_cast<void>(pool_->drain({any_device(), false, false, "", owner}, now_));
        case 3:
            return static_cast<void>(pool_->quarantine({any_device(), "why not", owner}, now_));
        case 4:
        case 5:
            return static_cast<void>(pool_->restore({any_device(), owner}, now_));
        case 6:
            return static_cast<void>(pool_->keep_local({any_device(), owner}, now_));
        default:
            auto site = sites.begin();
            std::advance(site, dice_.pick(static_cast<uint32_t>(sites.size())));
            return static_cast<void>(pool_->apply_site(site->second, site->first, owner, now_));
        }
    }

    // Out of the pool to its own host, or into it, or functions.
    void leave_or_bring() {
        if (dice_.chance(30)) return static_cast<void>(pool_->keep_local({any_device(), owner}, now_));
        if (dice_.chance(70)) {
            const std::string device = any_device();
            const auto found = pool_->find_device(device);
            // A parent is of more use with its host.
            if (found && pool_->ledger().devices.find(*found)->most_functions > 0 && dice_.chance(80)) return;
            return static_cast<void>(pool_->restore({device, owner}, now_));
        }
        for (const auto& [fdid, device] : pool_->ledger().devices.all()) {
            if (device.most_functions == 0) continue;
            const uint32_t count = dice_.chance(20) ? 0 : 1 + dice_.pick(device.most_functions);
            return static_cast<void>(pool_->set_functions({fmt::format("{}", fdid), count, owner}, now_));
        }
    }

    // What somebody shares already, if there is such a device.
    void share() {
        BorrowRequest request = any_wish();
        request.devices.resize(1);
        request.devices[0] = Selector();
        request.devices[0].device = any_device();
        for (const auto& [fdid, device] : pool_->ledger().devices.all())
            if (const Loan* loan = pool_->ledger().loans.find(device.loan); loan && loan->shared)
                request.devices[0].device = fmt::format("{}", fdid);
        request.access_model = AccessModel::smartio;
        request.shared = true;
        request.wait_s = 0;
        static_cast<void>(pool_->borrow(request, now_));
    }

    std::string any_device() {
        const auto& devices = pool_->ledger().devices;
        const auto count = own_hosts_ ? static_cast<uint32_t>(devices.size()) : 4;
        return fmt::format("{:x}", 0x80000 + dice_.pick(std::max(count, 1U)));
    }
    std::string any_borrower() { return std::string(1, static_cast<char>('a' + dice_.pick(3))); }

    Selector any_selector() {
        Selector selector;
        if (dice_.chance(50))
            selector.device = any_device();
        else
            selector.kind = "nvme";
        if (dice_.chance(20)) selector.host = "s";
        return selector;
    }

    Caller any_caller() { return {"u", dice_.chance(10)}; }

    BorrowRequest any_wish() {
        BorrowRequest request;
        for (uint32_t i = dice_.chance(70) ? 1 : 2 + dice_.pick(2); i > 0; --i)
            request.devices.push_back(any_selector());
        request.host = any_borrower();
        if (dice_.chance(50)) {
            request.access_model = AccessModel::smartio;
            request.shared = dice_.chance(80);
            if (dice_.chance(20)) request.host = dice_.chance(50) ? "s" : "t"; // which may be the lender
        } else if (dice_.chance(20))
            request.dma = dma_modes[dice_.pick(dma_modes.size())];
        else if (dice_.chance(20))
            request.guest = "g";
        if (dice_.chance(50)) request.duration_s = dice_.chance(30) ? 0 : 20;
        if (dice_.chance(30)) request.priority = static_cast<int32_t>(dice_.pick(20));
        request.wait_s = dice_.chance(30) ? 0 : dice_.chance(50) ? 10 : BorrowRequest::wait_for_ever_s;
        request.caller = any_caller();
        return request;
    }

    std::string any_loan() {
        if (dice_.chance(50) || pool_->ledger().loans.size() == 0) return any_device();
        auto loan = pool_->ledger().loans.all().begin();
        std::advance(loan, dice_.pick(static_cast<uint32_t>(pool_->ledger().loans.size())));
        return fmt::format("loan:{}", loan->first);
    }

    Dice& dice_;
    const bool own_hosts_;
    Pool* pool_ = nullptr; // of the wish at hand
    Now now_;
};

} // namespace lanepool::pool::testing
