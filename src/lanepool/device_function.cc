// SPDX-License-Identifier: Apache-2.0
#include "lanepool/device_function.h"

#include "lanepool/states.h"
#include "pci/config_space.h"

#include <algorithm>
#include <cstring>
#include <fcntl.h>

namespace lanepool {

namespace {

tl::unexpected<Error> not_supported(const char* what) {
    return fail(Errc::not_supported, "a borrowed device: {}", what);
}

// The widest register access that OFFSET and what is LEFT allow.
unsigned width_at(uint64_t offset, size_t left) {
    unsigned width = 8;
    while (offset % width || width > left)
        width /= 2;
    return width;
}

template <class T>
uint64_t load(const std::byte* from) {
    return __atomic_load_n(reinterpret_cast<const T*>(from), __ATOMIC_ACQUIRE);
}
template <class T>
void store(std::byte* to, uint64_t value) {
    __atomic_store_n(reinterpret_cast<T*>(to), static_cast<T>(value), __ATOMIC_RELEASE);
}

uint64_t load(const std::byte* from, unsigned width) {
    switch (width) {
    case 8:
        return load<uint64_t>(from);
    case 4:
        return load<uint32_t>(from);
    case 2:
        return load<uint16_t>(from);
    default:
        return load<uint8_t>(from);
    }
}
void store(std::byte* to, uint64_t value, unsigned width) {
    switch (width) {
    case 8:
        return store<uint64_t>(to, value);
    case 4:
        return store<uint32_t>(to, value);
    case 2:
        return store<uint16_t>(to, value);
    default:
        return store<uint8_t>(to, value);
    }
}

} // namespace

Result<std::unique_ptr<DeviceFunction>>
DeviceFunction::borrow(Session& session, uint64_t fdid, Sharing sharing, std::chrono::milliseconds timeout) {
    std::unique_ptr<DeviceFunction> function(new DeviceFunction);
    const auto lost = [watcher = function->watcher_](const Error&) {
        std::function<void()> callback;
        {
            const std::lock_guard lock(watcher->mutex);
            watcher->over = true;
            callback = std::exchange(watcher->callback, nullptr);
        }
        if (callback) callback();
    };
    function->device_ = TRY(Device::borrow(session, fdid, sharing, timeout, {.on_lost = lost}));
    TRY(function->open_bars());
    function->config_ = function->device_->identity().config;
    function->regions_[static_cast<size_t>(pci::Region::config)] = {function->config_.size(), true, true, {}};
    const uint32_t vectors = function->device_->interrupts();
    function->irqs_[static_cast<size_t>(pci::Irq::msix)].count = vectors;
    function->vectors_.resize(vectors);
    return function;
}

DeviceFunction::~DeviceFunction() {
    for (auto& bar : bars_)
        bar.reset();
    device_.reset();
}

Result<> DeviceFunction::open_bars() {
    for (unsigned i = 0; i < bars_.size(); ++i) {
        if (!device_->bar_size_bytes(i)) continue;
        Bar bar{TRY(device_->bar(i)), {}};
        if (bar.bar.mappable()) bar.mapped = TRY(bar.bar.map());
        pci::RegionInfo info{bar.bar.size_bytes(), true, true, {}};
        for (const auto& piece : bar.bar.state()->extents.pieces())
            info.mappable.push_back({piece.offset_bytes, piece.size_bytes});
        regions_[i] = std::move(info);
        bars_[i].emplace(std::move(bar));
    }
    return {};
}

const pci::RegionInfo& DeviceFunction::region(pci::Region index) const {
    return regions_.at(static_cast<size_t>(index));
}
const pci::IrqInfo& DeviceFunction::irq(pci::Irq index) const { return irqs_.at(static_cast<size_t>(index)); }

Result<DeviceFunction::Bar*> DeviceFunction::bar_at(pci::Region region, uint64_t offset_bytes,
                                                    uint64_t size_bytes) {
    const auto index = static_cast<size_t>(region);
    const uint64_t size = index < bars_.size() && bars_[index] ? bars_[index]->bar.size_bytes() : 0;
    if (offset_bytes > size || size_bytes > size - offset_bytes)
        return fail(Errc::out_of_range, "{:#x} bytes at {:#x} of region {}, which has {:#x}", size_bytes,
                    offset_bytes, index, size);
    TRY(device_->state()->usable()); // a mapping of what is lost would answer nonsense
    return &*bars_[index];
}

Result<> DeviceFunction::read(pci::Region region, uint64_t offset_bytes, std::span<std::byte> data) {
    if (region == pci::Region::config) {
        const std::lock_guard lock(mutex_);
        if (offset_bytes > config_.size() || data.size() > config_.size() - offset_bytes)
            return fail(Errc::out_of_range, "of configuration space only the first {} bytes are known",
                        config_.size());
        std::copy_n(config_.begin() + static_cast<ptrdiff_t>(offset_bytes), data.size(), data.begin());
        return {};
    }
    Bar& bar = *TRY(bar_at(region, offset_bytes, data.size()));
    for (size_t done = 0; done < data.size();) {
        const uint64_t offset = offset_bytes + done;
        const unsigned width = width_at(offset, data.size() - done);
        const uint64_t value =
            bar.mapped ? load(bar.mapped.data() + offset, width) : TRY(bar.bar.read(offset, width));
        std::memcpy(data.data() + done, &value, width); // little-endian, as the device
        done += width;
    }
    return {};
}

Result<> DeviceFunction::write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data) {
    if (region == pci::Region::config) return write_config(offset_bytes, data);
    Bar& bar = *TRY(bar_at(region, offset_bytes, data.size()));
    for (size_t done = 0; done < data.size();) {
        const uint64_t offset = offset_bytes + done;
        const unsigned width = width_at(offset, data.size() - done);
        uint64_t value = 0;
        std::memcpy(&value, data.data() + done, width);
        if (bar.mapped)
            store(bar.mapped.data() + offset, value, width);
        else
            TRY(bar.bar.write(offset, width, value));
        done += width;
    }
    return {};
}

