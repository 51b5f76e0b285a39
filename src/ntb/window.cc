// SPDX-License-Identifier: Apache-2.0
#include "ntb/adapter_state.h"

#include <bit>
#include <spdlog/spdlog.h>
#include <variant>

namespace lanepool::ntb {

// Where a window leads: through the switch, or to an export of the own host's.
struct Window::Way {
    std::variant<Placement, LocalTarget> place;
    uint64_t size_bytes;
    Target target;

    const Placement* switched() const { return std::get_if<Placement>(&place); }
    const LocalTarget& local() const { return std::get<LocalTarget>(place); }
    Result<> check(uint64_t offset_bytes, uint64_t bytes) const {
        if (offset_bytes <= size_bytes && bytes <= size_bytes - offset_bytes) return {};
        return fail(Errc::out_of_range, "{} bytes at offset {:#x} lie outside of a window of {} bytes", bytes,
                    offset_bytes, size_bytes);
    }
};

namespace {
pci::Region region_of(const Placement& placement) { return static_cast<pci::Region>(placement.slot); }
} // namespace

// ---- Opening and closing

Result<std::vector<Window>> Adapter::open_windows(std::span<const Target> targets) {
    std::vector<std::unique_ptr<Window::Way>> ways;
    TRY(state_->with([&]() -> Result<> {
        std::vector<Target> switched;
        uint64_t checked = uint64_t{1} << partition().value;
        for (const auto& target : targets) {
            ways.push_back(
                std::make_unique<Window::Way>(Window::Way{Placement{}, target.size_bytes, target}));
            if (target.partition == partition())
                ways.back()->place = TRY(state_->exports().find(target.address, target.size_bytes));
            else
                switched.push_back(target);
            if (has_partition(checked, target.partition)) continue;
            TRY(state_->check_link(target.partition));
            checked |= uint64_t{1} << target.partition.value;
        }
        if (switched.empty()) return {};
        const auto placements = TRY(state_->tables().open(switched));
        auto next = placements.begin();
        for (auto& way : ways)
            if (way->switched()) way->place = *next++;
        return {};
    }));
    std::vector<Window> windows;
    for (auto& way : ways)
        windows.push_back(Window(state_, std::move(way)));
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
        if (window.way_ && window.way_->switched()) {
            state_->relays().close(window.way_.get());
            placements.push_back(*window.way_->switched());
        }
        window.way_.reset();
        window.state_.reset();
    }
    return state_->with([&] { return state_->tables().close(placements); });
}

Window::Window(std::shared_ptr<AdapterState> state, std::unique_ptr<Way> way)
    : state_(std::move(state)), way_(std::move(way)) {}
Window::Window() = default;
Window::Window(Window&&) noexcept = default;

Window& Window::operator=(Window&& other) noexcept {
    if (this != &other) {
        [[maybe_unused]] const auto closed = close();
        state_ = std::move(other.state_);
        way_ = std::move(other.way_);
    }
    return *this;
}

Window::~Window() { [[maybe_unused]] const auto closed = close(); }

Result<> Window::close() {
    const auto state = std::exchange(state_, nullptr);
    const auto way = std::exchange(way_, nullptr);
    if (!state || !way || !way->switched()) return {};
    state->relays().close(way.get());
    auto done = state->with([&] { return state->tables().close({way->switched(), 1}); });
    if (!done && done.error().code() == Errc::disconnected) return {};
    return done;
}

// ---- Using

uint64_t Window::size_bytes() const { return way_ ? way_->size_bytes : 0; }

// Calls SWITCHED with the region and the offset in it, or LOCAL with the export and the offset in that, after
// checking the range.
template <class T, class Switched, class Local>
Result<T> Window::use(uint64_t offset_bytes, uint64_t bytes, Switched switched, Local local) const {
    if (!state_) return fail(Errc::disconnected, "the window is closed");
    return state_->with([&]() -> Result<T> {
        TRY(way_->check(offset_bytes, bytes));
        if (const auto* placement = way_->switched())
            return switched(region_of(*placement), placement->offset_bytes + offset_bytes);
        return local(*way_->local().exported, way_->local().offset_bytes + offset_bytes);
    });
}

Result<> Window::read(uint64_t offset_bytes, std::span<std::byte> data) const {
    return use<void>(
        offset_bytes, data.size(),
        [&](pci::Region region, uint64_t at) { return state_->window_bars().read(region, at, data); },
        [&](const LocalExport& exported, uint64_t at) { return exported.read(at, data); });
}

Result<> Window::write(uint64_t offset_bytes, std::span<const std::byte> data) const {
    return use<void>(
        offset_bytes, data.size(),
        [&](pci::Region region, uint64_t at) { return state_->window_bars().write(region, at, data); },
        [&](const LocalExport& exported, uint64_t at) { return exported.write(at, data); });
}

// EXTENTS, of which START is at OFFSET of the window.
static Result<std::vector<pci::Extent>> within_window(std::vector<pci::Extent> extents, uint64_t start,
                                                      uint64_t offset_bytes, uint64_t size_bytes) {
    for (auto& extent : extents) {
        if (extent.offset_bytes < start || extent.memory.size_bytes > size_bytes ||
            extent.offset_bytes - start > size_bytes - extent.memory.size_bytes)
            return fail(Errc::protocol, "the adapter names memory outside of the window");
        extent.offset_bytes = extent.offset_bytes - start + offset_bytes;
    }
    return extents;
}

