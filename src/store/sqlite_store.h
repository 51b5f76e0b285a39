// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "store/database.h"
#include "store/store.h"

#include <filesystem>
#include <map>
#include <memory>

namespace lanepool::store {

// One file, of one process at a time, written ahead (WAL) and synced at every commit.
//
// When apply() fails in the very last step, the syncing of a commit, and the machine then dies before
// anything else is written, the outcome may be found stored after all. That is harmless: it was never acted
// upon, and a stored loan is gone on with or given back like any other.
class SqliteStore final : public Store {
  public:
    // In the file lanepool.db in FOLDER, which is made (mode 0700) if it is not there. At least the last
    // AUDIT_KEPT entries of the audit trail are kept. Errors: busy (another controller has it),
    // failed_precondition (a newer schema, not ours), io (damaged), no_space, permission_denied.
    static Result<std::unique_ptr<SqliteStore>> open(const std::filesystem::path& folder,
                                                     uint64_t audit_kept = 1'000'000);

    Result<pool::Snapshot> load() override;
    Result<> apply(const pool::Outcome& outcome) override;
    Result<std::vector<pool::AuditEntry>> audit(const AuditFilter& filter, uint64_t after_sequence,
                                                uint32_t limit) override;
    Result<uint64_t> audit_before_last(const AuditFilter& filter, uint32_t count) override;

  private:
    SqliteStore(std::unique_ptr<Database> database, uint64_t audit_kept)
        : database_(std::move(database)), audit_kept_(audit_kept) {}
    // Prepared once, by its text.
    Result<Statement*> statement(const std::string& sql);
    Result<> write(const pool::Outcome& outcome);
    Result<> write_counters(const pool::Counters& counters);
    Result<> write_audit(const std::vector<pool::AuditEntry>& entries);
    Result<> load_hosts(pool::Snapshot& all);
    Result<> load_devices(pool::Snapshot& all);
    Result<> load_loans(pool::Snapshot& all);
    Result<> load_steps(pool::Snapshot& all);
    Result<> load_counters(pool::Snapshot& all);

    std::unique_ptr<Database> database_;
    uint64_t audit_kept_;
    std::map<std::string, std::unique_ptr<Statement>> statements_; // go before the database
};

} // namespace lanepool::store
