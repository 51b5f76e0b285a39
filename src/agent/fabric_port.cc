// SPDX-License-Identifier: Apache-2.0
#include "agent/fabric_port.h"

#include <spdlog/spdlog.h>

namespace lanepool::agent {

using namespace std::chrono_literals;

namespace {
constexpr auto retry_interval = 200ms;
} // namespace

FabricPort::FabricPort(io::EventLoop& loop, std::shared_ptr<Background> background,
                       std::shared_ptr<FunctionSource> source, FabricEvents events)
    : loop_(loop), background_(std::move(background)), source_(std::move(source)),
      events_(std::move(events)) {
    connect();
}

FabricPort::~FabricPort() {
    *alive_ = false;
    retry_.reset();
}

void FabricPort::connect() {
    const uint64_t generation = ++generation_;
    ntb::AdapterEvents adapter_events;
    adapter_events.message = [this, alive = alive_, generation](ntb::Partition from, uint32_t message) {
        loop_.post([=, this] {
            if (*alive && generation == generation_ && channel_) channel_->adapter_message(from, message);
        });
    };
    adapter_events.link_changed = [this, alive = alive_, generation] {
        loop_.post([=, this] {
            if (*alive && generation == generation_ && channel_) channel_->link_changed();
        });
    };
    adapter_events.gone = [this, alive = alive_, generation] {
        loop_.post([=, this] {
            if (*alive) gone(generation);
        });
    };
    background_->run(
        [source = source_, adapter_events]() -> Result<std::unique_ptr<ntb::Adapter>> {
            return ntb::Adapter::create(TRY(source->open()), adapter_events);
        },
        [this, alive = alive_, generation](Result<std::unique_ptr<ntb::Adapter>> adapter) {
            if (*alive) opened(std::move(adapter), generation);
        });
}

void FabricPort::opened(Result<std::unique_ptr<ntb::Adapter>> adapter, uint64_t generation) {
    Result<std::unique_ptr<ntb::Channel>> channel = fail(Errc::unavailable, "no adapter");
    if (adapter && generation == generation_)
        channel = ntb::Channel::create(loop_, **adapter,
                                       {.request = events_.request, .peer_changed = events_.peer_changed});
    if (!adapter || !channel) {
        const Error& error = adapter ? channel.error() : adapter.error();
        if (error.message() != last_problem_)
            spdlog::warn("no adapter at {}: {}; trying on", source_->place(), error.message());
        last_problem_ = error.message();
        retry_ = loop_.after(retry_interval, [this] { connect(); });
        return;
    }
    last_problem_.clear();
    adapter_ = std::move(*adapter);
    channel_ = std::move(*channel);
    spdlog::info("on the fabric as partition {}", adapter_->partition().value);
    events_.up();
}

void FabricPort::gone(uint64_t generation) {
    if (generation != generation_) return;
    if (!channel_) { // went away while it was being set up: opened() will come, and must not use it
        ++generation_;
        return;
    }
    spdlog::warn("the adapter at {} has gone", source_->place());
    events_.down();
    channel_.reset();
    adapter_.reset();
    connect();
}

} // namespace lanepool::agent