Result<std::vector<pci::Extent>> Window::memory(uint64_t offset_bytes, uint64_t size_bytes) const {
    // The descriptor of a card is all of the card.
    if (way_ && way_->switched() && state_) {
        const bool handed_out =
            TRY(state_->with([&]() -> Result<bool> { return state_->function().hands_out_memory(); }));
        if (!handed_out) {
            TRY(way_->check(offset_bytes, size_bytes));
            return std::vector<pci::Extent>{};
        }
    }
    return extents_of(offset_bytes, size_bytes);
}

Result<MemoryRef> Window::card_memory() const {
    return use<MemoryRef>(
        0, size_bytes(),
        [&](pci::Region region, uint64_t at) -> Result<MemoryRef> {
            if (state_->function().hands_out_memory())
                return fail(Errc::not_supported, "the adapter is no card: a window is no part of it");
            auto extents = TRY(state_->function().memory(region, at, size_bytes()));
            if (extents.size() != 1 || extents[0].offset_bytes != at ||
                extents[0].memory.size_bytes != size_bytes())
                return fail(
                    Errc::not_supported,
                    "the card's BAR {} cannot be mapped in one piece at {:#x} ({} pieces for {} bytes)",
                    static_cast<uint32_t>(region), at, extents.size(), size_bytes());
            if (std::has_single_bit(size_bytes()) && at % size_bytes() != 0)
                return fail(
                    Errc::no_space,
                    "the window is at {:#x} of the card's BAR {}, not at a multiple of its {} bytes as a "
                    "BAR would be: close windows, so that there is room for one",
                    at, static_cast<uint32_t>(region), size_bytes());
            return std::move(extents[0].memory);
        },
        [](const LocalExport&, uint64_t) -> Result<MemoryRef> {
            return fail(Errc::not_supported, "what this host exports itself is reached without its card");
        });
}

Result<std::vector<pci::Extent>> Window::extents_of(uint64_t offset_bytes, uint64_t size_bytes) const {
    using Extents = std::vector<pci::Extent>;
    return use<Extents>(
        offset_bytes, size_bytes,
        [&](pci::Region region, uint64_t at) -> Result<Extents> {
            return within_window(TRY(state_->function().memory(region, at, size_bytes)), at, offset_bytes,
                                 size_bytes);
        },
        [&](const LocalExport& exported, uint64_t at) -> Result<Extents> {
            return within_window(TRY(exported.memory(at, size_bytes)), at, offset_bytes, size_bytes);
        });
}

// What the eventfd of a relay does: a write there, and a word of it where the other end has to look.
static void relay(AdapterState& state, pci::Region region, uint64_t at, const Target& target) {
    const auto done = state.with([&]() -> Result<> {
        TRY(pci::write32(state.function(), region, at, 1));
        if (!is_event_word(target.address)) return {};
        const auto sent = state.messages().send(target.partition, event_message);
        // Registers that are full are emptied before the words are looked at (event_words.h).
        return !sent && sent.error().code() == Errc::busy ? Result<>{} : sent;
    });
    if (!done) spdlog::debug("relaying an event: {}", done.error().message());
}

Result<UniqueFd> Window::event(uint64_t offset_bytes) const {
    return use<UniqueFd>(
        offset_bytes, 4,
        [&](pci::Region region, uint64_t at) -> Result<UniqueFd> {
            auto event = state_->function().event(region, at);
            const Target target{way_->target.partition, way_->target.address + offset_bytes, 4};
            // On a function that gives eventfds, a place that has none is no event, except for words.
            const bool relayed = !state_->function().hands_out_memory() || is_event_word(target.address);
            if (event || event.error().code() != Errc::not_supported || !relayed || offset_bytes % 4 != 0)
                return event;
            // Nothing runs on the adapter's thread once the state has gone.
            return state_->relays().open(
                way_.get(), offset_bytes,
                [state = state_.get(), region, at, target] { relay(*state, region, at, target); });
        },
        [&](const LocalExport& exported, uint64_t at) { return exported.event(at); });
}

Result<std::vector<pci::DmaMapping>> Window::map_for(pci::Function& device, Iova iova, Access access) const {
    using Mappings = std::vector<pci::DmaMapping>;
    return use<Mappings>(
        0, size_bytes(),
        [&](pci::Region region, uint64_t at) {
            return pci::map_peer(device, iova, state_->function(), region, at, size_bytes(), access);
        },
        [&](const LocalExport& exported, uint64_t at) {
            return exported.map_for(device, iova, at, size_bytes(), access);
        });
}

Result<Mapping> Window::map(Access access) const {
    const auto extents = TRY(extents_of(0, size_bytes()));
    if (extents.size() != 1 || extents[0].offset_bytes != 0 || extents[0].memory.size_bytes != size_bytes())
        return fail(
            Errc::not_supported,
            "the {} bytes behind the window are not one piece of memory ({} pieces): nothing is exported "
            "there, it was withdrawn, or it is registers that can only be read and written",
            size_bytes(), extents.size());
    return Mapping::create(extents[0].memory, access);
}

} // namespace lanepool::ntb
