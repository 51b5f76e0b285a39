// SPDX-License-Identifier: Apache-2.0
//
// The supply side of the scheduler: which devices can be lent now, where they are, and when the others are
// due. Kept up to date by note(); what follows from a change is worked out by settle(), once for many
// changes. Devices that no selector without a host or name can tell apart are of one type.
#pragma once

#include "pool/distance.h"
#include "pool/records.h"
#include "pool/reservations.h"
#include "pool/scheduler.h"
#include "pool/site.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace lanepool::pool {

// Windows that a host has; this many where it does not say.
inline constexpr int64_t unlimited_room = 1 << 30;

struct HostEntry;
struct Lane;
struct Line;
struct Row;

struct DeviceType {
    uint32_t number = 0;
    Device sample; // without a host and a name
    size_t devices = 0;
    size_t free = 0;
    // Held devices, the soonest back first; 0: any moment now.
    std::set<std::pair<int64_t, Fdid>> held;
    // Loans that may be pre-empted: lowest priority first, then the latest begun.
    std::set<std::tuple<int32_t, int64_t, LoanId, Fdid>> victims;
};

struct DeviceEntry {
    // What is true of it, as the indexes have it.
    struct Listing {
        DeviceType* type = nullptr; // null: it is not in the pool
        HostEntry* host = nullptr;
        std::string name;
        bool free = false;
        bool held = false;
        int64_t back_us = never_us; // if held: not before; 0: any moment now
        bool counts_back = false;   // reservations may count on it, a turnaround after back_us
        bool setting_up = false;    // its lender has not counted the window for it yet
        bool victim = false;
        int32_t victim_priority = 0;
        int64_t victim_active_us = 0;
        LoanId victim_loan;
        std::vector<size_t> classes;

        bool operator==(const Listing&) const = default;
    };

    Fdid fdid;
    const Device* record = nullptr;
    std::vector<const Loan*> loans; // that have it
    const Loan* loan = nullptr;     // of them the one that ends last
    Listing listing;
    bool dirty = false;
};

// Hosts that can lend a device of some type: most room first, then by the first such device.
using Places = std::set<std::tuple<int64_t, Fdid, HostEntry*>>;

// A place in the sites' locations, with all hosts under it.
struct Node {
    std::map<uint32_t, Places> hosts; // by the number of the type
};

struct HostEntry {
    std::string name;
    const Host* record = nullptr;
    HostRule rule;
    std::vector<Node*> nodes; // from the root down
    int64_t borrowing = 0;    // loans that are being set up, of which its agent may not have told yet
    int64_t lending = 0;
    std::set<DeviceEntry*> devices; // in the pool, free or not
    std::map<uint32_t, std::set<Fdid>> free;
    std::set<std::pair<Line*, Row*>> rows; // wishes of it
    bool dirty = false;
    // As listed:
    int64_t room = 0;
    bool takes_part = false; // up, and not draining
    bool lends = false;
    bool borrows = false;
};

// From a host to another, or to itself.
inline size_t distance(const HostEntry& near, const HostEntry& other) {
    return &near == &other ? 0 : distance(near.rule.location, other.rule.location);
}

// One selector that is wanted by somebody.
struct Want {
    uint64_t number = 0;
    Selector selector;
    size_t users = 0;
    bool scoped = false;       // to one host or one device: `types` says nothing
    std::optional<Fdid> fdid;  // if it names one device by that
    std::vector<bool> matches; // by type
    size_t live = 0;           // types, or if scoped devices, of which one can be lent
    std::set<Lane*> lanes;
    bool changed = false; // `live` has become zero, or is not zero any more
    bool stale = false;   // scoped: `live` has to be counted anew
};

class Market {
  public:
    explicit Market(Reservations& reservations, int64_t turnaround_us);
    Market(const Market&) = delete;
    Market& operator=(const Market&) = delete;

    void note(const Host& host, bool comes);
    void note(const Device& device, bool comes);
    // Loans that are not queued.
    void note(const Loan& loan, bool comes);
    void set_site(const Site& site);

    // Works out what follows from the notes. Wants that came to life or died, and hosts that may or may not
    // borrow now, are in woken_wants() and changed_hosts() until they are taken.
    void settle();
    std::vector<Want*> take_woken_wants() {
        for (Want* want : woken_)
            want->changed = false;
        return std::exchange(woken_, {});
    }
    std::vector<HostEntry*> take_changed_hosts() { return std::exchange(changed_hosts_, {}); }

    Want* use(const Selector& selector);
    void release(Want* want);
    HostEntry* host(const std::string& name); // made if there is none
    DeviceEntry* device(Fdid fdid);           // null if there is none
    const DeviceEntry* find(Fdid fdid) const;
    const DeviceEntry* held_by(LoanId loan) const; // by a live loan; null if there is none
    const std::map<std::string, HostEntry>& hosts() const { return hosts_; }
    // Devices of live loans that are pre-empted for this group, with the loans.
    const std::map<Fdid, LoanId>& ending_for(LoanId group) const;
    const std::vector<std::unique_ptr<DeviceType>>& types() const { return types_; }
    // The devices that a scoped want can mean.
    std::vector<DeviceEntry*> devices_of(const Want& want) const;
    static bool is_meant(const Want& want, const DeviceEntry& entry);
    // The wants that name this device by its fdid; nothing where others mean it, too.
    std::optional<std::vector<Want*>> wants_by_fdid(const DeviceEntry& entry) const;

  private:
    using TypeKey = std::tuple<std::string, std::string, uint32_t, uint32_t, uint64_t>;

    DeviceType* type_of(const DeviceEntry& entry);
    DeviceEntry::Listing wanted_listing(const DeviceEntry& entry);
    void list(DeviceEntry& entry, bool comes);
    void list_free(DeviceEntry& entry, bool comes);
    void place(HostEntry& host, uint32_t type, bool comes);
    void set_live(Want& want, size_t live);
    void refresh(DeviceEntry& entry);
    void refresh(HostEntry& host);
    void mark(DeviceEntry& entry);
    void mark(HostEntry& host);
    void locate(HostEntry& host);

    Reservations& reservations_;
    int64_t turnaround_us_;
    std::map<std::string, HostEntry> hosts_;
    std::map<Fdid, DeviceEntry> devices_;
    std::map<std::string, std::set<DeviceEntry*>> by_name_; // HOST/NAME
    std::map<TypeKey, DeviceType*> by_type_;
    std::vector<std::unique_ptr<DeviceType>> types_;
    std::map<Location, Node> nodes_;
    std::map<std::string, HostRule> rules_;
    std::map<Selector, Want> wants_;
    std::map<uint64_t, Want*> general_wants_; // not scoped
    std::map<std::string, std::set<Want*>> wants_of_host_;
    std::map<std::string, std::set<Want*>> wants_of_name_;
    std::map<Fdid, std::set<Want*>> wants_of_fdid_;
    std::map<LoanId, Fdid> device_of_loan_; // of live ones
    std::map<LoanId, std::map<Fdid, LoanId>> ending_for_;
    uint64_t next_want_ = 1;
    std::vector<DeviceEntry*> dirty_devices_;
    std::vector<HostEntry*> dirty_hosts_;
    std::vector<Want*> stale_wants_;
    std::vector<Want*> woken_;
    std::vector<HostEntry*> changed_hosts_;
};

} // namespace lanepool::pool
