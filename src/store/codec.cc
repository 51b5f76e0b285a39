// SPDX-License-Identifier: Apache-2.0
#include "store/codec.h"

#include <climits>
#include <store/records.pb.h>

namespace lanepool::store {

namespace {

template <class Message>
std::string bytes_of(const Message& message) {
    return message.SerializeAsString();
}

// The message of BYTES, in one that is kept: parsing a hundred thousand records allocates nothing anew.
template <class Message>
Result<const Message*> parse(std::string_view bytes, std::string_view what) {
    thread_local Message message;
    if (bytes.size() > INT_MAX || !message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
        return fail(Errc::io, "the stored record of a {} cannot be read: it is damaged", what);
    return &message;
}

template <class State>
Result<> take_state(State& state, std::optional<State> named, const std::string& text,
                    std::string_view what) {
    if (!named)
        return fail(
            Errc::io,
            "the stored record of a {} says '{}', which this lanepool does not know: it is damaged, or "
            "a newer lanepool wrote it",
            what, text);
    state = *named;
    return {};
}

template <class Strong>
void take_id(Strong& id, uint64_t value) {
    id = Strong{value};
}

void put(const pool::DeviceIdentity& identity, v1::DeviceIdentity& message) {
    message.set_vendor_id(identity.vendor_id);
    message.set_device_id(identity.device_id);
    message.set_class_code(identity.class_code);
    message.set_kind(identity.kind);
    message.set_model(identity.model);
    message.set_serial(identity.serial);
    message.set_firmware(identity.firmware);
    message.set_capacity_bytes(identity.capacity_bytes);
}

void take(pool::DeviceIdentity& identity, const v1::DeviceIdentity& message) {
    identity.vendor_id = message.vendor_id();
    identity.device_id = message.device_id();
    identity.class_code = message.class_code();
    identity.kind = message.kind();
    identity.model = message.model();
    identity.serial = message.serial();
    identity.firmware = message.firmware();
    identity.capacity_bytes = message.capacity_bytes();
}

void put(const pool::Selector& selector, v1::Selector& message) {
    message.set_device(selector.device);
    message.set_kind(selector.kind);
    message.set_host(selector.host);
    message.set_model(selector.model);
    message.set_vendor_id(selector.vendor_id);
    message.set_device_id(selector.device_id);
    message.set_least_capacity_bytes(selector.least_capacity_bytes);
}

void take(pool::Selector& selector, const v1::Selector& message) {
    selector.device = message.device();
    selector.kind = message.kind();
    selector.host = message.host();
    selector.model = message.model();
    selector.vendor_id = message.vendor_id();
    selector.device_id = message.device_id();
    selector.least_capacity_bytes = message.least_capacity_bytes();
}

std::string text(std::string_view view) { return std::string(view); }

} // namespace

std::string encode(const pool::Host& host) {
    v1::Host message;
    message.set_name(host.name);
    message.set_partition(host.partition);
    message.set_instance(host.instance);
    message.set_version(host.version);
    for (const auto& guest : host.guests)
        message.add_guests(guest);
    for (const auto mode : host.dma_modes)
        message.add_dma_modes(text(name(mode)));
    message.set_windows(host.windows);
    message.set_windows_free(host.windows_free);
    message.set_last_seen_us(host.last_seen_us);
    message.set_draining(host.draining);
    return bytes_of(message);
}

template <>
Result<pool::Host> decode<pool::Host>(std::string_view bytes) {
    const auto& message = *TRY(parse<v1::Host>(bytes, "host"));
    pool::Host host;
    host.name = message.name();
    host.partition = message.partition();
    host.instance = message.instance();
    host.version = message.version();
    host.guests.assign(message.guests().begin(), message.guests().end());
    for (const auto& stored : message.dma_modes())
        TRY(take_state(host.dma_modes.emplace_back(), pool::dma_mode(stored), stored, "host"));
    host.windows = message.windows();
    host.windows_free = message.windows_free();
    host.last_seen_us = message.last_seen_us();
    host.draining = message.draining();
    return host;
}

std::string encode(const pool::Device& device) {
    v1::Device message;
    message.set_fdid(device.fdid.value);
    message.set_host(device.host);
    message.set_name(device.name);
    put(device.identity, *message.mutable_identity());
    message.set_state(text(name(device.state)));
    message.set_reason(device.reason);
    message.set_epoch(device.epoch.value);
    message.set_loan(device.loan.value);
    message.set_successor(device.successor.value);
    message.set_draining(device.draining);
    message.set_kept_local(device.kept_local);
    message.set_condemned(device.condemned);
    message.set_iommu(device.iommu);
    message.set_qualified(device.qualified);
    message.set_failed_resets(device.failed_resets);
    message.set_clean(device.clean);
    message.set_with_host(device.with_host);
    message.set_seen_with_host(device.seen_with_host);
    message.set_parent(device.parent);
    message.set_functions(device.functions);
    message.set_most_functions(device.most_functions);
    message.set_parent_changing(device.parent_changing);
    message.set_gone(device.gone);
    return bytes_of(message);
}

template <>
Result<pool::Device> decode<pool::Device>(std::string_view bytes) {
    const auto& message = *TRY(parse<v1::Device>(bytes, "device"));
    pool::Device device;
    take_id(device.fdid, message.fdid());
    device.host = message.host();
    device.name = message.name();
    take(device.identity, message.identity());
    TRY(take_state(device.state, pool::device_state(message.state()), message.state(), "device"));
    device.reason = message.reason();
    take_id(device.epoch, message.epoch());
    take_id(device.loan, message.loan());
    take_id(device.successor, message.successor());
    device.draining = message.draining();
    device.kept_local = message.kept_local();
    device.condemned = message.condemned();
    device.iommu = message.iommu();
    device.qualified = message.qualified();
    device.failed_resets = message.failed_resets();
    device.clean = message.clean();
    device.with_host = message.with_host();
    device.seen_with_host = message.seen_with_host();
    device.parent = message.parent();
    device.functions = message.functions();
    device.most_functions = message.most_functions();
    device.parent_changing = message.parent_changing();
    device.gone = message.gone();
    return device;
}

namespace {

// In two halves: a loan has many fields.
void put_request(const pool::Loan& loan, v1::Loan& message) {
    message.set_group(loan.group.value);
    put(loan.wanted, *message.mutable_wanted());
    message.set_near(loan.near);
    message.set_borrower(loan.borrower);
    message.set_guest(loan.guest);
    message.set_access_model(text(name(loan.access_model)));
    message.set_shared(loan.shared);
    message.set_dma(text(name(loan.dma)));
    message.set_tenant(loan.tenant);
    message.set_requested_by(loan.requested_by);
    message.set_rule(loan.rule);
    message.set_reservation(loan.reservation);
    message.set_priority(loan.priority);
    message.set_preempts(loan.preempts);
    message.set_preemptible(loan.preemptible);
    message.set_sanitize(loan.sanitize);
    message.set_grace_s(loan.grace_s);
    message.set_duration_s(loan.duration_s);
    message.set_wait_until_us(loan.wait_until_us);
    message.set_created_us(loan.created_us);
}

Result<> take_request(pool::Loan& loan, const v1::Loan& message) {
    take_id(loan.group, message.group());
    take(loan.wanted, message.wanted());
    loan.near = message.near();
    loan.borrower = message.borrower();
    loan.guest = message.guest();
    TRY(take_state(loan.access_model, pool::access_model(message.access_model()), message.access_model(),
                   "loan"));
    loan.shared = message.shared();
    TRY(take_state(loan.dma, pool::dma_mode(message.dma()), message.dma(), "loan"));
    loan.tenant = message.tenant();
    loan.requested_by = message.requested_by();
    loan.rule = message.rule();
    loan.reservation = message.reservation();
    loan.priority = message.priority();
    loan.preempts = message.preempts();
    loan.preemptible = message.preemptible();
    loan.sanitize = message.sanitize();
    loan.grace_s = message.grace_s();
    loan.duration_s = message.duration_s();
    loan.wait_until_us = message.wait_until_us();
    loan.created_us = message.created_us();
    return {};
}

} // namespace

std::string encode(const pool::Loan& loan) {
    v1::Loan message;
    put_request(loan, message);
    message.set_id(loan.id.value);
    message.set_fdid(loan.fdid.value);
    message.set_state(text(name(loan.state)));
    message.set_epoch(loan.epoch.value);
    message.set_due_us(loan.due_us);
    message.set_warned(loan.warned);
    message.set_preempted_by(loan.preempted_by.value);
    message.set_failing(loan.failing);
    message.set_reason(loan.reason);
    message.set_active_us(loan.active_us);
    message.set_ended_us(loan.ended_us);
    message.set_ended_audit(loan.ended_audit);
    message.set_dma_bytes(loan.dma_bytes);
    message.set_function(loan.function);
    message.set_driver(loan.driver);
    for (const auto& step : loan.steps) {
        auto& stored = *message.add_steps();
        stored.set_step(text(name(step.step)));
        stored.set_duration_us(step.duration_us);
    }
    return bytes_of(message);
}

template <>
Result<pool::Loan> decode<pool::Loan>(std::string_view bytes) {
    const auto& message = *TRY(parse<v1::Loan>(bytes, "loan"));
    pool::Loan loan;
    TRY(take_request(loan, message));
    take_id(loan.id, message.id());
    take_id(loan.fdid, message.fdid());
    TRY(take_state(loan.state, pool::loan_state(message.state()), message.state(), "loan"));
    take_id(loan.epoch, message.epoch());
    loan.due_us = message.due_us();
    loan.warned = message.warned();
    take_id(loan.preempted_by, message.preempted_by());
    loan.failing = message.failing();
    loan.reason = message.reason();
    loan.active_us = message.active_us();
    loan.ended_us = message.ended_us();
    loan.ended_audit = message.ended_audit();
    loan.dma_bytes = message.dma_bytes();
    loan.function = message.function();
    loan.driver = message.driver();
    for (const auto& stored : message.steps()) {
        pool::StepTime step;
        TRY(take_state(step.step, pool::step_kind(stored.step()), stored.step(), "loan"));
        step.duration_us = stored.duration_us();
        loan.steps.push_back(step);
    }
    return loan;
}

std::string encode(const pool::Step& step) {
    v1::Step message;
    message.set_id(step.id.value);
    message.set_kind(text(name(step.kind)));
    message.set_host(step.host);
    message.set_loan(step.loan.value);
    message.set_fdid(step.fdid.value);
    message.set_epoch(step.epoch.value);
    message.set_deadline_ms(step.deadline_ms);
    message.set_lease_ms(step.lease_ms);
    message.set_suffices(step.suffices);
    message.set_cleanup(step.cleanup);
    message.set_functions(step.functions);
    message.set_ask(step.ask);
    message.set_sent(step.sent);
    return bytes_of(message);
}

template <>
Result<pool::Step> decode<pool::Step>(std::string_view bytes) {
    const auto& message = *TRY(parse<v1::Step>(bytes, "step"));
    pool::Step step;
    take_id(step.id, message.id());
    TRY(take_state(step.kind, pool::step_kind(message.kind()), message.kind(), "step"));
    step.host = message.host();
    take_id(step.loan, message.loan());
    take_id(step.fdid, message.fdid());
    take_id(step.epoch, message.epoch());
    step.deadline_ms = message.deadline_ms();
    step.lease_ms = message.lease_ms();
    step.suffices = message.suffices();
    step.cleanup = message.cleanup();
    step.functions = message.functions();
    step.ask = message.ask();
    step.sent = message.sent();
    return step;
}

std::string encode(const pool::Usage& usage) {
    v1::Usage message;
    message.set_tenant(usage.tenant);
    message.set_used_s(usage.used_s);
    message.set_at_us(usage.at_us);
    return bytes_of(message);
}

template <>
Result<pool::Usage> decode<pool::Usage>(std::string_view bytes) {
    const auto& message = *TRY(parse<v1::Usage>(bytes, "tenant's usage"));
    return pool::Usage{message.tenant(), message.used_s(), message.at_us()};
}

std::string encode(const pool::Counters& counters) {
    v1::Counters message;
    message.set_next_fdid(counters.next_fdid.value);
    message.set_next_loan(counters.next_loan.value);
    message.set_next_step(counters.next_step.value);
    message.set_next_audit(counters.next_audit);
    return bytes_of(message);
}

template <>
Result<pool::Counters> decode<pool::Counters>(std::string_view bytes) {
    const auto& message = *TRY(parse<v1::Counters>(bytes, "counter"));
    return pool::Counters{
        {message.next_fdid()}, {message.next_loan()}, {message.next_step()}, message.next_audit()};
}

std::string encode(const pool::AuditEntry& entry) {
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
    message.set_loan(entry.loan.value);
    message.set_epoch(entry.epoch.value);
    return bytes_of(message);
}

template <>
Result<pool::AuditEntry> decode<pool::AuditEntry>(std::string_view bytes) {
    const auto& message = *TRY(parse<v1::AuditEntry>(bytes, "decision in the audit trail"));
    pool::AuditEntry entry;
    entry.sequence = message.sequence();
    entry.time_us = message.time_us();
    entry.actor = message.actor();
    entry.subject = message.subject();
    entry.action = message.action();
    entry.from = message.from();
    entry.to = message.to();
    entry.reason = message.reason();
    take_id(entry.fdid, message.fdid());
    take_id(entry.loan, message.loan());
    take_id(entry.epoch, message.epoch());
    return entry;
}

std::string encode_site(std::string_view site) {
    v1::Site message;
    message.set_text(text(site));
    return bytes_of(message);
}

Result<std::string> decode_site(std::string_view bytes) {
    return TRY(parse<v1::Site>(bytes, "site"))->text();
}

} // namespace lanepool::store
