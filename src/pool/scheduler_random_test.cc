// SPDX-License-Identifier: Apache-2.0
//
// Small random pools, against a reference that is slow and plain: it tries all ways. A failure names its
// seed.
#include "pool/scheduler_bench.h"

#include <algorithm>
#include <random>
#include <set>

namespace lanepool::pool::testing {
namespace {

constexpr int64_t second_us = 1'000'000;

class RandomTest : public ::testing::TestWithParam<uint32_t>, protected Records {
  protected:
    std::mt19937 random{GetParam()};
    uint64_t below(uint64_t limit) { return random() % limit; }

    std::string any_host() { return fmt::format("h{}", below(4)); }
    std::string any_kind() { return below(3) == 0 ? "gpu" : "nvme"; }

    // Each number is drawn in a statement of its own: compilers differ in the order in which they evaluate
    // arguments, and a seed has to name the same pool for all of them.
    void make_pool() {
        for (const char* name : {"h0", "h1", "h2", "h3"}) {
            const std::string rack = fmt::format("rack {}", below(2));
            const auto windows = static_cast<uint32_t>(1 + below(6));
            add_host(name, {rack}, windows);
        }
        for (uint64_t i = 0, count = 2 + below(6); i < count; ++i) {
            const std::string host = any_host();
            const std::string kind = any_kind();
            const uint64_t capacity = 1000 * (1 + below(3));
            add_device(host, kind, capacity);
        }
    }
    Loan any_wish(const std::string& tenant) {
        const std::string borrower = any_host();
        const std::string kind = any_kind();
        Loan loan = wish(borrower, kind);
        loan.tenant = tenant;
        loan.priority = static_cast<int32_t>(below(4));
        if (below(2) == 0) loan.wanted.least_capacity_bytes = 1000 * (1 + below(3));
        if (below(5) == 0) loan.wanted.host = any_host();
        if (below(2) == 0) loan.duration_s = static_cast<int64_t>(10 * (1 + below(10)));
        loan.preempts = below(5) == 0;
        loan.preemptible = below(2) == 0;
        return loan;
    }
    void lend_some(const std::string& tenant) {
        for (const auto& [fdid, device] : std::map(devices))
            if (below(2) == 0) {
                Loan loan = any_wish(tenant);
                if (loan.borrower != device.host) lend(fdid, loan);
            }
    }
    void queue_some(const std::string& tenant) {
        for (uint64_t i = 0, count = 1 + below(6); i < count; ++i) {
            std::vector<Loan> group{any_wish(tenant)};
            for (uint64_t more = below(3) == 0 ? 1 + below(2) : 0; more > 0; --more) {
                Loan next = any_wish(tenant);
                next.borrower = group[0].borrower;
                next.priority = group[0].priority;
                next.duration_s = group[0].duration_s;
                next.preempts = group[0].preempts;
                group.push_back(next);
            }
            queue_group(group);
            pass_s(1);
        }
    }
    std::map<LoanId, std::vector<const Loan*>> groups() const {
        std::map<LoanId, std::vector<const Loan*>> result;
        for (const auto& [id, loan] : loans)
            if (loan.state == LoanState::queued) result[loan.group].push_back(&loan);
        return result;
    }

