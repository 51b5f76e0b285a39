// SPDX-License-Identifier: Apache-2.0
#include "controller/core.h"

#include "api/status.h"
#include "controller/trail_stream.h"
#include "site/site_file.h"

#include <spdlog/spdlog.h>

namespace lanepool::controller {

Result<std::unique_ptr<Core>> Core::create(io::EventLoop& loop, std::unique_ptr<store::Store> store,
                                           const ControllerOptions& options, std::function<void()> unusable) {
    std::unique_ptr<Core> core(new Core(loop, std::move(store), options, std::move(unusable)));
    const auto stored = TRY(core->store_->load());
    pool::Site site;
    if (!stored.site.empty()) site = TRY(site::parse(stored.site, "the stored site file"));
    EngineOptions engine;
    engine.pool = options.pool;
    engine.heartbeat_timeout = options.heartbeat_timeout;
    core->site_text_ = stored.site;
    core->engine_ = TRY(Engine::create(loop.clock(), *core, stored, std::move(site), engine));
    core->arm();
    return core;
}

pool::Now Core::now() const {
    const auto us =
        std::chrono::duration_cast<std::chrono::microseconds>(loop_.clock().now().time_since_epoch());
    return {us.count(), loop_.clock().unix_time_us()};
}

void Core::close(const grpc::Status& status) {
    closed_ = true;
    timer_.reset();
    engine_->abandon(
        Error(Errc::unavailable, fmt::format("{}: nothing was changed", status.error_message())));
    verifier_.stop(Error(Errc::unavailable, status.error_message()));
    for (Stream* stream : std::set(open_)) // closing takes it out of the set
        stream->close(status);
}

void Core::recheck(const Peers& peers) {
    for (Stream* stream : std::set(open_)) {
        if (!stream->certificate) continue;
        const auto good = peers.check(*stream->certificate);
        if (good) continue;
        spdlog::warn("closing a stream: {}", good.error().message());
        stream->close(api::to_status(good.error()));
    }
}

// ---- storing

void Core::touched() {
    if (closed_) return;
    // Behind whatever else has arrived by now.
    if (engine_->dirty() && !std::exchange(flush_posted_, true))
        loop_.post([this] {
            flush_posted_ = false;
            flush();
        });
}

void Core::flush() {
    if (closed_) return;
    if (const auto stored = engine_->flush(); !stored) {
        spdlog::error("not stored: {}", stored.error().message());
        if (!store_->usable()) unusable_();
    }
    arm();
}

Result<> Core::store(const pool::Outcome& outcome) {
    auto stored = store_->apply(outcome);
    // Refused, and not because of what was asked: another controller, or this one after a moment, can do it.
    if (!stored && !store_->usable() && stored.error().code() != Errc::unavailable)
        return fail(Errc::unavailable, "controller {} does not lead; {}", options_.name,
                    stored.error().message());
    return stored;
}

void Core::committed(const pool::Outcome& outcome) {
    for (const auto& entry : outcome.audit)
        spdlog::debug("{} {} {}{}{}{}{} by {}", entry.subject, entry.action, entry.from,
                      entry.from.empty() ? "" : " -> ", entry.to, entry.reason.empty() ? "" : ": ",
                      entry.reason, entry.actor);
    if (outcome.site) site_text_ = *outcome.site;
    watchers_.tell(outcome);
    if (!outcome.audit.empty())
        for (TrailStream* follower : std::set(followers_))
            follower->more();
}

void Core::arm() {
    if (closed_) return;
    timer_ = loop_.at(engine_->next_tick(), [this] {
        engine_->tick();
        if (engine_->dirty())
            flush();
        else
            arm();
    });
}

// ---- for operators

nlohmann::json Core::status() const {
    const auto& ledger = pool().ledger();
    nlohmann::json hosts = nlohmann::json::object();
    for (const auto& [host, record] : ledger.hosts.all())
        hosts[host] = record.up ? "up" : "down";
    nlohmann::json devices = nlohmann::json::object();
    for (const auto state : pool::device_states)
        devices[std::string(name(state))] = 0;
    for (const auto& [fdid, device] : ledger.devices.all())
        devices[std::string(name(device.state))] = devices[std::string(name(device.state))].get<int>() + 1;
    return {{"hosts", hosts},
            {"devices", devices},
            {"live_loans", ledger.live_loans()},
            {"steps_under_way", ledger.steps.size()}};
}

nlohmann::json Core::stats() const {
    const EngineStats& stats = engine_->stats();
    const auto store_us = std::chrono::duration_cast<std::chrono::microseconds>(stats.store_time).count();
    return {{"messages", 0}, // of lent devices' I/O: none ever comes here
            {"decisions", stats.decisions},
            {"agent_messages", stats.agent_messages},
            {"transactions", stats.transactions},
            {"failed_transactions", stats.failed_transactions},
            {"store_us", store_us},
            {"agents", engine_->agents()}};
}

} // namespace lanepool::controller
