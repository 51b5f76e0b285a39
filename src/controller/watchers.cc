// SPDX-License-Identifier: Apache-2.0
#include "controller/watchers.h"

#include "controller/watch_stream.h"

namespace lanepool::controller {

namespace {
template <class Key>
void erase(std::map<Key, std::set<WatchStream*>>& watchers, const Key& key, WatchStream& stream) {
    const auto found = watchers.find(key);
    if (found == watchers.end()) return;
    found->second.erase(&stream);
    if (found->second.empty()) watchers.erase(found);
}

template <class Key>
void find(const std::map<Key, std::set<WatchStream*>>& watchers, const Key& key,
          std::set<WatchStream*>& found) {
    if (const auto entry = watchers.find(key); entry != watchers.end())
        found.insert(entry->second.begin(), entry->second.end());
}
} // namespace

void Watchers::add(const Goal& goal, WatchStream& stream) {
    if (goal.fdid) of_devices_[goal.fdid].insert(&stream);
    for (const pool::LoanId loan : goal.loans)
        of_loans_[loan].insert(&stream);
}

void Watchers::remove(const Goal& goal, WatchStream& stream) {
    if (goal.fdid) erase(of_devices_, goal.fdid, stream);
    for (const pool::LoanId loan : goal.loans)
        erase(of_loans_, loan, stream);
}

void Watchers::tell(const pool::Outcome& outcome) {
    std::set<WatchStream*> concerned;
    for (const auto& device : outcome.devices) {
        find(of_devices_, device.fdid, concerned);
        find(of_loans_, device.loan, concerned);
    }
    for (const auto& loan : outcome.loans)
        find(of_loans_, loan.id, concerned);
    for (const auto& entry : outcome.audit) {
        find(of_devices_, entry.fdid, concerned);
        find(of_loans_, entry.loan, concerned);
    }
    for (WatchStream* stream : concerned)
        stream->changed();
}

} // namespace lanepool::controller
