// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite_store.h"

#include "store/schema.h"

#include <charconv>
#include <sys/stat.h>

namespace lanepool::store {

namespace {

// "prepare=1200 attach=34000"
std::string joined(const std::vector<pool::StepTime>& steps) {
    std::string text;
    for (const auto& step : steps)
        text += fmt::format("{}{}={}", text.empty() ? "" : " ", name(step.step), step.duration_us);
    return text;
}

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

constexpr const char* put_host =
    "INSERT INTO hosts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (name) DO UPDATE SET "
    "partition = ?2, instance = ?3, version = ?4, guests = ?5, windows = ?6, "
    "windows_free = ?7, last_seen_us = ?8";
constexpr const char* put_device =
    "INSERT INTO devices VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) "
    "ON CONFLICT (fdid) DO UPDATE SET vendor_id = ?5, device_id = ?6, class_code = ?7, kind = ?8, model = "
    "?9, "
    "firmware = ?10, capacity_bytes = ?11, state = ?12, reason = ?13, epoch = ?14, loan = ?15, successor = "
    "?16, "
    "clean = ?17";
constexpr const char* put_loan = "INSERT INTO loans VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, "
                                 "?12, ?13, ?14, ?15) ON CONFLICT (id) DO "
                                 "UPDATE SET state = ?6, epoch = ?7, priority = ?8, due_us = ?9, failing = "
                                 "?10, reason = ?11, ended_us = ?14, "
                                 "steps = ?15";
constexpr const char* put_step =
    "INSERT INTO steps VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING";
constexpr const char* put_counter =
    "INSERT INTO counters VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2";
constexpr const char* add_audit = "INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

} // namespace

Result<std::unique_ptr<SqliteStore>> SqliteStore::open(const std::filesystem::path& folder,
                                                       uint64_t audit_kept) {
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(fmt::format("making the state folder {}", folder.string()));
    auto database = TRY(Database::open(folder / "lanepool.db"));
    // Held for as long as the process lives: a second controller is refused, and one that died has let go.
    TRY(database->execute("PRAGMA locking_mode = EXCLUSIVE"));
    TRY(database->execute("PRAGMA journal_mode = WAL"));
    TRY(database->execute("PRAGMA synchronous = FULL"));
    TRY(database->execute("PRAGMA foreign_keys = ON"));
    TRY(migrate(*database));
    TRY(database->execute("BEGIN EXCLUSIVE; COMMIT"));
    const auto check = TRY(database->prepare("PRAGMA quick_check(1)"));
    TRY(check->step());
    if (check->text(0) != "ok")
        return fail(
            Errc::io,
            "{} is damaged ({}): restore an earlier copy of it, or move it away to start with an empty pool",
            database->path().string(), check->text(0));
    check->reset();
    return std::unique_ptr<SqliteStore>(new SqliteStore(std::move(database), audit_kept));
}

Result<Statement*> SqliteStore::statement(const std::string& sql) {
    auto& kept = statements_[sql];
    if (!kept) kept = TRY(database_->prepare(sql));
    return kept.get();
}

// ---- writing

Result<> SqliteStore::apply(const pool::Outcome& outcome) {
    TRY(TRY(statement("BEGIN IMMEDIATE"))->run());
    auto done = write(outcome);
    if (done) done = TRY(statement("COMMIT"))->run();
    // Some failures have ended the transaction already; then this one says so, which is nothing new.
    if (!done) static_cast<void>(database_->execute("ROLLBACK"));
    return done;
}

Result<> SqliteStore::write(const pool::Outcome& outcome) {
    for (const auto& host : outcome.hosts)
        // Names of guests have no line ends.
        TRY(TRY(statement(put_host))
                ->run(host.name, host.partition, host.instance, host.version,
                      fmt::format("{}", fmt::join(host.guests, "\n")), host.windows, host.windows_free,
                      host.last_seen_us));
    for (const auto& device : outcome.devices)
        TRY(TRY(statement(put_device))
                ->run(device.fdid.value, device.host, device.name, device.identity.serial,
                      device.identity.vendor_id, device.identity.device_id, device.identity.class_code,
                      device.identity.kind, device.identity.model, device.identity.firmware,
                      device.identity.capacity_bytes, name(device.state), device.reason, device.epoch.value,
                      device.loan.value, device.successor.value, device.clean));
    for (const auto& loan : outcome.loans)
        TRY(TRY(statement(put_loan))
                ->run(loan.id.value, loan.fdid.value, loan.borrower, loan.guest, name(loan.access_model),
                      name(loan.state), loan.epoch.value, loan.priority, loan.due_us, loan.failing,
                      loan.reason, loan.requested_by, loan.created_us, loan.ended_us, joined(loan.steps)));
    for (const auto id : outcome.erased_loans)
        TRY(TRY(statement("DELETE FROM loans WHERE id = ?1"))->run(id.value));
    for (const auto& step : outcome.steps)
        TRY(TRY(statement(put_step))
                ->run(step.id.value, name(step.kind), step.host, step.loan.value, step.fdid.value,
                      step.epoch.value, step.deadline_ms, step.cleanup));
    for (const auto id : outcome.erased_steps)
        TRY(TRY(statement("DELETE FROM steps WHERE id = ?1"))->run(id.value));
    TRY(write_counters(outcome.counters));
    return write_audit(outcome.audit);
}

Result<> SqliteStore::write_counters(const pool::Counters& counters) {
    auto* put = TRY(statement(put_counter));
    TRY(put->run(std::string_view("next_fdid"), counters.next_fdid.value));
    TRY(put->run(std::string_view("next_loan"), counters.next_loan.value));
    TRY(put->run(std::string_view("next_step"), counters.next_step.value));
    return put->run(std::string_view("next_audit"), counters.next_audit);
}

Result<> SqliteStore::write_audit(const std::vector<pool::AuditEntry>& entries) {
    for (const auto& entry : entries)
        TRY(TRY(statement(add_audit))
                ->run(entry.sequence, entry.time_us, entry.actor, entry.subject, entry.action, entry.from,
                      entry.to, entry.reason, entry.fdid.value, entry.loan.value, entry.epoch.value));
    if (entries.empty() || entries.back().sequence <= audit_kept_) return {};
    const uint64_t forgotten = entries.back().sequence - audit_kept_;
    TRY(TRY(statement(put_counter))->run(std::string_view("audit_forgotten"), forgotten));
    return TRY(statement("DELETE FROM audit WHERE sequence <= ?1"))->run(forgotten);
}

// ---- reading

Result<pool::Snapshot> SqliteStore::load() {
    pool::Snapshot all;
    TRY(load_hosts(all));
    TRY(load_devices(all));
    TRY(load_loans(all));
    TRY(load_steps(all));
    TRY(load_counters(all));
    return all;
}

Result<> SqliteStore::load_hosts(pool::Snapshot& all) {
    auto* rows = TRY(statement(
        "SELECT name, partition, instance, version, guests, windows, windows_free, last_seen_us FROM hosts"));
    TRY(rows->bind());
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
        all.hosts.push_back(std::move(host));
    }
    return {};
}

