// SPDX-License-Identifier: Apache-2.0
//
// What a session's process reaches of its devices, and they of it.
#include "application/host.h"
#include "application/memory.h"
#include "application/session.h"
#include "session/protocol.h"

namespace lanepool::application {

using session::Json;
using session::Message;

namespace {
Result<smartio::SegmentScope> scope_of(const Json& body) {
    return TRY(session::get_flag(body, "shared", false)) ? smartio::SegmentScope::device
                                                         : smartio::SegmentScope::loan;
}

Result<> check_pages(uint64_t bytes) {
    if (bytes == 0 || bytes % page_bytes != 0)
        return fail(Errc::invalid_argument, "{} bytes are not whole pages of {}", bytes, page_bytes);
    return {};
}
} // namespace

// ---- What the process reaches

Result<> Session::device_bar(Message& call, Reply reply) {
    const auto use = TRY(usable_device(call.body));
    const auto index = TRY(session::get_number(call.body, "bar"));
    if (index >= pci::bar_count || use->device().bars().at(index).size_bytes == 0)
        return fail(Errc::not_found, "the device has no BAR {}", index);
    const auto& bar = use->device().bars().at(index);
    if (connections_.size() >= session::max_connections)
        return fail(Errc::no_space, "the session has {} connections, which is the limit",
                    connections_.size());
    if (bar.memory.size() > session::max_message_fds)
        return fail(Errc::no_space, "the BAR's memory is in {} pieces, more than a message can carry",
                    bar.memory.size());
    const uint64_t handle = new_handle();
    Held& held = connections_[handle];
    held.device = TRY(session::get_number(call.body, "device"));
    held.open = true;
    held.target = bar.target;
    Answer answer{{{"connection", handle}, {"size", bar.size_bytes}}, {}};
    add_extents(answer, bar.memory);
    reply(std::move(answer));
    return {};
}

Result<> Session::device_segment_create(Message& call, Reply reply) {
    const auto use = TRY(usable_device(call.body));
    const auto id = TRY(get_number32(call.body, "segment_id"));
    const auto size = TRY(session::get_number(call.body, "size"));
    TRY(check_pages(size));
    use->create_segment(id, size, TRY(scope_of(call.body)), [reply = std::move(reply)](Result<> done) {
        reply(done.map([] { return Answer{}; }));
    });
    return {};
}

Result<> Session::device_segment_remove(Message& call, Reply reply) {
    const auto use = TRY(usable_device(call.body));
    const auto id = TRY(get_number32(call.body, "segment_id"));
    use->remove_segment(id, TRY(scope_of(call.body)), [reply = std::move(reply)](Result<> done) {
        reply(done.map([] { return Answer{}; }));
    });
    return {};
}

struct Session::DeviceSegment {
    ntb::Target target;
    ntb::Window window;
    std::vector<pci::Extent> extents;
};

Result<> Session::device_segment(Message& call, Reply reply) {
    const auto use = TRY(usable_device(call.body));
    const auto id = TRY(get_number32(call.body, "segment_id"));
    if (connections_.size() >= session::max_connections)
        return fail(Errc::no_space, "the session has {} connections, which is the limit",
                    connections_.size());
    use->connect_segment(
        id, TRY(scope_of(call.body)),
        [this, self = std::weak_ptr(self_), device = TRY(session::get_number(call.body, "device")),
         reply = std::move(reply)](const Result<ntb::Target>& target) {
            if (!target) return reply(tl::unexpected<Error>(target.error()));
            if (!self.lock()) return;
            host_.fabric().errands.run(
                [&adapter = host_.fabric().adapter, at = *target]() -> Result<DeviceSegment> {
                    DeviceSegment opened{at, TRY(adapter.open_window(at)), {}};
                    opened.extents = TRY(opened.window.memory(0, at.size_bytes));
                    return opened;
                },
                [this, &fabric = host_.fabric(), self, device, reply](Result<DeviceSegment> opened) {
                    if (self.lock()) return reply(device_segment_opened(device, std::move(opened)));
                    if (opened) fabric.errands.dispose(std::move(opened->window));
                });
        });
    return {};
}

Result<Session::Answer> Session::device_segment_opened(uint64_t device, Result<DeviceSegment> opened) {
    if (!opened) return tl::unexpected(std::move(opened).error());
    const bool fits = opened->extents.size() <= session::max_message_fds;
    if (!devices_.contains(device) || !fits) {
        host_.fabric().errands.dispose(std::move(opened->window));
        if (fits) return fail(Errc::not_found, "the device has been lost meanwhile");
        return fail(Errc::no_space, "the segment's memory is in {} pieces, more than a message can carry",
                    opened->extents.size());
    }
    const uint64_t handle = new_handle();
    Held& held = connections_[handle];
    held.device = device;
    held.open = true;
    held.target = opened->target;
    held.window = std::move(opened->window);
    Answer answer{{{"connection", handle}, {"size", held.target.size_bytes}}, {}};
    add_extents(answer, opened->extents);
    return answer;
}

// ---- What the device reaches

struct Session::MapWish {
    std::shared_ptr<DeviceUse> use;
    uint64_t device = 0;
    uint64_t offset = 0;
    uint64_t size = 0;
    Access access = Access::read_write;

