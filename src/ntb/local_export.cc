// SPDX-License-Identifier: Apache-2.0
#include "ntb/local_export.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <mutex>
#include <unistd.h>

namespace lanepool::ntb {

namespace {

constexpr uint64_t event_bytes = 4;

// By calls, not by a mapping: who owns the memory may shorten it, and a mapping would kill us then.
template <class Byte, class Transfer>
Result<> transfer(const MemoryRef& memory, uint64_t offset_bytes, std::span<Byte> data, Transfer call) {
    while (!data.empty()) {
        const auto moved = call(memory.fd->get(), data.data(), data.size(),
                                static_cast<off_t>(memory.offset_bytes + offset_bytes));
        if (moved < 0 && errno == EINTR) continue;
        if (moved < 0) return fail_errno("reaching exported memory");
        if (moved == 0) return fail(Errc::out_of_range, "the exported memory has become shorter");
        offset_bytes += static_cast<uint64_t>(moved);
        data = data.subspan(static_cast<size_t>(moved));
    }
    return {};
}

// The same file for reading only: what is handed on must not allow more than the export does.
Result<SharedFd> reopen_read_only(const UniqueFd& fd) {
    const auto path = fmt::format("/proc/self/fd/{}", fd.get());
    UniqueFd reopened(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!reopened) return fail_errno("opening memory that is exported for reading");
    return share(std::move(reopened));
}

} // namespace

// Registers that another device of this host reaches by calls.
class LocalExport::Calls final : public pci::DmaTarget {
  public:
    Calls(std::shared_ptr<const LocalExport> exported, uint64_t offset_bytes)
        : exported_(std::move(exported)), offset_bytes_(offset_bytes) {}
    Result<> read(uint64_t offset_bytes, std::span<std::byte> data) override {
        return exported_->read(offset_bytes_ + offset_bytes, data);
    }
    Result<> write(uint64_t offset_bytes, std::span<const std::byte> data) override {
        return exported_->write(offset_bytes_ + offset_bytes, data);
    }

