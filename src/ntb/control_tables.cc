// SPDX-License-Identifier: Apache-2.0
#include "ntb/control_tables.h"

#include <algorithm>

namespace lanepool::ntb {

namespace requester = switchtec::requester;

Result<std::unique_ptr<ControlTables>> ControlTables::create(pci::Function& function,
                                                             const Identity& identity) {
    const ControlBlock block(Registers(function), identity.partition.value);
    TRY(block.reset());
    std::vector<WindowBar> bars;
    for (unsigned slot = 1; slot < switchtec::bar_slots; ++slot) { // BAR 0 has the registers
        const uint64_t size_bytes = function.region(static_cast<pci::Region>(slot)).size_bytes;
        if (size_bytes >= 2 * switchtec::min_window_bytes && TRY(block.has_windows(slot)))
            bars.push_back({slot, size_bytes});
    }
    if (bars.empty())
        return fail(Errc::not_supported,
                    "the adapter has no window BAR; check the partition's configuration in the "
                    "switch");
    auto plan = plan_windows(bars, TRY(block.lut_entries()));
    std::unique_ptr<ControlTables> tables(
        new ControlTables(block, WindowPool(std::move(plan)), TRY(block.requesters())));
    TRY(tables->write_initial(identity));
    return tables;
}

Result<> ControlTables::write_initial(const Identity& identity) {
    // A host's own accesses carry the root complex's id or the one that the switch has seen; Linux lists
    // both.
    const std::array<uint16_t, 2> own = {identity.requester.value, 0};
    const size_t count = identity.requester.value == 0 ? 1 : 2;
    if (requesters_.size() < count)
        return fail(Errc::not_supported, "the adapter's requester table has {} entries", requesters_.size());
    const auto write = [&]() -> Result<> {
        TRY(block_.write_partition_ctrl(switchtec::partition_ctrl::IdProtectionDisable::of(true)));
        for (const auto& bar : pool_.bars())
            TRY(block_.write_bar(bar));
        for (unsigned i = 0; i < count; ++i) {
            TRY(block_.write_requester(i, requester::Enable::of(true) | requester::Id::of(own[i])));
            requesters_[i] = {own[i], 1};
        }
        return {};
    };
    bool clean = true;
    return block_.change(
        write, []() -> Result<> { return {}; }, clean);
}

const BarWindows& ControlTables::bar_of(const Placement& placement) const {
    return *std::find_if(pool_.bars().begin(), pool_.bars().end(),
                         [&](const BarWindows& bar) { return bar.slot == placement.slot; });
}

Result<> ControlTables::clear(std::span<const Placement> placements) {
    for (const auto& placement : placements)
        TRY(block_.clear_window(bar_of(placement), placement));
    return {};
}

// A change that also clears what earlier ones left behind.
Result<> ControlTables::change(const std::function<Result<>()>& write, const std::function<Result<>()>& undo,
                               bool& clean) {
    TRY(block_.change(
        [&]() -> Result<> {
            TRY(clear(left_over_));
            return write();
        },
        undo, clean));
    for (const auto& placement : left_over_)
        pool_.release(placement);
    left_over_.clear();
    return {};
}

Result<std::vector<Placement>> ControlTables::open(std::span<const Target> targets) {
    const std::lock_guard lock(mutex_);
    auto placements = TRY(pool_.allocate(targets));
    const auto write = [&]() -> Result<> {
        for (size_t i = 0; i < targets.size(); ++i)
            TRY(block_.write_window(bar_of(placements[i]), placements[i], targets[i].partition));
        return {};
    };
    bool clean = true;
    auto done = change(
        write, [&] { return clear(placements); }, clean);
    if (done) return placements;
    if (clean)
        for (const auto& placement : placements)
            pool_.release(placement);
    else
        left_over_.insert(left_over_.end(), placements.begin(), placements.end());
    return tl::unexpected(done.error().within("opening windows"));
}

Result<> ControlTables::close(std::span<const Placement> placements) {
    if (placements.empty()) return {};
    const std::lock_guard lock(mutex_);
    left_over_.insert(left_over_.end(), placements.begin(), placements.end());
    const auto nothing = []() -> Result<> { return {}; };
    bool clean = true;
    return change(nothing, nothing, clean);
}

Result<unsigned> ControlTables::add_requester(pci::RequesterId id) {
    const std::lock_guard lock(mutex_);
    unsigned slot = 0;
    for (unsigned i = static_cast<unsigned>(requesters_.size()); i-- > 0;) {
        if (requesters_[i].users > 0 && requesters_[i].id == id.value) {
            ++requesters_[i].users;
            return i;
        }
        if (requesters_[i].users == 0) slot = i;
    }
    if (slot == 0)
        return fail(Errc::no_space, "all {} entries of the adapter's requester table are in use",
                    requesters_.size());
    bool clean = true;
    TRY(change(
        [&] {
            return block_.write_requester(slot, requester::Enable::of(true) | requester::Id::of(id.value));
        },
        [&] { return block_.write_requester(slot, 0); }, clean));
    requesters_[slot] = {id.value, 1};
    return slot;
}

Result<> ControlTables::remove_requester(unsigned slot) {
    const std::lock_guard lock(mutex_);
    if (requesters_[slot].users > 1) {
        --requesters_[slot].users;
        return {};
    }
    const auto write = [&] { return block_.write_requester(slot, 0); };
    bool clean = true;
    TRY(change(write, write, clean));
    requesters_[slot] = {};
    return {};
}

AdapterCapacity ControlTables::capacity() const {
    const std::lock_guard lock(mutex_);
    return {pool_.windows(), pool_.windows_free(), pool_.largest_window_bytes()};
}

} // namespace lanepool::ntb
