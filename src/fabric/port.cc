// SPDX-License-Identifier: Apache-2.0
#include "fabric/port.h"

#include "fabric/switch.h"

namespace lanepool::fabric {

namespace switchtec = ntb::switchtec;

namespace {

unsigned slot(pci::Region region) { return static_cast<unsigned>(region); }

const pci::RegionInfo no_region{};
const pci::IrqInfo no_irq{};
const pci::IrqInfo vectors{.count = endpoint_vectors};

} // namespace

Port::Port(Switch& fabric, unsigned partition, const WindowBars& bars, PartitionPolicy policy)
    : fabric_(fabric), partition_(partition), policy_(policy), config_(partition, bars),
      control_(bars, policy.targets, fabric.options().lut_entries), doorbells_(*this),
      gas_(partition, fabric.options().ports, policy, doorbells_, *this), windows_(fabric, *this) {
    const auto add = [&](unsigned index, uint64_t size_bytes) {
        regions_[index] = {.size_bytes = size_bytes, .readable = true, .writable = true, .mappable = {}};
    };
    add(0, switchtec::gas::size_bytes);
    for (unsigned i = 0; i < bars.size(); ++i)
        if (bars[i]) add(i, bars[i]);
    add(static_cast<unsigned>(pci::Region::config), pci::extended_config_bytes);
}

const pci::RegionInfo& Port::region(pci::Region index) const {
    const auto i = static_cast<size_t>(index);
    return i < regions_.size() ? regions_[i] : no_region;
}

const pci::IrqInfo& Port::irq(pci::Irq index) const {
    return index == pci::Irq::msi || index == pci::Irq::msix ? vectors : no_irq;
}

bool Port::is_window(pci::Region region) const {
    return slot(region) > 0 && slot(region) < switchtec::bar_slots && regions_[slot(region)].size_bytes != 0;
}

Result<> Port::check(pci::Region index, uint64_t offset_bytes, uint64_t size_bytes) const {
    const uint64_t region_bytes = region(index).size_bytes;
    if (size_bytes == 0 || offset_bytes > region_bytes || size_bytes > region_bytes - offset_bytes)
        return fail(Errc::out_of_range, "{} bytes at offset {:#x} lie outside of region {} of {} bytes",
                    size_bytes, offset_bytes, slot(index), region_bytes);
    return {};
}

void Port::connected(vfio_user::Client& client) {
    client_ = &client;
    requests_ = std::make_unique<ClientRequests>(client);
    if (link_enabled_) fabric_.link_changed(partition_);
}

void Port::disconnected() {
    const bool was_up = link_up();
    client_ = nullptr;
    requests_.reset();
    dma_.clear();
    windows_.drop_waiting();
    reset_function();
    if (was_up) fabric_.link_changed(partition_);
}

void Port::enable_link(bool enabled) {
    const bool was_up = link_up();
    link_enabled_ = enabled;
    if (was_up != link_up()) fabric_.link_changed(partition_);
}

void Port::reset_function() {
    config_.reset();
    control_.reset();
    doorbells_.reset();
    gas_.reset();
    interrupts_.reset();
    fabric_.release_locks(partition_);
}

void Port::read(pci::Region region, uint64_t offset_bytes, size_t size_bytes,
                vfio_user::Reply<std::vector<std::byte>> reply) {
    if (auto checked = check(region, offset_bytes, size_bytes); !checked)
        return reply(tl::unexpected(checked.error()));
    if (is_window(region)) {
        ++counters_.window_reads;
        return windows_.read(slot(region), offset_bytes, size_bytes, std::move(reply));
    }
    std::vector<std::byte> data(size_bytes);
    if (region == pci::Region::config) {
        ++counters_.config_accesses;
        config_.read(offset_bytes, data);
    } else {
        ++counters_.register_reads;
        gas_.read(offset_bytes, data);
    }
    reply(std::move(data));
}

void Port::write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data,
                 vfio_user::Reply<void> reply) {
    if (auto checked = check(region, offset_bytes, data.size()); !checked)
        return reply(tl::unexpected(checked.error()));
    if (is_window(region)) {
        ++counters_.window_writes;
        windows_.write(slot(region), offset_bytes, data);
    } else if (region == pci::Region::config) {
        ++counters_.config_accesses;
        if (config_.write(offset_bytes, data)) reset_function();
    } else {
        ++counters_.register_writes;
        gas_.write(offset_bytes, data);
    }
    reply({});
}

Result<std::vector<pci::Extent>> Port::memory(pci::Region region, uint64_t offset_bytes,
                                              uint64_t size_bytes) {
    TRY(check(region, offset_bytes, size_bytes));
    if (!is_window(region)) return std::vector<pci::Extent>{};
    return windows_.memory(slot(region), offset_bytes, size_bytes);
}

Result<UniqueFd> Port::event(pci::Region region, uint64_t offset_bytes) {
    TRY(check(region, offset_bytes, 4));
    if (!is_window(region)) return Handler::event(region, offset_bytes);
    return windows_.event(slot(region), offset_bytes);
}

void Port::map_dma(vfio_user::DmaMap map, vfio_user::Reply<void> reply) { reply(dma_.map(std::move(map))); }

void Port::unmap_dma(Range<Iova> range, vfio_user::Reply<void> reply) {
    // Every access in place has ended before this call began: there is one thread.
    dma_.unmap(range);
    reply({});
}

void Port::set_irqs(pci::Irq index, uint32_t first, std::vector<UniqueFd> eventfds,
                    vfio_user::Reply<void> reply) {
    reply(interrupts_.set(index, first, std::move(eventfds)));
}

void Port::mask_irq(pci::Irq, uint32_t, bool, vfio_user::Reply<void> reply) {
    reply(fail(Errc::not_supported, "the NTB endpoint's vectors cannot be masked one by one"));
}

void Port::reset(vfio_user::Reply<void> reply) {
    reset_function();
    reply({});
}

void Port::ring(uint64_t bits) {
    if (!link_up()) return;
    ++counters_.doorbells_rung;
    fabric_.ring(partition_, policy_.targets, bits);
}

switchtec::OutStatus Port::send(unsigned partition, unsigned index, uint32_t message) {
    auto status = switchtec::OutStatus::unreachable;
    if (link_up() && partition < fabric_.options().ports && (policy_.targets >> partition & 1) != 0 &&
        fabric_.port(partition).link_up())
        status = fabric_.port(partition).doorbells().receive(partition_, index, message)
                     ? switchtec::OutStatus::delivered
                     : switchtec::OutStatus::busy;
    ++(status == switchtec::OutStatus::delivered ? counters_.messages_sent : counters_.messages_refused);
    return status;
}

void Port::interrupt(unsigned vector) {
    ++(interrupts_.raise(vector) ? counters_.interrupts : counters_.interrupts_lost);
}

PartitionControl& Port::control(unsigned partition) { return fabric_.port(partition).control(); }

bool Port::link_up(unsigned partition) const { return fabric_.port(partition).link_up(); }

} // namespace lanepool::fabric
