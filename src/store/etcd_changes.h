// SPDX-License-Identifier: Apache-2.0
//
// What an outcome changes in etcd: keys and their values. Pure.
#pragma once

#include "base/result.h"
#include "pool/records.h"
#include "store/chain.h"

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::store {

// Where everything lies: under a prefix of its own.
class EtcdKeys {
  public:
    explicit EtcdKeys(std::string prefix) : prefix_(std::move(prefix)) {}

    std::string leader() const { return prefix_ + "leader"; }
    std::string commit() const { return prefix_ + "commit"; }
    // TABLE: "host", "device", "loan", "step", "usage", "single", "audit", "journal".
    std::string of(std::string_view table, std::string_view name) const;
    std::string of(std::string_view table, uint64_t number) const; // ordered as the numbers are
    // Everything of TABLE lies from table(TABLE) on, before end(TABLE).
    std::string table(std::string_view table) const { return of(table, std::string_view()); }
    std::string end(std::string_view table) const;
    bool is_of(std::string_view table, std::string_view key) const {
        return key.starts_with(this->table(table));
    }

  private:
    std::string prefix_;
};

struct EtcdChange {
    std::string key;
    std::string range_end;            // not empty: erases everything from key on, before this
    std::optional<std::string> value; // nothing: erases

    size_t bytes() const { return key.size() + range_end.size() + (value ? value->size() : 0); }
    bool operator==(const EtcdChange&) const = default;
};

// Each key once: the last change of it counts.
class EtcdChanges {
  public:
    void put(const std::string& key, std::string value) { all_[key] = {key, "", std::move(value)}; }
    void erase(const std::string& key) { all_[key] = {key, "", std::nullopt}; }
    void erase_range(const std::string& key, const std::string& end) { all_[key] = {key, end, std::nullopt}; }
    std::vector<EtcdChange> take();

  private:
    std::map<std::string, EtcdChange> all_;
};

// OUTCOME's records; its entries go on after ENDS.head, which moves.
void add(EtcdChanges& changes, const EtcdKeys& keys, const pool::Outcome& outcome, ChainEnds& ends);
std::string encode_ends(const ChainEnds& ends);
Result<> decode_ends(std::string_view bytes, ChainEnds& ends);

// A value under "audit". io: it is damaged.
Result<std::vector<ChainedEntry>> decode_batch(std::string_view bytes);

// How many of CHANGES go into one transaction of so many changes and bytes: at least one.
size_t fitting(std::span<const EtcdChange> changes, size_t most_changes, size_t most_bytes);

// The values of a journal of CHANGES, of about so many bytes each.
std::vector<std::string> encode_journal(std::span<const EtcdChange> changes, size_t most_bytes);
// What PARTS say, in their order; nothing where the last one is missing: it was not written to its end. io:
// they are damaged.
Result<std::optional<std::vector<EtcdChange>>> decode_journal(const std::vector<std::string>& parts);

} // namespace lanepool::store