    // ---- The reference
    int64_t room(const std::string& host, const std::vector<Start>& starts) const {
        int64_t left = hosts.at(host).windows_free;
        for (const auto& start : starts)
            left -= (loans.at(start.loan).borrower == host) + (devices.at(start.fdid).host == host);
        return left;
    }
    // All ways to give FREE devices to the wishes from INDEX on.
    bool fits(const std::vector<const Loan*>& wishes, size_t index, std::set<Fdid>& free,
              std::map<std::string, int64_t>& rooms) const {
        if (index == wishes.size()) return true;
        const Loan& loan = *wishes[index];
        for (const Fdid fdid : std::set(free)) {
            const Device& device = devices.at(fdid);
            if (!selects(loan.wanted, device) || device.host == loan.borrower) continue;
            if (rooms[device.host] < 1 || rooms[loan.borrower] < 1) continue;
            --rooms[device.host];
            --rooms[loan.borrower];
            free.erase(fdid);
            const bool all = fits(wishes, index + 1, free, rooms);
            free.insert(fdid);
            ++rooms[device.host];
            ++rooms[loan.borrower];
            if (all) return true;
        }
        return false;
    }
    // The first time, going by due times, at which the wishes could all be served alone; STARTS have
    // happened. Windows of loans that end come back.
    int64_t earliest_us(const std::vector<const Loan*>& wishes, const std::vector<Start>& starts) const {
        std::map<Fdid, int64_t> back;
        std::set<int64_t> times{now.unix_us};
        std::map<std::string, std::vector<std::pair<int64_t, int64_t>>> room_back;
        for (const auto& [fdid, device] : devices) {
            int64_t at = now.unix_us;
            if (device.loan) {
                const Loan& held = loans.at(device.loan);
                at = held.due_us == 0 ? INT64_MAX : std::max(held.due_us, now.unix_us);
                room_back[device.host].emplace_back(at, 1);
                room_back[held.borrower].emplace_back(at, 1);
            }
            for (const auto& start : starts)
                if (start.fdid == fdid) {
                    const int64_t duration_s = loans.at(start.loan).duration_s;
                    at = duration_s == 0 ? INT64_MAX : now.unix_us + duration_s * second_us;
                    room_back[device.host].emplace_back(at, 1);
                    room_back[loans.at(start.loan).borrower].emplace_back(at, 1);
                }
            back[fdid] = at;
            if (at != INT64_MAX) times.insert(at);
        }
        for (const int64_t time : times) {
            std::set<Fdid> free;
            for (const auto& [fdid, at] : back)
                if (at <= time) free.insert(fdid);
            std::map<std::string, int64_t> rooms;
            for (const auto& [name, host] : hosts) {
                rooms[name] = room(name, starts);
                for (const auto& [at, count] : room_back[name])
                    if (at <= time) rooms[name] += count;
            }
            if (fits(wishes, 0, free, rooms)) return time;
        }
        return INT64_MAX;
    }

