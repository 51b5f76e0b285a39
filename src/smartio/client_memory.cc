// SPDX-License-Identifier: Apache-2.0
#include "smartio/client_memory.h"

#include <algorithm>
#include <utility>

namespace lanepool::smartio {

void ClientMemory::map(vfio_user::DmaMap map, vfio_user::Reply<void> reply) {
    const auto range = map.range;
    const auto next = entries_.upper_bound(range.last());
    if (next != entries_.begin() && std::prev(next)->second.range.overlaps(range))
        return reply(fail(Errc::already_exists, "memory at {:#x} is mapped already", range.start().value));
    if (entries_.size() >= max_maps_)
        return reply(fail(Errc::no_space, "{} memory ranges are mapped already", max_maps_));
    if (map.event)
        return reply(
            fail(Errc::not_supported, "a lent device cannot signal an eventfd as if it were memory"));

    const uint64_t id = next_id_++;
    auto& entry = entries_.emplace(range.start(), Entry{id, range, false, {}}).first->second;
    if (!map.memory) return reply({});
    entry.reachable = true;
    errands_.run(
        [&adapter = adapter_, memory = std::move(*map.memory), access = map.access] {
            return adapter.export_memory(memory, access);
        },
        [this, id, range, access = map.access, reply = std::move(reply)](Result<ntb::Export> result) mutable {
            exported(id, range, access, std::move(result), std::move(reply));
        });
}

void ClientMemory::exported(uint64_t id, Range<Iova> range, Access access, Result<ntb::Export> result,
                            vfio_user::Reply<void> reply) {
    auto* entry = find(id, range.start());
    if (!result)
        return confirmed(id, range.start(), tl::unexpected(std::move(result).error()), std::move(reply));
    if (!entry) return errands_.dispose(std::move(*result)); // the client has gone meanwhile
    const MapRequest request{link_.key(), range, result->address(), access};
    entry->exported = std::move(*result);
    link_.send(LoanRequest::map, encode(request),
               [this, id, start = range.start(),
                shared = std::make_shared<vfio_user::Reply<void>>(std::move(reply))](
                   Result<std::vector<std::byte>> answer) {
                   confirmed(id, start, answer.map([](auto&&) {}), std::move(*shared));
               });
}

void ClientMemory::confirmed(uint64_t id, Iova start, Result<> result, vfio_user::Reply<void> reply) {
    if (auto* entry = find(id, start); entry && !result) {
        errands_.dispose(std::move(entry->exported));
        entries_.erase(start);
    }
    reply(std::move(result));
}

void ClientMemory::unmap(Range<Iova> range, vfio_user::Reply<void> reply) {
    const auto found = entries_.find(range.start());
    if (found == entries_.end() || found->second.range != range)
        return reply(fail(Errc::not_found, "no memory is mapped at exactly {:#x} with {} bytes",
                          range.start().value, range.size_bytes()));
    if (!found->second.reachable) {
        entries_.erase(found);
        return reply({});
    }
    // Behind the errand that may still be exporting it, so that the lender hears of both in this order.
    errands_.flush([this, id = found->second.id, range,
                    shared = std::make_shared<vfio_user::Reply<void>>(std::move(reply))] {
        auto* entry = find(id, range.start());
        if (!entry) return (*shared)({});
        auto kept = std::make_shared<ntb::Export>(std::move(entry->exported));
        entries_.erase(range.start());
        link_.send(LoanRequest::unmap, encode(UnmapRequest{link_.key(), range}),
                   [this, shared, kept](Result<std::vector<std::byte>> answer) {
                       // Withdrawn also when the lender did not confirm: then the device is cut off from it.
                       errands_.dispose(std::move(*kept));
                       (*shared)(answer.map([](auto&&) {}));
                   });
    });
}

std::vector<ntb::Export> ClientMemory::forget() {
    std::vector<ntb::Export> exports;
    for (auto& [start, entry] : std::exchange(entries_, {}))
        if (entry.exported) exports.push_back(std::move(entry.exported));
    return exports;
}

size_t ClientMemory::reachable() const {
    return static_cast<size_t>(
        std::ranges::count_if(entries_, [](const auto& one) { return one.second.reachable; }));
}

ClientMemory::Entry* ClientMemory::find(uint64_t id, Iova start) {
    const auto found = entries_.find(start);
    return found != entries_.end() && found->second.id == id ? &found->second : nullptr;
}

} // namespace lanepool::smartio
