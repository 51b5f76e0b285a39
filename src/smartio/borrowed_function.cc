// SPDX-License-Identifier: Apache-2.0
#include "smartio/borrowed_function.h"

#include "base/endian.h"
#include "pci/config_space.h"
#include "smartio/msix_pages.h"

#include <cstring>
#include <utility>

namespace lanepool::smartio {

namespace {

// The most accesses that may wait for the adapter. A client that waits for its answers has a handful.
constexpr size_t max_waiting = 1024;

template <class T>
std::shared_ptr<vfio_user::Reply<T>> share_reply(vfio_user::Reply<T> reply) {
    return std::make_shared<vfio_user::Reply<T>>(std::move(reply));
}

bool overlaps(uint64_t offset_bytes, size_t size_bytes, uint64_t reg, size_t reg_bytes) {
    return offset_bytes < reg + reg_bytes && reg < offset_bytes + size_bytes;
}

auto without_body(vfio_user::Reply<void> reply) {
    return [shared = share_reply(std::move(reply))](Result<std::vector<std::byte>> answer) {
        (*shared)(answer.map([](auto&&) {}));
    };
}

} // namespace

BorrowedFunction::BorrowedFunction(Errands& errands, ntb::Adapter& adapter, ntb::Partition lender,
                                   LoanLink& link, const Opened& opened, ConfigShadow shadow,
                                   std::shared_ptr<const RegisterWindows> windows, size_t max_memory_maps,
                                   Events events)
    : errands_(errands), adapter_(adapter), lender_(lender), link_(link), opened_(opened),
      shadow_(std::move(shadow)), windows_(std::move(windows)),
      memory_(errands, adapter, link, max_memory_maps), irqs_(errands, adapter, link),
      events_(std::move(events)) {
    // INTx is level-triggered: it masks itself until the driver has seen it. MSI is only counted.
    irq_infos_[static_cast<size_t>(pci::Irq::intx)] = {opened_.vectors[0] > 0 ? 1u : 0u, true, true};
    irq_infos_[static_cast<size_t>(pci::Irq::msi)] = {opened_.vectors[1], false, false};
    if (const auto& msix = shadow_.msix())
        msix_.emplace(errands_.loop(), irqs_, *msix, [this] { check_driver(); });
    describe_regions();
}

void BorrowedFunction::describe_regions() {
    for (size_t i = 0; i < pci::bar_count; ++i) {
        const auto& bar = opened_.bars[i];
        auto& region = regions_[i];
        region = {};
        if (!shadow_.bar_visible(static_cast<unsigned>(i))) continue;
        region = {bar.size_bytes, bar.readable, bar.writable, {}};
        if (client_keeps_mappings_ && !opened_.memory_survives_reset) continue;
        for (const auto& extent : mappable_memory(static_cast<pci::Region>(i)))
            region.mappable.push_back({extent.offset_bytes, extent.memory.size_bytes});
    }
    regions_[static_cast<size_t>(pci::Region::config)] = {shadow_.size_bytes(), true, true, {}};
}

std::vector<pci::Extent> BorrowedFunction::mappable_memory(pci::Region region) const {
    const uint64_t size_bytes = opened_.bars.at(static_cast<size_t>(region)).size_bytes;
    auto extents = windows_->memory(region, 0, size_bytes);
    if (!msix_) return extents;
    const auto areas = without_msix_pages(opened_.config, static_cast<unsigned>(region), size_bytes);
    return areas ? clip_to_pages(extents, *areas) : std::vector<pci::Extent>{};
}

const pci::RegionInfo& BorrowedFunction::region(pci::Region index) const {
    return regions_.at(static_cast<size_t>(index));
}
const pci::IrqInfo& BorrowedFunction::irq(pci::Irq index) const {
    return irq_infos_.at(static_cast<size_t>(index));
}

void BorrowedFunction::connected(vfio_user::Client& client) {
    client_keeps_mappings_ = !client.speaks_lanepool();
    if (msix_) msix_->connected(client);
    describe_regions();
    events_.client_changed(true);
}

void BorrowedFunction::disconnected() {
    shadow_.reset();
    driver_ready_ = false;
    if (msix_) msix_->disconnected();
    close([](auto) {});
    events_.client_changed(false);
}

void BorrowedFunction::close(std::function<void(Result<>)> done) {
    auto exports = std::make_shared<std::vector<ntb::Export>>(memory_.forget());
    for (auto& one : irqs_.forget())
        exports->push_back(std::move(one));
    link_.send_bare(LoanRequest::close, [this, exports, done = std::move(done)](auto answer) {
        errands_.dispose(std::move(*exports));
        done(answer.map([](auto&&) {}));
    });
}

void BorrowedFunction::fill(BorrowerStats& stats) const {
    stats.trapped_reads = counters_.trapped_reads;
    stats.trapped_writes = counters_.trapped_writes;
    stats.config_accesses = counters_.config_accesses;
    stats.memory_maps = memory_.maps();
    stats.reachable_maps = memory_.reachable();
    for (const auto& region : regions_)
        for (const auto& area : region.mappable)
            stats.mappable_bytes += area.size_bytes;
}

void BorrowedFunction::read(pci::Region region, uint64_t offset_bytes, size_t size_bytes, Data reply) {
    if (region == pci::Region::config) return read_config(offset_bytes, size_bytes, std::move(reply));
    ++counters_.trapped_reads;
    if (msix_ && msix_->covers(region, offset_bytes, size_bytes))
        return reply(msix_->read(region, offset_bytes, size_bytes));
    if (link_.broken()) return reply(tl::unexpected<Error>(*link_.broken()));
    if (errands_.waiting() >= max_waiting)
        return reply(fail(Errc::busy, "too many accesses wait for the adapter"));
    errands_.run(
        [windows = windows_, region, offset_bytes, size_bytes]() -> Result<std::vector<std::byte>> {
            std::vector<std::byte> data(size_bytes);
            TRY(windows->read(region, offset_bytes, data));
            return data;
        },
        [reply = std::move(reply)](Result<std::vector<std::byte>> data) mutable { reply(std::move(data)); });
}

void BorrowedFunction::write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data,
                             vfio_user::Reply<void> reply) {
    if (region == pci::Region::config) return write_config(offset_bytes, data, std::move(reply));
    ++counters_.trapped_writes;
    if (msix_ && msix_->covers(region, offset_bytes, data.size()))
        return msix_->write(region, offset_bytes, data, std::move(reply));
    if (link_.broken()) return reply(tl::unexpected<Error>(*link_.broken()));
    if (errands_.waiting() >= max_waiting)
        return reply(fail(Errc::busy, "too many accesses wait for the adapter"));
    errands_.run(
        [windows = windows_, region, offset_bytes, bytes = std::vector(data.begin(), data.end())] {
            return windows->write(region, offset_bytes, bytes);
        },
        [reply = std::move(reply)](Result<> result) mutable { reply(std::move(result)); });
}

