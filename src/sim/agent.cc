// SPDX-License-Identifier: Apache-2.0
#include "sim/agent.h"

#include "sim/lent.h"
#include "sim/network.h"

#include <algorithm>

namespace lanepool::sim {

namespace {
constexpr int64_t heartbeat_us = 500'000;
constexpr uint32_t most_functions = 2;

std::string function_name(const std::string& parent, uint32_t number) {
    return fmt::format("{}.vf{}", parent, number);
}
} // namespace

// A device with its fence; the device outlives each run of the agent.
class SimAgent::Lender {
  public:
    Lender(World& world, Checker& checker, const std::string& host, const std::string& name,
           Lent::Events events)
        : device(world, checker, host, name), fence(world, checker, device, std::move(events)) {}
    SimDevice device;
    Lent fence;
};

SimAgent::SimAgent(World& world, Checker& checker, Network& network, uint32_t partition, std::string host,
                   uint32_t devices, bool has_guest, bool whole, std::vector<pool::DmaMode> dma_modes)
    : world_(world), network_(network), partition_(partition), host_(std::move(host)), has_guest_(has_guest),
      whole_(whole), dma_modes_(std::move(dma_modes)) {
    for (uint32_t i = 0; i < devices; ++i)
        add(checker, fmt::format("d{}", i), {});
    if (!whole || devices == 0) return;
    for (uint32_t i = 0; i < most_functions; ++i)
        add(checker, function_name("d0", i), "d0");
    go_home(true);
}

void SimAgent::add(Checker& checker, const std::string& name, const std::string& parent) {
    Lent::Events events;
    events.answer = [this](const pool::Step& step, Result<> result) { answer(step, std::move(result)); };
    events.lost = [this](const agent::Opening& opening, const std::string& reason) {
        report_lost(opening.loan, opening.epoch, true, reason);
    };
    events.changed = [this] { hello_soon(); };
    events.functions = [this, name] { return functions_of(name); };
    events.make_functions = [this, name](uint32_t count) { return make_functions(name, count); };
    lenders_.push_back(std::make_unique<Lender>(world_, checker, host_, name, std::move(events)));
    SimDevice& device = lenders_.back()->device;
    checker.add(device);
    if (whole_) device.set_hosted();
    if (parent.empty()) return;
    device.set_parent(parent);
    device.vanish();
}

// ---- a whole host

uint32_t SimAgent::functions_of(const std::string& parent) const {
    return static_cast<uint32_t>(std::count_if(lenders_.begin(), lenders_.end(), [&](const auto& lender) {
        return lender->device.there() && lender->device.parent() == parent;
    }));
}

// Those that are there go first, as they do in Linux.
Result<> SimAgent::make_functions(const std::string& parent, uint32_t count) {
    for (auto& lender : lenders_)
        if (lender->device.parent() == parent && !lender->device.windows().empty())
            return fail(Errc::busy, "device {} is lent", lender->device.name());
    for (auto& lender : lenders_)
        if (lender->device.parent() == parent && lender->device.there()) lender->fence.vanish();
    const bool local = world_.random.chance(700'000);
    for (uint32_t i = 0; i < count; ++i)
        for (auto& lender : lenders_)
            if (lender->device.name() == function_name(parent, i)) lender->fence.appear(local);
    hello_soon();
    return {};
}

// It starts anew: its drivers have its devices, and make no functions. Or somebody binds a driver to one.
void SimAgent::go_home(bool with_power) {
    if (!whole_) return;
    world_.power_fails = true; // nobody could see to what is on its devices
    for (auto& lender : lenders_) {
        const bool its = with_power || world_.fault(Fault::driver_bound, 20'000);
        if (!its || !lender->device.there()) continue;
        if (!lender->device.parent().empty() && with_power)
            lender->fence.vanish();
        else
            lender->device.go_to_host();
    }
    world_.power_fails = false;
}

SimAgent::~SimAgent() = default;

void SimAgent::start() {
    ++run_;
    running_ = true;
    for (auto& lender : lenders_)
        lender->fence.start();
    network_.connect(*this);
}

void SimAgent::crash(bool with_power) {
    ++run_;
    running_ = false;
    if (connection_) {
        network_.closed_by_agent(*connection_);
        connection_.reset();
    }
    for (auto& lender : lenders_) {
        lender->fence.stop();
        if (with_power) lender->device.lose_power();
    }
    go_home(with_power);
    hello_order_.clear();
    hello_pending_ = false;
    ledger_ = {};
    loans_ = {};
    borrowed_.clear();
}

std::vector<SimDevice*> SimAgent::devices() {
    std::vector<SimDevice*> all;
    for (auto& lender : lenders_)
        all.push_back(&lender->device);
    return all;
}

SimDevice* SimAgent::device(pool::Fdid fdid) {
    for (auto& lender : lenders_)
        if (lender->device.fdid == fdid) return &lender->device;
    return nullptr;
}

// ---- the controller

void SimAgent::connected(std::shared_ptr<Connection> connection) {
    connection_ = std::move(connection);
    say_hello();
    beat();
}

void SimAgent::disconnected(const Connection& connection) {
    if (connection_.get() != &connection) return;
    connection_->open_at_agent = false;
    connection_.reset();
    network_.connect(*this);
}

void SimAgent::break_connection() {
    if (!connection_) return;
    network_.closed_by_agent(*connection_);
    connection_.reset();
    later(world_.random.between(1000, 500'000), [this] {
        if (!connection_) network_.connect(*this);
    });
}

void SimAgent::beat() {
    later(heartbeat_us, [this, connection = connection_] {
        if (!connection_ || connection_ != connection) return;
        network_.up(*connection_, Heartbeat{});
        beat();
    });
}

void SimAgent::hello_soon() {
    if (std::exchange(hello_pending_, true)) return;
    later(0, [this] {
        hello_pending_ = false;
        say_hello();
    });
}

void SimAgent::say_hello() {
    if (!connection_) return;
    pool::Hello hello;
    hello.host = host_;
    hello.partition = partition_;
    hello.instance = fmt::format("{}", run_);
    hello.windows = hello.windows_free = 64;
    if (has_guest_) hello.guests = {"g"};
    hello.dma_modes = dma_modes_;
    hello_order_.clear();
    for (auto& lender : lenders_) {
        if (!lender->fence.identified()) continue;
        const auto seen = lender->fence.observed();
        pool::ObservedDevice observed;
        observed.name = lender->device.name();
        observed.identity.kind = "nvme";
        observed.identity.model = "simulated";
        observed.identity.serial = host_ + lender->device.name();
        observed.identity.capacity_bytes = 1'000'000'000'000;
        observed.iommu = true;
        observed.answering = seen.answering;
        observed.clean = seen.clean;
        observed.epoch = seen.epoch;
        observed.loan = seen.loan;
        observed.joined = seen.joined;
        observed.problem = seen.problem;
        observed.local = lender->device.with_host() && !world_.without(Protection::own_host);
        observed.parent = lender->device.parent();
        observed.functions = functions_of(observed.name);
        observed.most_functions = whole_ && observed.name == "d0" ? most_functions : 0;
        hello.devices.push_back(std::move(observed));
        hello_order_.push_back(lender.get());
    }
    for (const auto& [loan, borrowed] : borrowed_)
        hello.loans.push_back({loan, borrowed.order.step.fdid, borrowed.order.step.epoch, borrowed.attached});
    network_.up(*connection_, std::move(hello));
}

void SimAgent::welcomed(const std::vector<pool::Fdid>& fdids) {
    for (size_t i = 0; i < hello_order_.size() && i < fdids.size(); ++i)
        hello_order_[i]->fence.set_fdid(fdids[i]);
}

void SimAgent::report_lost(pool::LoanId loan, pool::Epoch epoch, bool as_lender, const std::string& reason) {
    if (connection_) network_.up(*connection_, pool::LoanLost{loan, epoch, as_lender, reason});
}

void SimAgent::answer(const pool::Step& step, Result<> result, std::optional<pool::Attached> attached) {
    const auto id = ledger_.finish(agent::StepLedger::key_of(step));
    if (!connection_) return;
    pool::StepAnswer made{id, step.loan, step.epoch,         step.kind, result.has_value(),
                          {}, {},        std::move(attached)};
    if (!result) {
        made.code = lanepool::name(result.error().code());
        made.message = result.error().message();
    }
    network_.up(*connection_, std::move(made));
}

void SimAgent::perform(const pool::Order& order) {
    if (!ledger_.begin(order.step)) return;
    if (order.step.kind == pool::StepKind::attach) return attach(order);
    if (order.step.kind == pool::StepKind::detach) return detach(order);
    for (auto& lender : lenders_)
        if (lender->fence.fdid() == order.step.fdid && order.step.fdid &&
            (order.device.empty() || order.device == lender->device.name()))
            return lender->fence.perform(order);
    answer(order.step, fail(Errc::not_found, "host {} has no device {}", host_, order.device));
}

// ---- what it borrows

void SimAgent::attach(const pool::Order& order) {
    const auto decided = loans_.attach(order.step);
    if (!decided) return answer(order.step, tl::unexpected<Error>(decided.error()));
    if (*decided == agent::BorrowedLoans::Attach::go_on) {
        const auto& here = borrowed_.at(order.step.loan);
        if (here.attached && !here.going) return answer(order.step, {});
        return answer(order.step, fail(Errc::busy, "loan {} is being taken away", order.step.loan));
    }
    auto& borrowed = borrowed_[order.step.loan];
    borrowed.order = order;
    const bool works = !world_.fault(Fault::attach_failed, 3000);
    world_.check(
        order.dma == pool::DmaMode::none ? has_guest_ || !is_to_system(order.access_model)
                                         : std::ranges::find(dma_modes_, order.dma) != dma_modes_.end(),
        "host {} is to borrow in DMA mode '{}', guest '{}'", host_, pool::name(order.dma), order.guest);
    const bool slow = order.dma != pool::DmaMode::none && world_.fault(Fault::driver_slow, 2000);
    const int64_t longest_us = slow ? int64_t{order.step.deadline_ms} * 2000 : 80'000;
    later(world_.random.between(5000, longest_us),
          [this, loan = order.step.loan, works] { finish_attach(loan, works); });
}

void SimAgent::finish_attach(pool::LoanId loan, bool works) {
    const auto found = borrowed_.find(loan);
    if (found == borrowed_.end() || found->second.going) return;
    Borrowed& borrowed = found->second;
    const auto& lender = (*all_).at(borrowed.order.lender_partition);
    borrowed.device = lender->device(borrowed.order.step.fdid);
    if (works && borrowed.device && borrowed.device->use({loan, borrowed.order.step.epoch, partition_})) {
        borrowed.attached = true;
        if (borrowed.order.dma == pool::DmaMode::none) return answer(borrowed.order.step, {});
        ++world_.result.kernels_lent;
        use_for_a_while(loan);
        return answer(borrowed.order.step, {}, pool::Attached{8 << 20, "1ff00:00:00.0", "nvme"});
    }
    answer(borrowed.order.step, fail(Errc::unavailable, "no driver of the guest has taken the device"));
    hello_soon(); // what is left of it is here until somebody says detach
}

// Somebody has it mounted, most often for shorter than until it is asked for.
void SimAgent::use_for_a_while(pool::LoanId loan) {
    const auto found = borrowed_.find(loan);
    if (found == borrowed_.end() || !world_.random.chance(500'000)) return;
    found->second.in_use = true;
    later(world_.random.between(50'000, 3'000'000), [this, loan] {
        if (const auto there = borrowed_.find(loan); there != borrowed_.end()) there->second.in_use = false;
    });
}

void SimAgent::detach(const pool::Order& order) {
    const auto asked = borrowed_.find(order.step.loan);
    if (order.step.ask && asked != borrowed_.end() && asked->second.in_use && !asked->second.going &&
        asked->second.order.step.epoch == order.step.epoch)
        return answer(order.step, fail(Errc::busy, "/dev/nvme0n1 is mounted"));
    const auto decided = loans_.detach(order.step);
    if (decided == agent::BorrowedLoans::Detach::nothing) return answer(order.step, {});
    auto& borrowed = borrowed_.at(order.step.loan);
    if (!borrowed.attached && !borrowed.going)
        answer(borrowed.order.step, fail(Errc::cancelled, "the loan is being taken back"));
    borrowed.going = true;
    const bool stubborn =
        decided == agent::BorrowedLoans::Detach::ask_guest && world_.fault(Fault::guest_stubborn, 3000);
    const bool slow = borrowed.order.dma != pool::DmaMode::none && world_.fault(Fault::driver_slow, 3000);
    const int64_t limit = int64_t{order.step.deadline_ms} * (slow ? 2000 : 900);
    later(stubborn || slow ? limit : world_.random.between(5000, 50'000),
          [this, step = order.step, stubborn] {
              finish_detach(step, stubborn ? fail(Errc::timeout, "the guest has not let go") : Result<>());
          });
}

void SimAgent::finish_detach(const pool::Step& step, Result<> result) {
    borrowed_.erase(step.loan);
    loans_.forget(step.loan);
    answer(step, std::move(result));
}

void SimAgent::guest_dies() {
    for (auto& [loan, borrowed] : borrowed_) {
        if (!borrowed.attached || borrowed.going) continue;
        borrowed.attached = false;
        world_.count(Fault::guest_died);
        return report_lost(loan, borrowed.order.step.epoch, false, "guest g has died");
    }
}

void SimAgent::device_falls_silent(size_t device, int64_t for_us) {
    if (!running_) return;
    Lender& lender = *lenders_.at(device);
    world_.count(Fault::device_silent);
    lender.device.fall_silent(world_.timeline.now_us() + for_us);
    later(world_.random.between(1000, 100'000), [&lender] {
        if (lender.device.silent()) lender.fence.device_went();
    });
}

void SimAgent::use_loans() {
    for (auto& [loan, borrowed] : borrowed_)
        if (borrowed.attached) borrowed.device->use({loan, borrowed.order.step.epoch, partition_});
}

} // namespace lanepool::sim
