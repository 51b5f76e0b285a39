// SPDX-License-Identifier: Apache-2.0
//
// SR-IOV functions of this host's devices: devices of their own, NAME.vf0 and so on, for as long as they are
// there.
#include "agent/agent.h"

#include <algorithm>
#include <map>
#include <spdlog/spdlog.h>

namespace lanepool::agent {

void Agent::functions_are(const std::string& parent, const std::vector<pci::Address>& functions) {
    std::map<std::string, std::string> wanted; // places by name
    for (size_t number = 0; number < functions.size(); ++number) {
        const std::string place = place_of(functions[number]);
        // One that was named at the start has that name.
        if (std::none_of(devices_.begin(), devices_.end(), [&](const auto& other) {
                return other.second->parent().empty() && other.second->place() == place;
            }))
            wanted[fmt::format("{}.vf{}", parent, number)] = place;
    }
    std::vector<std::string> gone;
    for (const auto& [name, device] : devices_) {
        const auto still = wanted.find(name);
        if (device->parent() == parent && (still == wanted.end() || still->second != device->place()))
            gone.push_back(name);
    }
    for (const auto& name : gone)
        remove_device(name);
    for (const auto& [name, place] : wanted) {
        if (devices_.contains(name)) continue;
        auto source = sources_.device(place);
        if (!source) {
            spdlog::warn("SR-IOV function {}: {}", name, source.error().message());
            continue;
        }
        spdlog::info("device {}: {}, an SR-IOV function of {}", name, place, parent);
        add_device(name, parent, std::move(*source));
    }
    hello_soon();
}

// Its thread may be in the middle of something: it ends on another one.
void Agent::remove_device(const std::string& name) {
    spdlog::info("device {} has gone", name);
    const auto device = devices_.find(name);
    auto thread = device->second->background();
    devices_.erase(device);
    background_->run(
        [thread = std::move(thread)]() mutable {
            thread.reset();
            return true;
        },
        [](bool) {});
}

void Agent::set_functions(LentDevice& device, const pool::Order& order, std::function<void(Result<>)> done) {
    std::vector<std::string> functions;
    if (order.step.functions != device.function_count())
        for (const auto& [name, other] : devices_)
            if (other->parent() == device.name()) functions.push_back(name);
    for (const auto& name : functions)
        if (const auto free = devices_.at(name)->may_go(); !free) return done(tl::unexpected(free.error()));
    auto ended = [this, alive = alive_, parent = device.name(),
                  done = std::move(done)](const Result<>& result) {
        done(result);
        if (!*alive) return;
        for (const auto& [name, other] : devices_)
            if (other->parent() == parent) other->stay();
    };
    // The parent has no parent, so it is there as long as this is.
    let_go(std::move(functions), [order, ended = std::move(ended), &device](const Result<>& result) {
        if (!result) return ended(result);
        device.perform(order, ended);
    });
}

// One after the other: what has gone by itself need not be asked.
void Agent::let_go(std::vector<std::string> names, std::function<void(Result<>)> done) {
    while (!names.empty() && !devices_.contains(names.back()))
        names.pop_back();
    if (names.empty()) return done({});
    LentDevice& device = *devices_.at(names.back());
    names.pop_back();
    device.let_go([this, names = std::move(names), done = std::move(done)](const Result<>& result) {
        if (!result) return done(result);
        let_go(names, done);
    });
}

} // namespace lanepool::agent
