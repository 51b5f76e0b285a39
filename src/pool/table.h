// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <utility>

namespace lanepool::pool {

// Records by key, with every change since the last commit() undoable. INDEX is told of each record that comes
// (true) and goes (false), also while undoing, so that what is derived from the records never disagrees.
template <class Key, class Record>
class Table {
  public:
    using Index = std::function<void(const Record&, bool comes)>;
    explicit Table(Index index) : index_(std::move(index)) {}

    // Null where there is none; valid until the next change of this record.
    const Record* find(const Key& key) const {
        const auto found = records_.find(key);
        return found == records_.end() ? nullptr : &found->second;
    }
    const std::map<Key, Record>& all() const { return records_; }
    size_t size() const { return records_.size(); }

    void put(const Key& key, Record record) {
        const auto found = remember(key);
        if (found == records_.end()) {
            index_(records_.emplace(key, std::move(record)).first->second, true);
            return;
        }
        index_(found->second, false);
        found->second = std::move(record);
        index_(found->second, true);
    }

    void erase(const Key& key) {
        const auto found = remember(key);
        if (found == records_.end()) return;
        index_(found->second, false);
        records_.erase(found);
    }

    // Changed by hand without being remembered: for what is neither stored nor undone.
    template <class Change>
    void touch(const Key& key, Change&& change) {
        if (const auto found = records_.find(key); found != records_.end()) change(found->second);
    }

    // The same for what the index looks at.
    template <class Change>
    void set(const Key& key, Change&& change) {
        const auto found = records_.find(key);
        if (found == records_.end()) return;
        index_(found->second, false);
        change(found->second);
        index_(found->second, true);
    }

    // Calls PUT(record) for what is there and differs from what the last commit left, ERASED(key) for what is
    // gone.
    template <class Put, class Erased>
    void changes(Put&& put, Erased&& erased) const {
        for (const auto& [key, before] : before_) {
            const auto found = records_.find(key);
            if (found == records_.end()) {
                if (before) erased(key);
            } else if (!before || !(*before == found->second)) {
                put(found->second);
            }
        }
    }

    void commit() { before_.clear(); }

    void rollback() {
        for (auto& [key, before] : before_) {
            if (const auto found = records_.find(key); found != records_.end()) {
                index_(found->second, false);
                records_.erase(found);
            }
            if (before) index_(records_.emplace(key, std::move(*before)).first->second, true);
        }
        before_.clear();
    }

  private:
    typename std::map<Key, Record>::iterator remember(const Key& key) {
        const auto found = records_.find(key);
        if (!before_.contains(key))
            before_.emplace(key,
                            found == records_.end() ? std::nullopt : std::optional<Record>(found->second));
        return found;
    }

    Index index_;
    std::map<Key, Record> records_;
    std::map<Key, std::optional<Record>> before_;
};

} // namespace lanepool::pool
