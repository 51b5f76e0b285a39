// SPDX-License-Identifier: Apache-2.0
#include "ntb/adapter_state.h"

namespace lanepool::ntb {

struct Window::Slots {
    Placement placement;
    uint64_t size_bytes;

    pci::Region region() const { return static_cast<pci::Region>(placement.slot); }
    Result<> check(uint64_t offset_bytes, uint64_t bytes) const {
        if (offset_bytes <= size_bytes && bytes <= size_bytes - offset_bytes) return {};
        return fail(Errc::out_of_range, "{} bytes at offset {:#x} lie outside of a window of {} bytes", bytes,
                    offset_bytes, size_bytes);
    }
};

// ---- Opening and closing

Result<std::vector<Window>> Adapter::open_windows(std::span<const Target> targets) {
    if (targets.empty()) return std::vector<Window>{};
    const auto placements = TRY(state_->with([&]() -> Result<std::vector<Placement>> {
        uint64_t checked = 0;
        for (const auto& target : targets) {
            if (has_partition(checked, target.partition)) continue;
            TRY(state_->check_link(target.partition));
            checked |= uint64_t{1} << target.partition.value;
        }
        return state_->tables().open(targets);
    }));
    std::vector<Window> windows;
    for (size_t i = 0; i < targets.size(); ++i)
        windows.push_back(Window(
            state_, std::make_unique<Window::Slots>(Window::Slots{placements[i], targets[i].size_bytes})));
    return windows;
}

Result<Window> Adapter::open_window(const Target& target) {
    auto windows = TRY(open_windows({&target, 1}));
    return std::move(windows.front());
}

Result<> Adapter::close_windows(std::vector<Window> windows) {
    std::vector<Placement> placements;
    for (auto& window : windows) {
        if (window.state_ && window.state_ != state_)
            return fail(Errc::invalid_argument, "one of the windows belongs to another adapter");
        if (window.slots_) placements.push_back(window.slots_->placement);
        window.slots_.reset();
        window.state_.reset();
    }
    return state_->with([&] { return state_->tables().close(placements); });
}

Window::Window(std::shared_ptr<AdapterState> state, std::unique_ptr<Slots> slots)
    : state_(std::move(state)), slots_(std::move(slots)) {}
Window::Window() = default;
Window::Window(Window&&) noexcept = default;

Window& Window::operator=(Window&& other) noexcept {
    if (this != &other) {
        [[maybe_unused]] const auto closed = close();
        state_ = std::move(other.state_);
        slots_ = std::move(other.slots_);
    }
    return *this;
}

Window::~Window() { [[maybe_unused]] const auto closed = close(); }

Result<> Window::close() {
    const auto state = std::exchange(state_, nullptr);
    const auto slots = std::exchange(slots_, nullptr);
    if (!state || !slots) return {};
    auto done = state->with([&] { return state->tables().close({&slots->placement, 1}); });
    if (!done && done.error().code() == Errc::disconnected) return {};
    return done;
}

// ---- Using

pci::Region Window::region() const { return slots_ ? slots_->region() : pci::Region::bar0; }
NtbOffset Window::offset() const { return {slots_ ? slots_->placement.offset_bytes : 0}; }
uint64_t Window::size_bytes() const { return slots_ ? slots_->size_bytes : 0; }

// Calls USE with the offset in the BAR after checking the range.
template <class T, class Use>
static Result<T> use_window(const std::shared_ptr<AdapterState>& state, Use use) {
    if (!state) return fail(Errc::disconnected, "the window is closed");
    return state->with(use);
}

Result<> Window::read(uint64_t offset_bytes, std::span<std::byte> data) const {
    return use_window<void>(state_, [&]() -> Result<> {
        TRY(slots_->check(offset_bytes, data.size()));
        return state_->function().read(region(), offset().value + offset_bytes, data);
    });
}

Result<> Window::write(uint64_t offset_bytes, std::span<const std::byte> data) const {
    return use_window<void>(state_, [&]() -> Result<> {
        TRY(slots_->check(offset_bytes, data.size()));
        return state_->function().write(region(), offset().value + offset_bytes, data);
    });
}

Result<std::vector<pci::Extent>> Window::memory(uint64_t offset_bytes, uint64_t size_bytes) const {
    return use_window<std::vector<pci::Extent>>(state_, [&]() -> Result<std::vector<pci::Extent>> {
        TRY(slots_->check(offset_bytes, size_bytes));
        const uint64_t start = offset().value + offset_bytes;
        auto extents = TRY(state_->function().memory(region(), start, size_bytes));
        for (auto& extent : extents) {
            if (extent.offset_bytes < start || extent.memory.size_bytes > size_bytes ||
                extent.offset_bytes - start > size_bytes - extent.memory.size_bytes)
                return fail(Errc::protocol, "the adapter names memory outside of the window");
            extent.offset_bytes -= offset().value;
        }
        return extents;
    });
}

Result<UniqueFd> Window::event(uint64_t offset_bytes) const {
    return use_window<UniqueFd>(state_, [&]() -> Result<UniqueFd> {
        TRY(slots_->check(offset_bytes, 4));
        return state_->function().event(region(), offset().value + offset_bytes);
    });
}

Result<Mapping> Window::map(Access access) const {
    const auto extents = TRY(memory(0, size_bytes()));
    if (extents.size() != 1 || extents[0].offset_bytes != 0 || extents[0].memory.size_bytes != size_bytes())
        return fail(
            Errc::not_supported,
            "the {} bytes behind the window are not one piece of memory ({} pieces): nothing is exported "
            "there, it was withdrawn, or it is registers that can only be read and written",
            size_bytes(), extents.size());
    return Mapping::create(extents[0].memory, access);
}

} // namespace lanepool::ntb
