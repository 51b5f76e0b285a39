// SPDX-License-Identifier: Apache-2.0
#include "fabric/dma_table.h"

#include <algorithm>
#include <fcntl.h>
#include <limits>

namespace lanepool::fabric {
namespace {

// The same file, but open for reading only: what is handed on to peers must not allow more than the client
// did.
Result<SharedFd> reopen_read_only(const UniqueFd& fd) {
    const auto path = fmt::format("/proc/self/fd/{}", fd.get());
    UniqueFd reopened(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!reopened) return fail_errno("open a client's read-only memory");
    return share(std::move(reopened));
}

} // namespace

Result<std::shared_ptr<Backing>> DmaTable::backing(SharedFd fd, Access access) {
    if (access == Access::read_only) fd = TRY(reopen_read_only(*fd));
    // What has no identity is known by a number of its own.
    const auto identity = file_identity(*fd).value_or(FileIdentity{0, next_anonymous_++, -1});
    if (const auto known = files_.find(identity); known != files_.end())
        if (auto same = known->second.lock()) return same;
    std::erase_if(files_, [](const auto& file) { return file.second.expired(); });
    if (files_.size() >= max_backings)
        return fail(Errc::no_space, "a port's client has mapped memory of {} files: more is not supported",
                    max_backings);
    auto made = std::make_shared<Backing>(std::move(fd));
    files_[identity] = made;
    return made;
}

Result<> DmaTable::map(vfio_user::DmaMap map) {
    if (mappings_.size() >= max_dma_mappings)
        return fail(Errc::no_space, "a port's client has {} DMA mappings: more is not supported",
                    max_dma_mappings);
    DmaMapping mapping;
    mapping.access = map.access;
    if (map.memory) {
        constexpr auto limit = static_cast<uint64_t>(std::numeric_limits<off_t>::max());
        if (map.memory->offset_bytes > limit || map.range.size_bytes() > limit - map.memory->offset_bytes)
            return fail(Errc::out_of_range, "memory of {:#x} bytes at offset {:#x} of a file overflows",
                        map.range.size_bytes(), map.memory->offset_bytes);
        mapping.memory = TRY(backing(map.memory->fd, map.access));
        mapping.memory_offset_bytes = map.memory->offset_bytes;
    } else if (map.event) {
        mapping.event = share(std::move(map.event));
    }
    mappings_.insert_or_assign(map.range.start().value, Entry{map.range, std::move(mapping)});
    return {};
}

void DmaTable::unmap(Range<Iova> range) { mappings_.erase(range.start().value); }

void DmaTable::clear() {
    mappings_.clear();
    files_.clear();
}

DmaPlace DmaTable::at(Iova address, uint64_t size_bytes) const {
    const auto after = mappings_.upper_bound(address.value);
    if (after != mappings_.begin()) {
        const Entry& entry = std::prev(after)->second;
        if (entry.range.contains(address)) {
            const uint64_t inside = address - entry.range.start();
            DmaMapping mapping = entry.mapping;
            mapping.memory_offset_bytes += inside;
            return {std::move(mapping), std::min(size_bytes, entry.range.size_bytes() - inside)};
        }
    }
    if (after != mappings_.end()) size_bytes = std::min(size_bytes, after->first - address.value);
    return {std::nullopt, size_bytes};
}

} // namespace lanepool::fabric