Result<> SqliteStore::load_devices(pool::Snapshot& all) {
    auto* rows = TRY(
        statement("SELECT fdid, host, name, serial, vendor_id, device_id, class_code, kind, model, firmware, "
                  "capacity_bytes, state, reason, epoch, loan, successor, clean FROM devices"));
    TRY(rows->bind());
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
        if (!state) return unreadable(*database_, "devices", rows->text(11));
        device.state = *state;
        device.reason = rows->text(12);
        device.epoch = {rows->number(13)};
        device.loan = {rows->number(14)};
        device.successor = {rows->number(15)};
        device.clean = rows->integer(16) != 0;
        all.devices.push_back(std::move(device));
    }
    return {};
}

Result<> SqliteStore::load_loans(pool::Snapshot& all) {
    auto* rows = TRY(
        statement("SELECT id, fdid, borrower, guest, access_model, state, epoch, priority, due_us, failing, "
                  "reason, requested_by, created_us, ended_us, steps FROM loans"));
    TRY(rows->bind());
    while (TRY(rows->step())) {
        pool::Loan loan;
        loan.id = {rows->number(0)};
        loan.fdid = {rows->number(1)};
        loan.borrower = rows->text(2);
        loan.guest = rows->text(3);
        if (rows->text(4) != name(loan.access_model)) return unreadable(*database_, "loans", rows->text(4));
        const auto state = pool::loan_state(rows->text(5));
        if (!state) return unreadable(*database_, "loans", rows->text(5));
        loan.state = *state;
        loan.epoch = {rows->number(6)};
        loan.priority = static_cast<int32_t>(rows->integer(7));
        loan.due_us = rows->integer(8);
        loan.failing = rows->integer(9) != 0;
        loan.reason = rows->text(10);
        loan.requested_by = rows->text(11);
        loan.created_us = rows->integer(12);
        loan.ended_us = rows->integer(13);
        auto steps = split_steps(rows->text(14));
        if (!steps) return unreadable(*database_, "loans", rows->text(14));
        loan.steps = std::move(*steps);
        all.loans.push_back(std::move(loan));
    }
    return {};
}

