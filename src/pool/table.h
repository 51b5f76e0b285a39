// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <utility>

namespace lanepool::pool {

// Records by key, with every change since the last commit() undoable. INDEX is told of each record that comes
// (true) and goes (false), also while undoing, so that what is derived from the records never disagrees.
// A record stays where it is in memory for as long as there is one of its key.
template <class Key, class Record>
class Table {
  public:
    // OTHER: the one that comes in its place, or in whose place it comes; null where there is none. What does
    // not depend on how the two differ can be left as it is.
    using Index = std::function<void(const Record&, bool comes, const Record* other)>;
    explicit Table(Index index) : index_(std::move(index)) {}

    // Null where there is none; valid until the next change of this record.
    const Record* find(const Key& key) const {
        const auto found = records_.find(key);
        return found == records_.end() ? nullptr : &found->second;
    }
    const std::map<Key, Record>& all() const { return records_; }
    size_t size() const { return records_.size(); }

    void put(const Key& key, Record record) {
        const auto found = records_.find(key);
        remember(key, found);
        if (found != records_.end()) return replace(found->second, record);
        index_(records_.emplace(key, std::move(record)).first->second, true, nullptr);
    }

    // Does nothing where there is no such record.
    template <class Change>
    void change(const Key& key, Change&& with) {
        const auto found = records_.find(key);
        if (found == records_.end()) return;
        remember(key, found);
        Record record = found->second;
        with(record);
        replace(found->second, record);
    }

    void erase(const Key& key) {
        const auto found = records_.find(key);
        remember(key, found);
        if (found == records_.end()) return;
        index_(found->second, false, nullptr);
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
        Record record = found->second;
        change(record);
        replace(found->second, record);
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
            const auto found = records_.find(key);
            if (found != records_.end() && before) {
                replace(found->second, *before);
            } else if (found != records_.end()) {
                index_(found->second, false, nullptr);
                records_.erase(found);
            } else if (before) {
                index_(records_.emplace(key, std::move(*before)).first->second, true, nullptr);
            }
        }
        before_.clear();
    }

  private:
    using Records = std::map<Key, Record>;

    void remember(const Key& key, typename Records::const_iterator found) {
        const auto [before, added] = before_.try_emplace(key);
        if (added && found != records_.end()) before->second = found->second;
    }
    // OTHER is what was there afterwards.
    void replace(Record& there, Record& other) {
        index_(there, false, &other);
        std::swap(there, other);
        index_(there, true, &other);
    }

    Index index_;
    Records records_;
    std::map<Key, std::optional<Record>> before_;
};

} // namespace lanepool::pool
