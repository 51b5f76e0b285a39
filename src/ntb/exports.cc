// SPDX-License-Identifier: Apache-2.0
#include "ntb/exports.h"

#include <algorithm>

namespace lanepool::ntb {

namespace {
// Above 4 GiB, where no platform reserves ranges (x86: the MSI range at 0xfee00000); below 2^47, which IOMMUs
// and the switch can address.
const auto export_space =
    *Range<BusAddress>::create({uint64_t{1} << 32}, (uint64_t{1} << 47) - (uint64_t{1} << 32));
constexpr size_t max_exports = 16384;
} // namespace

Exports::Exports(pci::Function& function) : function_(function), addresses_(export_space, max_exports) {}

Result<BusAddress> Exports::add(std::optional<BusAddress> address, uint64_t size_bytes, uint64_t slot_bytes,
                                const std::function<Result<Mappings>(Iova start)>& map) {
    BusAddress start;
    {
        const std::lock_guard lock(mutex_);
        if (address) {
            TRY(addresses_.reserve(*address, size_bytes));
            start = *address;
        } else {
            start = TRY(addresses_.allocate(size_bytes, slot_bytes));
        }
    }
    // The adapter issues on its host's bus what a peer's window leads to: its IOVA is the bus address.
    auto mappings = map(Iova{start.value});
    const std::lock_guard lock(mutex_);
    if (!mappings) {
        addresses_.release(start);
        return tl::unexpected(mappings.error().within("exporting"));
    }
    mappings_.emplace(start, std::move(*mappings));
    return start;
}

Result<> Exports::unmap(Mappings& mappings) {
    Result<> first_error;
    for (auto& mapping : mappings) {
        auto done = mapping.unmap();
        if (!done && first_error) first_error = std::move(done);
    }
    return first_error;
}

Result<> Exports::remove(BusAddress address) {
    std::map<BusAddress, Mappings>::node_type taken;
    {
        const std::lock_guard lock(mutex_);
        taken = mappings_.extract(address);
    }
    if (taken.empty()) return {};
    TRY(unmap(taken.mapped()));
    const std::lock_guard lock(mutex_);
    addresses_.release(address);
    return {};
}

void Exports::clear() {
    std::map<BusAddress, Mappings> all;
    {
        const std::lock_guard lock(mutex_);
        all.swap(mappings_);
    }
    for (auto& [address, mappings] : all) [[maybe_unused]]
        auto ignored = unmap(mappings);
}

} // namespace lanepool::ntb
