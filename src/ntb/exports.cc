// SPDX-License-Identifier: Apache-2.0
#include "ntb/exports.h"

#include <algorithm>

namespace lanepool::ntb {

namespace {
// Above 4 GiB, where no platform reserves ranges (x86: the MSI range at 0xfee00000); below 2^47, which IOMMUs
// and the switch can address.
const auto export_space =
    *Range<BusAddress>::create({uint64_t{1} << 32}, (uint64_t{1} << 47) - (uint64_t{1} << 32));
const auto event_word_space = *Range<BusAddress>::create(event_words_start, event_words_bytes);
constexpr size_t max_exports = 16384;
} // namespace

Exports::Exports(pci::Function& function)
    : function_(function), addresses_(export_space, max_exports), words_(event_word_space, max_exports) {}

Result<BusAddress> Exports::add(std::optional<BusAddress> address, std::shared_ptr<LocalExport> local,
                                uint64_t slot_bytes, const Map& map) {
    if (address) {
        {
            const std::lock_guard lock(mutex_);
            TRY(space_of(*address).reserve(*address, local->size_bytes()));
        }
        return map_at(*address, {std::move(local), {}, {}}, map);
    }
    const auto add_at_next = [&]() -> Result<BusAddress> {
        BusAddress start;
        {
            const std::lock_guard lock(mutex_);
            start = TRY(addresses_.allocate(local->size_bytes(), slot_bytes));
        }
        return map_at(start, {local, {}, {}}, map);
    };
    auto added = add_at_next();
    if (added || added.error().code() != Errc::out_of_range) return added;
    // Addresses are given out in turn, and this host's IOMMU may not reach as far as the space: some have
    // only 39 bits.
    {
        const std::lock_guard lock(mutex_);
        addresses_.begin_anew();
    }
    return add_at_next();
}

Result<BusAddress> Exports::add(EventWords::Area words, std::shared_ptr<LocalExport> local,
                                uint64_t slot_bytes) {
    const MemoryRef memory = words.memory();
    BusAddress start;
    {
        const std::lock_guard lock(mutex_);
        start = TRY(words_.allocate(memory.size_bytes, slot_bytes));
    }
    return map_at(start, {std::move(local), std::move(words), {}}, [&](Iova at) -> Result<Mappings> {
        Mappings mappings;
        mappings.push_back(TRY(
            function_.map_dma(TRY(Range<Iova>::create(at, memory.size_bytes)), memory, Access::read_write)));
        return mappings;
    });
}

Result<BusAddress> Exports::map_at(BusAddress start, Entry entry, const Map& map) {
    // The adapter issues on its host's bus what a peer's window leads to: its IOVA is the bus address.
    auto mappings = map(Iova{start.value});
    const std::lock_guard lock(mutex_);
    if (!mappings) {
        space_of(start).release(start);
        return tl::unexpected(mappings.error().within("exporting"));
    }
    entry.mappings = std::move(*mappings);
    entries_.emplace(start, std::move(entry));
    return start;
}

Result<LocalTarget> Exports::find(BusAddress address, uint64_t size_bytes) {
    const auto range = TRY(Range<BusAddress>::create(address, size_bytes));
    const std::lock_guard lock(mutex_);
    const auto after = entries_.upper_bound(address);
    if (after != entries_.begin()) {
        const auto& [start, entry] = *std::prev(after);
        if (TRY(Range<BusAddress>::create(start, entry.local->size_bytes())).contains(range))
            return LocalTarget{entry.local, address - start};
    }
    return fail(Errc::not_found, "this host exports nothing that has {} bytes at {:#x}", size_bytes,
                address.value);
}

Result<> Exports::withdraw(Entry& entry) {
    entry.local->withdraw();
    Result<> first_error;
    for (auto& mapping : entry.mappings) {
        auto done = mapping.unmap();
        if (!done && first_error) first_error = std::move(done);
    }
    return first_error;
}

Result<> Exports::remove(BusAddress address) {
    std::map<BusAddress, Entry>::node_type taken;
    {
        const std::lock_guard lock(mutex_);
        taken = entries_.extract(address);
    }
    if (taken.empty()) return {};
    TRY(withdraw(taken.mapped()));
    const std::lock_guard lock(mutex_);
    space_of(address).release(address);
    return {};
}

void Exports::clear() {
    std::map<BusAddress, Entry> all;
    {
        const std::lock_guard lock(mutex_);
        all.swap(entries_);
    }
    for (auto& [address, entry] : all) [[maybe_unused]]
        auto ignored = withdraw(entry);
}

} // namespace lanepool::ntb
