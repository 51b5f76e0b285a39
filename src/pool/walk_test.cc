// SPDX-License-Identifier: Apache-2.0
//
// A random walk: two lenders with two devices each, three borrowers, a controller, and everything that can go
// wrong between them, from a seed. After each step the records have to be right; once faults stop, every
// device has to come back to the pool or be quarantined with a reason.
#include "pool/test_bench.h"
#include "pool/walk_agent.h"
#include "pool/walk_wishes.h"

namespace lanepool::pool {
namespace {

using testing::Agent;
using testing::Dice;
using testing::Disk;
using testing::Wishes;

class Walk {
  public:
    // OWN_HOSTS: t is a whole host, which has its devices until they are taken, one of them with functions.
    explicit Walk(uint64_t seed, bool own_hosts = false)
        : dice_(seed), wishes_(dice_, own_hosts), own_hosts_(own_hosts),
          harshness_(static_cast<uint32_t>(seed % 4)) {
        options_.ended_loans_kept = 20;
        add("s", {"d0", "d1"});
        add("t", {"d0", "d1"});
        if (own_hosts) {
            agents_.at("t").devices["n0"].most_functions = 3;
            for (auto& [name, device] : agents_.at("t").devices) {
                device.hosted = true;
                device.become_local();
            }
        }
        for (const char* host : {"a", "b", "c"})
            add(host, {});
        // a borrows for its guest, b with its own kernel or for its guest, c only with its own kernel.
        agents_.at("a").has_guest = agents_.at("b").has_guest = true;
        agents_.at("b").dma_modes = {DmaMode::iommu, DmaMode::direct};
        agents_.at("c").dma_modes = {DmaMode::bounce, DmaMode::iommu};
        restart();
        if (seed % 2 == 1)
            input([&] {
                EXPECT_TRUE(pool_->apply_site(wishes_.sites.at("strict"), "strict", wishes_.owner, now_));
            });
    }

    void run(int steps) {
        for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
            act();
            check();
        }
    }

    // No more faults: everybody connects, answers, and gives back.
    void settle() {
        faults_ = false;
        input([&] { EXPECT_TRUE(pool_->apply_site(Site(), "open", wishes_.owner, now_)); });
        for (const char* host : {"s", "t", "a", "b", "c"})
            input([&] { static_cast<void>(pool_->drain({host, false, false, "", wishes_.owner}, now_)); });
        for (const auto& [fdid, device] : std::map(pool_->ledger().devices.all()))
            input([&, id = device.full_name()] {
                EXPECT_TRUE(pool_->drain({id, false, false, "", wishes_.owner}, now_));
            });
        for (int round = 0; round < 400 && !::testing::Test::HasFailure(); ++round) {
            for (auto& [host, agent] : agents_) {
                agent.mounted.clear();
                for (auto& [name, device] : agent.devices)
                    device.dead = device.in_use = false;
                if (!agent.connected) connect(agent);
                while (!agent.inbox.empty())
                    work(agent);
                while (!agent.answers.empty())
                    deliver(agent);
            }
            if (round % 20 == 0)
                for (auto& [host, agent] : agents_)
                    say_hello(agent, false);
            if (round % 20 == 5)
                for (const auto& [fdid, device] : std::map(pool_->ledger().devices.all()))
                    if (device.state == DeviceState::local && device.functions == 0 && !pool_->awaited(fdid))
                        input([&, id = device.full_name()] {
                            auto restored = pool_->restore({id, wishes_.owner}, now_);
                            EXPECT_TRUE(restored) << restored.error().message();
                        });
            if (round > 10)
                for (const auto& [id, loan] : std::map(pool_->ledger().loans.all()))
                    if (!has_ended(loan.state))
                        input([&, name = fmt::format("loan:{}", id)] {
                            static_cast<void>(pool_->give_back({name, {"end", true}, 0}, now_));
                        });
            pass(1500);
            check();
        }
        for (const auto& [fdid, device] : pool_->ledger().devices.all()) {
            const bool is_parent = device.state == DeviceState::local && device.functions > 0;
            const bool is_removed =
                device.state == DeviceState::offline && device.gone && !device.parent.empty();
            EXPECT_TRUE(device.state == DeviceState::available || device.state == DeviceState::quarantined ||
                        is_parent || is_removed)
                << describe(device) << " is " << name(device.state) << ": " << device.reason;
            EXPECT_TRUE(device.state == DeviceState::available || !device.reason.empty());
        }
        EXPECT_EQ(pool_->ledger().live_loans(), 0u);
        EXPECT_EQ(pool_->ledger().steps.size(), 0u);
        for (const auto& [host, agent] : agents_)
            EXPECT_TRUE(agent.loans.empty()) << host;
    }

