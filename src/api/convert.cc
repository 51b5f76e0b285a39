// SPDX-License-Identifier: Apache-2.0
#include "api/convert.h"

#include <algorithm>

namespace lanepool::api {

v1::DeviceIdentity to_message(const pool::DeviceIdentity& identity) {
    v1::DeviceIdentity message;
    message.set_vendor_id(identity.vendor_id);
    message.set_device_id(identity.device_id);
    message.set_class_code(identity.class_code);
    message.set_kind(identity.kind);
    message.set_model(identity.model);
    message.set_serial(identity.serial);
    message.set_firmware(identity.firmware);
    message.set_capacity_bytes(identity.capacity_bytes);
    return message;
}

v1::Device to_message(const pool::Device& device, const std::string& borrower) {
    v1::Device message;
    message.set_fdid(device.fdid.value);
    message.set_name(device.full_name());
    message.set_lender(device.host);
    message.set_state(std::string(name(device.state)));
    message.set_reason(device.reason);
    message.set_epoch(device.epoch.value);
    message.set_loan_id(device.loan.value);
    message.set_borrower(borrower);
    *message.mutable_identity() = to_message(device.identity);
    message.set_draining(device.draining);
    if (!device.parent.empty()) message.set_parent(device.host + "/" + device.parent);
    message.set_functions(device.functions);
    message.set_most_functions(device.most_functions);
    return message;
}

v1::Host to_message(const pool::Host& host, bool lends) {
    v1::Host message;
    message.set_name(host.name);
    message.set_state(host.up ? "up" : "down");
    message.set_partition(host.partition);
    message.set_lends(lends);
    message.set_borrows(!host.guests.empty() || !host.dma_modes.empty());
    for (const auto& guest : host.guests)
        message.add_guests(guest);
    for (const auto mode : host.dma_modes)
        message.add_dma_modes(std::string(name(mode)));
    message.set_last_seen_us(host.last_seen_us);
    message.set_version(host.version);
    message.set_windows(host.windows);
    message.set_windows_free(host.windows_free);
    message.set_draining(host.draining);
    return message;
}

v1::Loan to_message(const pool::Loan& loan, const pool::Device* device) {
    v1::Loan message;
    message.set_id(loan.id.value);
    message.set_fdid(loan.fdid.value);
    message.set_device(device ? device->full_name() : describe(loan.wanted));
    if (device) message.set_lender(device->host);
    message.set_borrower(loan.borrower);
    message.set_guest(loan.guest);
    message.set_access_model(std::string(name(loan.access_model)));
    message.set_shared(loan.shared);
    message.set_dma(std::string(name(loan.dma)));
    message.set_dma_bytes(loan.dma_bytes);
    message.set_function(loan.function);
    message.set_driver(loan.driver);
    message.set_state(std::string(name(loan.state)));
    message.set_epoch(loan.epoch.value);
    message.set_priority(loan.priority);
    message.set_due_us(loan.due_us);
    message.set_reason(loan.reason);
    message.set_requested_by(loan.requested_by);
    message.set_created_us(loan.created_us);
    message.set_ended_us(loan.ended_us);
    for (const auto& step : loan.steps) {
        auto* time = message.add_steps();
        time->set_step(std::string(name(step.step)));
        time->set_duration_us(step.duration_us);
    }
    message.set_group(loan.group.value);
    message.set_tenant(loan.tenant);
    message.set_rule(loan.rule);
    message.set_reservation(loan.reservation);
    message.set_duration_s(loan.duration_s);
    message.set_wait_until_us(loan.wait_until_us);
    message.set_active_us(loan.active_us);
    message.set_warned(loan.warned);
    message.set_preempted_by(loan.preempted_by.value);
    message.set_preemptible(loan.preemptible);
    message.set_wanted(describe(loan.wanted));
    return message;
}

v1::AuditEntry to_message(const pool::AuditEntry& entry) {
    v1::AuditEntry message;
    message.set_sequence(entry.sequence);
    message.set_time_us(entry.time_us);
    message.set_actor(entry.actor);
    message.set_subject(entry.subject);
    message.set_action(entry.action);
    message.set_from(entry.from);
    message.set_to(entry.to);
    message.set_reason(entry.reason);
    message.set_fdid(entry.fdid.value);
    message.set_loan_id(entry.loan.value);
    message.set_epoch(entry.epoch.value);
    return message;
}

v1::StepKind to_message(pool::StepKind kind) {
    switch (kind) {
    case pool::StepKind::prepare:
        return v1::STEP_PREPARE;
    case pool::StepKind::attach:
        return v1::STEP_ATTACH;
    case pool::StepKind::detach:
        return v1::STEP_DETACH;
    case pool::StepKind::cut:
        return v1::STEP_CUT;
    case pool::StepKind::reset:
        return v1::STEP_RESET;
    case pool::StepKind::sanitize:
        return v1::STEP_SANITIZE;
    case pool::StepKind::extend:
        return v1::STEP_EXTEND;
    case pool::StepKind::expel:
        return v1::STEP_EXPEL;
    case pool::StepKind::take:
        return v1::STEP_TAKE;
    case pool::StepKind::give_back:
        return v1::STEP_GIVE_BACK;
    case pool::StepKind::set_functions:
        return v1::STEP_SET_FUNCTIONS;
    }
    return v1::STEP_UNSPECIFIED;
}

v1::Step to_message(const pool::Order& order) {
    v1::Step message;
    message.set_kind(to_message(order.step.kind));
    message.set_step_id(order.step.id.value);
    message.set_loan_id(order.step.loan.value);
    message.set_fdid(order.step.fdid.value);
    message.set_device(order.device);
    message.set_epoch(order.step.epoch.value);
    message.set_lender_partition(order.lender_partition);
    message.set_borrower_partition(order.borrower_partition);
    message.set_guest(order.guest);
    message.set_deadline_ms(order.step.deadline_ms);
    message.set_lease_ms(order.step.lease_ms);
    message.set_suffices(order.step.suffices);
    message.set_access_model(std::string(name(order.access_model)));
    message.set_shared(order.shared);
    message.set_functions(order.step.functions);
    message.set_dma(std::string(name(order.dma)));
    message.set_ask(order.step.ask);
    return message;
}

Result<pool::StepKind> from_message(v1::StepKind message) {
    for (const pool::StepKind kind : pool::step_kinds)
        if (to_message(kind) == message) return kind;
    return fail(Errc::protocol, "there is no step of kind {}", static_cast<int>(message));
}

namespace {
// Empty where somebody does not know that there are several.
Result<pool::AccessModel> access_model_of(const std::string& text) {
    if (text.empty()) return pool::AccessModel::lending;
    if (const auto model = pool::access_model(text)) return *model;
    return fail(Errc::not_supported, "there is no access model '{}'; there are: {}, {}",
                pool::limited(text, 32), name(pool::AccessModel::lending), name(pool::AccessModel::smartio));
}

// Empty where nobody says.
Result<pool::DmaMode> dma_mode_of(const std::string& text) {
    if (const auto mode = pool::dma_mode(text)) return *mode;
    return fail(Errc::not_supported, "there is no DMA mode '{}'; there are: {}, {}, {}",
                pool::limited(text, 32), name(pool::DmaMode::bounce), name(pool::DmaMode::iommu),
                name(pool::DmaMode::direct));
}
} // namespace

Result<pool::Order> from_message(const v1::Step& message) {
    pool::Order order;
    order.step.kind = TRY(from_message(message.kind()));
    order.step.id = {message.step_id()};
    order.step.loan = {message.loan_id()};
    order.step.fdid = {message.fdid()};
    order.step.epoch = {message.epoch()};
    order.step.deadline_ms = message.deadline_ms();
    order.step.lease_ms = message.lease_ms();
    order.step.suffices = message.suffices();
    order.device = message.device();
    order.lender_partition = message.lender_partition();
    order.borrower_partition = message.borrower_partition();
    order.guest = message.guest();
    order.access_model = TRY(access_model_of(message.access_model()));
    order.shared = message.shared();
    order.step.functions = message.functions();
    order.step.ask = message.ask();
    order.dma = TRY(dma_mode_of(message.dma()));
    return order;
}

namespace {
pool::Selector from_message(const v1::Selector& message) {
    return {message.device(),
            message.kind(),
            message.host(),
            message.model(),
            message.vendor_id(),
            message.device_id(),
            message.least_capacity_bytes()};
}
} // namespace

Result<pool::BorrowRequest> from_message(const v1::BorrowRequest& message, pool::Caller caller) {
    pool::BorrowRequest request;
    request.access_model = TRY(access_model_of(message.access_model()));
    request.shared = message.shared();
    request.dma = TRY(dma_mode_of(message.dma()));
    for (const auto& selector : message.devices())
        request.devices.push_back(from_message(selector));
    request.host = message.host();
    request.guest = message.guest();
    request.near = message.near();
    if (message.has_duration_s()) request.duration_s = message.duration_s();
    if (message.has_priority()) request.priority = message.priority();
    request.wait_s = message.wait_s() < 0 ? pool::BorrowRequest::wait_for_ever_s : message.wait_s();
    request.caller = std::move(caller);
    return request;
}

pool::ReturnRequest from_message(const v1::ReturnRequest& request, pool::Caller caller) {
    return {request.loan_or_device(), std::move(caller), request.deadline_ms(), request.to_local()};
}

pool::ReclaimRequest from_message(const v1::ReclaimRequest& request, pool::Caller caller) {
    return {request.loan_or_device(), request.reason(), std::move(caller)};
}

pool::RenewRequest from_message(const v1::RenewRequest& request, pool::Caller caller) {
    return {request.loan_or_device(), request.duration_s(), std::move(caller)};
}

pool::ReassignRequest from_message(const v1::ReassignRequest& request, pool::Caller caller) {
    return {request.loan_or_device(), request.host(), request.guest(), std::move(caller), request.force()};
}

pool::ResetRequest from_message(const v1::ResetRequest& request, pool::Caller caller) {
    return {request.device(), std::move(caller)};
}

pool::DrainRequest from_message(const v1::DrainRequest& request, pool::Caller caller) {
    return {request.host_or_device(), request.drain(), request.evict(), request.reason(), std::move(caller)};
}

pool::QuarantineRequest from_message(const v1::QuarantineRequest& request, pool::Caller caller) {
    return {request.device(), request.reason(), std::move(caller)};
}

pool::RestoreRequest from_message(const v1::RestoreRequest& request, pool::Caller caller) {
    return {request.device(), std::move(caller)};
}

pool::KeepLocalRequest from_message(const v1::KeepLocalRequest& request, pool::Caller caller) {
    return {request.device(), std::move(caller)};
}

pool::SetFunctionsRequest from_message(const v1::SetFunctionsRequest& request, pool::Caller caller) {
    return {request.device(), request.functions(), std::move(caller)};
}

namespace {
pool::DeviceIdentity from_message(const v1::DeviceIdentity& message) {
    return {message.vendor_id(), message.device_id(), message.class_code(), message.kind(),
            message.model(),     message.serial(),    message.firmware(),   message.capacity_bytes()};
}

pool::ObservedDevice from_message(const v1::ObservedDevice& message) {
    pool::ObservedDevice observed{message.name(),      from_message(message.identity()),
                                  message.answering(), message.clean(),
                                  {message.epoch()},   {message.loan_id()},
                                  message.problem(),   message.iommu(),
                                  message.qualified(), {}};
    for (const uint64_t loan : message.joined_loan_ids())
        observed.joined.push_back({loan});
    observed.local = message.local();
    observed.parent = message.parent();
    observed.functions = message.functions();
    observed.most_functions = message.most_functions();
    return observed;
}

pool::ObservedLoan from_message(const v1::ObservedLoan& message) {
    return {{message.loan_id()}, {message.fdid()}, {message.epoch()}, message.attached()};
}

// Each once. One that this controller does not know is nothing that it could ask for.
std::vector<pool::DmaMode> known_modes(const google::protobuf::RepeatedPtrField<std::string>& names) {
    std::vector<pool::DmaMode> modes;
    for (const auto& text : names)
        if (const auto mode = pool::dma_mode(text); mode && *mode != pool::DmaMode::none)
            if (std::find(modes.begin(), modes.end(), *mode) == modes.end()) modes.push_back(*mode);
    return modes;
}
} // namespace

pool::Hello from_message(const v1::Hello& message) {
    pool::Hello hello;
    hello.host = message.host();
    hello.partition = message.partition();
    hello.instance = message.instance();
    hello.version = message.version();
    for (const auto& device : message.devices())
        hello.devices.push_back(from_message(device));
    for (const auto& loan : message.loans())
        hello.loans.push_back(from_message(loan));
    hello.guests.assign(message.guests().begin(), message.guests().end());
    hello.windows = message.windows();
    hello.windows_free = message.windows_free();
    hello.dma_modes = known_modes(message.dma_modes());
    return hello;
}

pool::LoanLost from_message(const v1::LoanLost& message) {
    return {{message.loan_id()}, {message.epoch()}, message.as_lender(), message.reason()};
}

pool::DeviceFault from_message(const v1::DeviceFault& message) {
    return {message.device(), {message.loan_id()}, {message.epoch()}, message.text(), message.count()};
}

v1::Attached to_message(const pool::Attached& attached) {
    v1::Attached message;
    message.set_dma_bytes(attached.dma_bytes);
    message.set_function(attached.function);
    message.set_driver(attached.driver);
    return message;
}

Result<pool::StepAnswer> from_message(const v1::StepDone& done) {
    pool::StepAnswer answer{
        {done.step_id()}, {done.loan_id()}, {done.epoch()}, TRY(from_message(done.kind())),
        done.ok(),        done.code(),      done.message()};
    if (done.has_attached())
        answer.attached = {done.attached().dma_bytes(), done.attached().function(), done.attached().driver()};
    return answer;
}

} // namespace lanepool::api
