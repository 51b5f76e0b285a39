// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/dma_space.h"

#include <algorithm>
#include <unistd.h>

namespace lanepool::vfio_user {

namespace {

template <class... F>
struct Overloaded : F... {
    using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

// By system call, not through a mapping: memory that its owner cuts off then is an error, not SIGBUS.
Result<> read_memory(const MemoryRef& memory, uint64_t offset_bytes, std::span<std::byte> data) {
    const auto count = ::pread(memory.fd->get(), data.data(), data.size(),
                               static_cast<off_t>(memory.offset_bytes + offset_bytes));
    if (count < 0) return fail_errno("reading memory for a function");
    if (static_cast<size_t>(count) != data.size())
        return fail(Errc::io, "the memory behind a DMA range ends after {} bytes", count);
    return {};
}

Result<> write_memory(const MemoryRef& memory, uint64_t offset_bytes, std::span<const std::byte> data) {
    const auto count = ::pwrite(memory.fd->get(), data.data(), data.size(),
                                static_cast<off_t>(memory.offset_bytes + offset_bytes));
    if (count < 0) return fail_errno("writing memory for a function");
    if (static_cast<size_t>(count) != data.size())
        return fail(Errc::io, "the memory behind a DMA range ends after {} bytes", count);
    return {};
}

} // namespace

Result<> DmaSpace::add(Range<Iova> range, Access access, Backing backing) {
    const std::lock_guard lock(mutex_);
    const auto after = entries_.upper_bound(range.last().value);
    if (after != entries_.begin() && std::prev(after)->second->range.overlaps(range))
        return fail(Errc::already_exists, "{} bytes at {:#x} overlap what is mapped at {:#x}",
                    range.size_bytes(), range.start().value, std::prev(after)->first);
    entries_.emplace(range.start().value,
                     std::make_shared<const Entry>(Entry{range, access, std::move(backing)}));
    return {};
}

bool DmaSpace::contains(Range<Iova> range) const {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(range.start().value);
    return found != entries_.end() && found->second->range == range;
}

Result<> DmaSpace::remove(Range<Iova> range, io::Duration timeout) {
    EntryRef entry; // destroyed after the lock is given back: a target's destructor may call us
    std::unique_lock lock(mutex_);
    const auto found = entries_.find(range.start().value);
    if (found == entries_.end() || !(found->second->range == range))
        return fail(Errc::not_found, "{} bytes at {:#x} are not what was mapped", range.size_bytes(),
                    range.start().value);
    entry = std::move(found->second);
    entries_.erase(found);
    const bool idle =
        user_ == std::this_thread::get_id() ||
        idle_.wait_until(lock, io::system_clock().now() + timeout, [&] { return in_use_ != entry; });
    lock.unlock();
    if (!idle) return fail(Errc::timeout, "an access to what was mapped is still being served");
    return {};
}

Result<DmaSpace::EntryRef> DmaSpace::enter(Iova address, bool write) {
    const std::lock_guard lock(mutex_);
    const auto after = entries_.upper_bound(address.value);
    if (after == entries_.begin() || !std::prev(after)->second->range.contains(address))
        return fail(Errc::out_of_range, "the function reached for {:#x}, where nothing is mapped",
                    address.value);
    const auto& entry = std::prev(after)->second;
    if (write && entry->access == Access::read_only)
        return fail(Errc::permission_denied, "the function wrote to {:#x}, which is mapped for reading",
                    address.value);
    in_use_ = entry;
    user_ = std::this_thread::get_id();
    return entry;
}

void DmaSpace::leave() {
    EntryRef last; // see remove()
    const std::lock_guard lock(mutex_);
    last = std::move(in_use_);
    in_use_ = nullptr;
    user_ = {};
    idle_.notify_all();
}

template <class Data, class Use>
Result<> DmaSpace::serve(Iova address, Data data, bool write, Use use) {
    TRY(Range<Iova>::create(address, data.size()));
    while (!data.empty()) {
        auto entry = TRY(enter(address, write));
        const uint64_t offset = address - entry->range.start();
        const auto count = std::min<uint64_t>(data.size(), entry->range.size_bytes() - offset);
        const auto part = data.first(count);
        const Result<> result =
            std::visit([&](const auto& backing) { return use(backing, offset, part); }, entry->backing);
        entry.reset();
        leave();
        if (!result) return result;
        data = data.subspan(count);
        address = address + count;
    }
    return {};
}

Result<> DmaSpace::read(Iova address, std::span<std::byte> data) {
    return serve(address, data, false,
                 Overloaded{[](const MemoryRef& memory, uint64_t offset, std::span<std::byte> part) {
                                return read_memory(memory, offset, part);
                            },
                            [](const Target& target, uint64_t offset, std::span<std::byte> part) {
                                return target->read(offset, part);
                            },
                            [](const Event&, uint64_t, std::span<std::byte> part) -> Result<> {
                                std::fill(part.begin(), part.end(), std::byte{0});
                                return {};
                            }});
}

Result<> DmaSpace::write(Iova address, std::span<const std::byte> data) {
    return serve(address, data, true,
                 Overloaded{[](const MemoryRef& memory, uint64_t offset, std::span<const std::byte> part) {
                                return write_memory(memory, offset, part);
                            },
                            [](const Target& target, uint64_t offset, std::span<const std::byte> part) {
                                return target->write(offset, part);
                            },
                            [](const Event& event, uint64_t, std::span<const std::byte> part) -> Result<> {
                                if (part.size() == 4) signal(*event.fd);
                                return {};
                            }});
}

} // namespace lanepool::vfio_user
