// SPDX-License-Identifier: Apache-2.0
#include "vfio/interrupts.h"

#include "vfio/info.h"

#include <algorithm>
#include <fcntl.h>
#include <linux/vfio.h>

namespace lanepool::vfio {

namespace {

// PCI allows 2048 MSI-X vectors (PCI Local Bus Specification 3.0, 6.8.2).
constexpr uint32_t max_vectors = 2048;

uint32_t number(pci::Irq index) { return static_cast<uint32_t>(index); }

const char* name(pci::Irq index) {
    switch (index) {
    case pci::Irq::intx:
        return "INTx";
    case pci::Irq::msi:
        return "MSI";
    case pci::Irq::msix:
        return "MSI-X";
    case pci::Irq::error:
        return "error";
    case pci::Irq::request:
        return "request";
    }
    return "unknown";
}

Result<UniqueFd> duplicate(int eventfd) {
    UniqueFd copy(::fcntl(eventfd, F_DUPFD_CLOEXEC, 0));
    if (!copy) return fail_errno("duplicating an eventfd");
    return copy;
}

} // namespace

std::vector<std::byte> encode_irq_set(pci::Irq index, uint32_t flags, uint32_t start, uint32_t count,
                                      std::span<const int> eventfds) {
    vfio_irq_set head{};
    const auto data = std::as_bytes(eventfds);
    head.argsz = static_cast<uint32_t>(sizeof head + data.size());
    head.flags = flags;
    head.index = number(index);
    head.start = start;
    head.count = count;
    std::vector<std::byte> set(head.argsz);
    std::memcpy(set.data(), &head, sizeof head);
    std::copy(data.begin(), data.end(), set.begin() + sizeof head);
    return set;
}

Result<IrqIndex> parse_irq(std::span<const std::byte> answer, pci::Irq index) {
    const auto info = TRY(part_of<vfio_irq_info>(answer));
    if (info.index != number(index) || info.count > max_vectors)
        return fail(Errc::protocol, "asked for interrupt index {}, the answer is {} vectors of {}",
                    number(index), info.count, info.index);
    if ((info.flags & VFIO_IRQ_INFO_EVENTFD) == 0) return IrqIndex{};
    return IrqIndex{{info.count, (info.flags & VFIO_IRQ_INFO_MASKABLE) != 0,
                     (info.flags & VFIO_IRQ_INFO_AUTOMASKED) != 0},
                    (info.flags & VFIO_IRQ_INFO_NORESIZE) != 0};
}

Result<> Interrupts::set(pci::Irq index, uint32_t first, std::span<const int> eventfds) {
    const uint32_t count = indexes_[number(index)].info.count;
    if (first > count || eventfds.size() > count - first)
        return fail(Errc::out_of_range, "{} vectors of {} from {}, the function has {}", eventfds.size(),
                    name(index), first, count);
    const std::lock_guard lock(mutex_);
    if (eventfds.empty()) return first == 0 && active_ == index ? turn_off_locked() : Result<>{};
    const bool nothing_to_set =
        std::all_of(eventfds.begin(), eventfds.end(), [](int eventfd) { return eventfd < 0; });
    if (active_ != index) {
        // Nothing is set up there that could be taken away.
        if (nothing_to_set) return {};
        TRY(turn_off_locked());
    }
    if (active_ == index && first + eventfds.size() > vectors_.size()) {
        if (nothing_to_set) // beyond what is set up
            return first < vectors_.size() ? assign(index, first, eventfds.first(vectors_.size() - first))
                                           : Result<>{};
        if (indexes_[number(index)].no_resize) return grow(index, first, eventfds);
    }
    return assign(index, first, eventfds);
}

// Sets vectors of an index that is off, or where all of them are set up or can be added.
Result<> Interrupts::assign(pci::Irq index, uint32_t first, std::span<const int> eventfds) {
    std::vector<UniqueFd> kept;
    for (const int eventfd : eventfds)
        kept.push_back(eventfd < 0 ? UniqueFd() : TRY(duplicate(eventfd)));
    auto set = encode_irq_set(index, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, first,
                              static_cast<uint32_t>(eventfds.size()), eventfds);
    const int result = kernel_.ioctl(device_, VFIO_DEVICE_SET_IRQS, set.data());
    if (result < 0)
        return fail_errno(
            result, fmt::format("setting up {} vectors of {} from {}", eventfds.size(), name(index), first));
    if (result > 0) // what could be had instead
        return fail(Errc::no_space, "the machine has {} interrupt vectors left for {}, {} are wanted", result,
                    name(index), first + eventfds.size());
    active_ = index;
    if (vectors_.size() < first + kept.size()) vectors_.resize(first + kept.size());
    std::move(kept.begin(), kept.end(), vectors_.begin() + first);
    return {};
}

Result<> Interrupts::grow(pci::Irq index, uint32_t first, std::span<const int> eventfds) {
    std::vector<UniqueFd> before;
    TRY(turn_off_locked(&before));
    std::vector<int> all;
    for (const auto& eventfd : before)
        all.push_back(eventfd.get());
    all.resize(first + eventfds.size(), -1);
    std::copy(eventfds.begin(), eventfds.end(), all.begin() + first);
    auto grown = assign(index, 0, all);
    if (!grown) {
        // As it was, if that can be had again.
        all.resize(before.size());
        std::transform(before.begin(), before.end(), all.begin(),
                       [](auto& eventfd) { return eventfd.get(); });
        if (auto restored = assign(index, 0, all); !restored)
            grown = tl::unexpected(grown.error().within("and what was set up is off now"));
    }
    for (const auto& eventfd : before)
        if (eventfd) signal(eventfd);
    return grown;
}

Result<> Interrupts::mask(pci::Irq index, uint32_t vector, bool masked) {
    const auto& info = indexes_[number(index)].info;
    if (vector >= info.count)
        return fail(Errc::out_of_range, "there is no vector {} of {}, the function has {}", vector,
                    name(index), info.count);
    if (!info.maskable)
        return fail(Errc::not_supported, "the kernel's VFIO cannot mask vectors of {}", name(index));
    const std::lock_guard lock(mutex_);
    auto set = encode_irq_set(
        index, VFIO_IRQ_SET_DATA_NONE | (masked ? VFIO_IRQ_SET_ACTION_MASK : VFIO_IRQ_SET_ACTION_UNMASK),
        vector, 1, {});
    if (const int result = kernel_.ioctl(device_, VFIO_DEVICE_SET_IRQS, set.data()); result < 0)
        return fail_errno(
            result, fmt::format("{} vector {} of {}", masked ? "masking" : "unmasking", vector, name(index)));
    return {};
}

Result<> Interrupts::turn_off() {
    const std::lock_guard lock(mutex_);
    return turn_off_locked();
}

Result<> Interrupts::turn_off_locked(std::vector<UniqueFd>* were) {
    if (!active_) return {};
    auto set = encode_irq_set(*active_, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, {});
    if (const int result = kernel_.ioctl(device_, VFIO_DEVICE_SET_IRQS, set.data()); result < 0)
        return fail_errno(result, fmt::format("turning {} off", name(*active_)));
    active_.reset();
    if (were) *were = std::move(vectors_);
    vectors_.clear();
    return {};
}

} // namespace lanepool::vfio