    int loans_active = 0;
    int functions_lent = 0;
    int quarantines = 0;
    int most_together = 0;           // loans of one device
    int asked_in_vain = 0;           // returns of what somebody uses
    std::map<std::string, int> seen; // what the trail has told of, by action and new state

  private:
    uint32_t pick(uint32_t below) { return dice_.pick(below); }
    bool chance(uint32_t percent) { return dice_.chance(percent); }
    bool fault(uint32_t percent) { return faults_ && chance(percent * harshness_); }
    Agent& any_agent() {
        auto agent = agents_.begin();
        std::advance(agent, pick(static_cast<uint32_t>(agents_.size())));
        return agent->second;
    }
    void add(const std::string& host, std::vector<std::string> devices) {
        Agent& agent = agents_[host];
        agent.host = host;
        agent.partition = static_cast<uint32_t>(agents_.size());
        for (const auto& device : devices)
            agent.devices[device] = {};
    }

    // One input, and whether it could be stored.
    template <class Input>
    bool input(Input&& give) {
        give();
        const auto outcome = pool_->outcome();
        EXPECT_TRUE(outcome) << outcome.error().message();
        if (!outcome || (fault(1))) {
            pool_->rollback();
            return false;
        }
        note(*outcome);
        disk_.apply(*outcome);
        pool_->commit();
        for (const Order& order : outcome->orders) {
            Agent& agent = agents_.at(order.step.host);
            if (agent.connected) agent.inbox.push_back(order);
        }
        return true;
    }

    // The audit trail has to explain each state.
    void note(const Outcome& outcome) {
        for (const auto& loan : outcome.loans)
            functions_lent += loan.state == LoanState::attaching && loan.access_model == AccessModel::vf;
        for (const auto& entry : outcome.audit) {
            EXPECT_EQ(entry.sequence, ++last_sequence_);
            ++seen[entry.action == "transition" ? entry.to : entry.action];
            if (entry.to == "quarantined") {
                EXPECT_FALSE(entry.reason.starts_with("take")) << entry.reason;
            }
            if (entry.action == "join") told_[entry.subject] = "local";
            if (entry.action == "borrow") told_[entry.subject] = "queued";
            if (entry.action != "transition" || entry.subject.starts_with("host:")) continue;
            EXPECT_EQ(told_[entry.subject], entry.from) << entry.subject;
            told_[entry.subject] = entry.to;
            loans_active += entry.to == "active" ? 1 : 0;
            quarantines += entry.to == "quarantined" ? 1 : 0;
        }
    }

    void restart() {
        for (auto& [host, agent] : agents_)
            agent.drop(now_.steady_us);
        const Snapshot snapshot = disk_.snapshot();
        auto pool = Pool::create(snapshot, snapshot.site.empty() ? Site() : wishes_.sites.at(snapshot.site),
                                 options_, now_);
        ASSERT_TRUE(pool) << pool.error().message();
        pool_ = std::move(*pool);
        const bool faults = std::exchange(faults_, false); // a controller that cannot store does not start
        input([] {});
        faults_ = faults;
    }

    void disconnect(Agent& agent) {
        if (!agent.connected) return;
        agent.drop(now_.steady_us);
        for (int tries = 0; tries < 100; ++tries)
            if (input([&] { pool_->disconnected(agent.host, "test", now_); })) return;
        FAIL();
    }

    void connect(Agent& agent) {
        agent.connected = true;
        if (!say_hello(agent, true)) agent.connected = false;
    }

    bool say_hello(Agent& agent, bool first) {
        const Hello hello = agent.hello();
        // The answers that were sent before it arrive before it.
        while (!agent.answers.empty())
            deliver(agent);
        if (!agent.connected) return false; // one of them could not be stored
        const bool stored = input([&] { EXPECT_TRUE(pool_->hello(hello, first, now_)); });
        if (!stored && !first) disconnect(agent);
        if (stored) check_truth(agent);
        return stored;
    }

    void crash(Agent& agent) {
        agent.crash();
        disconnect(agent);
    }