    void check_starts(const Decision& decision) const {
        std::set<Fdid> used;
        std::set<LoanId> served;
        for (const auto& start : decision.starts) {
            const Loan& loan = loans.at(start.loan);
            const Device& device = devices.at(start.fdid);
            EXPECT_TRUE(used.insert(start.fdid).second) << "twice: " << start.fdid.value;
            EXPECT_TRUE(served.insert(start.loan).second);
            EXPECT_EQ(loan.state, LoanState::queued);
            EXPECT_EQ(device.state, DeviceState::available);
            EXPECT_TRUE(selects(loan.wanted, device));
            EXPECT_NE(loan.borrower, device.host);
        }
        for (const auto& [name, host] : hosts)
            EXPECT_GE(room(name, decision.starts), 0) << name;
        for (const auto& [group, wishes] : groups()) {
            const auto count = std::count_if(wishes.begin(), wishes.end(),
                                             [&](const Loan* loan) { return served.contains(loan->id); });
            EXPECT_TRUE(count == 0 || count == static_cast<int64_t>(wishes.size()));
        }
        for (const auto& one : decision.preemptions) {
            const Loan& victim = loans.at(one.victim);
            const Loan& winner = loans.at(one.winner);
            EXPECT_TRUE(victim.preemptible && winner.preempts && victim.priority < winner.priority);
            EXPECT_FALSE(served.contains(one.winner));
        }
    }
};

class RandomOrderTest : public RandomTest {};

TEST_P(RandomOrderTest, NobodyIsDelayedByALowerOrder) {
    make_pool();
    lend_some("t");
    queue_some("t");
    const Decision decision = decide();
    check_starts(decision);

    // In their order: one tenant, so priority and age.
    std::vector<std::vector<const Loan*>> order;
    for (const auto& [group, wishes] : groups())
        order.push_back(wishes);
    std::stable_sort(order.begin(), order.end(), [](const auto& one, const auto& other) {
        return one[0]->priority > other[0]->priority;
    });
    const auto served = given(decision);
    std::vector<Start> so_far;
    for (size_t i = 0; i < order.size(); ++i) {
        if (served.contains(order[i][0]->id)) {
            for (const Start& start : decision.starts)
                if (loans.at(start.loan).group == order[i][0]->group) so_far.push_back(start);
            continue;
        }
        // The first that waits: it could not start now, and starts no later for what goes ahead of it.
        const int64_t alone_us = earliest_us(order[i], so_far);
        EXPECT_GT(alone_us, now.unix_us) << "group " << order[i][0]->group.value << " could be served";
        // A single wish keeps no window of its own host: that alone may be taken before its turn.
        const int64_t rooms = room(order[i][0]->borrower, order[i].size() > 1 ? so_far : decision.starts);
        if (rooms >= static_cast<int64_t>(order[i].size())) {
            EXPECT_EQ(earliest_us(order[i], decision.starts), alone_us)
                << "group " << order[i][0]->group.value;
        }
        break;
    }

    // Those behind make no difference to those before.
    for (size_t keep = 0; keep <= order.size(); ++keep) {
        Scheduler fewer({}, limits());
        fewer.set_site(site);
        for (const auto& [name, host] : hosts)
            fewer.note(host, true);
        for (const auto& [fdid, device] : devices)
            fewer.note(device, true);
        for (const auto& [id, loan] : loans)
            if (loan.state != LoanState::queued) fewer.note(loan, true);
        std::map<LoanId, Fdid> expected;
        for (size_t i = 0; i < keep; ++i)
            for (const Loan* loan : order[i]) {
                fewer.note(*loan, true);
                if (served.contains(loan->id)) expected[loan->id] = served.at(loan->id);
            }
        EXPECT_EQ(given(fewer.decide(now)), expected) << "of " << keep;
    }
}

TEST_P(RandomOrderTest, DecisionsComeToAnEnd) {
    make_pool();
    lend_some("t");
    queue_some("t");
    queue_some("other");
    for (int i = 0; i < 6; ++i) {
        const Decision decision = serve();
        if (decision.starts.empty() && decision.preemptions.empty()) return;
        for (const auto& start : decision.starts) // their windows are not in the hosts' figures
            change_loan(start.loan, [](Loan& loan) { loan.state = LoanState::attaching; });
    }
    FAIL() << "no end of it";
}

TEST_P(RandomOrderTest, TheIndexesAreWhatTheRecordsAre) {
    make_pool();
    lend_some("t");
    queue_some("t");
    queue_some("other");
    for (int i = 0; i < 5; ++i) {
        serve();
        std::vector<LoanId> held;
        for (const auto& [id, loan] : loans)
            if (loan.state == LoanState::active && below(3) == 0) held.push_back(id);
        for (const LoanId id : held)
            end(id);
        change_host(any_host(), [&](Host& host) { host.up = below(3) != 0; });
        change_host(any_host(), [&](Host& host) { host.windows_free = static_cast<uint32_t>(below(4)); });
        queue_some(below(2) == 0 ? "t" : "other");
        Scheduler anew({}, limits());
        anew.set_site(site);
        for (const auto& [id, loan] : loans)
            anew.note(loan, true);
        for (const auto& [fdid, device] : devices)
            anew.note(device, true);
        for (const auto& [name, host] : hosts)
            anew.note(host, true);
        const Decision one = decide();
        const Decision other = anew.decide(now);
        EXPECT_EQ(one.starts, other.starts);
        EXPECT_EQ(one.preemptions, other.preemptions);
    }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomOrderTest, ::testing::Range(0u, 400u));

class RandomReservationsTest : public RandomTest {
  protected:
    struct Need {
        size_t index;
        int64_t count;
    };
    // Whether all that runs at TIME can have what it still needs, of the devices that are there by then.
    bool can_be_kept(int64_t time, const std::vector<Start>& starts) const {
        std::vector<size_t> slots; // one for each device that is needed, by reservation
        for (size_t i = 0; i < site.reservations.size(); ++i) {
            const Reservation& one = site.reservations[i];
            if (time < one.once->begin_us || time >= one.once->end_us) continue;
            int64_t need = one.count;
            for (const auto& [id, loan] : loans)
                need -= loan.reservation == one.name ? 1 : 0;
            for (const auto& start : starts)
                need -= start.reservation == one.name ? 1 : 0;
            for (; need > 0; --need)
                slots.push_back(i);
        }
        std::set<Fdid> there;
        for (const auto& [fdid, device] : devices) {
            int64_t at = now.unix_us;
            if (device.loan) {
                const Loan& held = loans.at(device.loan);
                at = held.due_us == 0 ? INT64_MAX : held.due_us;
            }
            for (const auto& start : starts)
                if (start.fdid == fdid) {
                    const Loan& loan = loans.at(start.loan);
                    at = loan.duration_s == 0 ? INT64_MAX : now.unix_us + loan.duration_s * second_us;
                }
            if (at <= time) there.insert(fdid);
        }
        return assign(slots, 0, there);
    }
    bool assign(const std::vector<size_t>& slots, size_t index, std::set<Fdid>& there) const {
        if (index == slots.size()) return true;
        const auto& wanted = site.reservations[slots[index]].device_class;
        for (const auto& one : site.classes) {
            if (one.name != wanted) continue;
            for (const Fdid fdid : std::set(there)) {
                if (std::none_of(one.any_of.begin(), one.any_of.end(), [&](const Selector& selector) {
                        return selects(selector, devices.at(fdid));
                    }))
                    continue;
                there.erase(fdid);
                const bool all = assign(slots, index + 1, there);
                there.insert(fdid);
                if (all) return true;
            }
        }
        return false;
    }
};

TEST_P(RandomReservationsTest, NobodyElseBreaksAReservation) {
    make_pool();
    Selector nvme;
    nvme.kind = "nvme";
    Selector big;
    big.least_capacity_bytes = 2000;
    Selector first;
    first.host = "h0";
    site.classes = {{"nvme", {nvme}}, {"big", {big}}, {"either", {first, nvme}}};
    lend_some("x");
    for (uint64_t i = 0, count = 1 + below(3); i < count; ++i) {
        Reservation one;
        one.name = fmt::format("r{}", i);
        one.tenant = fmt::format("t{}", below(3));
        one.device_class = site.classes[below(3)].name;
        one.count = static_cast<uint32_t>(1 + below(3));
        const int64_t begin_us = now.unix_us + (static_cast<int64_t>(below(12)) - 3) * 10 * second_us;
        one.once = Interval{begin_us, begin_us + static_cast<int64_t>(1 + below(12)) * 10 * second_us};
        site.reservations.push_back(one);
    }
    scheduler.set_site(site);
    for (int i = 0; i < 3; ++i)
        queue_some(fmt::format("t{}", i));
    const Decision decision = decide();
    check_starts(decision);

    std::set<int64_t> times{now.unix_us};
    for (const auto& one : site.reservations)
        if (one.once->begin_us > now.unix_us) times.insert(one.once->begin_us);
    // What a tenant takes that has reservations itself, or takes by right, is its own affair.
    std::set<std::string> privileged;
    for (const auto& one : site.reservations)
        privileged.insert(one.tenant);
    std::vector<Start> by_right;
    std::vector<Start> with_others;
    for (const auto& start : decision.starts) {
        const bool own = privileged.contains(loans.at(start.loan).tenant);
        if (!start.reservation.empty()) by_right.push_back(start);
        if (!start.reservation.empty() || !own) with_others.push_back(start);
    }
    for (const int64_t time : times)
        if (can_be_kept(time, by_right)) {
            EXPECT_TRUE(can_be_kept(time, with_others)) << "at " << time - now.unix_us;
        }

    // Each claim is a right one.
    std::map<std::string, int64_t> claimed;
    for (const auto& start : decision.starts) {
        if (start.reservation.empty()) continue;
        const auto one = std::find_if(site.reservations.begin(), site.reservations.end(),
                                      [&](const Reservation& any) { return any.name == start.reservation; });
        ASSERT_NE(one, site.reservations.end());
        EXPECT_EQ(one->tenant, loans.at(start.loan).tenant);
        EXPECT_LE(one->once->begin_us, now.unix_us);
        EXPECT_GT(one->once->end_us, now.unix_us);
        EXPECT_LE(++claimed[start.reservation], one->count);
    }
}

TEST_P(RandomReservationsTest, PreemptionDoesNotBreakAReservation) {
    make_pool();
    Selector nvme;
    nvme.kind = "nvme";
    site.classes = {{"nvme", {nvme}}};
    lend_some("x");
    Reservation one;
    one.name = "r";
    one.tenant = "owner";
    one.device_class = "nvme";
    one.count = static_cast<uint32_t>(1 + below(4));
    one.once = Interval{now.unix_us + static_cast<int64_t>(10 * below(8)) * second_us,
                        now.unix_us + 1000 * second_us};
    site.reservations = {one};
    scheduler.set_site(site);
    queue_some("t");
    const int64_t at = std::max(now.unix_us, one.once->begin_us);
    const Decision decision = decide();
    if (!can_be_kept(at, decision.starts)) return; // it could not before
    for (const auto& preemption : decision.preemptions) {
        const Loan winner = loans.at(preemption.winner);
        const Loan victim = loans.at(preemption.victim);
        const bool was_back = victim.due_us > 0 && victim.due_us <= at;
        const bool is_back = winner.duration_s > 0 && now.unix_us + winner.duration_s * second_us <= at;
        if (!was_back || is_back || !selects(nvme, devices.at(victim.fdid))) continue;
        change_loan(preemption.victim, [](Loan& loan) { loan.due_us = 0; });
    }
    EXPECT_TRUE(can_be_kept(at, decision.starts));
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomReservationsTest, ::testing::Range(0u, 600u));

} // namespace
} // namespace lanepool::pool::testing
