// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/foreign_memory.h"
#include "vfio_user/session.h"

namespace lanepool::vfio_user {

namespace {

Result<DmaMap> parse(const wire::DmaMap& wanted, std::vector<UniqueFd>& fds, bool speaks_lanepool) {
    const uint32_t flags = wanted.flags;
    uint32_t known = wire::dma::readable | wire::dma::writeable;
    if (speaks_lanepool) known |= wire::dma::event;
    if (wanted.argsz < sizeof wanted || (flags & ~known) != 0 ||
        (flags & (wire::dma::readable | wire::dma::writeable)) == 0)
        return fail(Errc::invalid_argument, "a DMA mapping with argsz {} and flags {:#x}",
                    uint32_t{wanted.argsz}, flags);
    if (fds.size() > 1)
        return fail(Errc::invalid_argument, "a DMA mapping with {} descriptors, one is allowed", fds.size());
    DmaMap map{TRY(Range<Iova>::create(Iova{wanted.address}, wanted.size)),
               (flags & wire::dma::writeable) ? Access::read_write : Access::read_only,
               std::nullopt,
               {}};
    if (flags & wire::dma::event) {
        if (fds.empty() || wanted.size != 4)
            return fail(Errc::invalid_argument, "an event mapping of {} bytes with {} descriptors",
                        uint64_t{wanted.size}, fds.size());
        map.event = std::move(fds.front());
    } else if (!fds.empty()) {
        map.memory = TRY(foreign_memory(share(std::move(fds.front())), wanted.offset, wanted.size));
    }
    return map;
}

} // namespace

void Session::queue_dma(Request request) {
    if (dma_queue_.size() >= max_pending)
        return answer(request.ticket, fail(Errc::busy, "{} DMA commands wait already", dma_queue_.size()));
    dma_queue_.push_back(std::move(request));
    if (!dma_busy_) next_dma();
}

void Session::next_dma() {
    while (!dma_busy_ && !dma_queue_.empty() && !ended_) {
        Request request = std::move(dma_queue_.front());
        dma_queue_.pop_front();
        if (!is_open(request.ticket)) continue; // the client was told that it timed out
        dma_busy_ = true;
        const bool is_map = request.message.header.command == static_cast<uint16_t>(wire::Command::dma_map);
        if (const auto accepted = is_map ? dma_map(request) : dma_unmap(request); !accepted) {
            dma_busy_ = false;
            answer(request.ticket, tl::unexpected<Error>(accepted.error()));
        }
    }
}

void Session::dma_done(Ticket ticket, Result<Payload> result) {
    dma_busy_ = false;
    answer(ticket, std::move(result));
    next_dma();
}

Result<> Session::dma_map(Request& request) {
    auto payload = request.payload();
    const auto wanted = TRY(wire::take<wire::DmaMap>(payload));
    auto map = TRY(parse(wanted, request.message.fds, speaks_lanepool()));
    const auto range = map.range;
    const auto after = dma_ranges_.upper_bound(range.last().value);
    if (after != dma_ranges_.begin() && std::prev(after)->second.overlaps(range))
        return fail(Errc::already_exists, "{} bytes at {:#x} overlap what is mapped at {:#x}",
                    range.size_bytes(), range.start().value, std::prev(after)->first);
    if (dma_ranges_.size() >= server_.max_dma_maps)
        return fail(Errc::no_space, "{} ranges are mapped for DMA, that is the limit", dma_ranges_.size());

    dma_ranges_.emplace(range.start().value, range);
    environment_.handler.map_dma(
        std::move(map), {[weak = weak_from_this(), ticket = request.ticket, range](Result<> result) {
            const auto self = weak.lock();
            if (!self || self->ended_) return;
            if (!result) {
                self->dma_ranges_.erase(range.start().value);
                return self->dma_done(ticket, tl::unexpected<Error>(std::move(result).error()));
            }
            if (self->is_open(ticket)) return self->dma_done(ticket, Payload{});
            // The client was told that it timed out, so for the client there is no such mapping.
            self->unmap_entries({range}, [weak, ticket](Result<>) {
                if (const auto session = weak.lock()) session->dma_done(ticket, Payload{});
            });
        }});
    return {};
}

// Unmaps what lies in the range. The specification wants exactly what was mapped; the kernel's VFIO allows a
// range that covers several mappings or none, but none in part, and QEMU counts on it: with a guest IOMMU it
// unmaps the whole address space in pieces when the guest changes a domain.
Result<> Session::dma_unmap(const Request& request) {
    auto payload = request.payload();
    const auto wanted = TRY(wire::take<wire::DmaUnmap>(payload));
    const bool all = wanted.flags == wire::dma::unmap_all;
    if (wanted.argsz < sizeof wanted || (!all && wanted.flags != 0) ||
        (all && (wanted.address != 0 || wanted.size != 0)))
        return fail(Errc::invalid_argument, "a DMA unmapping with argsz {} and flags {:#x}",
                    uint32_t{wanted.argsz}, uint32_t{wanted.flags});
    std::vector<Range<Iova>> ranges;
    if (all) {
        for (const auto& [start, range] : dma_ranges_)
            ranges.push_back(range);
    } else {
        const auto range = TRY(Range<Iova>::create(Iova{wanted.address}, wanted.size));
        auto entry = dma_ranges_.upper_bound(range.start().value);
        if (entry != dma_ranges_.begin() && std::prev(entry)->second.overlaps(range)) --entry;
        for (; entry != dma_ranges_.end() && entry->second.overlaps(range); ++entry) {
            if (!range.contains(entry->second))
                return fail(Errc::invalid_argument,
                            "only a part of what is mapped at {:#x} would be unmapped", entry->first);
            ranges.push_back(entry->second);
        }
    }
    unmap_entries(std::move(ranges),
                  [weak = weak_from_this(), ticket = request.ticket, wanted](Result<> result) {
                      const auto self = weak.lock();
                      if (!self) return;
                      if (result)
                          self->dma_done(ticket, Payload::of(wanted));
                      else
                          self->dma_done(ticket, tl::unexpected<Error>(std::move(result).error()));
                  });
    return {};
}

// A mapping that the handler could not unmap stays in the table: its memory may still be in use.
void Session::unmap_entries(std::vector<Range<Iova>> ranges, std::function<void(Result<>)> done) {
    if (ranges.empty()) return done({});
    struct Progress {
        size_t outstanding;
        std::optional<Error> error;
        std::function<void(Result<>)> done;
    };
    const auto progress = std::make_shared<Progress>(Progress{ranges.size(), std::nullopt, std::move(done)});
    for (const auto& range : ranges) {
        if (ended_) return;
        environment_.handler.unmap_dma(range, {[weak = weak_from_this(), range, progress](Result<> result) {
                                           const auto self = weak.lock();
                                           if (!self || self->ended_) return;
                                           if (result)
                                               self->dma_ranges_.erase(range.start().value);
                                           else if (!progress->error)
                                               progress->error = result.error();
                                           if (--progress->outstanding > 0) return;
                                           if (progress->error)
                                               progress->done(tl::unexpected<Error>(*progress->error));
                                           else
                                               progress->done({});
                                       }});
    }
}

} // namespace lanepool::vfio_user
