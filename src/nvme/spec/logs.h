// SPDX-License-Identifier: Apache-2.0
//
// Log pages (NVM Express Base Specification 2.0, section 5.16.1) and the data of some features.
#pragma once

#include "base/endian.h"

#include <array>
#include <cstddef>

namespace lanepool::nvme {

enum class LogPage : uint8_t {
    supported = 0x00,
    error = 0x01,
    smart = 0x02,
    firmware_slot = 0x03,
    changed_namespaces = 0x04,
    effects = 0x05,
    self_test = 0x06,
    telemetry_host = 0x07,
    telemetry_controller = 0x08,
    persistent_event = 0x0d,
    sanitize_status = 0x81,
};

struct ErrorLogEntry {
    le64 error_count; // 0: no entry
    le16 sq_id;
    le16 cid;
    le16 status_phase;
    le16 parameter_location; // byte in 7:0, bit in 10:8
    le64 lba;
    le32 nsid;
    uint8_t vendor_log = 0;
    uint8_t transport_type = 0;
    std::array<uint8_t, 2> reserved30{};
    le64 command_specific;
    le16 transport_specific;
    std::array<uint8_t, 22> reserved42{};
};
static_assert(sizeof(ErrorLogEntry) == 64);

// Counters are 128 bits, low half first.
struct SmartLog {
    uint8_t critical_warning = 0;
    le16 temperature_k;
    uint8_t available_spare_percent = 0;
    uint8_t spare_threshold_percent = 0;
    uint8_t percentage_used = 0;
    uint8_t endurance_group_warning = 0;
    std::array<uint8_t, 25> reserved7{};
    std::array<le64, 2> data_units_read{}; // in 1000 times 512 bytes, rounded up
    std::array<le64, 2> data_units_written{};
    std::array<le64, 2> host_reads{};
    std::array<le64, 2> host_writes{};
    std::array<le64, 2> busy_minutes{};
    std::array<le64, 2> power_cycles{};
    std::array<le64, 2> power_on_hours{};
    std::array<le64, 2> unsafe_shutdowns{};
    std::array<le64, 2> media_errors{};
    std::array<le64, 2> error_log_entries{};
    le32 warning_temperature_minutes;
    le32 critical_temperature_minutes;
    std::array<le16, 8> sensors_k{};
    std::array<le32, 2> thermal_transitions{};
    std::array<le32, 2> thermal_seconds{};
    std::array<uint8_t, 280> reserved232{};
};
static_assert(sizeof(SmartLog) == 512);
static_assert(offsetof(SmartLog, data_units_read) == 32);
static_assert(offsetof(SmartLog, warning_temperature_minutes) == 192);
static_assert(offsetof(SmartLog, sensors_k) == 200);

namespace critical_warning {
inline constexpr uint8_t spare = 1 << 0;
inline constexpr uint8_t temperature = 1 << 1;
inline constexpr uint8_t reliability = 1 << 2;
inline constexpr uint8_t read_only = 1 << 3;
inline constexpr uint8_t backup_failed = 1 << 4;
} // namespace critical_warning

struct FirmwareSlotLog {
    uint8_t active = 0; // slot in use in 2:0, next one in 6:4
    std::array<uint8_t, 7> reserved1{};
    std::array<std::array<char, 8>, 7> revisions{};
    std::array<uint8_t, 448> reserved64{};
};
static_assert(sizeof(FirmwareSlotLog) == 512);

struct ChangedNamespacesLog {
    std::array<le32, 1024> nsids{}; // ascending, 0 ends it; first 0xffffffff: too many
};
static_assert(sizeof(ChangedNamespacesLog) == 4096);

struct EffectsLog {
    std::array<le32, 256> admin{}; // by opcode
    std::array<le32, 256> io{};
    std::array<uint8_t, 2048> reserved2048{};
};
static_assert(sizeof(EffectsLog) == 4096);

namespace effects {
inline constexpr uint32_t supported = 1 << 0;
inline constexpr uint32_t block_content_change = 1 << 1;
inline constexpr uint32_t namespace_capability_change = 1 << 2;
inline constexpr uint32_t namespace_inventory_change = 1 << 3;
inline constexpr uint32_t controller_capability_change = 1 << 4;
inline constexpr uint32_t one_per_namespace = 1 << 16; // submission and execution: alone in its namespace
inline constexpr uint32_t one_per_controller = 2 << 16;
} // namespace effects

struct SanitizeStatusLog {
    le16 progress; // of 65536; 0xffff: none in progress
    le16 status;
    le32 command_dword10;      // of the Sanitize command that started it
    le32 overwrite_estimate_s; // 0xffffffff: not known
    le32 block_erase_estimate_s;
    le32 crypto_erase_estimate_s;
    le32 overwrite_no_deallocate_estimate_s;
    le32 block_erase_no_deallocate_estimate_s;
    le32 crypto_erase_no_deallocate_estimate_s;
    std::array<uint8_t, 480> reserved32{};
};
static_assert(sizeof(SanitizeStatusLog) == 512);

namespace sanitize_status {
inline constexpr uint16_t outcome_mask = 7;
inline constexpr uint16_t never = 0;
inline constexpr uint16_t completed = 1;
inline constexpr uint16_t in_progress = 2;
inline constexpr uint16_t failed = 3;
inline constexpr uint16_t completed_no_deallocate = 4;
inline constexpr unsigned passes_shift = 3; // completed overwrite passes, five bits
inline constexpr uint16_t global_data_erased = 1 << 8;
inline constexpr uint16_t idle_progress = 0xffff;
} // namespace sanitize_status

// Feature 0Eh.
struct TimestampData {
    std::array<uint8_t, 6> milliseconds{}; // since 1970-01-01, little-endian
    uint8_t attributes = 0;
    uint8_t reserved7 = 0;
};
static_assert(sizeof(TimestampData) == 8);

// Feature 16h.
struct HostBehavior {
    uint8_t advanced_retry = 0;
    uint8_t extended_telemetry = 0;
    uint8_t lba_format_extension = 0; // more than 16 formats
    std::array<uint8_t, 509> reserved3{};
};
static_assert(sizeof(HostBehavior) == 512);

// Doorbell Buffer Config: both buffers are one memory page, laid out as the doorbell registers are. PRP1 is
// the shadow doorbells, PRP2 the event indexes. The host notifies by MMIO only when its doorbell value has
// passed the event index of the controller's.
constexpr bool shadow_needs_notify(uint16_t event_index, uint16_t new_value, uint16_t old_value) {
    return static_cast<uint16_t>(new_value - event_index - 1) < static_cast<uint16_t>(new_value - old_value);
}

} // namespace lanepool::nvme
