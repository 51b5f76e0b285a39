// SPDX-License-Identifier: Apache-2.0
#include "store/etcd_store.h"

#include "store/codec.h"

#include <array>
#include <store/etcd_records.pb.h>

namespace lanepool::store {

namespace {

constexpr std::array tables{"host", "device", "loan", "step", "usage", "single"};
// Of records at a time: some megabytes.
constexpr int64_t page = 20000;
// How the keys and values are laid out.
constexpr std::string_view layout = "1";

Error within(const std::string& key, const Error& error) {
    return {error.code(), fmt::format("etcd, key {}: {}; restore a copy of it", key, error.message())};
}

} // namespace

Result<std::unique_ptr<EtcdStore>> EtcdStore::open(std::shared_ptr<EtcdClient> client,
                                                   std::optional<Leadership> leadership,
                                                   const EtcdStoreOptions& options) {
    if (options.txn_operations < 8 || options.txn_bytes < 4096)
        return fail(Errc::invalid_argument,
                    "transactions of etcd must take at least 8 operations and 4096 bytes");
    std::unique_ptr<EtcdStore> store(new EtcdStore(std::move(client), std::move(leadership), options));
    store->fresh_ = TRY(store->refresh());
    return store;
}

Result<pool::Snapshot> EtcdStore::load() {
    auto fresh = std::exchange(fresh_, std::nullopt);
    auto all = fresh ? std::move(*fresh) : TRY(refresh());
    if (copying_)
        return fail(
            Errc::failed_precondition,
            "what etcd holds under {} is half a copy of another store: remove it there and copy again",
            options_.prefix);
    return all;
}

// Who leads and which transaction was the last, at the revision that is returned.
Result<int64_t> EtcdStore::read_commit() {
    etcdserverpb::TxnRequest request;
    for (const auto& key : {leadership_ ? leadership_->key : keys_.leader(), keys_.commit()})
        request.add_success()->mutable_request_range()->set_key(key);
    const auto response = TRY(client_->txn(request));
    if (response.responses_size() != 2)
        return fail(Errc::protocol, "etcd answered a part of what it was asked");
    const auto& leader = response.responses(0).response_range().kvs();
    const auto& last = response.responses(1).response_range().kvs();
    if (leadership_ && (leader.empty() || leader[0].create_revision() != leadership_->create_revision)) {
        lost_ = true;
        return fail(Errc::cancelled, "this controller does not lead any more");
    }
    commit_revision_ = last.empty() ? 0 : last[0].mod_revision();
    // Another store of this leadership may have written: no serial is used twice.
    v1::Commit commit;
    if (!last.empty() && commit.ParseFromString(last[0].value()))
        serial_ = std::max(serial_, commit.serial());
    return response.header().revision();
}

Result<> EtcdStore::read_table(std::string_view table, int64_t revision, Values& values) const {
    etcdserverpb::RangeRequest request;
    request.set_key(keys_.table(table));
    request.set_range_end(keys_.end(table));
    request.set_revision(revision);
    request.set_limit(page);
    for (;;) {
        auto response = TRY(client_->range(request));
        for (auto& kv : *response.mutable_kvs())
            values.insert_or_assign(values.end(), std::move(*kv.mutable_key()),
                                    Value{std::move(*kv.mutable_value()), kv.mod_revision()});
        if (!response.more() || response.kvs().empty()) return {};
        request.set_key(values.rbegin()->first + '\0');
    }
}

// From when on nothing changes that we do not know of. A transaction that was lost on its way could still
// arrive: ours takes the place that it was for, and it is refused.
Result<int64_t> EtcdStore::fence() {
    for (int tries = 0;; ++tries) {
        const int64_t revision = TRY(read_commit());
        stale_ = false;
        unknown_.reset();
        if (!leadership_) return revision;
        const auto fenced = submit({}, Part::outcome);
        if (fenced) return commit_revision_;
        // It has arrived just now.
        if (fenced.error().code() != Errc::busy || tries == 2) return tl::unexpected(fenced.error());
    }
}

// Everything is read as it was at one moment: all the reads name one revision.
Result<pool::Snapshot> EtcdStore::refresh() {
    const int64_t revision = TRY(fence());
    redo_.clear();
    redone_ = 0;
    Values values;
    for (const auto* table : tables) {
        Values read;
        TRY(read_table(table, revision, read));
        values.merge(read);
    }
    Values journal;
    TRY(read_table("journal", revision, journal));
    remember(values);
    TRY(replay(journal, values));
    return decode_all(values);
}

void EtcdStore::remember(const Values& values) {
    mod_revisions_.clear();
    mod_revisions_.reserve(values.size());
    for (const auto& [key, value] : values)
        mod_revisions_.emplace(key, value.mod_revision);
}

// A whole journal is an outcome that was stored: whoever leads finishes it. One without its end is none.
Result<> EtcdStore::replay(const Values& journal, Values& values) {
    journal_there_ = !journal.empty();
    if (!journal_there_) return {};
    std::vector<std::string> parts;
    for (const auto& [key, value] : journal)
        parts.push_back(value.bytes);
    auto changes = TRY(decode_journal(parts));
    if (!changes) return {}; // it goes before the next one is written
    for (const auto& change : *changes) {
        if (change.value)
            values[change.key] = {*change.value, 0};
        else if (change.range_end.empty())
            values.erase(change.key);
    }
    redo_ = std::move(*changes);
    return leadership_ ? finish_redo() : Result<>();
}

Result<pool::Snapshot> EtcdStore::decode_all(const Values& values) {
    pool::Snapshot all;
    ends_ = {};
    copying_ = false;
    const auto take = [](auto& records, const std::string& key, const std::string& bytes) -> Result<> {
        using Record = typename std::decay_t<decltype(records)>::value_type;
        auto record = decode<Record>(bytes);
        if (!record) return tl::unexpected(within(key, record.error()));
        records.push_back(std::move(*record));
        return {};
    };
    for (const auto& [key, value] : values) {
        if (keys_.is_of("host", key)) TRY(take(all.hosts, key, value.bytes));
        if (keys_.is_of("device", key)) TRY(take(all.devices, key, value.bytes));
        if (keys_.is_of("loan", key)) TRY(take(all.loans, key, value.bytes));
        if (keys_.is_of("step", key)) TRY(take(all.steps, key, value.bytes));
        if (keys_.is_of("usage", key)) TRY(take(all.usage, key, value.bytes));
        if (key == keys_.of("single", "site")) all.site = TRY(decode_site(value.bytes));
        if (key == keys_.of("single", "counters")) all.counters = TRY(decode<pool::Counters>(value.bytes));
        if (key == keys_.of("single", "audit_ends")) TRY(decode_ends(value.bytes, ends_));
        if (key == keys_.of("single", "copying")) copying_ = true;
        if (key == keys_.of("single", "layout") && value.bytes != layout)
            return fail(
                Errc::failed_precondition,
                "etcd holds layout '{}' under {}, this lanepool knows layout {}: run the newer lanepool "
                "that wrote it",
                value.bytes, options_.prefix, layout);
    }
    ends_.next_sequence = all.counters.next_audit;
    return all;
}

Result<> EtcdStore::apply(const pool::Outcome& outcome) {
    TRY(ready());
    TRY(follows(ends_.head, outcome));
    EtcdChanges changes;
    ChainEnds ends = ends_;
    add(changes, keys_, outcome, ends);
    TRY(forget(changes, ends));
    if (!outcome.audit.empty()) changes.put(keys_.of("single", "audit_ends"), encode_ends(ends));
    const std::string layout_key = keys_.of("single", "layout");
    if (seen(layout_key) == 0) changes.put(layout_key, std::string(layout));
    TRY(commit(changes.take()));
    ends_ = ends;
    return {};
}

Result<> EtcdStore::begin_copy(const ChainEnd& start) {
    const auto all = TRY(refresh());
    const bool empty = !copying_ && all.counters == pool::Counters{} && all.site.empty() &&
                       all.hosts.empty() && all.devices.empty() && all.loans.empty() && all.steps.empty() &&
                       all.usage.empty() && ends_.head == ChainEnd{};
    if (!empty)
        return fail(Errc::failed_precondition,
                    "what etcd holds under {} is not empty: remove it there, or use another prefix",
                    options_.prefix);
    TRY(ready());
    pool::Counters counters;
    counters.next_audit = start.sequence + 1;
    const ChainEnds ends{start, start, counters.next_audit};
    EtcdChanges changes;
    changes.put(keys_.of("single", "counters"), encode(counters));
    changes.put(keys_.of("single", "copying"), "");
    changes.put(keys_.of("single", "layout"), std::string(layout));
    changes.put(keys_.of("single", "audit_ends"), encode_ends(ends));
    TRY(commit(changes.take()));
    ends_ = ends;
    return {};
}

Result<> EtcdStore::end_copy() {
    TRY(ready());
    EtcdChanges changes;
    changes.erase(keys_.of("single", "copying"));
    return commit(changes.take());
}

} // namespace lanepool::store
