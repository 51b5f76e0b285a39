// SPDX-License-Identifier: Apache-2.0
#include "store/schema.h"

#include "store/schema_2.h"

#include <array>

namespace lanepool::store {

namespace {

constexpr const char* records = R"(
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE hosts (
    name TEXT PRIMARY KEY, partition INTEGER NOT NULL, instance TEXT NOT NULL, version TEXT NOT NULL,
    guests TEXT NOT NULL, windows INTEGER NOT NULL, windows_free INTEGER NOT NULL, last_seen_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE devices (
    fdid INTEGER PRIMARY KEY, host TEXT NOT NULL REFERENCES hosts (name), name TEXT NOT NULL, serial TEXT NOT NULL,
    vendor_id INTEGER NOT NULL, device_id INTEGER NOT NULL, class_code INTEGER NOT NULL, kind TEXT NOT NULL,
    model TEXT NOT NULL, firmware TEXT NOT NULL, capacity_bytes INTEGER NOT NULL, state TEXT NOT NULL,
    reason TEXT NOT NULL, epoch INTEGER NOT NULL, loan INTEGER NOT NULL, successor INTEGER NOT NULL,
    clean INTEGER NOT NULL, UNIQUE (host, name, serial)
) STRICT;
CREATE TABLE loans (
    id INTEGER PRIMARY KEY, fdid INTEGER NOT NULL REFERENCES devices (fdid), borrower TEXT NOT NULL, guest TEXT NOT NULL,
    access_model TEXT NOT NULL, state TEXT NOT NULL, epoch INTEGER NOT NULL, priority INTEGER NOT NULL,
    due_us INTEGER NOT NULL, failing INTEGER NOT NULL, reason TEXT NOT NULL, requested_by TEXT NOT NULL,
    created_us INTEGER NOT NULL, ended_us INTEGER NOT NULL, steps TEXT NOT NULL
) STRICT;
CREATE TABLE steps (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, host TEXT NOT NULL, loan INTEGER NOT NULL, fdid INTEGER NOT NULL,
    epoch INTEGER NOT NULL, deadline_ms INTEGER NOT NULL, cleanup INTEGER NOT NULL
) STRICT;
)";

// The trail can be added to, and lose its oldest end beyond what is to be kept; nothing else.
constexpr const char* audit = R"(
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY, time_us INTEGER NOT NULL, actor TEXT NOT NULL, subject TEXT NOT NULL,
    action TEXT NOT NULL, from_state TEXT NOT NULL, to_state TEXT NOT NULL, reason TEXT NOT NULL,
    fdid INTEGER NOT NULL, loan INTEGER NOT NULL, epoch INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_by_fdid ON audit (fdid, sequence);
CREATE INDEX audit_by_loan ON audit (loan, sequence);
INSERT INTO counters VALUES ('audit_forgotten', 0);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
WHEN old.sequence > (SELECT value FROM counters WHERE name = 'audit_forgotten')
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
)";

// Each record is one body (records.proto), so that a new field needs no new schema; VERSION counts how often
// it was written. Of the audit trail there are columns for what is asked for, beside the body. Each index
// costs every entry a page that is somewhere: loans, which most entries are about, are found by their number.
constexpr const char* bodies = R"(
DROP TRIGGER audit_is_not_changed;
DROP TRIGGER audit_is_not_shortened;
DROP INDEX audit_by_fdid;
DROP INDEX audit_by_loan;
ALTER TABLE steps RENAME TO steps_2;
ALTER TABLE loans RENAME TO loans_2;
ALTER TABLE devices RENAME TO devices_2;
ALTER TABLE hosts RENAME TO hosts_2;
ALTER TABLE counters RENAME TO counters_2;
ALTER TABLE audit RENAME TO audit_2;
CREATE TABLE hosts (key TEXT PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE devices (key INTEGER PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE loans (key INTEGER PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE steps (key INTEGER PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE usage (key TEXT PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE singles (key TEXT PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY, time_us INTEGER NOT NULL, actor TEXT NOT NULL, subject TEXT NOT NULL,
    action TEXT NOT NULL, fdid INTEGER NOT NULL, loan INTEGER NOT NULL, hash BLOB NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX audit_by_fdid ON audit (fdid, sequence);
CREATE INDEX audit_by_loan ON audit (loan, sequence);
CREATE INDEX audit_by_subject ON audit (subject, sequence) WHERE subject NOT GLOB 'loan:*';
CREATE INDEX audit_by_actor ON audit (actor, sequence);
CREATE TABLE audit_ends (which TEXT PRIMARY KEY, sequence INTEGER NOT NULL, hash BLOB NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO audit_ends VALUES ('start', 0, zeroblob(32)), ('head', 0, zeroblob(32));
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
WHEN old.sequence > (SELECT sequence FROM audit_ends WHERE which = 'start')
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
)";

constexpr std::array<Migration, 3> all{{{records}, {audit}, {bodies, convert_schema_2}}};

Result<> check_ours(const Database& database) {
    if (TRY(database.pragma("application_id")) == application_id) return {};
    const auto tables = TRY(database.prepare("SELECT count(*) FROM sqlite_schema"));
    TRY(tables->step());
    if (tables->integer(0) == 0 && TRY(database.pragma("user_version")) == 0) return {}; // a new file
    return fail(Errc::failed_precondition,
                "{} is a database of something else: name another folder, or move the file away",
                database.path().string());
}

Result<> bring_forward(const Database& database, int64_t version) {
    TRY(database.execute("BEGIN EXCLUSIVE"));
    for (const auto& migration : std::span(all).subspan(static_cast<size_t>(version))) {
        TRY(database.execute(migration.sql));
        if (migration.convert) TRY(migration.convert(database));
    }
    return database.execute(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}; COMMIT",
                                        application_id, all.size()));
}

} // namespace

std::span<const Migration> migrations() { return all; }

Result<> migrate(const Database& database) {
    TRY(check_ours(database));
    const int64_t version = TRY(database.pragma("user_version"));
    const auto newest = static_cast<int64_t>(all.size());
    if (version < 0 || version > newest)
        return fail(Errc::failed_precondition,
                    "{} has schema version {}, this lanepool knows versions up to {}: run the newer lanepool "
                    "that wrote it, "
                    "or restore a copy from before the upgrade",
                    database.path().string(), version, newest);
    if (version == newest) return {};
    auto done = bring_forward(database, version);
    // What was begun is undone; that this fails when nothing was begun says nothing new.
    if (!done) static_cast<void>(database.execute("ROLLBACK"));
    return done;
}

} // namespace lanepool::store
