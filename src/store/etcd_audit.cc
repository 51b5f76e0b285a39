// SPDX-License-Identifier: Apache-2.0
//
// How the etcd store keeps and reads the audit trail: one value for the entries of one outcome, under the
// number of the first.
#include "store/etcd_store.h"

namespace lanepool::store {

namespace {

constexpr int64_t page = 200;    // batches
constexpr uint64_t reach = 1024; // entries

// The number in a key of the trail; it is what we have asked for, so it is there.
uint64_t number_in(const std::string& key) {
    return std::strtoull(key.substr(key.rfind('/') + 1).c_str(), nullptr, 16);
}

} // namespace

// Batches that begin at FROM to TO, both included.
Result<etcdserverpb::RangeResponse> EtcdStore::batches(uint64_t from, uint64_t to, bool backwards,
                                                       int64_t limit) const {
    if (from > to) return etcdserverpb::RangeResponse();
    etcdserverpb::RangeRequest request;
    request.set_key(keys_.of("audit", from));
    request.set_range_end(keys_.of("audit", to) + '\0');
    request.set_limit(limit);
    request.set_sort_order(backwards ? etcdserverpb::RangeRequest::DESCEND
                                     : etcdserverpb::RangeRequest::ASCEND);
    return client_->range(request);
}

// Looks near HIGHEST first: to read backwards, etcd reads the whole range and turns it round.
Result<std::optional<mvccpb::KeyValue>> EtcdStore::last_batch(uint64_t lowest, uint64_t highest) const {
    if (lowest > highest) return std::nullopt;
    for (uint64_t span = 64;; span *= 16) {
        const bool all = highest - lowest < span;
        const auto found = TRY(batches(all ? lowest : highest - span + 1, highest, true, 1));
        if (!found.kvs().empty()) return found.kvs(0);
        if (all) return std::nullopt;
    }
}

template <class Use>
Result<> EtcdStore::each_entry(uint64_t after_sequence, const Use& use) const {
    // The batch in which the next one lies may begin before it.
    const auto before = TRY(last_batch(0, after_sequence));
    uint64_t from = before ? number_in(before->key()) : 0;
    // More and more: whoever wants a few entries does not wait for a thousand.
    for (int64_t limit = 8;; limit = std::min(2 * limit, page)) {
        // etcd looks at every key of a range before it counts to the limit: a short one first.
        const uint64_t near = from > UINT64_MAX - reach ? UINT64_MAX : from + reach;
        auto found = TRY(batches(from, near, false, limit));
        if (found.kvs().empty()) found = TRY(batches(from, UINT64_MAX, false, limit));
        if (found.kvs().empty()) return {};
        for (const auto& kv : found.kvs()) {
            const auto entries = decode_batch(kv.value());
            if (!entries)
                return fail(Errc::io, "the audit trail does not verify at sequence {}: {}",
                            number_in(kv.key()), entries.error().message());
            for (const auto& one : *entries)
                if (one.entry.sequence > after_sequence && !use(one)) return {};
        }
        from = number_in(found.kvs().rbegin()->key()) + 1;
    }
}

Result<std::vector<pool::AuditEntry>> EtcdStore::audit(const AuditFilter& filter, uint64_t after_sequence,
                                                       uint32_t limit) {
    if (leadership_ && usable()) TRY(ready()); // what was stored last may still be in a journal
    std::vector<pool::AuditEntry> entries;
    if (limit == 0) return entries;
    TRY(each_entry(after_sequence, [&](const ChainedEntry& one) {
        if (lets_through(filter, one.entry)) entries.push_back(one.entry);
        return entries.size() < limit;
    }));
    return entries;
}

Result<uint64_t> EtcdStore::audit_before_last(const AuditFilter& filter, uint32_t count) {
    uint64_t to = TRY(audit_ends()).head.sequence;
    uint64_t left = count;
    for (;;) {
        const uint64_t from = to < reach ? 0 : to - reach + 1;
        const auto found = TRY(batches(from, to, true, 0));
        for (const auto& kv : found.kvs()) {
            const auto entries = TRY(decode_batch(kv.value()));
            for (auto one = entries.rbegin(); one != entries.rend(); ++one) {
                if (!lets_through(filter, one->entry)) continue;
                if (left == 0) return one->entry.sequence;
                --left;
            }
        }
        if (from == 0) return 0;
        to = from - 1;
    }
}

Result<std::vector<ChainedEntry>> EtcdStore::audit_chain(uint64_t after_sequence, uint32_t limit) {
    if (leadership_ && usable()) TRY(ready());
    std::vector<ChainedEntry> entries;
    if (limit == 0) return entries;
    TRY(each_entry(after_sequence, [&](const ChainedEntry& one) {
        entries.push_back(one);
        return entries.size() < limit;
    }));
    return entries;
}

Result<ChainEnds> EtcdStore::audit_ends() {
    if (leadership_ && usable())
        TRY(ready());
    else
        TRY(refresh()); // somebody else writes
    return ends_;
}

// Whole batches go, and only when there is a hundredth too much: not at each outcome.
Result<> EtcdStore::forget(EtcdChanges& changes, ChainEnds& ends) const {
    const uint64_t kept = options_.audit_kept;
    if (ends.head.sequence - ends.start.sequence <= kept + kept / 100) return {};
    const uint64_t forgotten = ends.head.sequence - kept;
    const auto first = TRY(last_batch(ends.start.sequence + 1, forgotten + 1)); // that stays
    if (!first) return {};
    const uint64_t begin = number_in(first->key());
    const auto last = TRY(last_batch(ends.start.sequence + 1, begin - 1)); // that goes
    if (!last) return {};
    const auto entries = TRY(decode_batch(last->value()));
    ends.start = {entries.back().entry.sequence, entries.back().hash};
    changes.erase_range(keys_.of("audit", uint64_t{0}), keys_.of("audit", begin));
    return {};
}

} // namespace lanepool::store
