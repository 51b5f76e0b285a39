// SPDX-License-Identifier: Apache-2.0
//
// Get Log Page (NVM Express Base Specification 2.0, section 5.16).
#include "nvme/model/admin_commands.h"

#include <algorithm>
#include <cstring>

namespace lanepool::nvme::model {

namespace {

// A file does not get warm: room temperature, so that software has a plausible value.
constexpr uint16_t temperature_k = 308;

template <class T>
std::vector<std::byte> bytes_of(const T& value) {
    std::vector<std::byte> bytes(sizeof value);
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

FirmwareSlotLog firmware_log() {
    FirmwareSlotLog log;
    log.active = 1;
    log.revisions[0] = {'1', '.', '0', ' ', ' ', ' ', ' ', ' '};
    return log;
}

} // namespace

EffectsLog make_effects_log() {
    EffectsLog log;
    const auto admin = [&](AdminOpcode opcode, uint32_t flags = 0) {
        log.admin[static_cast<size_t>(opcode)] = effects::supported | flags;
    };
    const auto io = [&](IoOpcode opcode, uint32_t flags = 0) {
        log.io[static_cast<size_t>(opcode)] = effects::supported | flags;
    };
    admin(AdminOpcode::delete_io_sq);
    admin(AdminOpcode::create_io_sq);
    admin(AdminOpcode::get_log_page);
    admin(AdminOpcode::delete_io_cq);
    admin(AdminOpcode::create_io_cq);
    admin(AdminOpcode::identify);
    admin(AdminOpcode::abort);
    admin(AdminOpcode::set_features);
    admin(AdminOpcode::get_features);
    admin(AdminOpcode::async_event_request);
    admin(AdminOpcode::doorbell_buffer_config);
    admin(AdminOpcode::format_nvm,
          effects::block_content_change | effects::namespace_capability_change | effects::one_per_namespace);
    admin(AdminOpcode::sanitize, effects::block_content_change | effects::one_per_controller);
    io(IoOpcode::flush);
    io(IoOpcode::write, effects::block_content_change);
    io(IoOpcode::read);
    io(IoOpcode::compare);
    io(IoOpcode::write_zeroes, effects::block_content_change);
    io(IoOpcode::dataset_management, effects::block_content_change);
    return log;
}

SmartLog AdminCommands::smart_log() const {
    const auto& counters = context_.media.counters();
    const auto& features = context_.features;
    SmartLog log;
    if (temperature_k >= features.over_temperature_k || temperature_k <= features.under_temperature_k)
        log.critical_warning |= critical_warning::temperature;
    if (context_.media.availability() == StatusCode::namespace_not_ready)
        log.critical_warning |= critical_warning::reliability;
    log.temperature_k = temperature_k;
    log.available_spare_percent = 100;
    log.spare_threshold_percent = 10;
    log.data_units_read[0] = (counters.blocks_read_512 + 999) / 1000;
    log.data_units_written[0] = (counters.blocks_written_512 + 999) / 1000;
    log.host_reads[0] = counters.reads;
    log.host_writes[0] = counters.writes;
    log.busy_minutes[0] = counters.busy_us / 60'000'000;
    log.power_cycles[0] = counters.power_cycles;
    const auto powered =
        std::chrono::duration_cast<std::chrono::seconds>(context_.clock.now() - context_.powered_since);
    log.power_on_hours[0] = (counters.powered_s + static_cast<uint64_t>(powered.count())) / 3600;
    // The one that the present run would count if it ended badly is not one yet.
    log.unsafe_shutdowns[0] = counters.unsafe_shutdowns - 1;
    log.media_errors[0] = counters.media_errors;
    log.error_log_entries[0] = context_.engine.events().error_count();
    return log;
}

void AdminCommands::get_log_page(Request& request) {
    const Command& command = request.command;
    const auto page = static_cast<LogPage>(get_log::lid.get(command.cdw10));
    const uint64_t dwords =
        (uint64_t{get_log::numdu.get(command.cdw11)} << 16 | get_log::numdl.get(command.cdw10)) + 1;
    const uint64_t offset = uint64_t{command.cdw13} << 32 | command.cdw12;
    if (offset % 4 != 0 || dwords * 4 > max_transfer_bytes) return invalid_field(request);
    std::vector<std::byte> data;
    switch (page) {
    case LogPage::error: {
        const auto entries = context_.engine.events().error_log();
        const auto bytes = std::as_bytes(std::span(entries));
        data.assign(bytes.begin(), bytes.end());
        break;
    }
    case LogPage::smart:
        // Not kept per namespace (LPA): the namespace may be named or not.
        if (command.nsid != 0 && command.nsid != broadcast_nsid && command.nsid != namespace_id)
            return done(request, Status(StatusCode::invalid_namespace_or_format, true));
        data = bytes_of(smart_log());
        break;
    case LogPage::firmware_slot:
        data = bytes_of(firmware_log());
        break;
    case LogPage::changed_namespaces: {
        ChangedNamespacesLog log;
        if (namespace_changed_) log.nsids[0] = namespace_id;
        if (!get_log::rae.get(command.cdw10)) namespace_changed_ = false;
        data = bytes_of(log);
        break;
    }
    case LogPage::effects:
        data = bytes_of(make_effects_log());
        break;
    case LogPage::sanitize_status:
        data = bytes_of(context_.media.sanitize_log());
        break;
    default:
        return done(request, Status(StatusCode::invalid_log_page, true));
    }
    if (offset >= data.size()) return invalid_field(request);
    data.erase(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(offset));
    data.resize(dwords * 4); // what lies behind the end of a page reads as zeroes
    if (!context_.engine.resolve(request, static_cast<uint32_t>(data.size()))) return;
    const bool retain = get_log::rae.get(command.cdw10) != 0;
    context_.engine.send_data(request, data);
    if (!retain) context_.engine.events().log_was_read(page);
}

} // namespace lanepool::nvme::model
