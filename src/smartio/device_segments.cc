// SPDX-License-Identifier: Apache-2.0
#include "smartio/device_segments.h"

#include "base/keep_first.h"

namespace lanepool::smartio {

namespace {
constexpr uint64_t page_bytes = 4096;
constexpr unsigned loans_worth = 4; // of limits, that a device may have in all
} // namespace

Result<DeviceSegments::Name> DeviceSegments::name_of(uint64_t loan, SegmentScope scope, uint32_t id) {
    if (loan == 0) return fail(Errc::invalid_argument, "loan 0 cannot have device segments");
    return Name{scope == SegmentScope::device ? 0 : loan, id};
}

Result<> DeviceSegments::check_limits(uint64_t loan, uint64_t size_bytes) const {
    Use own, all;
    for (const auto& [name, segment] : segments_)
        for (auto* use : {&all, segment.maker == loan ? &own : nullptr})
            if (use) {
                ++use->segments;
                use->bytes += segment.exported.size_bytes();
            }
    if (own.segments >= limits_.segments || all.segments >= loans_worth * limits_.segments)
        return fail(Errc::no_space,
                    "the loan has made {} device segments, all loans of the device {}: a loan may make {}",
                    own.segments, all.segments, limits_.segments);
    if (size_bytes > limits_.bytes - own.bytes || size_bytes > loans_worth * limits_.bytes - all.bytes)
        return fail(Errc::no_space,
                    "device segments of the loan have {} bytes, of all loans of the device {}: {} more are "
                    "beyond the {} of a loan",
                    own.bytes, all.bytes, size_bytes, limits_.bytes);
    return {};
}

Result<> DeviceSegments::create(uint64_t loan, const CreateSegmentRequest& request) {
    const auto name = TRY(name_of(loan, request.scope, request.id));
    if (segments_.contains(name))
        return fail(Errc::already_exists, "device segment {} exists already", request.id);
    TRY(check_limits(loan, request.size_bytes));
    // Whole pages, so that all of it can be mapped.
    const uint64_t size_bytes = (request.size_bytes + page_bytes - 1) / page_bytes * page_bytes;
    const MemoryRef memory{share(TRY(create_memory("lanepool-device-segment", size_bytes))), 0, size_bytes};
    auto exported = TRY(adapter_.export_memory(memory, Access::read_write));
    segments_.emplace(name, Segment{loan, std::move(exported)});
    return {};
}

Result<ConnectedSegment> DeviceSegments::connect(uint64_t loan, const SegmentRequest& request) const {
    const auto found = segments_.find(TRY(name_of(loan, request.scope, request.id)));
    if (found == segments_.end()) return fail(Errc::not_found, "there is no device segment {}", request.id);
    return ConnectedSegment{found->second.exported.address(), found->second.exported.size_bytes()};
}

Result<> DeviceSegments::remove(uint64_t loan, const SegmentRequest& request) {
    const auto found = segments_.find(TRY(name_of(loan, request.scope, request.id)));
    if (found == segments_.end()) return fail(Errc::not_found, "there is no device segment {}", request.id);
    if (found->second.maker != 0 && found->second.maker != loan)
        return fail(Errc::failed_precondition, "device segment {} was made by another loan", request.id);
    auto exported = std::move(found->second.exported);
    segments_.erase(found);
    return exported.withdraw();
}

Result<> DeviceSegments::release(uint64_t loan) {
    Result<> result;
    for (auto one = segments_.begin(); one != segments_.end();) {
        const auto next = std::next(one);
        if (one->first.first == loan) {
            keep_first(result, one->second.exported.withdraw());
            segments_.erase(one);
        } else if (one->second.maker == loan) {
            one->second.maker = 0;
        }
        one = next;
    }
    return result;
}

Result<> DeviceSegments::clear() {
    Result<> result;
    for (auto& [name, segment] : std::exchange(segments_, {}))
        keep_first(result, segment.exported.withdraw());
    return result;
}

} // namespace lanepool::smartio
