// SPDX-License-Identifier: Apache-2.0
//
// How the etcd store writes: what it compares, what it does where an answer is lost, and how an outcome that
// is too large for one transaction becomes one all the same.
#include "store/etcd_store.h"

#include <store/etcd_records.pb.h>

namespace lanepool::store {

namespace {

// Of each part of a journal; a part is one change at least, so it may be a little more.
constexpr size_t journal_part_bytes = 512 << 10;
// Beside the changes: the compares of who leads and of the last transaction.
constexpr size_t own_operations = 2;

std::string encode_commit(int64_t leader_revision, uint64_t serial) {
    v1::Commit commit;
    commit.set_leader_revision(leader_revision);
    commit.set_serial(serial);
    return commit.SerializeAsString();
}

void compare(etcdserverpb::TxnRequest& request, const std::string& key, int64_t mod_revision) {
    auto& compare = *request.add_compare();
    compare.set_key(key);
    compare.set_target(etcdserverpb::Compare::MOD);
    compare.set_mod_revision(mod_revision);
}

} // namespace

Result<> EtcdStore::ready() {
    if (!leadership_)
        return fail(Errc::failed_precondition,
                    "this store was opened for reading: the controller that leads is the one that writes");
    if (lost_) return fail(Errc::cancelled, "this controller does not lead any more");
    if (!stale_) TRY(settle());
    if (stale_)
        return fail(Errc::cancelled, "what etcd holds is not what this controller knows: load it anew");
    return finish_redo();
}

// Finds out about a transaction whose answer was lost: one that changes nothing is put in its place. Where it
// gets that place, the lost one never had it and never will; else we learn who has it.
Result<> EtcdStore::settle() {
    if (!unknown_) return {};
    TRY(submit({}, Part::outcome));
    unknown_.reset();
    return {};
}

Result<> EtcdStore::commit(std::vector<EtcdChange> changes) {
    std::erase_if(changes, [&](const EtcdChange& change) {
        return !change.value && change.range_end.empty() && seen(change.key) == 0; // it is not there
    });
    const size_t most = options_.txn_operations - own_operations;
    const bool fits = fitting(changes, most, options_.txn_bytes) == changes.size();
    const auto written = fits ? submit(changes, Part::outcome) : write_journal(changes);
    if (!written && written.error().code() == Errc::unavailable)
        return fail(Errc::unavailable,
                    "{}; it is not known whether this was stored: look before you ask for it again",
                    written.error().message());
    if (!written || fits) return written;
    // It is stored: whatever becomes of us, it will be carried out.
    redo_ = std::move(changes);
    redone_ = 0;
    static_cast<void>(finish_redo()); // tried again, and its failure reported, by whatever comes next
    return {};
}

Result<> EtcdStore::write_journal(const std::vector<EtcdChange>& changes) {
    if (journal_there_) {
        const EtcdChange erase{keys_.table("journal"), keys_.end("journal"), std::nullopt};
        TRY(submit({&erase, 1}, Part::outcome));
        journal_there_ = false;
    }
    const size_t part_bytes = std::min(journal_part_bytes, options_.txn_bytes / 2);
    const auto parts = encode_journal(changes, part_bytes);
    journal_there_ = true;
    for (size_t i = 0; i < parts.size(); ++i) {
        const EtcdChange part{keys_.of("journal", i), "", parts[i]};
        TRY(submit({&part, 1}, Part::journal));
    }
    return {};
}

Result<> EtcdStore::finish_redo() {
    while (redone_ < redo_.size()) {
        const auto rest = std::span<const EtcdChange>(redo_).subspan(redone_);
        const size_t most = options_.txn_operations - own_operations - 1; // one for the end of the journal
        const size_t count = fitting(rest, most, options_.txn_bytes);
        std::vector<EtcdChange> changes(rest.begin(), rest.begin() + static_cast<ptrdiff_t>(count));
        const bool last = count == rest.size();
        if (last) changes.push_back({keys_.table("journal"), keys_.end("journal"), std::nullopt});
        TRY(submit(changes, Part::redo));
        redone_ += count;
        if (last) journal_there_ = false;
    }
    redo_.clear();
    redone_ = 0;
    return {};
}

int64_t EtcdStore::seen(const std::string& key) const {
    const auto found = mod_revisions_.find(key);
    return found == mod_revisions_.end() ? 0 : found->second;
}

etcdserverpb::TxnRequest EtcdStore::request_for(std::span<const EtcdChange> changes, Part part,
                                                uint64_t serial) const {
    etcdserverpb::TxnRequest request;
    auto& leads = *request.add_compare();
    leads.set_key(leadership_->key);
    leads.set_target(etcdserverpb::Compare::CREATE);
    leads.set_create_revision(leadership_->create_revision);
    compare(request, keys_.commit(), commit_revision_);
    for (const auto& change : changes) {
        if (!change.range_end.empty()) {
            auto& erase = *request.add_success()->mutable_request_delete_range();
            erase.set_key(change.key);
            erase.set_range_end(change.range_end);
            continue;
        }
        // What is done again may be there already; of records we know it, of the trail we do not.
        if (part != Part::redo || !keys_.is_of("audit", change.key))
            compare(request, change.key, seen(change.key));
        if (change.value) {
            auto& put = *request.add_success()->mutable_request_put();
            put.set_key(change.key);
            put.set_value(*change.value);
        } else {
            request.add_success()->mutable_request_delete_range()->set_key(change.key);
        }
    }
    auto& put = *request.add_success()->mutable_request_put();
    put.set_key(keys_.commit());
    put.set_value(encode_commit(leadership_->create_revision, serial));
    for (const auto& key : {leadership_->key, keys_.commit()})
        request.add_failure()->mutable_request_range()->set_key(key);
    return request;
}

Result<> EtcdStore::submit(std::span<const EtcdChange> changes, Part part) {
    fresh_.reset(); // also where this fails: it may be carried out
    const uint64_t serial = ++serial_;
    bool repeated = false;
    const auto response = client_->txn(request_for(changes, part, serial), std::nullopt, &repeated);
    if (!response) {
        if (!unknown_) unknown_ = {serial, {changes.begin(), changes.end()}, part};
        return tl::unexpected(response.error());
    }
    if (!response->succeeded()) return refused(*response, changes, serial, repeated);
    absorb(changes, response->header().revision());
    return {};
}

void EtcdStore::absorb(std::span<const EtcdChange> changes, int64_t revision) {
    commit_revision_ = revision;
    for (const auto& change : changes) {
        // Keys of these are written once, and never looked up again.
        if (keys_.is_of("audit", change.key) || keys_.is_of("journal", change.key)) continue;
        if (change.value)
            mod_revisions_[change.key] = revision;
        else
            mod_revisions_.erase(change.key);
    }
}

// A compare has failed: because we do not lead any more, because the transaction (or the one before, whose
// answer was lost) has been carried out already, or because somebody else has written.
Result<> EtcdStore::refused(const etcdserverpb::TxnResponse& response, std::span<const EtcdChange> changes,
                            uint64_t serial, bool repeated) {
    if (response.responses_size() != 2)
        return fail(Errc::protocol, "etcd answered a part of what it was asked");
    const auto& leader = response.responses(0).response_range().kvs();
    const auto& last = response.responses(1).response_range().kvs();
    const bool leads = !leader.empty() && leader[0].create_revision() == leadership_->create_revision;
    lost_ = lost_ || !leads;
    v1::Commit commit;
    const bool ours = !last.empty() && commit.ParseFromString(last[0].value()) &&
                      commit.leader_revision() == leadership_->create_revision;
    if (ours && commit.serial() == serial) {
        absorb(changes, last[0].mod_revision());
        return {};
    }
    // Where the next leader has written already, it hides whether an earlier try was carried out.
    if (!leads && !ours && repeated) return fail(Errc::unavailable, "another controller leads now");
    if (!leads)
        return fail(
            Errc::cancelled,
            "this controller does not lead any more: nothing was changed; ask the one that leads now");
    if (ours && unknown_ && commit.serial() >= unknown_->serial) {
        const Unknown unknown = std::move(*unknown_);
        unknown_.reset();
        // Of a later serial it was another try of settle(): then the lost one never had its place.
        const bool stored = commit.serial() == unknown.serial;
        absorb(stored ? std::span<const EtcdChange>(unknown.changes) : std::span<const EtcdChange>(),
               last[0].mod_revision());
        if (!stored) return {};
        if (unknown.part != Part::redo) {
            stale_ = true; // whoever asked for it was told that it had failed
        } else {
            const bool ended = !unknown.changes.back().range_end.empty() &&
                               keys_.is_of("journal", unknown.changes.back().key);
            redone_ += unknown.changes.size() - (ended ? 1 : 0);
            if (ended) journal_there_ = false;
        }
        return {};
    }
    return conflict(changes);
}

Result<> EtcdStore::conflict(std::span<const EtcdChange> changes) {
    stale_ = true;
    for (const auto& change : changes) {
        if (!change.range_end.empty()) continue;
        etcdserverpb::RangeRequest request;
        request.set_key(change.key);
        const auto now = TRY(client_->range(request));
        if ((now.kvs().empty() ? 0 : now.kvs(0).mod_revision()) != seen(change.key))
            return fail(Errc::busy,
                        "somebody else has changed {} in etcd: nothing was changed; everything has to be "
                        "loaded anew",
                        change.key);
    }
    return fail(Errc::busy,
                "somebody else has written to etcd under {}: nothing was changed; everything has to "
                "be loaded anew",
                options_.prefix);
}

} // namespace lanepool::store
