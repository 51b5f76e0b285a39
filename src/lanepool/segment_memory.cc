// SPDX-License-Identifier: Apache-2.0
#include "lanepool/segment_memory.h"

#include "lanepool/extents.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>

namespace lanepool::client {

namespace {
// The memory of all segments of the process, by its first byte: memory that is one's already cannot move into
// another.
class Ranges {
  public:
    bool add(std::span<std::byte> memory) {
        const auto start = reinterpret_cast<uintptr_t>(memory.data());
        const std::lock_guard lock(mutex_);
        const auto next = ends_.upper_bound(start);
        if (next != ends_.end() && next->first < start + memory.size()) return false;
        if (next != ends_.begin() && std::prev(next)->second > start) return false;
        ends_[start] = start + memory.size();
        return true;
    }
    void remove(std::span<std::byte> memory) {
        const std::lock_guard lock(mutex_);
        ends_.erase(reinterpret_cast<uintptr_t>(memory.data()));
    }

  private:
    std::mutex mutex_;
    std::map<uintptr_t, uintptr_t> ends_;
};
Ranges& ranges() {
    static auto* const all = new Ranges; // segments may be destroyed after everything static
    return *all;
}

// Linux moves at most this much in one call.
constexpr size_t max_copy_bytes = 1 << 30;

Result<> copy_all(std::span<std::byte> memory, bool in, int fd) {
    for (size_t done = 0; done < memory.size();) {
        const size_t size = std::min(max_copy_bytes, memory.size() - done);
        const auto offset = static_cast<off_t>(done);
        const ssize_t count = in ? ::pwrite(fd, memory.data() + done, size, offset)
                                 : ::pread(fd, memory.data() + done, size, offset);
        if (count <= 0)
            return fail_errno(fmt::format("moving {:#x} bytes at {} into a segment (readable and writable "
                                          "memory is needed)",
                                          memory.size(), static_cast<void*>(memory.data())));
        done += static_cast<size_t>(count);
    }
    return {};
}
} // namespace

SegmentMemory::SegmentMemory(SegmentMemory&& other) noexcept { *this = std::move(other); }

SegmentMemory& SegmentMemory::operator=(SegmentMemory&& other) noexcept {
    if (this != &other) {
        release();
        fd_ = std::move(other.fd_);
        bytes_ = std::exchange(other.bytes_, {});
        is_users_ = other.is_users_;
    }
    return *this;
}

Result<SegmentMemory> SegmentMemory::create(uint64_t size_bytes) {
    SegmentMemory memory;
    memory.fd_ = TRY(create_memory("lanepool-segment", size_bytes));
    void* address = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd_.get(), 0);
    if (address == MAP_FAILED) return fail_errno(fmt::format("mapping a segment of {:#x} bytes", size_bytes));
    memory.bytes_ = {static_cast<std::byte*>(address), size_bytes};
    ranges().add(memory.bytes_);
    return memory;
}

Result<SegmentMemory> SegmentMemory::around(std::span<std::byte> user) {
    if (user.empty() || reinterpret_cast<uintptr_t>(user.data()) % page_bytes() ||
        user.size() % page_bytes() || reinterpret_cast<uintptr_t>(user.data()) > UINTPTR_MAX - user.size())
        return fail(Errc::invalid_argument, "memory of {:#x} bytes at {}: whole pages of {} bytes are needed",
                    user.size(), static_cast<void*>(user.data()), page_bytes());
    if (!ranges().add(user))
        return fail(Errc::already_exists, "a part of the {:#x} bytes at {} is a segment already", user.size(),
                    static_cast<void*>(user.data()));
    SegmentMemory memory; // releases nothing before it has bytes
    const auto move = [&]() -> Result<> {
        memory.fd_ = TRY(create_memory("lanepool-segment", user.size()));
        TRY(copy_all(user, true, memory.fd_.get()));
        // Back again: it changes nothing, but fails where the memory is not writable.
        TRY(copy_all(user, false, memory.fd_.get()));
        if (::mmap(user.data(), user.size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory.fd_.get(),
                   0) == MAP_FAILED)
            return fail_errno(fmt::format("mapping a segment at {}", static_cast<void*>(user.data())));
        return {};
    };
    if (auto moved = move(); !moved) {
        ranges().remove(user);
        return tl::unexpected(moved.error());
    }
    memory.bytes_ = user;
    memory.is_users_ = true;
    return memory;
}

void SegmentMemory::release() {
    if (bytes_.empty()) return;
    if (is_users_) {
        void* copy =
            ::mmap(nullptr, bytes_.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        // Without room for a copy the memory stays shared with who had it, but stays.
        if (copy != MAP_FAILED) {
            std::memcpy(copy, bytes_.data(), bytes_.size());
            if (::mremap(copy, bytes_.size(), bytes_.size(), MREMAP_MAYMOVE | MREMAP_FIXED, bytes_.data()) ==
                MAP_FAILED)
                ::munmap(copy, bytes_.size());
        }
        ranges().remove(bytes_);
    } else {
        // In this order: what is mapped there next may be a segment, too.
        ranges().remove(bytes_);
        ::munmap(bytes_.data(), bytes_.size());
    }
    bytes_ = {};
    fd_.reset();
}

} // namespace lanepool::client
