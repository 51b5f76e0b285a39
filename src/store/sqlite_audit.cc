// SPDX-License-Identifier: Apache-2.0
//
// How the SQLite store reads the audit trail.
#include "store/codec.h"
#include "store/sqlite_store.h"

namespace lanepool::store {

namespace {

// By which SQLite sees that the index of subjects serves: in the words of the schema.
constexpr std::string_view indexed = "subject NOT GLOB 'loan:*'";

// ?1 to ?8 are what bind() below gives, ?9 is a sequence or an offset, ?10 the limit.
std::string where(const AuditFilter& filter) {
    std::string sql = "?10 > 0"; // there is always the last argument, so that all may be bound
    if (filter.fdid) sql += " AND fdid = ?1";
    if (filter.loan) sql += " AND loan = ?2";
    if (!filter.host.empty()) sql += fmt::format(" AND (({} AND subject = ?3) OR actor = ?4)", indexed);
    if (!filter.subject.empty()) sql += " AND subject = ?5";
    if (!filter.subject.empty() && !filter.subject.starts_with("loan:"))
        sql += fmt::format(" AND {}", indexed);
    if (!filter.actor.empty()) sql += " AND actor = ?6";
    if (!filter.action.empty()) sql += " AND action = ?7";
    if (filter.from_us != 0) sql += " AND time_us >= ?8";
    if (filter.until_us != 0) sql += " AND time_us < ?11";
    return sql;
}

// Its texts are bound, so it has to live until the last row.
struct Arguments {
    explicit Arguments(const AuditFilter& wanted)
        : filter(wanted), host("host:" + wanted.host), agent("agent:" + wanted.host) {}
    Result<> bind(Statement& statement, uint64_t ninth, uint32_t limit) const {
        const uint64_t fdid = filter.fdid.value_or(pool::Fdid{}).value;
        const uint64_t loan = filter.loan.value_or(pool::LoanId{}).value;
        if (filter.until_us == 0)
            return statement.bind(fdid, loan, host, agent, filter.subject, filter.actor, filter.action,
                                  filter.from_us, ninth, limit);
        return statement.bind(fdid, loan, host, agent, filter.subject, filter.actor, filter.action,
                              filter.from_us, ninth, limit, filter.until_us);
    }

    const AuditFilter& filter;
    std::string host;
    std::string agent;
};

} // namespace

Result<std::vector<pool::AuditEntry>> SqliteStore::audit(const AuditFilter& filter, uint64_t after_sequence,
                                                         uint32_t limit) {
    std::vector<pool::AuditEntry> entries;
    if (limit == 0) return entries;
    const Arguments arguments(filter);
    auto* rows = TRY(statement(fmt::format(
        "SELECT body FROM audit WHERE {} AND sequence > ?9 ORDER BY sequence LIMIT ?10", where(filter))));
    TRY(arguments.bind(*rows, after_sequence, limit));
    while (TRY(rows->step())) {
        auto entry = decode<pool::AuditEntry>(rows->bytes(0));
        if (!entry) {
            rows->reset();
            return tl::unexpected(damaged("audit", entry.error()));
        }
        entries.push_back(std::move(*entry));
    }
    return entries;
}

Result<uint64_t> SqliteStore::audit_before_last(const AuditFilter& filter, uint32_t count) {
    const Arguments arguments(filter);
    auto* rows = TRY(statement(fmt::format(
        "SELECT sequence FROM audit WHERE {} ORDER BY sequence DESC LIMIT 1 OFFSET ?9", where(filter))));
    TRY(arguments.bind(*rows, count, 1));
    const uint64_t before = TRY(rows->step()) ? rows->number(0) : 0;
    rows->reset();
    return before;
}

Result<std::vector<ChainedEntry>> SqliteStore::audit_chain(uint64_t after_sequence, uint32_t limit) {
    auto* rows =
        TRY(statement("SELECT sequence, time_us, actor, subject, action, fdid, loan, hash, body FROM "
                      "audit WHERE sequence > ?1 ORDER BY sequence LIMIT ?2"));
    TRY(rows->bind(after_sequence, limit));
    std::vector<ChainedEntry> entries;
    while (TRY(rows->step())) {
        const uint64_t sequence = rows->number(0);
        const auto entry = decode<pool::AuditEntry>(rows->bytes(8));
        const auto hash = hash_from(rows->bytes(7));
        const bool same = entry && hash && entry->sequence == sequence &&
                          entry->time_us == rows->integer(1) && entry->actor == rows->bytes(2) &&
                          entry->subject == rows->bytes(3) && entry->action == rows->bytes(4) &&
                          entry->fdid.value == rows->number(5) && entry->loan.value == rows->number(6);
        if (!same) {
            rows->reset();
            return fail(Errc::io,
                        "the audit trail does not verify at sequence {}: its columns and its body say "
                        "different things, or cannot be read; it was changed",
                        sequence);
        }
        entries.push_back({*entry, *hash});
    }
    return entries;
}

Result<ChainEnds> SqliteStore::audit_ends() {
    ChainEnds ends;
    auto* row = TRY(statement("SELECT sequence, hash FROM audit_ends WHERE which = ?1"));
    for (auto [which, end] :
         {std::pair<std::string_view, ChainEnd*>("start", &ends.start), {"head", &ends.head}}) {
        TRY(row->bind(which));
        if (!TRY(row->step()))
            return fail(Errc::io,
                        "{} is damaged: it does not say where the audit trail ends; restore an "
                        "earlier copy of it",
                        database_->path().string());
        *end = {row->number(0), TRY(hash_from(row->bytes(1)))};
        row->reset();
    }
    if (const auto counters = TRY(single("counters")))
        ends.next_sequence = TRY(decode<pool::Counters>(*counters)).next_audit;
    return ends;
}

} // namespace lanepool::store