Result<> DeviceFunction::write_config(uint64_t offset_bytes, std::span<const std::byte> data) {
    if (offset_bytes != pci::config::command || data.size() != 2)
        return not_supported("of its configuration space only the command register can be written");
    const std::lock_guard lock(mutex_);
    std::ranges::copy(data, config_.begin() + pci::config::command);
    return {};
}

Result<std::vector<pci::Extent>> DeviceFunction::memory(pci::Region region, uint64_t offset_bytes,
                                                        uint64_t size_bytes) {
    Bar& bar = *TRY(bar_at(region, offset_bytes, size_bytes));
    std::vector<pci::Extent> extents;
    for (const auto& piece : bar.bar.state()->extents.pieces()) {
        const uint64_t start = std::max(piece.offset_bytes, offset_bytes);
        const uint64_t end = std::min(piece.offset_bytes + piece.size_bytes, offset_bytes + size_bytes);
        if (start >= end) continue;
        extents.push_back({start,
                           {share(TRY(piece.fd.duplicate())),
                            piece.fd_offset_bytes + (start - piece.offset_bytes), end - start}});
    }
    return extents;
}

Result<> DeviceFunction::set_irqs(pci::Irq index, uint32_t first, std::span<const int> eventfds) {
    const uint32_t count = irq(index).count;
    if (first > count || eventfds.size() > count - first)
        return fail(Errc::out_of_range, "{} vectors from {} on, there are {}", eventfds.size(), first, count);
    const std::lock_guard lock(mutex_);
    const auto set = [&](uint32_t vector, int fd) -> Result<> {
        if (fd < 0 && !vectors_[vector]) return {};
        UniqueFd eventfd;
        if (fd >= 0) {
            eventfd = UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
            if (!eventfd) return fail_errno("duplicating an eventfd");
        }
        TRY(device_->set_interrupt(vector, eventfd));
        vectors_[vector] = fd >= 0;
        return {};
    };
    if (eventfds.empty() && first == 0)
        for (uint32_t vector = 0; vector < count; ++vector)
            TRY(set(vector, -1));
    for (uint32_t i = 0; i < eventfds.size(); ++i)
        TRY(set(first + i, eventfds[i]));
    return {};
}

void DeviceFunction::on_disconnect(std::function<void()> callback) {
    {
        const std::lock_guard lock(watcher_->mutex);
        if (!watcher_->over) {
            watcher_->callback = std::move(callback);
            return;
        }
    }
    callback();
}

Result<UniqueFd> DeviceFunction::event(pci::Region, uint64_t) {
    return not_supported("no register of it is an eventfd");
}
Result<pci::DmaMapping> DeviceFunction::map_dma(Range<Iova>, const MemoryRef&, Access) {
    return not_supported("its lender chooses where memory lies: use Device::map");
}
Result<pci::DmaMapping> DeviceFunction::map_dma(Range<Iova>, std::shared_ptr<pci::DmaTarget>, Access) {
    return not_supported("it reaches memory only: use Device::map");
}
Result<pci::DmaMapping> DeviceFunction::map_dma_event(Iova, const UniqueFd&) {
    return not_supported("it reaches memory only: use Device::set_interrupt");
}
Result<> DeviceFunction::unmap_dma(Range<Iova>) { return not_supported("nothing is mapped at chosen IOVAs"); }
Result<> DeviceFunction::mask_irq(pci::Irq, uint32_t, bool) {
    return not_supported("turn a vector off by set_irqs()");
}
Result<> DeviceFunction::reset() { return not_supported("its lender resets it, before and after the loan"); }

} // namespace lanepool
