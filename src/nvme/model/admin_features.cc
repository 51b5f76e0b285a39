// SPDX-License-Identifier: Apache-2.0
//
// Get Features and Set Features (NVM Express Base Specification 2.0, sections 5.15 and 5.27).
#include "nvme/model/admin_commands.h"

#include <algorithm>
#include <cstring>

namespace lanepool::nvme::model {

namespace {

// Whether a host may change it; none can be saved.
bool changeable(Feature feature) { return feature != Feature::number_of_queues; }
bool namespace_specific(Feature feature) { return feature == Feature::error_recovery; }

// Features whose value is a data structure in memory.
uint32_t data_bytes(Feature feature) {
    switch (feature) {
    case Feature::timestamp:
        return sizeof(TimestampData);
    case Feature::host_identifier:
        return 8;
    case Feature::host_behavior:
        return sizeof(HostBehavior);
    default:
        return 0;
    }
}

// Temperature Threshold, dword 11.
constexpr Field<uint32_t, 0, 16> temperature_k;
constexpr Field<uint32_t, 16, 4> sensor_select;  // 0: the composite temperature, 0xf: all
constexpr Field<uint32_t, 20, 2> threshold_type; // 0: over, 1: under
// Interrupt Vector Configuration, dword 11.
constexpr Field<uint32_t, 0, 16> interrupt_vector;
constexpr Field<uint32_t, 16, 1> coalescing_disable;

} // namespace

uint64_t AdminCommands::timestamp_ms() const {
    const auto& features = context_.features;
    const auto since =
        std::chrono::duration_cast<std::chrono::milliseconds>(context_.clock.now() - context_.powered_since);
    return (features.timestamp_ms + static_cast<uint64_t>(since.count()) - features.timestamp_set_at_ms) &
           0xffffffffffff;
}

std::optional<uint32_t> AdminCommands::feature_value(Feature feature, const Features& features,
                                                     uint32_t dw11) const {
    switch (feature) {
    case Feature::arbitration:
        return features.arbitration;
    case Feature::power_management:
        return features.power_state;
    case Feature::temperature_threshold:
        if (sensor_select.get(dw11) != 0 || threshold_type.get(dw11) > 1) return std::nullopt;
        return threshold_type.get(dw11) == 0 ? features.over_temperature_k : features.under_temperature_k;
    case Feature::error_recovery:
        return features.error_recovery;
    case Feature::volatile_write_cache:
        return features.write_cache ? 1 : 0;
    case Feature::number_of_queues:
        return number_of_queues::sq(features.io_queues - 1u) | number_of_queues::cq(features.io_queues - 1u);
    case Feature::interrupt_coalescing:
        return features.coalescing_threshold | features.coalescing_time_100us << 8;
    case Feature::interrupt_vector:
        if (interrupt_vector.get(dw11) >= features.coalescing_disabled.size()) return std::nullopt;
        return interrupt_vector(interrupt_vector.get(dw11)) |
               coalescing_disable(features.coalescing_disabled[interrupt_vector.get(dw11)] ? 1 : 0);
    case Feature::write_atomicity:
        return features.write_atomicity;
    case Feature::async_event_config:
        return features.async_events;
    case Feature::timestamp:
    case Feature::host_identifier:
    case Feature::host_behavior:
        return 0;
    default:
        return std::nullopt;
    }
}

void AdminCommands::get_features(Request& request) {
    using namespace features_command;
    const auto feature = static_cast<Feature>(fid.get(request.command.cdw10));
    const uint32_t select = sel.get(request.command.cdw10);
    const uint32_t nsid = request.command.nsid;
    if (select > sel_supported) return invalid_field(request);
    // Nothing is saved: the saved value is the default.
    const Features defaults = [&] {
        Features initial;
        initial.io_queues = max_io_queues;
        return initial;
    }();
    const auto& features = select == sel_current ? context_.features : defaults;
    const auto value = feature_value(feature, features, request.command.cdw11);
    if (!value) return invalid_field(request);
    if (namespace_specific(feature) && nsid != namespace_id && nsid != broadcast_nsid && nsid != 0)
        return done(request, Status(StatusCode::invalid_namespace_or_format, true));
    if (select == sel_supported)
        return done(request, Status(),
                    saveable(0) | namespace_specific(feature) << 1 | (changeable(feature) ? 1u : 0u) << 2);
    const uint32_t size = data_bytes(feature);
    if (size == 0) return done(request, Status(), *value);
    std::vector<std::byte> data(size);
    if (feature == Feature::timestamp) {
        TimestampData stamp;
        const uint64_t now = select == sel_current ? timestamp_ms() : 0;
        for (size_t i = 0; i < stamp.milliseconds.size(); ++i)
            stamp.milliseconds[i] = static_cast<uint8_t>(now >> (8 * i));
        stamp.attributes = static_cast<uint8_t>(features.timestamp_origin << 1);
        std::memcpy(data.data(), &stamp, sizeof stamp);
    } else if (feature == Feature::host_identifier) {
        if (request.command.cdw11 & 1) return invalid_field(request); // no 128-bit identifiers
        std::memcpy(data.data(), features.host_id.data(), size);
    } else {
        HostBehavior behavior;
        behavior.advanced_retry = features.host_behavior_acre;
        std::memcpy(data.data(), &behavior, sizeof behavior);
    }
    send_page(request, data);
}

void AdminCommands::set_features(Request& request) {
    using namespace features_command;
    const auto feature = static_cast<Feature>(fid.get(request.command.cdw10));
    const uint32_t dw11 = request.command.cdw11;
    if (!feature_value(feature, context_.features, feature == Feature::temperature_threshold ? 0 : dw11))
        return invalid_field(request);
    if (sv.get(request.command.cdw10)) return done(request, Status(StatusCode::feature_not_saveable, true));
    if (namespace_specific(feature) && request.command.nsid != namespace_id &&
        request.command.nsid != broadcast_nsid)
        return done(request, Status(StatusCode::invalid_namespace_or_format, true));
    if (const uint32_t size = data_bytes(feature)) return set_feature_data(request, feature, size);
    uint32_t dw0 = 0;
    const Status status = set_feature(feature, dw11, dw0);
    done(request, status, dw0);
}

Status AdminCommands::set_feature(Feature feature, uint32_t dw11, uint32_t& dw0) {
    auto& features = context_.features;
    switch (feature) {
    case Feature::arbitration:
        features.arbitration = dw11 & ~0xf8u; // bits 7:3 are reserved
        break;
    case Feature::power_management:
        if (dw11 & 0x1f) return Status(StatusCode::invalid_field, true); // state 0 is all there is
        break;
    case Feature::temperature_threshold: {
        const uint32_t sensor = sensor_select.get(dw11);
        if ((sensor != 0 && sensor != 0xf) || threshold_type.get(dw11) > 1)
            return Status(StatusCode::invalid_field, true);
        auto& threshold =
            threshold_type.get(dw11) == 0 ? features.over_temperature_k : features.under_temperature_k;
        threshold = static_cast<uint16_t>(temperature_k.get(dw11));
        break;
    }
    case Feature::error_recovery:
        features.error_recovery = dw11 & 0xffff;
        break;
    case Feature::volatile_write_cache:
        features.write_cache = (dw11 & 1) != 0;
        break;
    case Feature::number_of_queues: {
        // Once, before any I/O queue is there (section 5.27.1.5).
        if (context_.engine.io_queue_count() > 0) return Status(StatusCode::command_sequence_error, true);
        const uint32_t wanted = std::max(number_of_queues::sq.get(dw11), number_of_queues::cq.get(dw11));
        if (number_of_queues::sq.get(dw11) == 0xffff || number_of_queues::cq.get(dw11) == 0xffff)
            return Status(StatusCode::invalid_field, true);
        features.io_queues = static_cast<uint16_t>(std::min<uint32_t>(wanted + 1, max_io_queues));
        dw0 = number_of_queues::sq(features.io_queues - 1u) | number_of_queues::cq(features.io_queues - 1u);
        break;
    }
    case Feature::interrupt_coalescing:
        features.coalescing_threshold = static_cast<uint8_t>(dw11);
        features.coalescing_time_100us = static_cast<uint8_t>(dw11 >> 8);
        context_.engine.apply_coalescing();
        break;
    case Feature::interrupt_vector:
        features.coalescing_disabled[interrupt_vector.get(dw11)] = coalescing_disable.get(dw11) != 0;
        context_.engine.apply_coalescing();
        break;
    case Feature::write_atomicity:
        features.write_atomicity = dw11 & 1;
        break;
    case Feature::async_event_config:
        features.async_events =
            dw11 & (async_event::enable_smart_critical | async_event::enable_namespace_attribute);
        break;
    default:
        return Status(StatusCode::invalid_field, true);
    }
    return {};
}

void AdminCommands::set_feature_data(Request& request, Feature feature, uint32_t size_bytes) {
    if (feature == Feature::host_identifier && (request.command.cdw11 & 1)) return invalid_field(request);
    if (!context_.engine.resolve(request, size_bytes)) return;
    context_.engine.fetch_data(request, [this, &request, feature](std::vector<std::byte> data) {
        auto& features = context_.features;
        if (feature == Feature::timestamp) {
            TimestampData stamp;
            std::memcpy(&stamp, data.data(), sizeof stamp);
            features.timestamp_ms = 0;
            for (size_t i = 0; i < stamp.milliseconds.size(); ++i)
                features.timestamp_ms |= uint64_t{stamp.milliseconds[i]} << (8 * i);
            features.timestamp_set_at_ms =
                static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                          context_.clock.now() - context_.powered_since)
                                          .count());
            features.timestamp_origin = 1;
        } else if (feature == Feature::host_identifier) {
            std::memcpy(features.host_id.data(), data.data(), features.host_id.size());
        } else {
            features.host_behavior_acre = std::to_integer<uint8_t>(data[0]) & 1;
        }
        done(request, Status());
    });
}

} // namespace lanepool::nvme::model