void BorrowedFunction::read_config(uint64_t offset_bytes, size_t size_bytes, Data reply) {
    ++counters_.config_accesses;
    // A function that is gone answers all-ones, and its driver looks here for that: nvme gives a present
    // controller a minute for each command before it lets go, an absent one none.
    if (link_.broken()) return reply(std::vector<std::byte>(size_bytes, std::byte{0xff}));
    // Who shares an INTx line asks the status register whether it was this function.
    if (irqs_.active(pci::Irq::intx) && overlaps(offset_bytes, size_bytes, pci::config::status, 2))
        return read_interrupt_status(offset_bytes, size_bytes, std::move(reply));
    std::vector<std::byte> data(size_bytes);
    if (auto result = shadow_.read(offset_bytes, data); !result)
        return reply(tl::unexpected<Error>(result.error()));
    reply(std::move(data));
}

void BorrowedFunction::read_interrupt_status(uint64_t offset_bytes, size_t size_bytes, Data reply) {
    link_.send_bare(LoanRequest::config_status,
                    [this, offset_bytes, size_bytes, shared = share_reply(std::move(reply))](auto answer) {
                        le16 status;
                        if (answer && answer->size() == sizeof status) {
                            std::memcpy(&status, answer->data(), sizeof status);
                            shadow_.set_interrupt_status(status & pci::status::interrupt);
                        }
                        std::vector<std::byte> data(size_bytes);
                        if (auto result = shadow_.read(offset_bytes, data); !result)
                            return (*shared)(tl::unexpected<Error>(result.error()));
                        (*shared)(std::move(data));
                    });
}

