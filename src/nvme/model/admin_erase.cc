// SPDX-License-Identifier: Apache-2.0
//
// Format NVM and Sanitize (NVM Express Base Specification 2.0, sections 5.14 and 5.24).
#include "nvme/model/admin_commands.h"

#include <spdlog/spdlog.h>

namespace lanepool::nvme::model {

void AdminCommands::format(Request& request) {
    using namespace format_command;
    const uint32_t dw10 = request.command.cdw10;
    if (request.command.nsid != namespace_id && request.command.nsid != broadcast_nsid)
        return done(request, Status(StatusCode::invalid_namespace_or_format, true));
    if (context_.media.busy() || waiting_) return done(request, StatusCode::format_in_progress);
    if (context_.media.availability() == StatusCode::sanitize_failed)
        return done(request, StatusCode::sanitize_failed);
    if (lbaf.get(dw10) >= lba_shifts.size() || pi.get(dw10) != 0)
        return done(request, Status(StatusCode::invalid_format, true)); // no protection information
    // There is no key to forget, so no cryptographic erase (FNA).
    if (ses.get(dw10) > ses_user_data) return invalid_field(request);
    wait_for_io(request, StatusCode::format_in_progress);
}

// What is in flight to the blocks would write after the erasure, or by the old format: it ends first, and
// nothing new begins.
void AdminCommands::wait_for_io(Request& request, StatusCode meanwhile) {
    waiting_ = &request;
    request.parked = true;
    context_.erase_waiting = meanwhile;
    poll();
}

void AdminCommands::poll() {
    if (!waiting_ || context_.engine.io_in_flight()) return;
    Request& request = *std::exchange(waiting_, nullptr);
    context_.erase_waiting = StatusCode::success;
    if (static_cast<AdminOpcode>(request.command.opcode) == AdminOpcode::format_nvm)
        start_format(request);
    else
        start_sanitize(request);
}

void AdminCommands::start_format(Request& request) {
    formatting_ = &request;
    const auto lba_format = static_cast<uint8_t>(format_command::lbaf.get(request.command.cdw10));
    const bool changes = lba_format != context_.media.lba_format();
    context_.media.format(lba_format, [this, changes](Result<> outcome) {
        if (!outcome) spdlog::error("format: {}", outcome.error().message());
        if (Request* waiting = std::exchange(formatting_, nullptr))
            done(*waiting, outcome ? Status() : Status(StatusCode::internal_error));
        if (!outcome || !changes) return;
        namespace_changed_ = true;
        if (context_.features.async_events & async_event::enable_namespace_attribute)
            context_.engine.events().report(async_event::type_notice,
                                            async_event::namespace_attribute_changed,
                                            LogPage::changed_namespaces);
    });
}

void AdminCommands::sanitize(Request& request) {
    using namespace sanitize_command;
    const uint32_t dw10 = request.command.cdw10;
    if (context_.media.busy() || waiting_) return done(request, StatusCode::format_in_progress);
    switch (static_cast<SanitizeAction>(sanact.get(dw10))) {
    case SanitizeAction::exit_failure:
        return done(request, context_.media.leave_sanitize_failure() ? StatusCode::success
                                                                     : StatusCode::sanitize_failed);
    case SanitizeAction::block_erase:
    case SanitizeAction::overwrite:
        break;
    default: // crypto erase: nothing is encrypted
        return invalid_field(request);
    }
    // A failed operation that was not to be left by itself lets only a like one try again.
    if (context_.media.availability() == StatusCode::sanitize_failed &&
        ause.get(context_.media.sanitize_log().command_dword10) == 0 && ause.get(dw10) != 0)
        return done(request, StatusCode::sanitize_failed);
    wait_for_io(request, StatusCode::sanitize_in_progress);
}

void AdminCommands::start_sanitize(Request& request) {
    if (auto started = context_.media.sanitize(request.command.cdw10, request.command.cdw11); !started) {
        spdlog::error("sanitize: {}", started.error().message());
        return done(request, StatusCode::internal_error);
    }
    done(request, Status());
}

} // namespace lanepool::nvme::model