    // The part of WHOLE that is meant.
    Result<ntb::Target> part(const ntb::Target& whole) const {
        if (offset > whole.size_bytes || size > whole.size_bytes - offset)
            return fail(Errc::out_of_range, "{} bytes at {:#x} lie outside of {}", size, offset,
                        whole.size_bytes);
        return ntb::Target{whole.partition, whole.address + offset, size};
    }
};

Result<> Session::device_map(Message& call, Reply reply) {
    MapWish wish;
    wish.use = TRY(usable_device(call.body));
    wish.device = TRY(session::get_number(call.body, "device"));
    wish.offset = TRY(session::get_number(call.body, "offset", 0));
    wish.size = TRY(session::get_number(call.body, "size"));
    if (TRY(session::get_flag(call.body, "read_only", false))) wish.access = Access::read_only;
    TRY(check_pages(wish.size));
    if (wish.offset % page_bytes != 0)
        return fail(Errc::invalid_argument, "offset {:#x} is not that of a page", wish.offset);
    if (mappings_.size() >= session::max_mappings)
        return fail(Errc::no_space, "the session has {} mappings, which is the limit", mappings_.size());
    if (call.body.contains("segment"))
        return map_segment(wish, TRY(get_handle(call.body, "segment", segments_))->second, std::move(reply));
    const auto connection = TRY(get_handle(call.body, "connection", connections_));
    return map_connection(wish, connection->first, std::move(reply));
}

Result<> Session::map_segment(const MapWish& wish, const std::shared_ptr<Segment>& segment, Reply reply) {
    if (!segment->memory) return fail(Errc::failed_precondition, "the segment has no memory yet");
    TRY(wish.part({{}, {}, segment->size_bytes})); // before it is exported
    Mapped mapped{wish.device, {}, segment, 0};
    count_map(mapped, true);
    segment->shown->acquire([this, self = std::weak_ptr(self_), wish, mapped,
                             reply = std::move(reply)](const Result<ntb::Target>& whole) {
        const auto there = mapped.segment.lock();
        if (!self.lock() || !there) return;
        if (!whole) {
            count_map(mapped, false);
            return reply(tl::unexpected<Error>(whole.error()));
        }
        // From here on it is released with the last who holds KEEP.
        const std::shared_ptr<void> keep(nullptr,
                                         [shown = there->shown](void*) { shown->release([](Result<>) {}); });
        place(wish, *wish.part(*whole), keep, mapped, reply);
    });
    return {};
}

Result<> Session::map_connection(const MapWish& wish, uint64_t connection, Reply reply) {
    const Held& held = connections_.at(connection);
    if (!held.open || held.target.size_bytes == 0)
        return fail(Errc::failed_precondition, "the connection does not lead to memory");
    const auto part = TRY(wish.part(held.target));
    const Mapped mapped{wish.device, {}, {}, connection};
    count_map(mapped, true);
    // A device's own memory goes with the device (unmap() before it does), a connection must stay open.
    place(wish, part, held.closes ? held.closes : std::make_shared<int>(), mapped, std::move(reply));
    return {};
}

void Session::place(const MapWish& wish, const ntb::Target& memory, std::shared_ptr<void> keep, Mapped mapped,
                    Reply reply) {
    wish.use->place(memory, wish.access, std::move(keep),
                    [this, self = std::weak_ptr(self_), use = wish.use, mapped,
                     reply = std::move(reply)](Result<Iova> address) mutable {
                        if (!self.lock()) return;
                        if (!address) {
                            count_map(mapped, false);
                            return reply(tl::unexpected(std::move(address).error()));
                        }
                        mapped.address = *address;
                        const uint64_t handle = new_handle();
                        mappings_.emplace(handle, mapped);
                        reply(Answer{{{"mapping", handle}, {"address", address->value}}, {}});
                        // Taken away by force while it was being mapped.
                        const auto segment = mapped.segment.lock();
                        if (mapped.connection ? !connections_.contains(mapped.connection)
                                              : !segment || !segment->owner)
                            unmap([&](const Mapped& lost) { return lost.same_as(mapped); }, [] {});
                    });
}

void Session::count_map(const Mapped& mapped, bool more) {
    if (const auto segment = mapped.segment.lock()) segment->maps += more ? size_t{1} : ~size_t{0};
    if (const auto found = connections_.find(mapped.connection); found != connections_.end())
        found->second.maps += more ? size_t{1} : ~size_t{0};
}

Result<> Session::device_unmap(Message& call, Reply reply) {
    const auto found = TRY(get_handle(call.body, "mapping", mappings_));
    const auto mapping = *found;
    mappings_.erase(found);
    const auto device = devices_.find(mapping.second.device);
    if (device == devices_.end()) return fail(Errc::not_found, "the session has no such mapping");
    device->second.use->unmap(mapping.second.address, [this, self = std::weak_ptr(self_), mapping,
                                                       reply = std::move(reply)](Result<> done) {
        if (!self.lock()) return;
        if (!done && devices_.contains(mapping.second.device)) {
            mappings_.insert(mapping); // it may be tried again
            return reply(tl::unexpected(std::move(done).error()));
        }
        count_map(mapping.second, false);
        reply(Answer{});
    });
    return {};
}

void Session::unmap(const std::function<bool(const Mapped&)>& meant, std::function<void()> then) {
    // Ends when the last of them is unmapped.
    const std::shared_ptr<void> last(nullptr, [then = std::move(then)](void*) { then(); });
    for (auto mapping = mappings_.begin(); mapping != mappings_.end();) {
        const auto next = std::next(mapping);
        const auto device = devices_.find(mapping->second.device);
        if (device != devices_.end() && meant(mapping->second)) {
            const auto taken = mapping->second;
            mappings_.erase(mapping);
            device->second.use->unmap(taken.address,
                                      [this, self = std::weak_ptr(self_), taken, last](Result<>) {
                                          if (self.lock()) count_map(taken, false);
                                      });
        }
        mapping = next;
    }
}

std::function<bool(const Session::Mapped&)> Session::of_others(uint64_t device) const {
    return [this, device](const Mapped& mapped) {
        const auto source = connections_.find(mapped.connection);
        return mapped.device != device && source != connections_.end() && source->second.device == device;
    };
}

std::vector<Devices::Mapping> Session::peer_mappings() const {
    std::vector<Devices::Mapping> found;
    for (const auto& [handle, mapped] : mappings_) {
        const auto source = connections_.find(mapped.connection);
        const auto user = devices_.find(mapped.device);
        if (source != connections_.end() && source->second.device != 0 && user != devices_.end())
            found.push_back({user->second.use, mapped.address});
    }
    return found;
}

} // namespace lanepool::application