void BorrowedFunction::write_config(uint64_t offset_bytes, std::span<const std::byte> data,
                                    vfio_user::Reply<void> reply) {
    ++counters_.config_accesses;
    const auto effects = shadow_.write(offset_bytes, data);
    if (!effects) return reply(tl::unexpected<Error>(effects.error()));
    if (effects->reset) return reset(std::move(reply));
    if (effects->msix) {
        auto told = effects->command ? vfio_user::Reply<void>([](Result<>) {}) : std::move(reply);
        msix_->control(shadow_.msix_enabled(), shadow_.msix_masked(), std::move(told));
        if (!effects->command) return;
    }
    if (!effects->command) return reply({});
    check_driver();
    link_.send(LoanRequest::config_write,
               encode(ConfigWriteRequest{link_.key(), pci::config::command, *effects->command}),
               without_body(std::move(reply)));
}

// A driver that has taken the function has set up an interrupt and made it bus master.
void BorrowedFunction::check_driver() {
    le16 command;
    if (!shadow_.read(pci::config::command, std::as_writable_bytes(std::span(&command, 1)))) return;
    const bool ready =
        (command & pci::command::bus_master) &&
        (irqs_.active(pci::Irq::msi) || irqs_.active(pci::Irq::intx) || (msix_ && msix_->active()));
    if (std::exchange(driver_ready_, ready) == ready || !ready) return;
    events_.driver_ready();
}

Result<std::vector<pci::Extent>> BorrowedFunction::memory(pci::Region region, uint64_t offset_bytes,
                                                          uint64_t size_bytes) {
    const auto& areas = BorrowedFunction::region(region).mappable;
    if (areas.empty()) return std::vector<pci::Extent>{};
    auto extents = windows_->memory(region, offset_bytes, size_bytes);
    return msix_ ? clip_to_pages(extents, areas) : extents;
}

void BorrowedFunction::map_dma(vfio_user::DmaMap map, vfio_user::Reply<void> reply) {
    memory_.map(std::move(map), std::move(reply));
}
void BorrowedFunction::unmap_dma(Range<Iova> range, vfio_user::Reply<void> reply) {
    memory_.unmap(range, std::move(reply));
}

void BorrowedFunction::set_irqs(pci::Irq index, uint32_t first, std::vector<UniqueFd> eventfds,
                                vfio_user::Reply<void> reply) {
    irqs_.set(index, first, std::move(eventfds), std::move(reply));
    check_driver();
}

void BorrowedFunction::mask_irq(pci::Irq index, uint32_t vector, bool masked, vfio_user::Reply<void> reply) {
    link_.send(LoanRequest::mask_irq, encode(MaskIrqRequest{link_.key(), index, vector, masked}),
               without_body(std::move(reply)));
}

void BorrowedFunction::reset(vfio_user::Reply<void> reply) {
    shadow_.reset();
    driver_ready_ = false;
    if (msix_) msix_->reset();
    link_.send_bare(LoanRequest::reset, [this, shared = share_reply(std::move(reply))](auto answer) {
        reopened(answer.and_then([](const auto& body) { return decode_opened(body); }), std::move(*shared));
    });
}

// Without a function-level reset, the lender has put fresh memory behind the registers and exported it anew.
void BorrowedFunction::reopened(Result<Opened> opened, vfio_user::Reply<void> reply) {
    if (!opened) return reply(tl::unexpected<Error>(opened.error()));
    if (opened->memory_survives_reset) return reply({});
    opened_.bars = opened->bars;
    errands_.run(
        [&adapter = adapter_, lender = lender_, opened = std::move(*opened)] {
            return RegisterWindows::open(adapter, lender, opened);
        },
        [this, reply = std::move(reply)](Result<std::shared_ptr<const RegisterWindows>> windows) mutable {
            if (!windows) return reply(tl::unexpected<Error>(windows.error()));
            errands_.dispose(std::exchange(windows_, std::move(*windows)));
            reply({});
        });
}

} // namespace lanepool::smartio