Result<> SqliteStore::load_steps(pool::Snapshot& all) {
    auto* rows = TRY(statement("SELECT id, kind, host, loan, fdid, epoch, deadline_ms, cleanup FROM steps"));
    TRY(rows->bind());
    while (TRY(rows->step())) {
        pool::Step step;
        step.id = {rows->number(0)};
        const auto kind = pool::step_kind(rows->text(1));
        if (!kind) return unreadable(*database_, "steps", rows->text(1));
        step.kind = *kind;
        step.host = rows->text(2);
        step.loan = {rows->number(3)};
        step.fdid = {rows->number(4)};
        step.epoch = {rows->number(5)};
        step.deadline_ms = static_cast<uint32_t>(rows->number(6));
        step.cleanup = rows->integer(7) != 0;
        all.steps.push_back(std::move(step));
    }
    return {};
}

Result<> SqliteStore::load_counters(pool::Snapshot& all) {
    auto* rows = TRY(statement("SELECT name, value FROM counters"));
    TRY(rows->bind());
    while (TRY(rows->step())) {
        const std::string which = rows->text(0);
        if (which == "next_fdid") all.counters.next_fdid = {rows->number(1)};
        if (which == "next_loan") all.counters.next_loan = {rows->number(1)};
        if (which == "next_step") all.counters.next_step = {rows->number(1)};
        if (which == "next_audit") all.counters.next_audit = rows->number(1);
    }
    return {};
}

// ---- the audit trail

namespace {
// Each with ?1 and ?2 for its arguments, so that the indices are used; ?3 is the sequence or offset, ?4 the
// limit.
struct Condition {
    const char* sql;
    std::string first;
    std::string second;
};

Condition condition(const AuditFilter& filter) {
    if (filter.loan)
        return {"loan = CAST(?1 AS INTEGER) AND ?2 = ''", std::to_string(filter.loan->value), ""};
    if (filter.fdid)
        return {"fdid = CAST(?1 AS INTEGER) AND ?2 = ''", std::to_string(filter.fdid->value), ""};
    if (!filter.host.empty())
        return {"(subject = ?1 OR actor = ?2)", "host:" + filter.host, "agent:" + filter.host};
    return {"?1 = '' AND ?2 = ''", "", ""};
}
} // namespace

Result<std::vector<pool::AuditEntry>> SqliteStore::audit(const AuditFilter& filter, uint64_t after_sequence,
                                                         uint32_t limit) {
    const Condition wanted = condition(filter);
    auto* rows = TRY(statement(
        fmt::format("SELECT sequence, time_us, actor, subject, action, from_state, to_state, reason, "
                    "fdid, loan, epoch FROM audit WHERE {} AND sequence > ?3 ORDER BY sequence "
                    "LIMIT ?4",
                    wanted.sql)));
    TRY(rows->bind(wanted.first, wanted.second, after_sequence, limit));
    std::vector<pool::AuditEntry> entries;
    while (TRY(rows->step()))
        entries.push_back({rows->number(0),
                           rows->integer(1),
                           rows->text(2),
                           rows->text(3),
                           rows->text(4),
                           rows->text(5),
                           rows->text(6),
                           rows->text(7),
                           {rows->number(8)},
                           {rows->number(9)},
                           {rows->number(10)}});
    return entries;
}

Result<uint64_t> SqliteStore::audit_before_last(const AuditFilter& filter, uint32_t count) {
    const Condition wanted = condition(filter);
    auto* rows = TRY(statement(fmt::format(
        "SELECT sequence FROM audit WHERE {} ORDER BY sequence DESC LIMIT 1 OFFSET ?3", wanted.sql)));
    TRY(rows->bind(wanted.first, wanted.second, count));
    const uint64_t before = TRY(rows->step()) ? rows->number(0) : 0;
    rows->reset();
    return before;
}

} // namespace lanepool::store