    void work(Agent& agent) {
        if (agent.inbox.empty()) return;
        const Order order = agent.inbox.front();
        agent.inbox.pop_front();
        if (fault(3)) return; // it hangs; the deadline passes
        const bool ok = perform(agent, order);
        const bool busy = order.step.kind == StepKind::take || agent.stays(order.step);
        StepAnswer answer{order.step.id,
                          order.step.loan,
                          order.step.epoch,
                          order.step.kind,
                          ok,
                          ok ? "" : busy ? "busy" : "io",
                          ok ? "" : "it failed"};
        if (ok && order.step.kind == StepKind::attach && order.dma != DmaMode::none)
            answer.attached = {1 << 20, "1ff00:00:00.0", "nvme"};
        const bool functions = order.step.kind == StepKind::set_functions;
        if (functions && chance(50)) say_hello(agent, false);
        agent.answers.push_back(answer);
        if (functions && agent.connected) say_hello(agent, false);
        if (fault(3)) agent.old_answers.push_back(answer);
        if (fault(3)) agent.old_orders.push_back(order);
    }

    bool perform(Agent& agent, const Order& order) {
        return agent.perform(
            order, now_.steady_us, [this](uint32_t often) { return fault(often); },
            [&](LoanId loan) {
                use(loan);
                if (order.dma != DmaMode::none && chance(80)) agent.mounted.insert(loan);
            });
    }

    // Whoever has heard of no new end for as long as it was told ends the loan by itself.
    void fence() {
        for (auto& [host, agent] : agents_)
            for (auto& [name, device] : agent.devices)
                for (const auto& [loan, lease_end_us] : std::map(device.open)) {
                    if (lease_end_us == 0 || now_.steady_us < lease_end_us) continue;
                    device.open.erase(loan);
                    device.expelled.insert(loan);
                    if (agent.connected)
                        input([&, id = loan, epoch = device.epoch] {
                            pool_->lost(agent.host, {id, epoch, true, "its lease is over"}, now_);
                        });
                }
    }

    // Whoever has the loan writes, if its way to the device is open.
    void use(LoanId loan) {
        for (auto& [host, agent] : agents_)
            for (auto& [name, device] : agent.devices)
                if (device.open.contains(loan)) device.dirty = true;
    }

    // So do hosts with what is theirs.
    void use_local() {
        for (const auto& [fdid, device] : pool_->ledger().devices.all())
            if (Agent::Device* const there = real(device);
                there && device.state == DeviceState::local && device.kept_local)
                there->dirty = true;
    }

    void deliver(Agent& agent) {
        if (agent.answers.empty()) return;
        const StepAnswer answer = agent.answers.front();
        agent.answers.pop_front();
        const Step* const step = pool_->ledger().steps.find(answer.step);
        const bool in_vain = step && step->ask && !answer.ok && answer.code == "busy";
        const Loan* const found = in_vain ? pool_->ledger().loans.find(answer.loan) : nullptr;
        const std::optional<Loan> before = found ? std::optional(*found) : std::nullopt;
        if (!input([&] { pool_->answered(agent.host, answer, now_); }))
            disconnect(agent);
        else if (before)
            check_stayed(*before);
        if (fault(3)) input([&] { pool_->answered(agent.host, answer, now_); });
    }

    void pass(int64_t ms) {
        now_.steady_us += ms * 1000;
        now_.unix_us += ms * 1000;
        if (input([&] { pool_->tick(now_); })) check_patience();
        fence();
    }

    void late(Agent& agent) {
        if (!agent.old_answers.empty() && chance(50)) {
            const auto answer = agent.old_answers[pick(static_cast<uint32_t>(agent.old_answers.size()))];
            input([&] { pool_->answered(agent.host, answer, now_); });
        }
        if (!agent.old_orders.empty() && chance(50))
            perform(agent, agent.old_orders[pick(static_cast<uint32_t>(agent.old_orders.size()))]);
    }

    void lose(Agent& agent) {
        for (const auto& [id, loan] : std::map(agent.loans))
            if (chance(50)) {
                input([&, one = loan] {
                    pool_->lost(agent.host, {one.loan, one.epoch, false, "guest died"}, now_);
                });
                return;
            }
        for (const auto& [name, device] : agent.devices)
            for (const auto& [loan, lease_end_us] : device.open)
                input([&, id = loan, epoch = device.epoch] {
                    pool_->lost(agent.host, {id, epoch, true, "gone"}, now_);
                });
    }

