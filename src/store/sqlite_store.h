// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "store/database.h"
#include "store/store.h"

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace lanepool::store {

// One file, of one process at a time, written ahead (WAL) and synced at every commit.
//
// When apply() fails in the very last step, the syncing of a commit, and the machine then dies before
// anything else is written, the outcome may be found stored after all. That is harmless: it was never acted
// upon, and a stored loan is gone on with or given back like any other.
class SqliteStore final : public Store {
  public:
    // In the file lanepool.db in FOLDER, which is made (mode 0700) if it is not there. The last AUDIT_KEPT
    // entries of the audit trail are kept. Errors: busy (another controller has it), failed_precondition (a
    // newer schema, not ours), io (damaged), no_space, permission_denied.
    static Result<std::unique_ptr<SqliteStore>> open(const std::filesystem::path& folder,
                                                     uint64_t audit_kept = 1'000'000);

    Result<pool::Snapshot> load() override;
    Result<> apply(const pool::Outcome& outcome) override;
    Result<std::vector<pool::AuditEntry>> audit(const AuditFilter& filter, uint64_t after_sequence,
                                                uint32_t limit) override;
    Result<uint64_t> audit_before_last(const AuditFilter& filter, uint32_t count) override;
    Result<std::vector<ChainedEntry>> audit_chain(uint64_t after_sequence, uint32_t limit) override;
    Result<ChainEnds> audit_ends() override;
    Result<> begin_copy(const ChainEnd& start) override;
    Result<> end_copy() override;

  private:
    SqliteStore(std::unique_ptr<Database> database, uint64_t audit_kept)
        : database_(std::move(database)), audit_kept_(audit_kept) {}
    // Prepared once, by its text.
    Result<Statement*> statement(std::string_view sql);
    // WORK in one transaction: all of it, or nothing.
    template <class Work>
    Result<> transaction(const Work& work);
    Result<> write(const pool::Outcome& outcome);
    Result<> erase(const pool::Outcome& outcome);
    Result<> write_audit(const std::vector<pool::AuditEntry>& entries);
    Result<> set_end(std::string_view which, const ChainEnd& end);
    template <class Record>
    Result<> load_all(std::string_view sql, std::string_view table, std::vector<Record>& records);
    Result<std::optional<std::string>> single(std::string_view key);
    Error damaged(std::string_view table, const Error& error) const;

    std::unique_ptr<Database> database_;
    uint64_t audit_kept_;
    ChainEnds ends_;                                                            // as stored
    std::map<std::string, std::unique_ptr<Statement>, std::less<>> statements_; // go before the database
};

} // namespace lanepool::store
