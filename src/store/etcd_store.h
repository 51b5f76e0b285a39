// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "store/etcd_changes.h"
#include "store/etcd_client.h"
#include "store/store.h"

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

namespace lanepool::store {

// By what a controller proves that it leads: the key that its election made, and when.
struct Leadership {
    std::string key;
    int64_t create_revision = 0;

    bool operator==(const Leadership&) const = default;
};

struct EtcdStoreOptions {
    std::string prefix = "/lanepool/";
    uint64_t audit_kept = 1'000'000; // at least; and at most a hundredth more
    // What etcd takes in one transaction (its --max-txn-ops and --max-request-bytes, with room to spare).
    size_t txn_operations = 128;
    size_t txn_bytes = 1 << 20;
};

// Records in etcd, of which several controllers know and the leader alone writes. Every write is one
// transaction of etcd, which is refused unless we still lead, nobody has written since, and each record is as
// we have last seen it. An outcome that is too large for one is first written down whole, in a journal, and
// then carried out; what was interrupted is finished when the next leader opens the store.
class EtcdStore final : public Store {
  public:
    // Without LEADERSHIP it can be read only. Errors: unavailable, cancelled (the leadership is over),
    // failed_precondition (a newer lanepool's), io (damaged).
    static Result<std::unique_ptr<EtcdStore>> open(std::shared_ptr<EtcdClient> client,
                                                   std::optional<Leadership> leadership,
                                                   const EtcdStoreOptions& options = {});

    Result<pool::Snapshot> load() override;
    // unavailable: it may be found stored all the same; the next apply() finds that out, and refuses if so.
    Result<> apply(const pool::Outcome& outcome) override;
    // False where the leadership is over (open another one, with the next) or records are not as we knew
    // them.
    bool usable() const override { return !lost_ && !stale_; }
    Result<std::vector<pool::AuditEntry>> audit(const AuditFilter& filter, uint64_t after_sequence,
                                                uint32_t limit) override;
    Result<uint64_t> audit_before_last(const AuditFilter& filter, uint32_t count) override;
    Result<std::vector<ChainedEntry>> audit_chain(uint64_t after_sequence, uint32_t limit) override;
    Result<ChainEnds> audit_ends() override;
    Result<> begin_copy(const ChainEnd& start) override;
    Result<> end_copy() override;

  private:
    // What a transaction is for.
    enum class Part { outcome, journal, redo };
    // One whose answer was lost.
    struct Unknown {
        uint64_t serial = 0;
        std::vector<EtcdChange> changes;
        Part part = Part::outcome;
    };
    struct Value {
        std::string bytes;
        int64_t mod_revision = 0;
    };
    using Values = std::map<std::string, Value>;

    EtcdStore(std::shared_ptr<EtcdClient> client, std::optional<Leadership> leadership,
              const EtcdStoreOptions& options)
        : client_(std::move(client)), leadership_(std::move(leadership)), options_(options),
          keys_(options.prefix) {}

    // Reading (etcd_store.cc).
    Result<pool::Snapshot> refresh();
    Result<int64_t> read_commit();
    Result<int64_t> fence();
    Result<> read_table(std::string_view table, int64_t revision, Values& values) const;
    Result<> replay(const Values& journal, Values& values);
    Result<pool::Snapshot> decode_all(const Values& values);
    void remember(const Values& values);

    // Writing (etcd_commit.cc).
    Result<> ready();
    Result<> settle();
    Result<> commit(std::vector<EtcdChange> changes);
    Result<> write_journal(const std::vector<EtcdChange>& changes);
    Result<> finish_redo();
    Result<> submit(std::span<const EtcdChange> changes, Part part);
    Result<> refused(const etcdserverpb::TxnResponse& response, std::span<const EtcdChange> changes,
                     uint64_t serial, bool repeated);
    Result<> conflict(std::span<const EtcdChange> changes);
    etcdserverpb::TxnRequest request_for(std::span<const EtcdChange> changes, Part part,
                                         uint64_t serial) const;
    void absorb(std::span<const EtcdChange> changes, int64_t revision);
    // The revision in which we have last seen KEY written; 0: it is not there.
    int64_t seen(const std::string& key) const;

    // The trail (etcd_audit.cc).
    Result<> forget(EtcdChanges& changes, ChainEnds& ends) const;
    Result<etcdserverpb::RangeResponse> batches(uint64_t from, uint64_t to, bool backwards,
                                                int64_t limit) const;
    // The last batch that begins at LOWEST to HIGHEST.
    Result<std::optional<mvccpb::KeyValue>> last_batch(uint64_t lowest, uint64_t highest) const;
    // Calls USE with each entry after AFTER_SEQUENCE until it returns false.
    template <class Use>
    Result<> each_entry(uint64_t after_sequence, const Use& use) const;

    std::shared_ptr<EtcdClient> client_;
    std::optional<Leadership> leadership_;
    EtcdStoreOptions options_;
    EtcdKeys keys_;

    std::optional<pool::Snapshot> fresh_; // of open(), for the first load()
    ChainEnds ends_;
    std::unordered_map<std::string, int64_t> mod_revisions_; // of each record
    int64_t commit_revision_ = 0;
    uint64_t serial_ = 0;
    std::optional<Unknown> unknown_;
    std::vector<EtcdChange> redo_; // of a journal that is whole
    size_t redone_ = 0;
    bool journal_there_ = false; // parts of one may be there
    bool lost_ = false;
    bool stale_ = false;
    bool copying_ = false; // it is half a copy
};

} // namespace lanepool::store