    // On a whole host: it starts anew, somebody binds a driver, mounts a drive, or lets go of one.
    void stir(Agent& agent) {
        if (chance(20) && faults_) {
            agent.reboot();
            return disconnect(agent);
        }
        for (auto& [name, device] : agent.devices) {
            if (!device.hosted) continue;
            device.in_use = device.local && chance(30);
            if (fault(2)) device.become_local();
        }
        if (agent.connected) say_hello(agent, false);
    }

    // Null: its host has it no more.
    Agent::Device* real(const Device& device) {
        auto& devices = agents_.at(device.host).devices;
        const auto found = devices.find(device.name);
        return found == devices.end() ? nullptr : &found->second;
    }

    void act() {
        Agent& agent = any_agent();
        if (own_hosts_ && chance(1)) return stir(agents_.at("t"));
        const uint32_t what = pick(1000);
        if (what < 400) {
            work(agent);
        } else if (what < 800) {
            deliver(agent);
        } else if (what < 900) {
            input([&] { wishes_.ask(*pool_, now_); });
        } else if (what < 940) {
            pass(1 + pick(300));
        } else if (what < 980) {
            if (!agent.connected) connect(agent);
        } else if (what < 980 + 2 * harshness_) {
            disconnect(agent);
        } else if (what < 986 + harshness_) {
            crash(agent);
        } else if (what < 990) {
            late(agent);
        } else if (what < 992) {
            lose(agent);
        } else if (what < 993) {
            restart();
        } else if (what < 994) {
            if (harshness_ > 1) pass(1 + pick(100'000));
        } else if (what < 995) {
            for (auto& [name, device] : agent.devices)
                device.dead = fault(20);
        } else {
            if (agent.connected) say_hello(agent, false);
            for (const auto& [id, loan] : agent.loans)
                use(id);
            change_receivers(agent);
            use_local();
        }
    }

    // Somebody mounts something there or lets go of it, loads the module or removes it.
    void change_receivers(Agent& agent) {
        if (agent.host != "b" && agent.host != "c") return;
        agent.mounted.clear();
        for (const auto& [id, loan] : agent.loans)
            if (chance(60)) agent.mounted.insert(id);
        if (agent.loans.empty() && chance(20)) {
            agent.dma_modes.clear();
            for (const DmaMode mode : dma_modes)
                if (chance(70)) agent.dma_modes.push_back(mode);
        }
    }

    // After a Hello the records do not claim what its host has not got.
    void check_truth(const Agent& agent) {
        for (const auto& [id, loan] : pool_->ledger().loans.all()) {
            if (loan.state != LoanState::active) continue;
            const Device& device = *pool_->ledger().devices.find(loan.fdid);
            if (device.host == agent.host) {
                EXPECT_TRUE(agent.devices.at(device.name).open.contains(id));
            }
            EXPECT_TRUE(loan.borrower != agent.host || agent.loans.contains(id));
        }
        for (const Fdid fdid : pool_->ledger().devices_of(agent.host)) {
            const Device& device = *pool_->ledger().devices.find(fdid);
            const bool in_pool = device.state == DeviceState::available ||
                                 device.state == DeviceState::reserved || device.state == DeviceState::lent;
            const Agent::Device* const there = real(device);
            EXPECT_FALSE(in_pool && (!there || there->local)) << describe(device) << " is its own host's";
        }
    }

    // Somebody was asked for what is in use: it is the same loan, and nothing is left of the return.
    void check_stayed(const Loan& before) {
        ++asked_in_vain;
        EXPECT_EQ(before.state, LoanState::quiescing);
        const Loan& loan = *pool_->ledger().loans.find(before.id);
        const Device& device = *pool_->ledger().devices.find(loan.fdid);
        EXPECT_EQ(loan.state, LoanState::active);
        EXPECT_TRUE(loan.reason.ends_with("[busy]")) << loan.reason;
        EXPECT_TRUE(is_to_own_kernel(loan) && loan.dma != DmaMode::none);
        EXPECT_TRUE(loan.fdid == before.fdid && loan.epoch == before.epoch && loan.epoch == device.epoch);
        EXPECT_TRUE(loan.active_us == before.active_us && loan.function == before.function);
        EXPECT_EQ(device.loan, loan.id);
        EXPECT_FALSE(device.successor || device.kept_local) << describe(device);
        EXPECT_FALSE(pool_->awaited_by(loan));
        for (const auto& [host, agent] : agents_)
            EXPECT_TRUE(host == loan.borrower || !agent.loans.contains(loan.id)) << host;
    }

    // Nobody is waited for without end.
    void check_patience() {
        const int64_t longest_us = int64_t{options_.lender_grace_ms} * 1000;
        for (const auto& [host, agent] : agents_) {
            if (agent.connected || now_.steady_us - agent.away_since_us < longest_us) continue;
            for (const auto& [id, loan] : pool_->ledger().loans.all())
                EXPECT_FALSE(loan.state == LoanState::active && loan.borrower == host);
            for (const auto& [fdid, device] : pool_->ledger().devices.all())
                EXPECT_TRUE(device.host != host || !device.loan);
        }
    }

    // All or none.
    void check_group(const Loan& loan) {
        for (const LoanId other : pool_->ledger().live_loans_of_group(loan.group))
            EXPECT_EQ(pool_->ledger().loans.find(other)->state == LoanState::queued,
                      loan.state == LoanState::queued)
                << "loans " << loan.id.value << " and " << other.value;
    }

    // COUNT: of the loans of the device that have been looked at.
    void check_holder(const Loan& loan, const Device& device, int count) {
        const Loan* holder = pool_->ledger().loans.find(device.loan);
        ASSERT_NE(holder, nullptr);
        if (holder->id == loan.id) {
            const bool over = loan.state == LoanState::detaching || loan.state == LoanState::resetting;
            const Step* step = pool_->awaited(device.fdid);
            EXPECT_EQ(over, step && step->kind != StepKind::detach && step->kind != StepKind::prepare &&
                                step->kind != StepKind::attach)
                << describe(device) << " is with loan " << loan.id.value << ", " << name(loan.state);
            return;
        }
        EXPECT_TRUE(loan.shared && holder->shared && loan.epoch == holder->epoch &&
                    loan.access_model == AccessModel::smartio && holder->access_model == AccessModel::smartio)
            << "loans " << loan.id.value << " and " << holder->id.value << " of device " << loan.fdid.value;
        EXPECT_EQ(loan.sanitize, holder->sanitize);
        most_together = std::max(most_together, count);
    }

    // Nobody whose loan is over has a way to a device that is, or may be, somebody else's.
    void check_ways(const Device& device, const Agent::Device& real) {
        if (device.state != DeviceState::available && device.state != DeviceState::reserved &&
            device.state != DeviceState::lent)
            return;
        for (const auto& [id, lease_end_us] : real.open) {
            const Loan* loan = pool_->ledger().loans.find(id);
            EXPECT_TRUE(loan && !has_ended(loan->state))
                << describe(device) << " is open for loan " << id.value;
        }
    }

    // What its own host has is nobody else's, and what is a part of it is lent only while it is its host's.
    void check_own_host(const Device& device) {
        const bool in_pool = device.state == DeviceState::available ||
                             device.state == DeviceState::reserved || device.state == DeviceState::lent;
        EXPECT_FALSE(in_pool && device.with_host) << describe(device);
        EXPECT_FALSE(device.loan && device.functions > 0) << describe(device);
        EXPECT_TRUE(!device.with_host || device.seen_with_host);
        if (device.parent.empty() || !device.loan) return;
        const Device& parent =
            *pool_->ledger().devices.find(*pool_->find_device(device.host + "/" + device.parent));
        EXPECT_FALSE(parent.loan || parent.state == DeviceState::available) << describe(parent);
        const Step* step = pool_->awaited(parent.fdid);
        EXPECT_FALSE(step && step->kind == StepKind::set_functions)
            << describe(parent) << " is changed under a loan of " << describe(device);
    }

    void check() {
        std::map<Fdid, int> holders;
        for (const auto& [id, loan] : pool_->ledger().loans.all()) {
            if (has_ended(loan.state)) continue;
            EXPECT_EQ(told_[fmt::format("loan:{}", id)], name(loan.state));
            check_group(loan);
            if (!loan.fdid) {
                EXPECT_EQ(loan.state, LoanState::queued);
                EXPECT_FALSE(loan.wanted.empty());
                continue;
            }
            const Device& device = *pool_->ledger().devices.find(loan.fdid);
            if (loan.state == LoanState::queued) {
                EXPECT_EQ(device.successor, id);
                continue;
            }
            EXPECT_NE(device.state, DeviceState::quarantined);
            EXPECT_NE(device.state, DeviceState::local);
            EXPECT_EQ(is_to_own_kernel(loan), loan.dma != DmaMode::none);
            const Step* const step = pool_->awaited_by(loan);
            EXPECT_TRUE(!step || !step->ask ||
                        (loan.state == LoanState::quiescing && is_to_own_kernel(loan)));
            check_holder(loan, device, ++holders[loan.fdid]);
        }
        for (const auto& [fdid, device] : pool_->ledger().devices.all()) {
            EXPECT_GE(device.epoch, epochs_[fdid]);
            epochs_[fdid] = device.epoch;
            EXPECT_EQ(told_[fmt::format("device:{}", fdid)], name(device.state));
            check_own_host(device);
            const Agent::Device* const there = real(device);
            if (there) check_ways(device, *there);
            if (device.state != DeviceState::available) continue;
            EXPECT_TRUE(device.clean && !device.loan && !pool_->awaited(fdid)) << describe(device);
            if (!there || there->of_host) continue; // which its agent has not said yet
            EXPECT_FALSE(there->dirty || !there->open.empty())
                << describe(device) << " is not what the records say";
            EXPECT_LE(there->epoch, device.epoch);
        }
        const Snapshot stored = disk_.snapshot();
        EXPECT_EQ(stored.loans.size(), pool_->ledger().loans.size());
        EXPECT_EQ(stored.steps.size(), pool_->ledger().steps.size());
        EXPECT_EQ(stored.counters, pool_->ledger().counters);
        for (const auto& device : stored.devices)
            EXPECT_EQ(device, *pool_->ledger().devices.find(device.fdid));
        for (const auto& loan : stored.loans)
            EXPECT_EQ(loan, testing::stored(*pool_->ledger().loans.find(loan.id)));
        EXPECT_EQ(pool_->site(), stored.site.empty() ? Site() : wishes_.sites.at(stored.site));
    }

    Dice dice_;
    Wishes wishes_;
    const bool own_hosts_;
    Options options_;
    Now now_{1'000'000, 1'700'000'000'000'000};
    Disk disk_;
    std::unique_ptr<Pool> pool_;
    std::map<std::string, Agent> agents_;
    std::map<std::string, std::string> told_;
    std::map<Fdid, Epoch> epochs_;
    uint64_t last_sequence_ = 0;
    bool faults_ = true;
    const uint32_t harshness_; // 0 to 3: seeds differ in how much goes wrong
};

// Walks from SEEDS seeds; it has to have been everywhere, and so with WHAT.
void walk(uint64_t seeds, bool own_hosts, std::initializer_list<const char*> everywhere) {
    int loans = 0;
    int functions_lent = 0;
    int quarantines = 0;
    int most_together = 0;
    int asked_in_vain = 0;
    std::map<std::string, int> seen;
    for (uint64_t seed = 1; seed <= seeds && !::testing::Test::HasFailure(); ++seed) {
        SCOPED_TRACE(fmt::format("seed {}", seed));
        Walk walk(seed, own_hosts);
        walk.run(1500);
        walk.settle();
        loans += walk.loans_active;
        functions_lent += walk.functions_lent;
        quarantines += walk.quarantines;
        most_together = std::max(most_together, walk.most_together);
        asked_in_vain += walk.asked_in_vain;
        for (const auto& [what, times] : walk.seen)
            seen[what] += times;
    }
    EXPECT_GT(loans, 500);
    EXPECT_EQ(functions_lent > 20, own_hosts) << functions_lent;
    EXPECT_GT(quarantines, 50);
    EXPECT_GT(most_together, 3);
    EXPECT_GT(asked_in_vain, 10);
    std::printf("%d loans became active, %d times a device was quarantined, %d times a return was refused\n",
                loans, quarantines, asked_in_vain);
    for (const auto& [what, times] : seen)
        std::printf("%s %d, ", what.c_str(), times);
    std::printf("\n");
    for (const char* what : everywhere)
        EXPECT_GT(seen[what], 5) << what;
}

TEST(Walk, EveryDeviceIsAccountedFor) {
    walk(150, false,
         {"local", "drain", "restore", "quarantine", "renewed", "due-soon", "preempted", "apply-site",
          "extend-done", "expel-done", "expel-failed"});
}

TEST(Walk, SoIsEveryDeviceOfAWholeHost) {
    walk(200, true,
         {"local", "restore", "quarantine", "take-done", "take-failed", "take-expired", "give-back-done",
          "give-back-failed", "set-functions-done", "set-functions-failed", "set-functions-refused",
          "functions"});
}

} // namespace
} // namespace lanepool::pool
