// SPDX-License-Identifier: Apache-2.0
#include "smartio/loan_ways.h"

#include "base/keep_first.h"
#include "ntb/mailbox.h"
#include "smartio/msix_pages.h"

#include <algorithm>
#include <utility>

namespace lanepool::smartio {

namespace {
constexpr uint64_t page_bytes = 4096;

pci::Region bar_region(size_t bar) { return static_cast<pci::Region>(bar); }
} // namespace

Result<> LoanWays::export_bars(Opened& opened) {
    std::array<ntb::Export, pci::bar_count> bars;
    uint64_t by_calls = 0;
    uint64_t mapped = 0;
    for (size_t i = 0; i < bars.size(); ++i) {
        const auto& bar = opened.bars[i];
        if (bar.size_bytes == 0) continue;
        bars[i] = TRY(export_bar(opened, i));
        opened.bars[i].address = bars[i].address();
        by_calls += bar.size_bytes;
        for (const auto& area : bar.mappable)
            mapped += area.size_bytes;
    }
    by_calls -= mapped;
    ntb::Export flush;
    if (by_calls != 0 && mapped != 0 && adapter_.function().hands_out_memory())
        flush = TRY(
            adapter_.export_region(device_, pci::Region::config, 0, opened.config.size(), Access::read_only));
    opened.flush_address = flush ? flush.address() : BusAddress{};
    opened.msix_table_apart = !adapter_.function().hands_out_memory() && has_msix_table(opened);
    bars_ = std::move(bars);
    flush_ = std::move(flush);
    return {};
}

Result<ntb::Export> LoanWays::export_bar(const Opened& opened, size_t i) {
    const uint64_t size_bytes = opened.bars[i].size_bytes;
    if (adapter_.function().hands_out_memory())
        return adapter_.export_region(device_, bar_region(i), 0, size_bytes);
    const auto areas = TRY(without_msix_pages(opened.config, static_cast<unsigned>(i), size_bytes));
    uint64_t left_out_bytes = size_bytes;
    for (const auto& area : areas)
        left_out_bytes -= area.size_bytes;
    MemoryRef blank;
    if (left_out_bytes != 0) {
        blank.size_bytes = (left_out_bytes + page_bytes - 1) / page_bytes * page_bytes;
        blank.fd = share(TRY(create_memory("lanepool-msix", blank.size_bytes)));
    }
    auto exported = adapter_.export_areas(device_, bar_region(i), size_bytes, areas, blank);
    if (!exported) return tl::unexpected(exported.error().within(fmt::format("BAR {}", i)));
    return exported;
}

Result<> LoanWays::withdraw_bars() {
    Result<> result;
    for (auto& bar : bars_)
        if (bar) keep_first(result, std::exchange(bar, {}).withdraw());
    if (flush_) keep_first(result, std::exchange(flush_, {}).withdraw());
    return result;
}

Result<> LoanWays::let_pass(pci::RequesterId requester) {
    requester_ = TRY(adapter_.add_requester(requester));
    return {};
}

LoanWays::~LoanWays() { [[maybe_unused]] const auto released = release_memory(); }

Result<> LoanWays::check_limits(uint64_t size_bytes) const {
    if (memory_.size() >= limits_.memory_maps)
        return fail(Errc::no_space, "the loan has its {} memory ranges mapped already", limits_.memory_maps);
    if (size_bytes > limits_.mapped_bytes - mapped_bytes_)
        return fail(Errc::no_space, "{} more bytes would exceed the {} that a loan may map", size_bytes,
                    limits_.mapped_bytes);
    return {};
}

// RANGE is ours in the device's space: given back when this fails.
Result<> LoanWays::open(Range<Iova> range, const ntb::Target& target, Access access) {
    const auto opened = [&]() -> Result<Memory> {
        auto window = TRY(adapter_.open_window(target));
        auto mappings = TRY(window.map_for(device_, range.start(), access));
        return Memory{range, std::move(window), std::move(mappings)};
    };
    auto memory = opened();
    if (!memory) {
        iovas_.release(range.start());
        return tl::unexpected<Error>(memory.error());
    }
    memory_.emplace(range.start(), std::move(*memory));
    mapped_bytes_ += range.size_bytes();
    return {};
}

Result<> LoanWays::map(const MapRequest& request) {
    TRY(check_limits(request.range.size_bytes()));
    TRY(iovas_.reserve(request.range));
    return open(request.range, {borrower_, request.address, request.range.size_bytes()}, request.access);
}

Result<Placed> LoanWays::place(const PlaceRequest& request) {
    const auto memory = TRY(Range<BusAddress>::create(request.address, request.size_bytes));
    const auto mailboxes = TRY(Range<BusAddress>::create(ntb::mailbox::areas_address,
                                                         ntb::max_partitions * ntb::mailbox::area_bytes));
    // Whoever can write there speaks for every agent.
    if (memory.overlaps(mailboxes))
        return fail(Errc::invalid_argument, "memory at {:#x} is where hosts' agents talk",
                    request.address.value);
    TRY(check_limits(request.size_bytes));
    const auto range = TRY(iovas_.allocate(request.size_bytes));
    const auto opened = open(range, {request.partition, request.address, request.size_bytes}, request.access);
    // That some third host is down does not mean that the loan is over, as it would mean of the lender.
    if (!opened && opened.error().code() == Errc::unavailable)
        return fail(Errc::failed_precondition, "{}", opened.error().message());
    if (!opened) return tl::unexpected<Error>(opened.error());
    return Placed{range.start()};
}

Result<> LoanWays::unmap(const UnmapRequest& request) {
    const auto found = memory_.find(request.range.start());
    if (found == memory_.end() || found->second.range != request.range)
        return fail(Errc::not_found, "no memory is mapped for the device at exactly {:#x} with {} bytes",
                    request.range.start().value, request.range.size_bytes());
    Memory memory = std::move(found->second);
    memory_.erase(found);
    mapped_bytes_ -= memory.range.size_bytes();
    Result<> result;
    for (auto& mapping : memory.mappings)
        keep_first(result, mapping.unmap());
    // An address that the device did not let go of is not given to anybody else.
    if (result) iovas_.release(memory.range.start());
    return result;
}

Result<> LoanWays::set_irqs(const SetIrqsRequest& request) {
    const uint32_t there_are = device_.irq(request.index).count;
    if (request.present.size() > there_are)
        return fail(Errc::out_of_range, "{} vectors were asked for, the device has {}",
                    request.present.size(), there_are);
    auto& irqs = irqs_.at(static_cast<size_t>(request.index));
    const size_t before = irqs ? irqs->events.size() : 0;
    // VFIO can change vectors while an index is on, but not how many there are.
    if (before != 0 && before != request.present.size()) {
        irqs.reset();
        TRY(device_.set_irqs(request.index, 0, {}));
    }
    if (request.present.empty()) {
        // A card signals in one way at a time. Where a client does not know that its guest has used another
        // one in between (MSI-X of which QEMU must not know), INTx is as it left it.
        const auto& intx = irqs_.at(static_cast<size_t>(pci::Irq::intx));
        return before != 0 && intx ? apply_irqs(pci::Irq::intx, intx->events) : Result<>{};
    }

    Irqs next;
    next.window = TRY(adapter_.open_window({borrower_, request.address, request.present.size() * 4}));
    next.events.resize(request.present.size());
    for (size_t i = 0; i < request.present.size(); ++i)
        if (request.present[i]) next.events[i] = TRY(next.window.event(i * 4));
    TRY(apply_irqs(request.index, next.events));
    irqs = std::move(next);
    return {};
}

Result<> LoanWays::apply_irqs(pci::Irq index, const std::vector<UniqueFd>& events) {
    std::vector<int> fds;
    fds.reserve(events.size());
    for (const auto& event : events)
        fds.push_back(event.get());
    return device_.set_irqs(index, 0, fds);
}

Result<> LoanWays::restore_irqs() {
    for (size_t i = 0; i < irqs_.size(); ++i)
        if (irqs_[i]) TRY(apply_irqs(static_cast<pci::Irq>(i), irqs_[i]->events));
    return {};
}

Result<> LoanWays::release_irqs() {
    Result<> result;
    for (size_t i = 0; i < irqs_.size(); ++i)
        if (std::exchange(irqs_[i], std::nullopt))
            keep_first(result, device_.set_irqs(static_cast<pci::Irq>(i), 0, {}));
    return result;
}

Result<> LoanWays::release_memory() {
    Result<> result;
    auto memory = std::exchange(memory_, {});
    mapped_bytes_ = 0;
    std::vector<ntb::Window> windows;
    for (auto& [start, one] : memory) {
        Result<> unmapped;
        for (auto& mapping : one.mappings)
            keep_first(unmapped, mapping.unmap());
        if (unmapped) iovas_.release(start);
        keep_first(result, std::move(unmapped));
        windows.push_back(std::move(one.window));
    }
    keep_first(result, adapter_.close_windows(std::move(windows)));
    return result;
}

} // namespace lanepool::smartio
