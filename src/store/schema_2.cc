// SPDX-License-Identifier: Apache-2.0
#include "store/schema_2.h"

#include "store/chain.h"
#include "store/codec.h"
#include "store/records_sql.h"

#include <charconv>

namespace lanepool::store {

namespace {

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    for (size_t start = 0; start < text.size();) {
        const size_t end = std::min(text.find(separator, start), text.size());
        parts.push_back(text.substr(start, end - start));
        start = end + 1;
    }
    return parts;
}

tl::unexpected<Error> unreadable(const Database& database, std::string_view table, std::string_view value) {
    return fail(Errc::io, "{} is damaged (in table {}: '{}'): restore an earlier copy of it",
                database.path().string(), table, value);
}

// "prepare=1200 attach=34000"
std::optional<std::vector<pool::StepTime>> split_steps(const std::string& text) {
    std::vector<pool::StepTime> steps;
    for (const auto& part : split(text, ' ')) {
        const size_t equals = part.find('=');
        if (equals == std::string::npos) return std::nullopt;
        const auto kind = pool::step_kind(part.substr(0, equals));
        int64_t duration_us = 0;
        const char* end = part.data() + part.size();
        const auto parsed = std::from_chars(part.data() + equals + 1, end, duration_us);
        if (!kind || parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
        steps.push_back({*kind, duration_us});
    }
    return steps;
}

// When its guest had it: after the steps that lead there.
int64_t active_since_us(const pool::Loan& loan) {
    int64_t since_us = loan.created_us;
    for (const auto& step : loan.steps) {
        since_us += step.duration_us;
        if (step.step == pool::StepKind::attach) return since_us;
    }
    return 0;
}

Result<> convert_hosts(const Database& database) {
    const auto rows = TRY(database.prepare(
        "SELECT name, partition, instance, version, guests, windows, windows_free, last_seen_us FROM "
        "hosts_2"));
    const auto put = TRY(database.prepare(sql::put_host));
    while (TRY(rows->step())) {
        pool::Host host;
        host.name = rows->text(0);
        host.partition = static_cast<uint32_t>(rows->number(1));
        host.instance = rows->text(2);
        host.version = rows->text(3);
        host.guests = split(rows->text(4), '\n');
        host.windows = static_cast<uint32_t>(rows->number(5));
        host.windows_free = static_cast<uint32_t>(rows->number(6));
        host.last_seen_us = rows->integer(7);
        TRY(put->run(host.name, Blob{encode(host)}));
    }
    return {};
}

Result<> convert_devices(const Database& database) {
    const auto rows = TRY(database.prepare(
        "SELECT fdid, host, name, serial, vendor_id, device_id, class_code, kind, model, firmware, "
        "capacity_bytes, state, reason, epoch, loan, successor, clean FROM devices_2"));
    const auto put = TRY(database.prepare(sql::put_device));
    while (TRY(rows->step())) {
        pool::Device device;
        device.fdid = {rows->number(0)};
        device.host = rows->text(1);
        device.name = rows->text(2);
        device.identity.serial = rows->text(3);
        device.identity.vendor_id = static_cast<uint32_t>(rows->number(4));
        device.identity.device_id = static_cast<uint32_t>(rows->number(5));
        device.identity.class_code = static_cast<uint32_t>(rows->number(6));
        device.identity.kind = rows->text(7);
        device.identity.model = rows->text(8);
        device.identity.firmware = rows->text(9);
        device.identity.capacity_bytes = rows->number(10);
        const auto state = pool::device_state(rows->text(11));
        if (!state) return unreadable(database, "devices", rows->text(11));
        device.state = *state;
        device.reason = rows->text(12);
        device.epoch = {rows->number(13)};
        device.loan = {rows->number(14)};
        device.successor = {rows->number(15)};
        device.clean = rows->integer(16) != 0;
        TRY(put->run(device.fdid.value, Blob{encode(device)}));
    }
    return {};
}

Result<pool::Loan> loan_of(const Database& database, const Statement& row) {
    pool::Loan loan;
    loan.id = {row.number(0)};
    loan.fdid = {row.number(1)};
    loan.borrower = row.text(2);
    loan.guest = row.text(3);
    if (row.text(4) != name(loan.access_model)) return unreadable(database, "loans", row.text(4));
    const auto state = pool::loan_state(row.text(5));
    if (!state) return unreadable(database, "loans", row.text(5));
    loan.state = *state;
    loan.epoch = {row.number(6)};
    loan.priority = static_cast<int32_t>(row.integer(7));
    loan.due_us = row.integer(8);
    loan.failing = row.integer(9) != 0;
    loan.reason = row.text(10);
    loan.requested_by = row.text(11);
    loan.created_us = row.integer(12);
    loan.ended_us = row.integer(13);
    auto steps = split_steps(row.text(14));
    if (!steps) return unreadable(database, "loans", row.text(14));
    loan.steps = std::move(*steps);
    // What schema 2 did not say, and what was meant: one device, which the request had named.
    loan.group = loan.id;
    loan.wanted.device = fmt::format("{}", loan.fdid);
    loan.active_us = active_since_us(loan);
    return loan;
}

Result<> convert_loans(const Database& database) {
    const auto rows = TRY(
        database.prepare("SELECT id, fdid, borrower, guest, access_model, state, epoch, priority, due_us, "
                         "failing, reason, requested_by, created_us, ended_us, steps FROM loans_2"));
    const auto put = TRY(database.prepare(sql::put_loan));
    while (TRY(rows->step())) {
        const auto loan = TRY(loan_of(database, *rows));
        TRY(put->run(loan.id.value, Blob{encode(loan)}));
    }
    return {};
}

Result<> convert_steps(const Database& database) {
    const auto rows =
        TRY(database.prepare("SELECT id, kind, host, loan, fdid, epoch, deadline_ms, cleanup FROM steps_2"));
    const auto put = TRY(database.prepare(sql::put_step));
    while (TRY(rows->step())) {
        pool::Step step;
        step.id = {rows->number(0)};
        const auto kind = pool::step_kind(rows->text(1));
        if (!kind) return unreadable(database, "steps", rows->text(1));
        step.kind = *kind;
        step.host = rows->text(2);
        step.loan = {rows->number(3)};
        step.fdid = {rows->number(4)};
        step.epoch = {rows->number(5)};
        step.deadline_ms = static_cast<uint32_t>(rows->number(6));
        step.cleanup = rows->integer(7) != 0;
        TRY(put->run(step.id.value, Blob{encode(step)}));
    }
    return {};
}

Result<> put_end(const Database& database, std::string_view which, const ChainEnd& end) {
    return TRY(database.prepare(sql::set_audit_end))->run(which, end.sequence, Blob{bytes_of(end.hash)});
}

// The hashes begin here: what was forgotten before leaves none, as if it had been hashed to zeroes.
Result<ChainEnd> convert_audit(const Database& database, uint64_t forgotten) {
    const auto rows =
        TRY(database.prepare("SELECT sequence, time_us, actor, subject, action, from_state, to_state, "
                             "reason, fdid, loan, epoch FROM audit_2 ORDER BY sequence"));
    const auto add = TRY(database.prepare(sql::add_audit));
    ChainEnd head{forgotten, no_hash};
    while (TRY(rows->step())) {
        const pool::AuditEntry entry{rows->number(0),   rows->integer(1),  rows->text(2),     rows->text(3),
                                     rows->text(4),     rows->text(5),     rows->text(6),     rows->text(7),
                                     {rows->number(8)}, {rows->number(9)}, {rows->number(10)}};
        if (entry.sequence != head.sequence + 1)
            return unreadable(database, "audit",
                              fmt::format("after {} comes {}", head.sequence, entry.sequence));
        head = {entry.sequence, chained(head.hash, entry)};
        TRY(add->run(entry.sequence, entry.time_us, entry.actor, entry.subject, entry.action,
                     entry.fdid.value, entry.loan.value, Blob{bytes_of(head.hash)}, Blob{encode(entry)}));
    }
    TRY(put_end(database, "start", {forgotten, no_hash}));
    TRY(put_end(database, "head", head));
    return head;
}

Result<> convert_counters(const Database& database) {
    pool::Counters counters;
    uint64_t forgotten = 0;
    {
        const auto rows = TRY(database.prepare("SELECT name, value FROM counters_2"));
        while (TRY(rows->step())) {
            const std::string which = rows->text(0);
            if (which == "next_fdid") counters.next_fdid = {rows->number(1)};
            if (which == "next_loan") counters.next_loan = {rows->number(1)};
            if (which == "next_step") counters.next_step = {rows->number(1)};
            if (which == "next_audit") counters.next_audit = rows->number(1);
            if (which == "audit_forgotten") forgotten = rows->number(1);
        }
    }
    const auto head = TRY(convert_audit(database, forgotten));
    if (counters.next_audit != head.sequence + 1)
        return unreadable(database, "counters", fmt::format("next_audit = {}", counters.next_audit));
    return TRY(database.prepare(sql::put_single))->run(std::string_view("counters"), Blob{encode(counters)});
}

} // namespace

Result<> convert_schema_2(const Database& database) {
    TRY(convert_hosts(database));
    TRY(convert_devices(database));
    TRY(convert_loans(database));
    TRY(convert_steps(database));
    TRY(convert_counters(database));
    return database.execute(
        "DROP TABLE steps_2; DROP TABLE loans_2; DROP TABLE devices_2; DROP TABLE hosts_2; "
        "DROP TABLE counters_2; DROP TABLE audit_2");
}

} // namespace lanepool::store
