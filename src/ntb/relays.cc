// SPDX-License-Identifier: Apache-2.0
#include "ntb/relays.h"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>

namespace lanepool::ntb {

Result<UniqueFd> Relays::open(const void* owner, uint64_t offset_bytes, std::function<void()> action) {
    const std::lock_guard lock(mutex_);
    const std::pair key(owner, offset_bytes);
    if (const auto there = open_.find(key); there != open_.end()) return there->second->eventfd.duplicate();
    if (open_.size() >= max_relays)
        return fail(Errc::no_space, "this adapter relays {} events, which is the limit", open_.size());
    auto relay = std::make_shared<Relay>();
    relay->eventfd = TRY(create_eventfd());
    auto handed_out = TRY(relay->eventfd.duplicate());
    relay->id = next_id_++;
    relay->action = std::move(action);
    open_.emplace(key, relay);
    loop_.post([this, relay] { watch(relay); });
    return handed_out;
}

void Relays::watch(const std::shared_ptr<Relay>& relay) {
    {
        const std::lock_guard lock(relay->mutex);
        if (!relay->action) return; // closed meanwhile
    }
    auto registration = loop_.watch(relay->eventfd.get(), EPOLLIN, [relay](uint32_t) {
        drain(relay->eventfd);
        const std::lock_guard lock(relay->mutex);
        if (relay->action) relay->action();
    });
    if (!registration) return spdlog::warn("relaying an event: {}", registration.error().message());
    watched_.emplace(relay->id, Watched{relay, std::move(*registration)});
}

void Relays::close(const void* owner) {
    std::vector<std::shared_ptr<Relay>> closed;
    {
        const std::lock_guard lock(mutex_);
        auto next = open_.lower_bound({owner, 0});
        while (next != open_.end() && next->first.first == owner) {
            closed.push_back(std::move(next->second));
            next = open_.erase(next);
        }
    }
    // Outside of the lock: an action may wait for who is opening one.
    for (const auto& relay : closed) {
        {
            const std::lock_guard lock(relay->mutex);
            relay->action = nullptr;
        }
        loop_.post([this, id = relay->id] { watched_.erase(id); });
    }
}

} // namespace lanepool::ntb
