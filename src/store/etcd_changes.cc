// SPDX-License-Identifier: Apache-2.0
#include "store/etcd_changes.h"

#include "store/codec.h"

#include <store/etcd_records.pb.h>

namespace lanepool::store {

namespace {

// Of one value of the trail: well below what etcd takes in one request.
constexpr size_t batch_bytes = 256 << 10;

void add_trail(EtcdChanges& changes, const EtcdKeys& keys, const std::vector<pool::AuditEntry>& entries,
               ChainEnds& ends) {
    v1::AuditBatch batch;
    size_t bytes = 0;
    uint64_t first = 0;
    const auto close = [&] {
        if (batch.entries().empty()) return;
        changes.put(keys.of("audit", first), batch.SerializeAsString());
        batch.Clear();
        bytes = 0;
    };
    for (const auto& entry : entries) {
        if (batch.entries().empty()) first = entry.sequence;
        ends.head = {entry.sequence, chained(ends.head.hash, entry)};
        auto& stored = *batch.add_entries();
        stored.set_body(encode(entry));
        stored.set_hash(std::string(bytes_of(ends.head.hash)));
        bytes += stored.body().size() + stored.hash().size();
        if (bytes >= batch_bytes) close();
    }
    close();
}

} // namespace

std::string EtcdKeys::of(std::string_view table, std::string_view name) const {
    return fmt::format("{}{}/{}", prefix_, table, name);
}

std::string EtcdKeys::of(std::string_view table, uint64_t number) const {
    return fmt::format("{}{}/{:016x}", prefix_, table, number);
}

std::string EtcdKeys::end(std::string_view table) const {
    return fmt::format("{}{}0", prefix_, table); // '0' comes after '/'
}

std::vector<EtcdChange> EtcdChanges::take() {
    std::vector<EtcdChange> changes;
    changes.reserve(all_.size());
    for (auto& [key, change] : all_)
        changes.push_back(std::move(change));
    all_.clear();
    return changes;
}

void add(EtcdChanges& changes, const EtcdKeys& keys, const pool::Outcome& outcome, ChainEnds& ends) {
    for (const auto& host : outcome.hosts)
        changes.put(keys.of("host", host.name), encode(host));
    for (const auto& device : outcome.devices)
        changes.put(keys.of("device", device.fdid.value), encode(device));
    for (const auto& loan : outcome.loans)
        changes.put(keys.of("loan", loan.id.value), encode(loan));
    for (const auto& step : outcome.steps)
        changes.put(keys.of("step", step.id.value), encode(step));
    for (const auto& usage : outcome.usage)
        changes.put(keys.of("usage", usage.tenant), encode(usage));
    for (const auto id : outcome.erased_loans)
        changes.erase(keys.of("loan", id.value));
    for (const auto id : outcome.erased_steps)
        changes.erase(keys.of("step", id.value));
    for (const auto fdid : outcome.erased_devices)
        changes.erase(keys.of("device", fdid.value));
    if (outcome.site) changes.put(keys.of("single", "site"), encode_site(*outcome.site));
    changes.put(keys.of("single", "counters"), encode(outcome.counters));
    ends.next_sequence = outcome.counters.next_audit;
    add_trail(changes, keys, outcome.audit, ends);
}

std::string encode_ends(const ChainEnds& ends) {
    v1::AuditEnds message;
    message.set_start_sequence(ends.start.sequence);
    message.set_start_hash(std::string(bytes_of(ends.start.hash)));
    message.set_head_sequence(ends.head.sequence);
    message.set_head_hash(std::string(bytes_of(ends.head.hash)));
    return message.SerializeAsString();
}

Result<> decode_ends(std::string_view bytes, ChainEnds& ends) {
    v1::AuditEnds message;
    if (!message.ParseFromString(std::string(bytes)))
        return fail(Errc::io, "where the audit trail ends cannot be read: it is damaged");
    ends.start = {message.start_sequence(), TRY(hash_from(message.start_hash()))};
    ends.head = {message.head_sequence(), TRY(hash_from(message.head_hash()))};
    return {};
}

Result<std::vector<ChainedEntry>> decode_batch(std::string_view bytes) {
    v1::AuditBatch batch;
    if (!batch.ParseFromString(std::string(bytes)) || batch.entries().empty())
        return fail(Errc::io, "a part of the audit trail cannot be read: it is damaged");
    std::vector<ChainedEntry> entries;
    for (const auto& stored : batch.entries())
        entries.push_back({TRY(decode<pool::AuditEntry>(stored.body())), TRY(hash_from(stored.hash()))});
    return entries;
}

size_t fitting(std::span<const EtcdChange> changes, size_t most_changes, size_t most_bytes) {
    size_t count = 0;
    size_t bytes = 0;
    while (count < std::min(changes.size(), most_changes)) {
        bytes += changes[count].bytes();
        if (count > 0 && bytes > most_bytes) break;
        ++count;
    }
    return count;
}

std::vector<std::string> encode_journal(std::span<const EtcdChange> changes, size_t most_bytes) {
    std::vector<std::string> parts;
    while (!changes.empty()) {
        const size_t count = fitting(changes, changes.size(), most_bytes);
        v1::JournalPart part;
        for (const auto& change : changes.first(count)) {
            auto& stored = *part.add_changes();
            stored.set_key(change.key);
            stored.set_range_end(change.range_end);
            stored.set_erase(!change.value);
            stored.set_value(change.value.value_or(""));
        }
        changes = changes.subspan(count);
        part.set_last(changes.empty());
        parts.push_back(part.SerializeAsString());
    }
    return parts;
}

Result<std::optional<std::vector<EtcdChange>>> decode_journal(const std::vector<std::string>& parts) {
    std::vector<EtcdChange> changes;
    bool last = false;
    for (const auto& bytes : parts) {
        v1::JournalPart part;
        if (last || !part.ParseFromString(bytes))
            return fail(Errc::io, "the journal of a large outcome is damaged");
        for (const auto& stored : part.changes())
            changes.push_back({stored.key(), stored.range_end(),
                               stored.erase() ? std::nullopt : std::optional(stored.value())});
        last = part.last();
    }
    if (!last) return std::nullopt;
    return changes;
}

} // namespace lanepool::store
