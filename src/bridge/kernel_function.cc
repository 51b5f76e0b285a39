// SPDX-License-Identifier: Apache-2.0
#include "bridge/kernel_function.h"

#include "pci/config_space.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <lanepool_bridge.h>

namespace lanepool::bridge {

namespace {

static_assert(static_cast<int>(DmaMode::bounce) == LANEPOOL_BRIDGE_DMA_BOUNCE);
static_assert(static_cast<int>(DmaMode::iommu) == LANEPOOL_BRIDGE_DMA_IOMMU);
static_assert(static_cast<int>(DmaMode::direct) == LANEPOOL_BRIDGE_DMA_DIRECT);
static_assert(static_cast<int>(ShownConfig::Vectors::none) == LANEPOOL_BRIDGE_VECTORS_NONE);
static_assert(static_cast<int>(ShownConfig::Vectors::msi) == LANEPOOL_BRIDGE_VECTORS_MSI);
static_assert(static_cast<int>(ShownConfig::Vectors::msix) == LANEPOOL_BRIDGE_VECTORS_MSIX);
static_assert(pci::extended_config_bytes == LANEPOOL_BRIDGE_CONFIG_BYTES);
static_assert(pci::bar_count == LANEPOOL_BRIDGE_BARS);

constexpr size_t events_at_a_time = 64; // more are told of again: the file stays readable

template <class T>
T sized() {
    T arguments{};
    arguments.size = sizeof(arguments);
    return arguments;
}

template <class T>
uint64_t pointer(std::span<T> data) {
    return reinterpret_cast<uint64_t>(data.data());
}

// What a call's errno means; WHAT is what was asked for.
tl::unexpected<Error> refused(int result, std::string_view what) {
    const char* const text = std::strerror(-result);
    switch (-result) {
    case EBADF:
        return fail(Errc::invalid_argument, "{}: {}", what, text);
    case EOPNOTSUPP:
        return fail(Errc::not_supported, "{}: {}", what, text);
    case ENODEV:
        return fail(Errc::failed_precondition, "{}: not as things stand ({})", what, text);
    default:
        return fail_errno(result, what);
    }
}

tl::unexpected<Error> refused_creation(int result, const Description& description) {
    const auto& config = description.config;
    const auto bars =
        std::ranges::count_if(description.bars, [](const Bar& bar) { return bar.memory.size_bytes != 0; });
    const auto what = fmt::format(
        "describing device {:04x}:{:04x} with {} BARs and {} vectors, DMA mode {} of {} bytes, to this "
        "kernel",
        pci::get16(config.values, pci::config::vendor_id), pci::get16(config.values, pci::config::device_id),
        bars, config.vector_count, name(description.dma_mode),
        description.dma_mode == DmaMode::bounce ? description.pool_bytes : description.iova_bytes);
    switch (-result) {
    case EPERM:
        return fail(Errc::failed_precondition,
                    "{}: the module does not allow it; DMA mode direct needs its parameter allow_direct "
                    "(/sys/module/lanepool_bridge/parameters/allow_direct)",
                    what);
    case EOPNOTSUPP:
        return fail(Errc::not_supported, "{}: it has a capability that the module does not serve", what);
    case EBUSY:
        return fail(Errc::busy, "{}: it is described already, or something is mapped at its addresses", what);
    case ENODEV:
        return fail(Errc::failed_precondition, "{}: its adapter has no IOMMU domain of VFIO's", what);
    case ERANGE:
        return fail(Errc::out_of_range,
                    "{}: the addresses from {:#x} on do not suffice, or the IOMMU lacks them", what,
                    description.iova_base);
    default:
        return refused(result, what);
    }
}

Result<> check(const Description& description) {
    const auto& config = description.config;
    for (const auto* bytes : {&config.values, &config.writable, &config.cleared, &config.noticed})
        if (bytes->size() != pci::extended_config_bytes)
            return fail(Errc::invalid_argument, "a configuration space of {} bytes, or masks of it, not {}",
                        bytes->size(), pci::extended_config_bytes);
    if (description.held.size() > LANEPOOL_BRIDGE_HELD_FILES)
        return fail(Errc::invalid_argument, "{} files to be held, and at most {} can be",
                    description.held.size(), LANEPOOL_BRIDGE_HELD_FILES);
    for (size_t i = 0; i < description.bars.size(); ++i)
        if (description.bars[i].memory.size_bytes != 0 && !description.bars[i].memory.fd)
            return fail(Errc::invalid_argument, "BAR {} has {} bytes, but no descriptor", i,
                        description.bars[i].memory.size_bytes);
    for (const auto& file : description.held)
        if (!file) return fail(Errc::invalid_argument, "a file to be held is none");
    return {};
}

lanepool_bridge_bar to_module(const Bar& bar) {
    lanepool_bridge_bar result{};
    result.vfio_fd = -1;
    if (bar.memory.size_bytes == 0) return result;
    result.vfio_fd = bar.memory.fd->get();
    result.flags = (bar.is_64bit ? LANEPOOL_BRIDGE_BAR_64BIT : 0u) |
                   (bar.prefetchable ? LANEPOOL_BRIDGE_BAR_PREFETCH : 0u);
    result.offset = bar.memory.offset_bytes;
    result.size = bar.memory.size_bytes;
    return result;
}

lanepool_bridge_create to_module(const Description& description) {
    const auto& config = description.config;
    auto arguments = sized<lanepool_bridge_create>();
    arguments.config_space = pointer(std::span(config.values));
    arguments.write_mask = pointer(std::span(config.writable));
    arguments.clear_mask = pointer(std::span(config.cleared));
    arguments.notify_mask = pointer(std::span(config.noticed));
    std::ranges::transform(description.bars, std::begin(arguments.bars),
                           [](const Bar& bar) { return to_module(bar); });
    arguments.vector_kind = static_cast<uint32_t>(config.vectors);
    arguments.vectors = config.vector_count;
    arguments.dma_mode = static_cast<uint32_t>(description.dma_mode);
    if (description.dma_mode == DmaMode::bounce) {
        arguments.pool_bytes = description.pool_bytes;
    } else {
        arguments.dma_bar = description.dma_bar;
        arguments.iova_base = description.iova_base;
        arguments.iova_bytes = description.iova_bytes;
    }
    std::ranges::fill(arguments.held_fds, -1);
    for (size_t i = 0; i < description.held.size(); ++i)
        arguments.held_fds[i] = description.held[i]->get();
    return arguments;
}

Result<Event> from_module(const lanepool_bridge_event& event) {
    Event result;
    result.lost_before = event.flags & LANEPOOL_BRIDGE_EVENT_LOST;
    switch (event.type) {
    case LANEPOOL_BRIDGE_EVENT_CONFIG_WRITE:
        result.kind = Event::Kind::config_write;
        result.offset_bytes = event.offset;
        result.size_bytes = event.length;
        result.value = event.value;
        return result;
    case LANEPOOL_BRIDGE_EVENT_RESET:
        result.kind = Event::Kind::reset;
        return result;
    case LANEPOOL_BRIDGE_EVENT_ATTACHED:
        result.kind = Event::Kind::attached;
        return result;
    case LANEPOOL_BRIDGE_EVENT_REMOVED:
        result.kind = Event::Kind::removed;
        return result;
    case LANEPOOL_BRIDGE_EVENT_RELEASED:
        result.kind = Event::Kind::released;
        return result;
    case LANEPOOL_BRIDGE_EVENT_BOUND:
    case LANEPOOL_BRIDGE_EVENT_UNBOUND:
    case LANEPOOL_BRIDGE_EVENT_PRESENT:
    case LANEPOOL_BRIDGE_EVENT_ABSENT:
        result.kind = Event::Kind::presence;
        return result;
    default:
        return fail(Errc::protocol, "lanepool_bridge tells of an event of a kind that is not known ({})",
                    event.type);
    }
}

} // namespace

// Whoever has mapped the pool may still hold the file, so that closing it would not end the function.
KernelFunction::~KernelFunction() {
    auto arguments = sized<lanepool_bridge_unplug>();
    arguments.flags = LANEPOOL_BRIDGE_UNPLUG_SURPRISE;
    call(LANEPOOL_BRIDGE_UNPLUG, &arguments); // refused where nothing is plugged in: as it should be
}

Result<> KernelFunction::create(const Description& description) {
    TRY(check(description));
    auto arguments = to_module(description);
    const std::lock_guard lock(mutex_);
    if (const int result = call(LANEPOOL_BRIDGE_CREATE, &arguments); result < 0)
        return refused_creation(result, description);
    pool_bytes_ = arguments.pool_bytes;
    return {};
}

Result<MemoryRef> KernelFunction::pool() const {
    const std::lock_guard lock(mutex_);
    if (pool_bytes_ == 0)
        return fail(Errc::failed_precondition, "the function is not described yet, or has no pool");
    return MemoryRef{file_, 0, pool_bytes_};
}

Result<pci::Address> KernelFunction::plug(uint64_t dma_base) {
    auto arguments = sized<lanepool_bridge_plug>();
    arguments.dma_base = dma_base;
    const auto what = fmt::format("plugging in a function with its memory at {:#x}", dma_base);
    const int result = call(LANEPOOL_BRIDGE_PLUG, &arguments);
    if (result == -EBUSY)
        return fail(Errc::busy,
                    "{}: it is not described or has been plugged in before, something of this machine has "
                    "requested the adapter's BAR, or an IOMMU claims the function (see the kernel's log)",
                    what);
    if (result < 0) return refused(result, what);
    return pci::Address{arguments.domain, static_cast<uint8_t>(arguments.bus),
                        static_cast<uint8_t>(arguments.devfn >> 3 & 0x1f),
                        static_cast<uint8_t>(arguments.devfn & 7)};
}

Result<> KernelFunction::unplug(bool surprise) {
    auto arguments = sized<lanepool_bridge_unplug>();
    arguments.flags = surprise ? LANEPOOL_BRIDGE_UNPLUG_SURPRISE : 0;
    if (const int result = call(LANEPOOL_BRIDGE_UNPLUG, &arguments); result < 0)
        return refused(result, "unplugging a function that is not plugged in, or not any more");
    return {};
}

Result<> KernelFunction::set_vectors(uint32_t first, std::span<const int> eventfds) {
    static_assert(sizeof(int) == sizeof(__s32));
    if (eventfds.size() > LANEPOOL_BRIDGE_MAX_VECTORS)
        return fail(Errc::invalid_argument, "{} eventfds for vectors, and at most {} there can be",
                    eventfds.size(), LANEPOOL_BRIDGE_MAX_VECTORS);
    if (eventfds.empty()) return {};
    auto arguments = sized<lanepool_bridge_vectors>();
    arguments.start = first;
    arguments.count = static_cast<uint32_t>(eventfds.size());
    arguments.fds = pointer(eventfds);
    if (const int result = call(LANEPOOL_BRIDGE_SET_VECTORS, &arguments); result < 0)
        return refused(result,
                       fmt::format("connecting {} eventfds from vector {} on", eventfds.size(), first));
    return {};
}

Result<> KernelFunction::update_config(uint32_t offset_bytes, std::span<const std::byte> data) {
    auto arguments = sized<lanepool_bridge_config>();
    arguments.offset = offset_bytes;
    arguments.length = static_cast<uint32_t>(std::min<size_t>(data.size(), UINT32_MAX));
    arguments.data = pointer(data);
    if (const int result = call(LANEPOOL_BRIDGE_UPDATE_CONFIG, &arguments); result < 0)
        return refused(result,
                       fmt::format("changing {} bytes at {:#x} of an injected function's configuration "
                                   "space",
                                   data.size(), offset_bytes));
    return {};
}

Result<std::vector<std::byte>> KernelFunction::read_config(uint32_t offset_bytes, size_t size_bytes) const {
    if (size_bytes == 0 || size_bytes > pci::extended_config_bytes)
        return fail(Errc::invalid_argument, "{} bytes of a configuration space", size_bytes);
    std::vector<std::byte> data(size_bytes);
    auto arguments = sized<lanepool_bridge_config>();
    arguments.offset = offset_bytes;
    arguments.length = static_cast<uint32_t>(size_bytes);
    arguments.data = pointer(std::span(data));
    if (const int result = call(LANEPOOL_BRIDGE_READ_CONFIG, &arguments); result < 0)
        return refused(result,
                       fmt::format("reading {} bytes at {:#x} of an injected function's configuration "
                                   "space",
                                   size_bytes, offset_bytes));
    return data;
}

Result<> KernelFunction::reset(bool begin) {
    auto arguments = sized<lanepool_bridge_reset>();
    arguments.action = begin ? LANEPOOL_BRIDGE_RESET_BEGIN : LANEPOOL_BRIDGE_RESET_END;
    if (const int result = call(LANEPOOL_BRIDGE_RESET, &arguments); result < 0)
        return refused(result, begin ? "beginning an injected function's reset"
                                     : "ending an injected function's reset");
    return {};
}

Result<Stats> KernelFunction::stats() const {
    auto arguments = sized<lanepool_bridge_stats>();
    if (const int result = call(LANEPOOL_BRIDGE_STATS, &arguments); result < 0)
        return refused(result, "counting what an injected function has done");
    Stats stats;
    stats.config_reads = arguments.config_reads;
    stats.config_writes = arguments.config_writes;
    stats.events_lost = arguments.events_lost;
    stats.vectors_delivered = arguments.vectors_delivered;
    stats.vectors_dropped = arguments.vectors_dropped;
    stats.dma_maps = arguments.dma_maps;
    stats.dma_unmaps = arguments.dma_unmaps;
    stats.dma_failures = arguments.dma_failures;
    stats.bytes_copied = arguments.bytes_copied;
    stats.pool_used_bytes = arguments.pool_used_bytes;
    stats.pool_peak_bytes = arguments.pool_peak_bytes;
    return stats;
}

Result<std::vector<Event>> KernelFunction::take_events() {
    std::array<lanepool_bridge_event, events_at_a_time> read;
    const ssize_t bytes = module_.read(file_->get(), std::as_writable_bytes(std::span(read)));
    if (bytes == -EAGAIN) return std::vector<Event>{};
    if (bytes < 0) return fail_errno(static_cast<int>(bytes), "reading an injected function's events");
    if (static_cast<size_t>(bytes) % sizeof(read[0]) != 0 || static_cast<size_t>(bytes) > sizeof(read))
        return fail(Errc::protocol, "lanepool_bridge gave {} bytes of events, which are not whole ones",
                    bytes);
    std::vector<Event> events;
    for (const auto& event : std::span(read).first(static_cast<size_t>(bytes) / sizeof(read[0])))
        events.push_back(TRY(from_module(event)));
    return events;
}

} // namespace lanepool::bridge
