// SPDX-License-Identifier: Apache-2.0
#include "controller/core.h"

#include "api/convert.h"
#include "controller/agent_stream.h"
#include "controller/trail_stream.h"
#include "controller/watch_stream.h"

#include <spdlog/spdlog.h>

namespace lanepool::controller {

namespace {
constexpr std::chrono::milliseconds heartbeat_check{250};
// How soon a tick whose outcome could not be stored is tried again.
constexpr std::chrono::milliseconds retry_delay{200};
} // namespace

Result<std::unique_ptr<Core>> Core::create(io::EventLoop& loop, std::unique_ptr<store::Store> store,
                                           const ControllerOptions& options) {
    const auto stored = TRY(store->load());
    const auto us =
        std::chrono::duration_cast<std::chrono::microseconds>(loop.clock().now().time_since_epoch());
    auto pool = TRY(pool::Pool::create(stored, options.pool, {us.count(), loop.clock().unix_time_us()}));
    std::unique_ptr<Core> core(new Core(loop, std::move(store), std::move(pool), options));
    TRY(core->keep());
    return core;
}

Core::Core(io::EventLoop& loop, std::unique_ptr<store::Store> store, std::unique_ptr<pool::Pool> pool,
           const ControllerOptions& options)
    : loop_(loop), options_(options), store_(std::move(store)), pool_(std::move(pool)),
      heartbeats_(loop.every(heartbeat_check, [this] { check_heartbeats(); })) {}

bool Core::enter(std::atomic<size_t>& count, size_t limit) {
    if (++count <= limit) return true;
    --count;
    return false;
}

pool::Now Core::now() const {
    const auto us =
        std::chrono::duration_cast<std::chrono::microseconds>(loop_.clock().now().time_since_epoch());
    return {us.count(), loop_.clock().unix_time_us()};
}

bool Core::add(Stream& stream) {
    open_.insert(&stream);
    if (!stopping_) return true;
    stream.close({grpc::StatusCode::UNAVAILABLE, "the controller is stopping"});
    return false;
}

void Core::stop() {
    stopping_ = true;
    timer_.reset();
    heartbeats_.reset();
    for (Stream* stream : std::set(open_)) // closing takes it out of the set
        stream->close({grpc::StatusCode::UNAVAILABLE, "the controller is stopping"});
}

void Core::unwatch(pool::Fdid fdid, WatchStream& stream) {
    const auto found = watchers_.find(fdid);
    if (found == watchers_.end()) return;
    found->second.erase(&stream);
    if (found->second.empty()) watchers_.erase(found);
}

// ---- storing

Result<> Core::keep() {
    auto outcome = pool_->outcome();
    if (outcome && outcome->empty()) {
        pool_->commit();
        arm();
        return {};
    }
    Result<> stored;
    if (outcome) {
        const auto started = loop_.clock().now();
        stored = store_->apply(*outcome);
        store_time_ += loop_.clock().now() - started;
        ++transactions_;
    } else {
        stored = tl::unexpected<Error>(outcome.error());
    }
    if (!stored) {
        ++failed_transactions_;
        spdlog::error("nothing was changed: {}", stored.error().message());
        pool_->rollback();
        arm();
        return stored;
    }
    pool_->commit();
    tell(*outcome);
    arm();
    return {};
}

void Core::tell(const pool::Outcome& outcome) {
    for (const auto& entry : outcome.audit)
        spdlog::info("{} {} {}{}{}{}{} by {}", entry.subject, entry.action, entry.from,
                     entry.from.empty() ? "" : " -> ", entry.to, entry.reason.empty() ? "" : ": ",
                     entry.reason, entry.actor);
    send_orders(outcome.orders);
    std::set<pool::Fdid> touched;
    for (const auto& device : outcome.devices)
        touched.insert(device.fdid);
    for (const auto& entry : outcome.audit)
        if (entry.fdid) touched.insert(entry.fdid);
    for (const pool::Fdid fdid : touched) {
        const auto found = watchers_.find(fdid);
        if (found == watchers_.end()) continue;
        for (WatchStream* watcher : std::set(found->second)) // one that is over takes itself out
            watcher->changed();
    }
    if (!outcome.audit.empty())
        for (TrailStream* follower : std::set(followers_))
            follower->more();
}

void Core::send_orders(const std::vector<pool::Order>& orders) {
    for (const auto& order : orders) {
        const auto agent = agents_.find(order.step.host);
        // Its stream has just gone: the step is sent again after the next Hello.
        if (agent == agents_.end()) continue;
        v1::ControllerMessage message;
        *message.mutable_step() = api::to_message(order);
        agent->second->send(std::move(message));
    }
}

// ---- time

void Core::arm() {
    const auto next = pool_->next_tick_steady_us();
    if (!next || stopping_) return timer_.reset();
    const io::TimePoint when(std::chrono::microseconds(*next + 1));
    timer_ = loop_.at(when, [this] { tick(); });
}

void Core::tick() {
    pool_->tick(now());
    if (keep()) return;
    // It is still due; not at once again, or a full disk would keep this thread busy.
    timer_ = loop_.after(retry_delay, [this] { tick(); });
}

void Core::check_heartbeats() {
    const io::TimePoint limit = loop_.clock().now() - options_.heartbeat_timeout;
    std::vector<AgentStream*> silent;
    for (AgentStream* agent : agent_streams_)
        if (agent->last_heard() < limit) silent.push_back(agent);
    for (AgentStream* agent : silent)
        agent->close({grpc::StatusCode::DEADLINE_EXCEEDED,
                      fmt::format("nothing was heard for {} ms", options_.heartbeat_timeout.count())});
    for (const auto& [host, why] : std::map(unstored_))
        disconnect(host, why);
}

// ---- agents

Result<v1::Welcome> Core::hello(AgentStream& stream, const v1::Hello& message) {
    ++agent_messages_;
    const auto hello = api::from_message(message);
    auto& agent = agents_[hello.host];
    const bool connected = agent != &stream;
    AgentStream* const before = std::exchange(agent, &stream); // the orders that follow go to this one
    auto fdids = pool_->hello(hello, connected, now());
    v1::Welcome welcome;
    Result<> stored;
    if (fdids) {
        for (const pool::Fdid fdid : *fdids)
            welcome.add_fdids(fdid.value);
        welcome.set_heartbeat_interval_ms(static_cast<uint32_t>(options_.heartbeat_interval.count()));
        welcome.set_heartbeat_timeout_ms(static_cast<uint32_t>(options_.heartbeat_timeout.count()));
        v1::ControllerMessage reply;
        *reply.mutable_welcome() = welcome;
        stream.hold(std::move(reply)); // before the steps that follow from it
        stored = keep();
    } else {
        stored = tl::unexpected<Error>(fdids.error());
    }
    if (!stored) {
        stream.drop_held();
        if (before)
            agents_[hello.host] = before;
        else
            agents_.erase(hello.host);
        return tl::unexpected<Error>(std::move(stored).error());
    }
    unstored_.erase(hello.host);
    if (before && before != &stream)
        before->close(
            {grpc::StatusCode::ABORTED, fmt::format("another agent of host {} has connected", hello.host)});
    return welcome;
}

Result<> Core::heard(const std::string& host, const v1::AgentMessage& message) {
    ++agent_messages_;
    const pool::Now at = now();
    switch (message.what_case()) {
    case v1::AgentMessage::kStepDone:
        pool_->answered(host, TRY(api::from_message(message.step_done())), at);
        break;
    case v1::AgentMessage::kLoanLost:
        pool_->lost(host, api::from_message(message.loan_lost()), at);
        break;
    case v1::AgentMessage::kHeartbeat:
        pool_->heard(host, message.heartbeat().windows_free(), at);
        return {};
    default:
        return fail(Errc::protocol, "a message of host {} says nothing that is known", host);
    }
    return keep();
}

void Core::agent_gone(AgentStream& stream, const std::string& host, const std::string& why) {
    const auto found = agents_.find(host);
    if (found == agents_.end() || found->second != &stream) return;
    agents_.erase(found);
    if (!stopping_) disconnect(host, why);
}

void Core::disconnect(const std::string& host, const std::string& why) {
    unstored_.erase(host);
    if (agents_.contains(host)) return; // it is back
    pool_->disconnected(host, why, now());
    if (!keep()) unstored_[host] = why;
}

// ---- for operators

nlohmann::json Core::status() const {
    nlohmann::json hosts = nlohmann::json::object();
    for (const auto& [host, record] : pool_->ledger().hosts.all())
        hosts[host] = record.up ? "up" : "down";
    nlohmann::json devices = nlohmann::json::object();
    for (const auto state : pool::device_states)
        devices[std::string(name(state))] = 0;
    for (const auto& [fdid, device] : pool_->ledger().devices.all())
        devices[std::string(name(device.state))] = devices[std::string(name(device.state))].get<int>() + 1;
    return {{"ready", !stopping_},
            {"hosts", hosts},
            {"devices", devices},
            {"live_loans", pool_->ledger().live_loans()},
            {"steps_under_way", pool_->ledger().steps.size()}};
}

nlohmann::json Core::stats() const {
    const auto store_us = std::chrono::duration_cast<std::chrono::microseconds>(store_time_).count();
    return {{"messages", 0}, // of lent devices' I/O: none ever comes here
            {"decisions", decisions_},
            {"agent_messages", agent_messages_},
            {"transactions", transactions_},
            {"failed_transactions", failed_transactions_},
            {"store_us", store_us},
            {"agents", agents_.size()},
            {"streams", streams_.load()}};
}

} // namespace lanepool::controller