  private:
    std::shared_ptr<const LocalExport> exported_;
    uint64_t offset_bytes_;
};

// Calls USE while the source is kept, or answers GONE.
template <class T, class Use>
Result<T> LocalExport::use(Result<T> gone, Use use) const {
    if (withdrawn_) return gone;
    const std::shared_lock lock(mutex_);
    if (withdrawn_) return gone;
    return use();
}

void LocalExport::withdraw() {
    withdrawn_ = true;
    const std::unique_lock lock(mutex_);
    source_ = std::monostate();
}

Result<> LocalExport::read(uint64_t offset_bytes, std::span<std::byte> data) const {
    std::ranges::fill(data, std::byte{0xff});
    return use(Result<>(), [&]() -> Result<> {
        if (const auto* memory = std::get_if<MemoryRef>(&source_))
            return transfer(*memory, offset_bytes, data, ::pread);
        if (const auto* registers = std::get_if<Registers>(&source_))
            return registers->device->read(registers->region, registers->offset_bytes + offset_bytes, data);
        if (std::holds_alternative<Events>(source_)) std::ranges::fill(data, std::byte{0});
        return {};
    });
}

Result<> LocalExport::write(uint64_t offset_bytes, std::span<const std::byte> data) const {
    if (access_ == Access::read_only) return {};
    return use(Result<>(), [&]() -> Result<> {
        if (const auto* memory = std::get_if<MemoryRef>(&source_))
            return transfer(*memory, offset_bytes, data, ::pwrite);
        if (const auto* registers = std::get_if<Registers>(&source_))
            return registers->device->write(registers->region, registers->offset_bytes + offset_bytes, data);
        const auto* events = std::get_if<Events>(&source_);
        if (!events) return {};
        const auto& eventfds = events->eventfds;
        if (offset_bytes % event_bytes == 0 && data.size() == event_bytes)
            if (const auto& eventfd = eventfds[offset_bytes / event_bytes]) signal(*eventfd);
        return {};
    });
}

Result<std::vector<pci::Extent>> LocalExport::memory(uint64_t offset_bytes, uint64_t size_bytes) const {
    using Extents = std::vector<pci::Extent>;
    return use(Result<Extents>(), [&]() -> Result<Extents> {
        if (const auto* memory = std::get_if<MemoryRef>(&source_)) {
            const auto fd = access_ == Access::read_only ? TRY(reopen_read_only(*memory->fd)) : memory->fd;
            return Extents{{offset_bytes, {fd, memory->offset_bytes + offset_bytes, size_bytes}}};
        }
        const auto* registers = std::get_if<Registers>(&source_);
        if (!registers || access_ == Access::read_only) return Extents{};
        const uint64_t start = registers->offset_bytes + offset_bytes;
        auto extents = TRY(registers->device->memory(registers->region, start, size_bytes));
        for (auto& extent : extents) {
            if (extent.offset_bytes < start || extent.memory.size_bytes > size_bytes ||
                extent.offset_bytes - start > size_bytes - extent.memory.size_bytes)
                return fail(Errc::protocol, "the device names memory outside of what was asked for");
            extent.offset_bytes -= registers->offset_bytes;
        }
        return extents;
    });
}

Result<UniqueFd> LocalExport::event(uint64_t offset_bytes) const {
    const auto none =
        fail(Errc::not_supported, "offset {:#x} of the export does not lead to an event", offset_bytes);
    return use(Result<UniqueFd>(none), [&]() -> Result<UniqueFd> {
        const auto* events = std::get_if<Events>(&source_);
        if (!events || offset_bytes % event_bytes != 0) return none;
        const auto& eventfd = events->eventfds[offset_bytes / event_bytes];
        if (!eventfd) return none;
        return eventfd->duplicate();
    });
}

// ---- For a device of this host

Result<bool> LocalExport::check_for(const pci::Function& device, Access access) const {
    if (access == Access::read_write && access_ == Access::read_only)
        return fail(Errc::invalid_argument, "what is exported there may only be read");
    return use(Result<bool>(fail(Errc::not_found, "the export has been withdrawn")), [&]() -> Result<bool> {
        const auto* registers = std::get_if<Registers>(&source_);
        if (registers && registers->device == &device) // it would wait for itself
            return fail(Errc::not_supported, "a device cannot reach its own registers by DMA");
        if (std::holds_alternative<Addresses>(source_))
            return fail(Errc::not_supported,
                        "addresses of the adapter's are no memory of its own host's devices");
        return std::holds_alternative<Events>(source_);
    });
}

Result<std::vector<pci::DmaMapping>> LocalExport::map_for(pci::Function& device, Iova iova,
                                                          uint64_t offset_bytes, uint64_t size_bytes,
                                                          Access access) const {
    TRY(Range<Iova>::create(iova, size_bytes));
    std::vector<pci::DmaMapping> mappings;
    if (TRY(check_for(device, access))) {
        for (uint64_t at = 0; at + event_bytes <= size_bytes; at += event_bytes)
            if (const auto eventfd = event(offset_bytes + at))
                mappings.push_back(TRY(device.map_dma_event(iova + at, *eventfd)));
        return mappings;
    }
    const auto map_calls = [&](uint64_t from, uint64_t to) -> Result<> {
        if (from == to) return {};
        mappings.push_back(
            TRY(device.map_dma(TRY(Range<Iova>::create(iova + (from - offset_bytes), to - from)),
                               std::make_shared<Calls>(shared_from_this(), from), access)));
        return {};
    };
    auto extents = TRY(memory(offset_bytes, size_bytes));
    std::ranges::sort(extents, {}, &pci::Extent::offset_bytes);
    uint64_t position = offset_bytes;
    for (const auto& extent : extents) {
        if (extent.offset_bytes < position)
            return fail(Errc::protocol, "the memory behind a region overlaps");
        TRY(map_calls(position, extent.offset_bytes));
        const auto range =
            TRY(Range<Iova>::create(iova + (extent.offset_bytes - offset_bytes), extent.memory.size_bytes));
        mappings.push_back(TRY(device.map_dma(range, extent.memory, access)));
        position = extent.offset_bytes + extent.memory.size_bytes;
    }
    TRY(map_calls(position, offset_bytes + size_bytes));
    return mappings;
}

} // namespace lanepool::ntb
