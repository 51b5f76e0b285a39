// SPDX-License-Identifier: Apache-2.0
#include "controller/engine.h"

#include <algorithm>

namespace lanepool::controller {

namespace {
pool::Now now_of(const io::Clock& clock) {
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(clock.now().time_since_epoch());
    return {us.count(), clock.unix_time_us()};
}
} // namespace

Result<std::unique_ptr<Engine>> Engine::create(const io::Clock& clock, EnginePorts& ports,
                                               const pool::Snapshot& stored, pool::Site site,
                                               const EngineOptions& options) {
    auto pool = TRY(pool::Pool::create(stored, std::move(site), options.pool, now_of(clock)));
    std::unique_ptr<Engine> engine(new Engine(clock, ports, std::move(pool), options));
    engine->dirty_ = true;
    TRY(engine->flush());
    return engine;
}

Engine::Engine(const io::Clock& clock, EnginePorts& ports, std::unique_ptr<pool::Pool> pool,
               const EngineOptions& options)
    : clock_(clock), ports_(ports), options_(options), pool_(std::move(pool)),
      next_heartbeat_check_(clock.now() + options.heartbeat_check) {}

pool::Now Engine::now() const { return now_of(clock_); }

// ---- agents

void Engine::listen(AgentLink& link) { links_[&link] = {next_link_++, clock_.now(), {}}; }

Engine::Link* Engine::known(AgentLink& link) {
    const auto found = links_.find(&link);
    if (found == links_.end()) return nullptr;
    found->second.last_heard = clock_.now();
    return &found->second;
}

void Engine::hello(AgentLink& link, const pool::Hello& hello) {
    ++stats_.agent_messages;
    Link* const known_link = known(link);
    if (!known_link) return;
    if (!known_link->host.empty() && known_link->host != hello.host)
        return link.close(
            Error(Errc::protocol, fmt::format("the agent of host {} says that it is of host {} now",
                                              known_link->host, pool::limited(hello.host))));
    const auto found = agents_.find(hello.host);
    AgentLink* const before = found == agents_.end() ? nullptr : found->second;
    dirty_ = true;
    auto fdids = pool_->hello(hello, before != &link, now());
    if (!fdids) return link.close(fdids.error());
    known_link->host = hello.host;
    agents_[hello.host] = &link; // the orders that follow go to this one
    speakers_.push_back(&link);
    arrivals_.push_back({hello.host, &link, before, std::move(*fdids)});
}

// The host of a link that may say something of its loans; null: it may not.
const std::string* Engine::speaker(AgentLink& link) {
    ++stats_.agent_messages;
    const Link* const from = known(link);
    if (!from) return nullptr;
    if (from->host.empty()) {
        link.close(Error(Errc::protocol, "the first message of an agent has to be a Hello"));
        return nullptr;
    }
    dirty_ = true;
    speakers_.push_back(&link);
    return &from->host;
}

void Engine::answered(AgentLink& link, const pool::StepAnswer& answer) {
    if (const std::string* host = speaker(link)) pool_->answered(*host, answer, now());
}

void Engine::lost(AgentLink& link, const pool::LoanLost& lost) {
    if (const std::string* host = speaker(link)) pool_->lost(*host, lost, now());
}

void Engine::faulted(AgentLink& link, const pool::DeviceFault& fault) {
    if (const std::string* host = speaker(link)) pool_->faulted(*host, fault, now());
}

// An agent that is not on the fabric yet shows that it lives, and has nothing else to say.
void Engine::heard(AgentLink& link, std::optional<uint32_t> windows_free) {
    ++stats_.agent_messages;
    const Link* const from = known(link);
    if (from && !from->host.empty()) pool_->heard(from->host, windows_free, now());
}

void Engine::gone(AgentLink& link, const std::string& why) {
    const auto found = links_.find(&link);
    if (found == links_.end()) return;
    const std::string host = std::move(found->second.host);
    links_.erase(found);
    std::erase(speakers_, &link);
    for (Arrival& arrival : arrivals_) {
        if (arrival.before == &link) arrival.before = nullptr;
        if (arrival.link == &link) arrival.link = nullptr;
    }
    const auto agent = agents_.find(host);
    if (agent == agents_.end() || agent->second != &link) return; // another one has taken its place
    agents_.erase(agent);
    disconnect(host, why);
}

void Engine::disconnect(const std::string& host, const std::string& why) {
    unstored_[host] = why;
    disconnected_.push_back(host);
    dirty_ = true;
    pool_->disconnected(host, why, now());
}

// ---- storing

Result<> Engine::flush() {
    if (!dirty_) return {};
    dirty_ = ticked_ = false;
    auto outcome = pool_->outcome();
    Result<> stored;
    if (!outcome) {
        stored = tl::unexpected<Error>(outcome.error());
    } else if (!outcome->empty()) {
        const auto started = clock_.now();
        stored = ports_.store(*outcome);
        stats_.store_time += clock_.now() - started;
        ++stats_.transactions;
    }
    const auto acts = std::exchange(acts_, {});
    const auto arrivals = std::exchange(arrivals_, {});
    const auto speakers = std::exchange(speakers_, {});
    const auto disconnected = std::exchange(disconnected_, {});
    if (stored) {
        pool_->commit();
        for (const auto& host : disconnected)
            unstored_.erase(host);
        committed(*outcome, arrivals);
    } else {
        pool_->rollback();
        rolled_back(arrivals, speakers, stored.error());
    }
    for (const auto& act : acts)
        act(stored);
    return stored;
}

void Engine::abandon(const Error& why) {
    for (const auto& act : std::exchange(acts_, {}))
        act(tl::unexpected<Error>(why));
}

void Engine::committed(const pool::Outcome& outcome, const std::vector<Arrival>& arrivals) {
    not_before_ = {};
    if (!outcome.empty()) ports_.committed(outcome);
    for (const Arrival& arrival : arrivals) {
        unstored_.erase(arrival.host);
        if (arrival.link) arrival.link->welcome(arrival.fdids);
        if (arrival.before && arrival.before != arrival.link)
            arrival.before->close(
                Error(Errc::cancelled, fmt::format("another agent of host {} has connected", arrival.host)));
    }
    for (const pool::Order& order : outcome.orders)
        // Where its link has just gone the step is sent again after the next Hello.
        if (const auto agent = agents_.find(order.step.host); agent != agents_.end())
            agent->second->send(order);
}

void Engine::rolled_back(const std::vector<Arrival>& arrivals, const std::vector<AgentLink*>& speakers,
                         const Error& why) {
    ++stats_.failed_transactions;
    not_before_ = clock_.now() + options_.retry_delay;
    for (auto arrival = arrivals.rbegin(); arrival != arrivals.rend(); ++arrival) {
        if (arrival->before)
            agents_[arrival->host] = arrival->before;
        else
            agents_.erase(arrival->host);
        if (arrival->before == arrival->link) continue;
        if (const auto link = links_.find(arrival->link); link != links_.end()) link->second.host.clear();
    }
    for (auto link = speakers.begin(); link != speakers.end(); ++link)
        if (std::find(speakers.begin(), link, *link) == link) (*link)->close(why); // each of them once
}

// ---- time

io::TimePoint Engine::next_tick() const {
    io::TimePoint next = next_heartbeat_check_;
    // What was due stays so in the pool until it is stored.
    if (const auto due = pool_->next_tick_steady_us(); due && !ticked_)
        next = std::min(next, std::max(not_before_, io::TimePoint(std::chrono::microseconds(*due + 1))));
    return next;
}

void Engine::tick() {
    const io::TimePoint at = clock_.now();
    if (at >= next_heartbeat_check_) {
        next_heartbeat_check_ = at + options_.heartbeat_check;
        check_heartbeats();
    }
    const auto due = pool_->next_tick_steady_us();
    if (!due || at < not_before_ || at < io::TimePoint(std::chrono::microseconds(*due))) return;
    dirty_ = ticked_ = true;
    pool_->tick(now());
}

void Engine::check_heartbeats() {
    const io::TimePoint limit = clock_.now() - options_.heartbeat_timeout;
    std::map<uint64_t, AgentLink*> silent;
    for (const auto& [link, state] : links_)
        if (state.last_heard < limit) silent.emplace(state.number, link);
    for (const auto& [number, link] : silent)
        link->close(Error(Errc::timeout,
                          fmt::format("nothing was heard for {} ms", options_.heartbeat_timeout.count())));
    for (const auto& [host, why] : std::map(unstored_))
        if (!agents_.contains(host)) disconnect(host, why); // else it is back
}

} // namespace lanepool::controller
