// SPDX-License-Identifier: Apache-2.0
#include "vfio/function.h"

#include "pci/address.h"
#include "pci/config_space.h"
#include "vfio/hot_reset.h"
#include "vfio/info.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <linux/vfio.h>
#include <thread>

namespace lanepool::vfio {

namespace {

using pci::Region;

// What a read finds where nobody answers (PCI Express Base Specification, 2.3.2). Of the status register, no
// function has all bits. Not the vendor: the kernel answers that one itself.
constexpr uint16_t all_ones = 0xffff;

// While somebody else looks at the function, for example through sysfs, the kernel does not reset it.
constexpr auto reset_retry_limit = std::chrono::seconds(5);
constexpr auto reset_retry_pause = std::chrono::milliseconds(10);
// The kernel has waited for the function itself; this is for what comes a little late.
constexpr auto revival_limit = std::chrono::milliseconds(200);
constexpr auto revival_poll = std::chrono::milliseconds(5);

uint32_t number(Region region) { return static_cast<uint32_t>(region); }
uint32_t number(pci::Irq index) { return static_cast<uint32_t>(index); }

} // namespace

Result<std::unique_ptr<KernelFunction>>
KernelFunction::open(Kernel& kernel, Groups& groups, const Paths& paths, const pci::Address& address) {
    auto membership = TRY(groups.join(paths, address));
    std::unique_ptr<KernelFunction> function(
        new KernelFunction(kernel, groups, address, std::move(membership)));
    std::string name = pci::to_string(address);
    const int device =
        kernel.ioctl(function->membership_.group()->get(), VFIO_GROUP_GET_DEVICE_FD, name.data());
    if (device < 0) return fail_errno(device, fmt::format("opening function {} of its IOMMU group", name));
    function->device_ = share(UniqueFd(device));
    TRY(function->look_around());
    return function;
}

KernelFunction::~KernelFunction() {
    if (!interrupts_) return;
    departure_.reset();
    // The kernel does both when the descriptor is closed, but somebody may have been given it by memory().
    [[maybe_unused]] const auto off = interrupts_->turn_off();
    [[maybe_unused]] const auto quiet = clear_bus_master();
}

Result<> KernelFunction::look_around() {
    const int device = device_->get();
    vfio_device_info request{};
    const auto answer =
        TRY(ask(kernel_, device, VFIO_DEVICE_GET_INFO, bytes_of(request), "asking what the function is"));
    const auto info = TRY(part_of<vfio_device_info>(answer));
    if ((info.flags & VFIO_DEVICE_FLAGS_PCI) == 0)
        return fail(Errc::not_supported, "what the kernel shows as {} is not a PCI function",
                    pci::to_string(address_));
    for (uint32_t i = 0; i < std::min(info.num_regions, pci::region_count); ++i) {
        vfio_region_info region{};
        region.index = i;
        auto described = ask(kernel_, device, VFIO_DEVICE_GET_REGION_INFO, bytes_of(region),
                             fmt::format("asking about region {}", i));
        if (described)
            regions_[i] = TRY(parse_region(*described, i));
        else if (described.error().code() != Errc::invalid_argument) // one that it does not have
            return tl::unexpected<Error>(described.error());
    }
    std::array<IrqIndex, pci::irq_count> indexes;
    for (uint32_t i = 0; i < std::min(info.num_irqs, pci::irq_count); ++i) {
        vfio_irq_info irq{};
        irq.index = i;
        auto described = ask(kernel_, device, VFIO_DEVICE_GET_IRQ_INFO, bytes_of(irq),
                             fmt::format("asking about interrupt index {}", i));
        if (described)
            indexes[i] = TRY(parse_irq(*described, static_cast<pci::Irq>(i)));
        else if (described.error().code() != Errc::invalid_argument)
            return tl::unexpected<Error>(described.error());
    }
    TRY(watch_departure(indexes));
    // Those two are ours.
    indexes[number(pci::Irq::error)] = indexes[number(pci::Irq::request)] = IrqIndex{};
    for (uint32_t i = 0; i < pci::irq_count; ++i)
        irqs_[i] = indexes[i].info;
    interrupts_.emplace(kernel_, device, indexes);
    resets_alone_ = (info.flags & VFIO_DEVICE_FLAGS_RESET) != 0;
    if (!resets_alone_)
        if (const auto affected = affected_by_hot_reset(kernel_, device))
            resets_with_bus_ = groups_to_reset(groups_, address_, *affected).has_value();
    return {};
}

Result<> KernelFunction::watch_departure(const std::array<IrqIndex, pci::irq_count>& indexes) {
    departure_ = TRY(Departure::create());
    const int eventfd = departure_->eventfd().get();
    for (const auto index : {pci::Irq::error, pci::Irq::request}) {
        if (indexes[number(index)].info.count == 0) continue;
        auto set = encode_irq_set(index, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1,
                                  {&eventfd, 1});
        if (const int error = kernel_.ioctl(device_->get(), VFIO_DEVICE_SET_IRQS, set.data()); error < 0)
            return fail_errno(error, "asking to be told when the function has to go");
    }
    return {};
}

const pci::RegionInfo& KernelFunction::region(Region index) const { return regions_[number(index)].info; }
const pci::IrqInfo& KernelFunction::irq(pci::Irq index) const { return irqs_[number(index)]; }

Result<> KernelFunction::check(Region region, uint64_t offset_bytes, uint64_t size_bytes) const {
    const uint64_t region_bytes = regions_[number(region)].info.size_bytes;
    if (offset_bytes > region_bytes || size_bytes > region_bytes - offset_bytes)
        return fail(Errc::out_of_range, "{} bytes at {:#x} lie outside of region {} with {} bytes",
                    size_bytes, offset_bytes, number(region), region_bytes);
    return {};
}

// Whether nothing answers any more where the function was.
bool KernelFunction::dead() {
    std::array<std::byte, 2> status;
    const auto got = kernel_.pread(device_->get(), status,
                                   regions_[number(Region::config)].base_bytes + pci::config::status);
    return got != std::ssize(status) || pci::get16(status, 0) == all_ones;
}

Error KernelFunction::explain(int error, Region region, uint64_t offset_bytes, const char* what) {
    const auto where = fmt::format("{} region {} at {:#x}", what, number(region), offset_bytes);
    if (error == -ENODEV || dead())
        return {Errc::disconnected, fmt::format("{}: function {} is gone", where, pci::to_string(address_))};
    if (error == -EIO && region <= Region::rom) {
        const auto command = pci::read16(*this, Region::config, pci::config::command);
        if (command && (*command & pci::command::memory_space) == 0)
            return {Errc::failed_precondition,
                    fmt::format("{}: memory space is off in the function's command register", where)};
        return {Errc::failed_precondition,
                fmt::format("{}: the function does not answer; it may sleep (power state D3)", where)};
    }
    return fail_errno(error, where).value();
}

Result<> KernelFunction::read(Region region, uint64_t offset_bytes, std::span<std::byte> data) {
    TRY(check(region, offset_bytes, data.size()));
    const uint64_t base = regions_[number(region)].base_bytes;
    while (!data.empty()) {
        const auto got = kernel_.pread(device_->get(), data, base + offset_bytes);
        if (got <= 0) return tl::unexpected(explain(static_cast<int>(got), region, offset_bytes, "reading"));
        data = data.subspan(static_cast<size_t>(got));
        offset_bytes += static_cast<uint64_t>(got);
    }
    return {};
}

Result<> KernelFunction::write(Region region, uint64_t offset_bytes, std::span<const std::byte> data) {
    TRY(check(region, offset_bytes, data.size()));
    const uint64_t base = regions_[number(region)].base_bytes;
    while (!data.empty()) {
        const auto put = kernel_.pwrite(device_->get(), data, base + offset_bytes);
        if (put <= 0) return tl::unexpected(explain(static_cast<int>(put), region, offset_bytes, "writing"));
        data = data.subspan(static_cast<size_t>(put));
        offset_bytes += static_cast<uint64_t>(put);
    }
    return {};
}

Result<std::vector<pci::Extent>> KernelFunction::memory(Region region, uint64_t offset_bytes,
                                                        uint64_t size_bytes) {
    TRY(check(region, offset_bytes, size_bytes));
    return regions_[number(region)].memory(device_, offset_bytes, size_bytes);
}

Result<UniqueFd> KernelFunction::event(Region region, uint64_t offset_bytes) {
    return fail(Errc::not_supported, "the kernel gives no eventfd for region {} at {:#x}", number(region),
                offset_bytes);
}

Result<pci::DmaMapping> KernelFunction::map_dma(Range<Iova> range, const MemoryRef& memory, Access access) {
    TRY(membership_.container().map(range, memory, access));
    return pci::DmaMapping(*this, range);
}

Result<pci::DmaMapping> KernelFunction::map_dma(Range<Iova> range, std::shared_ptr<pci::DmaTarget>, Access) {
    return fail(Errc::not_supported, "{} bytes at {:#x} are no memory: an IOMMU maps nothing else",
                range.size_bytes(), range.start().value);
}

Result<pci::DmaMapping> KernelFunction::map_dma_event(Iova address, const UniqueFd&) {
    return fail(Errc::not_supported, "an eventfd at {:#x}: an IOMMU maps memory only", address.value);
}

Result<> KernelFunction::unmap_dma(Range<Iova> range) { return membership_.container().unmap(range); }

Result<> KernelFunction::set_irqs(pci::Irq index, uint32_t first, std::span<const int> eventfds) {
    return interrupts_->set(index, first, eventfds);
}

Result<> KernelFunction::mask_irq(pci::Irq index, uint32_t vector, bool masked) {
    return interrupts_->mask(index, vector, masked);
}

Result<> KernelFunction::reset() {
    if (!can_reset()) return fail(Errc::not_supported, "this function cannot be reset");
    TRY(interrupts_->turn_off());
    TRY(resets_alone_ ? reset_device() : hot_reset(kernel_, device_->get(), groups_, address_));
    const auto deadline = std::chrono::steady_clock::now() + revival_limit;
    while (dead()) {
        if (std::chrono::steady_clock::now() >= deadline)
            return fail(Errc::io, "function {} does not come back from its reset: its config space is dead",
                        pci::to_string(address_));
        std::this_thread::sleep_for(revival_poll);
    }
    // The kernel saves the command register over the reset and brings it back.
    return clear_bus_master();
}

Result<> KernelFunction::reset_device() {
    const auto deadline = std::chrono::steady_clock::now() + reset_retry_limit;
    while (true) {
        const int error = kernel_.ioctl(device_->get(), VFIO_DEVICE_RESET, nullptr);
        if (error == 0) return {};
        if (error == -EAGAIN && departure_->said())
            return fail(Errc::disconnected,
                        "resetting function {}: the kernel is taking it away, and resets it no more",
                        pci::to_string(address_));
        if (error != -EAGAIN || std::chrono::steady_clock::now() >= deadline)
            return fail_errno(error, fmt::format("resetting function {}", pci::to_string(address_)));
        std::this_thread::sleep_for(reset_retry_pause);
    }
}

Result<> KernelFunction::clear_bus_master() {
    const uint16_t command = TRY(pci::read16(*this, Region::config, pci::config::command));
    if ((command & pci::command::bus_master) == 0) return {};
    return pci::write16(*this, Region::config, pci::config::command,
                        static_cast<uint16_t>(command & ~pci::command::bus_master));
}

// The device's own descriptor would do for the registers, but only the container keeps what is mapped, and
// the kernel gives a group that is open to nobody else.
std::vector<SharedFd> KernelFunction::lifelines() const {
    return {membership_.group(), membership_.container().descriptor(), device_};
}

void KernelFunction::on_disconnect(std::function<void()> callback) {
    departure_->set_callback(std::move(callback));
}

} // namespace lanepool::vfio
