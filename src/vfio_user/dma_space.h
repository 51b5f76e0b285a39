// SPDX-License-Identifier: Apache-2.0
//
// What a function may reach through its client: ranges of IOVAs, each with memory, a target or an eventfd
// behind it. Serves the accesses that the function makes by message.
#pragma once

#include "base/address.h"
#include "base/mapping.h"
#include "io/clock.h"
#include "pci/function.h"

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <variant>

namespace lanepool::vfio_user {

class DmaSpace {
  public:
    using Target = std::shared_ptr<pci::DmaTarget>;
    struct Event {
        SharedFd fd;
    };
    using Backing = std::variant<MemoryRef, Target, Event>;

    // Errors: already_exists when it overlaps.
    Result<> add(Range<Iova> range, Access access, Backing backing);
    bool contains(Range<Iova> range) const; // exactly this one
    // Afterwards nobody uses what is behind the range, unless called from a target's own call, which then
    // still is. Waits for an access that is being served. Errors: timeout, when that takes longer than
    // TIMEOUT.
    Result<> remove(Range<Iova> range, io::Duration timeout);

    // One call at a time, on one thread. An access may go over several ranges that lie side by side. Errors:
    // out_of_range where nothing is mapped, permission_denied, and those of a target.
    Result<> read(Iova address, std::span<std::byte> data);
    Result<> write(Iova address, std::span<const std::byte> data);

  private:
    struct Entry {
        Range<Iova> range;
        Access access;
        Backing backing;
    };
    using EntryRef = std::shared_ptr<const Entry>;

    template <class Data, class Use>
    Result<> serve(Iova address, Data data, bool write, Use use);
    Result<EntryRef> enter(Iova address, bool write);
    void leave();

    mutable std::mutex mutex_;
    std::condition_variable idle_;
    std::map<uint64_t, EntryRef> entries_; // by start
    EntryRef in_use_;
    std::thread::id user_;
};

} // namespace lanepool::vfio_user
