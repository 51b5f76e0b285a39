// SPDX-License-Identifier: Apache-2.0
//
// Status codes (NVM Express Base Specification 2.0, section 3.3.3.2; NVM Command Set Specification 1.0,
// section 3.1.2). A Status is what lies in the completion entry's status field without the phase tag.
#pragma once

#include <cstdint>
#include <string>

namespace lanepool::nvme {

// Status code type in bits 10:8, status code in bits 7:0.
enum class StatusCode : uint16_t {
    // Generic
    success = 0x000,
    invalid_opcode = 0x001,
    invalid_field = 0x002,
    command_id_conflict = 0x003,
    data_transfer_error = 0x004,
    power_loss_abort = 0x005,
    internal_error = 0x006,
    abort_requested = 0x007,
    aborted_sq_deletion = 0x008,
    aborted_failed_fused = 0x009,
    aborted_missing_fused = 0x00a,
    invalid_namespace_or_format = 0x00b,
    command_sequence_error = 0x00c,
    invalid_sgl_segment_descriptor = 0x00d,
    invalid_sgl_descriptor_count = 0x00e,
    data_sgl_length_invalid = 0x00f,
    metadata_sgl_length_invalid = 0x010,
    sgl_descriptor_type_invalid = 0x011,
    invalid_cmb_use = 0x012,
    prp_offset_invalid = 0x013,
    atomic_write_unit_exceeded = 0x014,
    operation_denied = 0x015,
    sgl_offset_invalid = 0x016,
    host_id_inconsistent = 0x018,
    keep_alive_expired = 0x019,
    keep_alive_invalid = 0x01a,
    aborted_preempt_and_abort = 0x01b,
    sanitize_failed = 0x01c,
    sanitize_in_progress = 0x01d,
    namespace_write_protected = 0x020,
    command_interrupted = 0x021,
    transient_transport_error = 0x022,
    admin_command_media_not_ready = 0x024,
    lba_out_of_range = 0x080,
    capacity_exceeded = 0x081,
    namespace_not_ready = 0x082,
    reservation_conflict = 0x083,
    format_in_progress = 0x084,
    // Command specific
    completion_queue_invalid = 0x100,
    invalid_queue_identifier = 0x101,
    invalid_queue_size = 0x102,
    abort_command_limit_exceeded = 0x103,
    async_event_limit_exceeded = 0x105,
    invalid_firmware_slot = 0x106,
    invalid_firmware_image = 0x107,
    invalid_interrupt_vector = 0x108,
    invalid_log_page = 0x109,
    invalid_format = 0x10a,
    firmware_needs_conventional_reset = 0x10b,
    invalid_queue_deletion = 0x10c,
    feature_not_saveable = 0x10d,
    feature_not_changeable = 0x10e,
    feature_not_namespace_specific = 0x10f,
    firmware_needs_subsystem_reset = 0x110,
    overlapping_range = 0x114,
    namespace_insufficient_capacity = 0x115,
    namespace_identifier_unavailable = 0x116,
    namespace_already_attached = 0x118,
    namespace_private = 0x119,
    namespace_not_attached = 0x11a,
    self_test_in_progress = 0x11d,
    sanitize_prohibited_while_pmr_enabled = 0x123,
    conflicting_attributes = 0x180,
    invalid_protection_information = 0x181,
    write_to_read_only_range = 0x182,
    // Media and data integrity
    write_fault = 0x280,
    unrecovered_read_error = 0x281,
    guard_check_error = 0x282,
    application_tag_check_error = 0x283,
    reference_tag_check_error = 0x284,
    compare_failure = 0x285,
    access_denied = 0x286,
    deallocated_or_unwritten = 0x287,
};

class Status {
  public:
    // RAW is bits 31:17 of completion dword 3: what the controller sent, without the phase tag.
    constexpr Status(uint16_t raw = 0) : raw_(raw & 0x7fff) {}
    constexpr Status(StatusCode code, bool do_not_retry = false)
        : raw_(static_cast<uint16_t>(static_cast<uint16_t>(code) | (do_not_retry ? 1 << 14 : 0))) {}

    constexpr bool ok() const { return code() == StatusCode::success; }
    // May be a value that has no name here.
    constexpr StatusCode code() const { return static_cast<StatusCode>(raw_ & 0x7ff); }
    constexpr uint8_t type() const { return raw_ >> 8 & 7; }
    constexpr bool more() const { return (raw_ >> 13 & 1) != 0; } // the error log has more
    constexpr bool do_not_retry() const { return (raw_ >> 14 & 1) != 0; }
    constexpr uint16_t raw() const { return raw_; }
    constexpr bool operator==(const Status&) const = default;

  private:
    uint16_t raw_;
};

// "invalid field in command (0x002)", for messages.
std::string describe(Status status);

} // namespace lanepool::nvme
