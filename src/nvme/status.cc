// SPDX-License-Identifier: Apache-2.0
#include "nvme/spec/status.h"

#include <fmt/format.h>
#include <string_view>

namespace lanepool::nvme {

namespace {

std::string_view words(StatusCode code) {
    switch (code) {
    case StatusCode::success:
        return "success";
    case StatusCode::invalid_opcode:
        return "invalid opcode";
    case StatusCode::invalid_field:
        return "invalid field in command";
    case StatusCode::command_id_conflict:
        return "command id conflict";
    case StatusCode::data_transfer_error:
        return "data transfer error";
    case StatusCode::power_loss_abort:
        return "aborted by power loss";
    case StatusCode::internal_error:
        return "internal error";
    case StatusCode::abort_requested:
        return "aborted on request";
    case StatusCode::aborted_sq_deletion:
        return "aborted by deletion of its queue";
    case StatusCode::invalid_namespace_or_format:
        return "invalid namespace or format";
    case StatusCode::command_sequence_error:
        return "command sequence error";
    case StatusCode::prp_offset_invalid:
        return "invalid PRP offset";
    case StatusCode::operation_denied:
        return "operation denied";
    case StatusCode::sanitize_failed:
        return "the last sanitize operation failed";
    case StatusCode::sanitize_in_progress:
        return "a sanitize operation is in progress";
    case StatusCode::namespace_write_protected:
        return "namespace is write protected";
    case StatusCode::command_interrupted:
        return "command interrupted";
    case StatusCode::lba_out_of_range:
        return "block out of range";
    case StatusCode::capacity_exceeded:
        return "capacity exceeded";
    case StatusCode::namespace_not_ready:
        return "namespace not ready";
    case StatusCode::reservation_conflict:
        return "reservation conflict";
    case StatusCode::format_in_progress:
        return "a format is in progress";
    case StatusCode::completion_queue_invalid:
        return "invalid completion queue";
    case StatusCode::invalid_queue_identifier:
        return "invalid queue identifier";
    case StatusCode::invalid_queue_size:
        return "invalid queue size";
    case StatusCode::async_event_limit_exceeded:
        return "too many asynchronous event requests";
    case StatusCode::invalid_interrupt_vector:
        return "invalid interrupt vector";
    case StatusCode::invalid_log_page:
        return "invalid log page";
    case StatusCode::invalid_format:
        return "invalid format";
    case StatusCode::feature_not_saveable:
        return "feature cannot be saved";
    case StatusCode::feature_not_changeable:
        return "feature cannot be changed";
    case StatusCode::write_to_read_only_range:
        return "write to a read-only range";
    case StatusCode::write_fault:
        return "write fault";
    case StatusCode::unrecovered_read_error:
        return "unrecovered read error";
    case StatusCode::compare_failure:
        return "compare failure";
    case StatusCode::access_denied:
        return "access denied";
    case StatusCode::deallocated_or_unwritten:
        return "deallocated or unwritten block";
    default:
        break;
    }
    constexpr std::string_view types[] = {
        "generic error",        "command specific error", "media error",          "path error",
        "reserved status type", "reserved status type",   "reserved status type", "vendor specific error"};
    return types[static_cast<uint16_t>(code) >> 8 & 7];
}

} // namespace

std::string describe(Status status) {
    return fmt::format("{} ({:#05x})", words(status.code()), static_cast<uint16_t>(status.code()));
}

} // namespace lanepool::nvme
