// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite_store.h"

#include "store/codec.h"
#include "store/records_sql.h"
#include "store/schema.h"

#include <cerrno>
#include <sys/stat.h>

namespace lanepool::store {

namespace {

constexpr std::string_view counters_key = "counters";
constexpr std::string_view site_key = "site";
constexpr std::string_view copying_key = "copying";

// Of the records, not of the trail: that may be ten times as long, and is verified by its hashes.
constexpr std::array checked_tables{"hosts", "devices", "loans", "steps", "usage", "singles", "audit_ends"};

Result<> check(const Database& database) {
    for (const auto* table : checked_tables) {
        const auto check = TRY(database.prepare(fmt::format("PRAGMA quick_check({})", table)));
        TRY(check->step());
        if (check->text(0) != "ok")
            return fail(Errc::io,
                        "{} is damaged ({}): restore an earlier copy of it, or move it away to start with an "
                        "empty pool",
                        database.path().string(), check->text(0));
    }
    return {};
}

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
    // 64 MiB: writes touch the indices of the trail everywhere, and would read them in anew each time.
    TRY(database->execute("PRAGMA cache_size = -65536"));
    TRY(migrate(*database));
    TRY(database->execute("BEGIN EXCLUSIVE; COMMIT"));
    TRY(check(*database));
    std::unique_ptr<SqliteStore> store(new SqliteStore(std::move(database), audit_kept));
    store->ends_ = TRY(store->audit_ends());
    return store;
}

Result<Statement*> SqliteStore::statement(std::string_view sql) {
    const auto found = statements_.find(sql);
    if (found != statements_.end()) return found->second.get();
    auto made = TRY(database_->prepare(std::string(sql)));
    return statements_.emplace(sql, std::move(made)).first->second.get();
}

Error SqliteStore::damaged(std::string_view table, const Error& error) const {
    return {error.code(), fmt::format("{}, table {}: {}; restore an earlier copy of it",
                                      database_->path().string(), table, error.message())};
}

// ---- writing

template <class Work>
Result<> SqliteStore::transaction(const Work& work) {
    const ChainEnds before = ends_;
    TRY(TRY(statement("BEGIN IMMEDIATE"))->run());
    Result<> done = work();
    if (done) done = TRY(statement("COMMIT"))->run();
    if (done) return done;
    // Some failures have ended the transaction already; then this one says so, which is nothing new.
    static_cast<void>(database_->execute("ROLLBACK"));
    ends_ = before;
    return done;
}

Result<> SqliteStore::apply(const pool::Outcome& outcome) {
    TRY(follows(ends_.head, outcome));
    return transaction([&] { return write(outcome); });
}

Result<> SqliteStore::write(const pool::Outcome& outcome) {
    auto* put_host = TRY(statement(sql::put_host));
    for (const auto& host : outcome.hosts)
        TRY(put_host->run(host.name, Blob{encode(host)}));
    auto* put_device = TRY(statement(sql::put_device));
    for (const auto& device : outcome.devices)
        TRY(put_device->run(device.fdid.value, Blob{encode(device)}));
    auto* put_loan = TRY(statement(sql::put_loan));
    for (const auto& loan : outcome.loans)
        TRY(put_loan->run(loan.id.value, Blob{encode(loan)}));
    auto* put_step = TRY(statement(sql::put_step));
    for (const auto& step : outcome.steps)
        TRY(put_step->run(step.id.value, Blob{encode(step)}));
    auto* put_usage = TRY(statement(sql::put_usage));
    for (const auto& usage : outcome.usage)
        TRY(put_usage->run(usage.tenant, Blob{encode(usage)}));
    TRY(erase(outcome));
    auto* put_single = TRY(statement(sql::put_single));
    if (outcome.site) TRY(put_single->run(site_key, Blob{encode_site(*outcome.site)}));
    TRY(put_single->run(counters_key, Blob{encode(outcome.counters)}));
    ends_.next_sequence = outcome.counters.next_audit;
    return write_audit(outcome.audit);
}

Result<> SqliteStore::erase(const pool::Outcome& outcome) {
    auto* erase_loan = TRY(statement("DELETE FROM loans WHERE key = ?1"));
    for (const auto id : outcome.erased_loans)
        TRY(erase_loan->run(id.value));
    auto* erase_step = TRY(statement("DELETE FROM steps WHERE key = ?1"));
    for (const auto id : outcome.erased_steps)
        TRY(erase_step->run(id.value));
    auto* erase_device = TRY(statement("DELETE FROM devices WHERE key = ?1"));
    for (const auto fdid : outcome.erased_devices)
        TRY(erase_device->run(fdid.value));
    return {};
}

Result<> SqliteStore::set_end(std::string_view which, const ChainEnd& end) {
    return TRY(statement(sql::set_audit_end))->run(which, end.sequence, Blob{bytes_of(end.hash)});
}

Result<> SqliteStore::write_audit(const std::vector<pool::AuditEntry>& entries) {
    if (entries.empty()) return {};
    auto* add = TRY(statement(sql::add_audit));
    for (const auto& entry : entries) {
        ends_.head = {entry.sequence, chained(ends_.head.hash, entry)};
        TRY(add->run(entry.sequence, entry.time_us, entry.actor, entry.subject, entry.action,
                     entry.fdid.value, entry.loan.value, Blob{bytes_of(ends_.head.hash)},
                     Blob{encode(entry)}));
    }
    TRY(set_end("head", ends_.head));
    if (ends_.head.sequence <= ends_.start.sequence + audit_kept_) return {};
    const uint64_t forgotten = ends_.head.sequence - audit_kept_;
    auto* hash = TRY(statement("SELECT hash FROM audit WHERE sequence = ?1"));
    TRY(hash->bind(forgotten));
    if (!TRY(hash->step()))
        return fail(Errc::io, "{} is damaged: the audit trail has no entry {}; restore an earlier copy of it",
                    database_->path().string(), forgotten);
    ends_.start = {forgotten, TRY(hash_from(hash->bytes(0)))};
    hash->reset();
    TRY(set_end("start", ends_.start));
    return TRY(statement("DELETE FROM audit WHERE sequence <= ?1"))->run(forgotten);
}

// ---- reading

template <class Record>
Result<> SqliteStore::load_all(std::string_view sql, std::string_view table, std::vector<Record>& records) {
    auto* rows = TRY(statement(sql));
    TRY(rows->bind());
    while (TRY(rows->step())) {
        auto record = decode<Record>(rows->bytes(0));
        if (!record) {
            rows->reset();
            return tl::unexpected(damaged(table, record.error()));
        }
        records.push_back(std::move(*record));
    }
    return {};
}

Result<std::optional<std::string>> SqliteStore::single(std::string_view key) {
    auto* row = TRY(statement("SELECT body FROM singles WHERE key = ?1"));
    TRY(row->bind(key));
    std::optional<std::string> body;
    if (TRY(row->step())) body = row->text(0);
    row->reset();
    return body;
}

Result<pool::Snapshot> SqliteStore::load() {
    if (TRY(single(copying_key)))
        return fail(Errc::failed_precondition,
                    "{} is half a copy of another store: move it away and copy again",
                    database_->path().string());
    pool::Snapshot all;
    TRY(load_all("SELECT body FROM hosts ORDER BY key", "hosts", all.hosts));
    TRY(load_all("SELECT body FROM devices ORDER BY key", "devices", all.devices));
    TRY(load_all("SELECT body FROM loans ORDER BY key", "loans", all.loans));
    TRY(load_all("SELECT body FROM steps ORDER BY key", "steps", all.steps));
    TRY(load_all("SELECT body FROM usage ORDER BY key", "usage", all.usage));
    if (const auto site = TRY(single(site_key))) all.site = TRY(decode_site(*site));
    if (const auto counters = TRY(single(counters_key)))
        all.counters = TRY(decode<pool::Counters>(*counters));
    return all;
}

// ---- copies

Result<> SqliteStore::begin_copy(const ChainEnd& start) {
    const auto all = TRY(load());
    if (all.counters != pool::Counters{} || !all.site.empty() || ends_.head != ChainEnd{})
        return fail(Errc::failed_precondition, "{} is not empty: move it away, and copy again",
                    database_->path().string());
    return transaction([&]() -> Result<> {
        ends_.start = ends_.head = start;
        ends_.next_sequence = start.sequence + 1;
        pool::Counters counters;
        counters.next_audit = ends_.next_sequence;
        auto* put_single = TRY(statement(sql::put_single));
        TRY(put_single->run(counters_key, Blob{encode(counters)}));
        TRY(put_single->run(copying_key, Blob{}));
        TRY(set_end("start", start));
        return set_end("head", start);
    });
}

Result<> SqliteStore::end_copy() {
    return transaction(
        [&]() -> Result<> { return TRY(statement("DELETE FROM singles WHERE key = ?1"))->run(copying_key); });
}

} // namespace lanepool::store
