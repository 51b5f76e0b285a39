// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/admin_commands.h"

#include <algorithm>

namespace lanepool::nvme::model {

namespace {

// What may run while a sanitize operation is in progress (section 8.21, figure "Sanitize Operations - Admin
// Commands Allowed").
bool allowed_in_sanitize(AdminOpcode opcode) {
    constexpr std::array allowed = {
        AdminOpcode::delete_io_sq, AdminOpcode::create_io_sq,       AdminOpcode::get_log_page,
        AdminOpcode::delete_io_cq, AdminOpcode::create_io_cq,       AdminOpcode::identify,
        AdminOpcode::abort,        AdminOpcode::set_features,       AdminOpcode::get_features,
        AdminOpcode::keep_alive,   AdminOpcode::async_event_request};
    return std::ranges::find(allowed, opcode) != allowed.end();
}

} // namespace

AdminCommands::AdminCommands(Context& context) : context_(context) {
    context_.media.on_sanitized([this] {
        context_.engine.events().report(async_event::type_io_command_set, async_event::sanitize_completed,
                                        LogPage::sanitize_status);
    });
}

void AdminCommands::stopped() {
    waiting_ = formatting_ = nullptr;
    context_.erase_waiting = StatusCode::success;
    namespace_changed_ = false;
}

void AdminCommands::execute(Request& request) {
    const auto opcode = static_cast<AdminOpcode>(request.command.opcode);
    if (command_fuse.get(request.command.flags) != 0) return invalid_field(request);
    if (context_.media.availability() == StatusCode::sanitize_in_progress && !allowed_in_sanitize(opcode) &&
        (make_effects_log().admin[request.command.opcode] & effects::supported))
        return done(request, StatusCode::sanitize_in_progress);
    switch (opcode) {
    case AdminOpcode::delete_io_sq:
        return context_.engine.delete_submission_queue(
            static_cast<uint16_t>(delete_queue::qid.get(request.command.cdw10)), request);
    case AdminOpcode::create_io_sq:
        return create_submission_queue(request);
    case AdminOpcode::get_log_page:
        return get_log_page(request);
    case AdminOpcode::delete_io_cq:
        return done(request, context_.engine.delete_completion_queue(
                                 static_cast<uint16_t>(delete_queue::qid.get(request.command.cdw10))));
    case AdminOpcode::create_io_cq:
        return create_completion_queue(request);
    case AdminOpcode::identify:
        return identify(request);
    case AdminOpcode::abort:
        return abort(request);
    case AdminOpcode::set_features:
        return set_features(request);
    case AdminOpcode::get_features:
        return get_features(request);
    case AdminOpcode::async_event_request:
        return context_.engine.events().add_request(request);
    case AdminOpcode::doorbell_buffer_config:
        return doorbell_buffer_config(request);
    case AdminOpcode::format_nvm:
        return format(request);
    case AdminOpcode::sanitize:
        return sanitize(request);
    default:
        return done(request, Status(StatusCode::invalid_opcode, true));
    }
}

// Best effort, as section 5.1 has it: what has begun and cannot be stopped any more goes on.
void AdminCommands::abort(Request& request) {
    const auto sqid = static_cast<uint16_t>(abort_command::sqid.get(request.command.cdw10));
    const auto cid = static_cast<uint16_t>(abort_command::cid.get(request.command.cdw10));
    if (!context_.engine.has_submission_queue(sqid)) return invalid_field(request);
    if (sqid == 0 && context_.engine.events().abort(cid)) return done(request, Status(), 0);
    Request* target = context_.engine.find(sqid, cid);
    if (target && target != &request && target->ticket) {
        // Whether it ends early is seen by its own completion; this one must not wait for it.
        target->abort_requested = true;
        context_.media.files().cancel(*target->ticket);
    }
    done(request, Status(), abort_command::not_aborted(1));
}

void AdminCommands::doorbell_buffer_config(Request& request) {
    const Iova shadow{request.command.prp1};
    const Iova event_indexes{request.command.prp2};
    if (shadow.value % page_bytes != 0 || event_indexes.value % page_bytes != 0)
        return invalid_field(request);
    done(request, context_.engine.use_shadow_doorbells(shadow, event_indexes));
}

} // namespace lanepool::nvme::model
