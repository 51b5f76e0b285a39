// SPDX-License-Identifier: Apache-2.0
#include "ntb/adapter.h"

#include "ntb/adapter_state.h"

#include <algorithm>

namespace lanepool::ntb {

Result<std::unique_ptr<Adapter>> Adapter::create(std::unique_ptr<pci::Function> function,
                                                 AdapterEvents events) {
    auto state = AdapterState::create(std::move(function), std::move(events));
    if (!state) return tl::unexpected(state.error().within("taking over the NTB adapter"));
    return std::unique_ptr<Adapter>(new Adapter(std::move(*state)));
}

Adapter::~Adapter() { state_->shut_down(); }

Partition Adapter::partition() const { return state_->identity().partition; }

std::vector<Partition> Adapter::peers() const {
    std::vector<Partition> peers;
    for (unsigned p = 0; p < max_partitions; ++p)
        if (const Partition partition{static_cast<uint8_t>(p)};
            has_partition(state_->identity().targets, partition))
            peers.push_back(partition);
    return peers;
}

Result<bool> Adapter::link_up(Partition partition) const {
    return state_->with([&] { return state_->links().up(partition); });
}

AdapterCapacity Adapter::capacity() const { return state_->tables().capacity(); }
pci::Function& Adapter::function() const { return state_->function(); }

Result<> Adapter::send_message(Partition partition, uint32_t message) {
    return state_->with([&]() -> Result<> {
        if (!has_partition(state_->identity().targets, partition))
            return fail(Errc::out_of_range, "partition {} does not exist or may not be reached from here",
                        partition.value);
        return state_->messages().send(partition, message);
    });
}

// ---- Requesters

Result<Adapter::Requester> Adapter::add_requester(pci::RequesterId id) {
    Requester requester;
    requester.slot_ = TRY(state_->with([&] { return state_->tables().add_requester(id); }));
    requester.state_ = state_;
    return requester;
}

Adapter::Requester::Requester(Requester&& other) noexcept
    : state_(std::move(other.state_)), slot_(other.slot_) {}

Adapter::Requester& Adapter::Requester::operator=(Requester&& other) noexcept {
    std::swap(state_, other.state_);
    std::swap(slot_, other.slot_);
    return *this;
}

Adapter::Requester::~Requester() {
    if (state_) [[maybe_unused]]
        const auto removed = state_->with([&] { return state_->tables().remove_requester(slot_); });
}

// ---- Exports

namespace {
constexpr uint64_t page_bytes = 4096;
constexpr uint64_t whole_pages(uint64_t bytes) { return (bytes + page_bytes - 1) / page_bytes * page_bytes; }

using Map = std::function<Result<Exports::Mappings>(Iova start)>;

Result<BusAddress> add_export(AdapterState& state, std::optional<BusAddress> address,
                              LocalExport::Source source, uint64_t size_bytes, Access access,
                              const Map& map) {
    return state.with([&]() -> Result<BusAddress> {
        if (size_bytes == 0)
            return fail(Errc::invalid_argument, "there is nothing to export: the size is zero");
        return state.exports().add(address,
                                   std::make_shared<LocalExport>(std::move(source), size_bytes, access),
                                   state.tables().usual_slot_bytes(size_bytes), map);
    });
}

// For an adapter that cannot signal eventfds.
Result<BusAddress> add_event_words(AdapterState& state, LocalExport::Events events, uint64_t size_bytes) {
    return state.with([&]() -> Result<BusAddress> {
        auto words = TRY(state.event_words().add(events.eventfds));
        const uint64_t slot_bytes = state.tables().usual_slot_bytes(words.memory().size_bytes);
        return state.exports().add(
            std::move(words),
            std::make_shared<LocalExport>(std::move(events), size_bytes, Access::read_write), slot_bytes);
    });
}

// What a card can reach of registers is what the kernel lets us map: all of AREA or nothing. The end of a BAR
// that is smaller than a page is a page: the kernel maps it only where nothing else lies there.
Result<Exports::Mappings> map_for_card(pci::Function& card, Iova start, pci::Function& device,
                                       pci::Region region, pci::Area area, Access access) {
    auto extents = TRY(device.memory(region, area.offset_bytes, area.size_bytes));
    std::ranges::sort(extents, {}, &pci::Extent::offset_bytes);
    Exports::Mappings mappings;
    uint64_t position = area.offset_bytes;
    for (auto& extent : extents) {
        if (extent.offset_bytes != position) break;
        auto& memory = extent.memory;
        position += memory.size_bytes;
        memory.size_bytes = whole_pages(memory.size_bytes);
        const auto range =
            TRY(Range<Iova>::create(start + (extent.offset_bytes - area.offset_bytes), memory.size_bytes));
        mappings.push_back(TRY(card.map_dma(range, memory, access)));
    }
    if (position == area.offset_bytes + area.size_bytes) return mappings;
    return fail(
        Errc::not_supported,
        "{} bytes at {:#x} of region {} cannot be mapped, so an adapter card cannot reach them: other "
        "registers may share the page (the kernel parameter pci=resource_alignment=12@ADDRESS gives "
        "each BAR of a function pages of its own), or they are I/O ports",
        area.offset_bytes + area.size_bytes - position, position, static_cast<uint32_t>(region));
}

Result<Exports::Mappings> map_registers(pci::Function& adapter, Iova start, pci::Function& device,
                                        pci::Region region, pci::Area area, Access access) {
    if (!adapter.hands_out_memory()) return map_for_card(adapter, start, device, region, area, access);
    return pci::map_peer(adapter, start, device, region, area.offset_bytes, area.size_bytes, access);
}

Result<BusAddress> add_memory(AdapterState& state, std::optional<BusAddress> address, const MemoryRef& memory,
                              Access access) {
    return add_export(state, address, memory, memory.size_bytes, access,
                      [&](Iova start) -> Result<Exports::Mappings> {
                          Exports::Mappings mappings;
                          mappings.push_back(TRY(state.function().map_dma(
                              TRY(Range<Iova>::create(start, memory.size_bytes)), memory, access)));
                          return mappings;
                      });
}
} // namespace

Result<Export> Adapter::export_memory(const MemoryRef& memory, Access access) {
    return Export(state_, TRY(add_memory(*state_, std::nullopt, memory, access)), memory.size_bytes);
}

Result<Export> Adapter::export_memory_at(BusAddress address, const MemoryRef& memory, Access access) {
    return Export(state_, TRY(add_memory(*state_, address, memory, access)), memory.size_bytes);
}

Result<Export> Adapter::export_region(pci::Function& device, pci::Region region, uint64_t offset_bytes,
                                      uint64_t size_bytes, Access access) {
    const auto address =
        TRY(add_export(*state_, std::nullopt, LocalExport::Registers{&device, region, offset_bytes},
                       size_bytes, access, [&](Iova start) {
                           return map_registers(state_->function(), start, device, region,
                                                {offset_bytes, size_bytes}, access);
                       }));
    return Export(state_, address, size_bytes);
}

// What AREAS leave out of the first SIZE_BYTES, in whole pages.
static std::vector<pci::Area> gaps_between(std::span<const pci::Area> areas, uint64_t size_bytes) {
    std::vector<pci::Area> gaps;
    uint64_t position = 0;
    const auto add_gap = [&](uint64_t end) {
        if (position < end) gaps.push_back({position, whole_pages(end - position)});
    };
    for (const auto& area : areas) {
        add_gap(area.offset_bytes);
        position = area.offset_bytes + area.size_bytes;
    }
    add_gap(size_bytes);
    return gaps;
}

Result<Export> Adapter::export_areas(pci::Function& device, pci::Region region, uint64_t size_bytes,
                                     std::span<const pci::Area> areas, const MemoryRef& in_gaps) {
    const auto map = [&](Iova start) -> Result<Exports::Mappings> {
        Exports::Mappings all;
        for (const auto& area : areas)
            for (auto& mapping : TRY(map_registers(state_->function(), start + area.offset_bytes, device,
                                                   region, area, Access::read_write)))
                all.push_back(std::move(mapping));
        if (!in_gaps.fd) return all;
        uint64_t used_bytes = 0;
        for (const auto& gap : gaps_between(areas, size_bytes)) {
            if (gap.size_bytes > in_gaps.size_bytes - used_bytes)
                return fail(Errc::invalid_argument, "{} bytes are not enough for the gaps in {} bytes",
                            in_gaps.size_bytes, size_bytes);
            const MemoryRef memory{in_gaps.fd, in_gaps.offset_bytes + used_bytes, gap.size_bytes};
            const auto range = TRY(Range<Iova>::create(start + gap.offset_bytes, gap.size_bytes));
            all.push_back(TRY(state_->function().map_dma(range, memory, Access::read_write)));
            used_bytes += gap.size_bytes;
        }
        return all;
    };
    const auto address = TRY(add_export(*state_, std::nullopt, LocalExport::Registers{&device, region, 0},
                                        size_bytes, Access::read_write, map));
    return Export(state_, address, size_bytes);
}

Result<Export> Adapter::export_events(std::span<const int> eventfds) {
    constexpr uint64_t event_bytes = 4;
    LocalExport::Events events;
    for (const int fd : eventfds) {
        UniqueFd borrowed(fd); // not ours: given back below
        auto duplicate = fd < 0 ? Result<UniqueFd>() : borrowed.duplicate();
        borrowed.release();
        events.eventfds.push_back(fd < 0 ? nullptr : share(TRY(std::move(duplicate))));
    }
    const auto map = [&, kept = events.eventfds](Iova start) -> Result<Exports::Mappings> {
        Exports::Mappings mappings;
        for (size_t i = 0; i < kept.size(); ++i)
            if (kept[i])
                mappings.push_back(TRY(state_->function().map_dma_event(start + i * event_bytes, *kept[i])));
        return mappings;
    };
    const uint64_t size_bytes = eventfds.size() * event_bytes;
    auto address = add_export(*state_, std::nullopt, events, size_bytes, Access::read_write, map);
    if (!address && address.error().code() == Errc::not_supported)
        address = add_event_words(*state_, std::move(events), size_bytes);
    return Export(state_, TRY(std::move(address)), size_bytes);
}

// Tells by a page at each end whether the IOMMU has them: that nothing is mapped there for good, it must not
// say only when somebody else maps there.
static Result<Exports::Mappings> try_addresses(pci::Function& card, Iova start, uint64_t size_bytes) {
    const MemoryRef page{share(TRY(create_memory("lanepool-probe", page_bytes))), 0, page_bytes};
    if (card.hands_out_memory())
        return fail(Errc::not_supported,
                    "the adapter is no card: this host's kernel cannot map anything for it");
    for (const Iova at : {start, start + (size_bytes - page_bytes)}) {
        auto mapped = TRY(card.map_dma(TRY(Range<Iova>::create(at, page_bytes)), page, Access::read_only));
        TRY(mapped.unmap());
    }
    return Exports::Mappings{};
}

Result<Export> Adapter::export_addresses(uint64_t size_bytes) {
    if (size_bytes % page_bytes != 0)
        return fail(Errc::invalid_argument, "{} bytes of addresses are not whole pages", size_bytes);
    const auto address =
        TRY(add_export(*state_, std::nullopt, LocalExport::Addresses{}, size_bytes, Access::read_write,
                       [&](Iova start) { return try_addresses(state_->function(), start, size_bytes); }));
    return Export(state_, address, size_bytes);
}

Export::Export() = default;
Export::Export(Export&& other) noexcept
    : state_(std::move(other.state_)), address_(other.address_), size_bytes_(other.size_bytes_) {}

Export& Export::operator=(Export&& other) noexcept {
    if (this != &other) {
        [[maybe_unused]] const auto withdrawn = withdraw();
        state_ = std::move(other.state_);
        address_ = other.address_;
        size_bytes_ = other.size_bytes_;
    }
    return *this;
}

Export::~Export() { [[maybe_unused]] const auto withdrawn = withdraw(); }

Result<> Export::withdraw() {
    const auto state = std::exchange(state_, nullptr);
    if (!state) return {};
    auto done = state->with([&] { return state->exports().remove(address_); });
    if (!done && done.error().code() == Errc::disconnected) return {};
    return done;
}

} // namespace lanepool::ntb
