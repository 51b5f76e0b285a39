// SPDX-License-Identifier: Apache-2.0
#include "nvme/driver.h"

#include <algorithm>
#include <cstring>

namespace lanepool::nvme {

namespace {
constexpr uint16_t admin_depth = 31;
constexpr io::Duration default_shutdown_timeout = std::chrono::seconds(10);
constexpr io::Duration max_shutdown_timeout = std::chrono::minutes(2);
// However late it is, a controller gets this long to stop.
constexpr io::Duration min_stop_timeout = std::chrono::milliseconds(500);
constexpr uint64_t max_page_bytes = 65536;
} // namespace

Driver::Driver(pci::Function& function, const io::Clock& clock, const DriverOptions& options)
    : function_(function), clock_(clock), options_(options), registers_(function, clock),
      allocator_(options.allocator ? options.allocator
                                   : std::make_shared<FunctionDmaAllocator>(function, options.iova_start)) {}

Driver::~Driver() { [[maybe_unused]] auto ignored = stop(); }

Result<std::unique_ptr<Driver>> Driver::create(pci::Function& function, const io::Clock& clock,
                                               DriverOptions options) {
    std::unique_ptr<Driver> driver(new Driver(function, clock, options));
    TRY(driver->take_over());
    TRY(driver->start());
    TRY(driver->set_up_queues());
    TRY(driver->refresh_namespaces());
    return driver;
}

io::TimePoint Driver::until(io::Duration duration) const {
    return std::min(clock_.now() + duration, options_.deadline);
}

// From whatever state somebody has left it in to disabled.
Result<> Driver::take_over() {
    if (function_.region(pci::Region::bar0).size_bytes <= reg::doorbells)
        return fail(Errc::not_supported, "the function has no NVMe registers: BAR0 has {} bytes",
                    function_.region(pci::Region::bar0).size_bytes);
    if (options_.reset == DriverOptions::Reset::always) TRY(function_.reset());
    TRY(registers_.set_bus_master(true));
    capabilities_ = TRY(registers_.capabilities());
    const auto timeout = ControllerRegisters::ready_timeout(capabilities_);
    auto disabled = registers_.disable(until(timeout));
    if (!disabled && disabled.error().code() == Errc::timeout && function_.can_reset() &&
        options_.reset == DriverOptions::Reset::if_needed) {
        TRY(function_.reset());
        TRY(registers_.set_bus_master(true));
        disabled = registers_.disable(until(timeout));
    }
    return disabled;
}

Result<> Driver::start() {
    if ((cap::css.get(capabilities_) & (cap::css_nvm | cap::css_io_sets)) == 0)
        return fail(Errc::not_supported, "the controller has no NVM command set (CAP {:#x})", capabilities_);
    page_bytes_ = min_page_bytes << cap::mpsmin.get(capabilities_);
    if (page_bytes_ > max_page_bytes)
        return fail(Errc::not_supported, "the controller's memory pages of {} bytes are too large",
                    page_bytes_);
    if (options_.weighted_arbitration && !(cap::ams.get(capabilities_) & cap::ams_weighted))
        return fail(Errc::not_supported, "the controller serves its queues round robin only (CAP {:#x})",
                    capabilities_);
    const auto stride = static_cast<unsigned>(cap::dstrd.get(capabilities_));
    const uint64_t room = function_.region(pci::Region::bar0).size_bytes - reg::doorbells;
    const uint64_t fit = room / (2 * (uint64_t{4} << stride));
    doorbells_ = TRY(Doorbells::create(
        function_, stride, static_cast<uint32_t>(std::min<uint64_t>(options_.io_queues + 1u, fit))));
    TRY(set_up_interrupts());

    const auto depth = static_cast<uint16_t>(std::min<uint64_t>(admin_depth, cap::mqes.get(capabilities_)));
    admin_queue_ =
        TRY(QueuePair::create(*allocator_, page_bytes_, doorbells_, clock_, health_check(), {0, depth}));
    auto data = TRY(allocate(Admin::buffer_bytes));
    admin_ = std::make_unique<Admin>(*admin_queue_, std::move(data), options_.command_timeout);
    const uint32_t entries = admin_queue_->entries() - 1u;
    TRY(registers_.write32(reg::aqa, aqa::asqs(entries) | aqa::acqs(entries)));
    TRY(registers_.write64(reg::asq, admin_queue_->submission_iova().value));
    TRY(registers_.write64(reg::acq, admin_queue_->completion_iova().value));
    const bool nvm_only = (cap::css.get(capabilities_) & cap::css_nvm) != 0;
    const uint32_t configuration =
        cc::css(nvm_only ? 0 : 6) | cc::mps(static_cast<uint32_t>(cap::mpsmin.get(capabilities_))) |
        cc::ams(options_.weighted_arbitration ? cc::ams_weighted : 0) | cc::iosqes(6) | cc::iocqes(4);
    TRY(registers_.enable(configuration, until(ControllerRegisters::ready_timeout(capabilities_))));

    const auto identify = TRY(admin_->identify_controller());
    info_ = TRY(parse_controller(identify, page_bytes_, (DmaMemory::max_transfer_pages - 1) * page_bytes_));
    if (info_.version >= version(2, 0)) {
        // A controller that does not know this has no such limit.
        if (auto limits = admin_->identify_controller_nvm(); limits && limits->wzsl != 0 && limits->wzsl < 32)
            info_.write_zeroes_limit_bytes = page_bytes_ << limits->wzsl;
    }
    return {};
}

Result<> Driver::set_up_interrupts() {
    if (options_.interrupt_vectors == 0) return {};
    for (const auto index : {pci::Irq::msix, pci::Irq::msi}) {
        if (function_.irq(index).count < options_.interrupt_vectors) continue;
        std::vector<int> fds;
        for (uint16_t i = 0; i < options_.interrupt_vectors; ++i) {
            interrupts_.push_back(TRY(create_eventfd()));
            fds.push_back(interrupts_.back().get());
        }
        irq_ = index;
        return function_.set_irqs(index, 0, fds);
    }
    return fail(Errc::not_supported, "the function has no {} MSI-X or MSI vectors",
                options_.interrupt_vectors);
}

Result<> Driver::set_up_queues() {
    // As many as have a doorbell; the admin queue is one of those.
    const uint32_t wanted = std::min<uint32_t>(options_.io_queues, doorbells_.queues() - 1);
    if (wanted == 0) return {};
    const uint32_t granted = TRY(admin_->set_feature(
        Feature::number_of_queues, number_of_queues::sq(wanted - 1) | number_of_queues::cq(wanted - 1)));
    max_queues_ = static_cast<uint16_t>(
        std::min({wanted, number_of_queues::sq.get(granted) + 1, number_of_queues::cq.get(granted) + 1}));
    queues_.resize(max_queues_);
    return set_up_shadow_doorbells();
}

Result<> Driver::set_up_shadow_doorbells() {
    if (doorbells_mapped() || !options_.shadow_doorbells || !(info_.oacs & oacs::doorbell_buffer_config))
        return {};
    if (submission_doorbell_offset(doorbells_.queues() & 0xffff, doorbells_.stride()) - reg::doorbells >
        page_bytes_)
        return {}; // they have one page
    shadow_doorbells_ = TRY(allocate(page_bytes_));
    event_indexes_ = TRY(allocate(page_bytes_));
    return admin_->set_doorbell_buffers(shadow_doorbells_.iova(), event_indexes_.iova());
}

bool Driver::doorbells_mapped() const { return doorbells_.submission(1).mapped(); }

Result<> Driver::refresh_namespaces() {
    namespaces_.clear();
    uint64_t total_bytes = 0;
    for (const uint32_t nsid : TRY(admin_->active_namespaces(options_.max_namespaces))) {
        auto ns = TRY(parse_namespace(nsid, TRY(admin_->identify_namespace(nsid))));
        ns.max_transfer_bytes = info_.max_transfer_bytes;
        total_bytes += ns.size_bytes();
        namespaces_.push_back(ns);
    }
    if (info_.capacity_bytes == 0) info_.capacity_bytes = total_bytes;
    return {};
}

Result<DmaMemory> Driver::allocate(uint64_t size_bytes) {
    return DmaMemory::create(*allocator_, size_bytes, page_bytes_, "lanepool-nvme-data");
}

Result<QueuePair*> Driver::create_queue(QueueOptions options) {
    if (options.interrupt_vector && *options.interrupt_vector >= interrupts_.size())
        return fail(Errc::out_of_range, "there is no interrupt vector {}", *options.interrupt_vector);
    const auto id = TRY(free_id());
    const auto depth = static_cast<uint16_t>(std::min<uint64_t>(options.depth, cap::mqes.get(capabilities_)));
    auto queue =
        TRY(QueuePair::create(*allocator_, page_bytes_, doorbells_, clock_, health_check(), {id, depth}));
    if (shadow_doorbells_.size_bytes() != 0) {
        const auto use = [&](Doorbell& doorbell, uint64_t offset_bytes) {
            auto* shadow = &shadow_doorbells_.bytes()[offset_bytes - reg::doorbells];
            auto* event_index = &event_indexes_.bytes()[offset_bytes - reg::doorbells];
            std::memset(shadow, 0, sizeof(uint32_t));
            std::memset(event_index, 0, sizeof(uint32_t));
            doorbell.use_shadow(shadow, event_index);
        };
        use(queue->submission_doorbell(), submission_doorbell_offset(id, doorbells_.stride()));
        use(queue->completion_doorbell(), completion_doorbell_offset(id, doorbells_.stride()));
    }
    TRY(admin_->create_queue({.id = id,
                              .entries = queue->entries(),
                              .submission = queue->submission_iova(),
                              .completion = queue->completion_iova(),
                              .interrupt_vector = options.interrupt_vector,
                              .priority = options.priority}));
    auto& place = queues_[id - 1u].own;
    place = std::move(queue);
    return place.get();
}

Result<uint16_t> Driver::free_id() const {
    const auto free = std::ranges::find_if(queues_, [](auto& q) { return !q.own && !q.foreign; });
    if (free == queues_.end())
        return fail(Errc::no_space, "the controller has no more than {} I/O queues", max_queues_);
    return static_cast<uint16_t>(free - queues_.begin() + 1);
}

Result<uint16_t> Driver::create_foreign_queue(QueuePlace place) {
    if (shadow_doorbells_.size_bytes() != 0)
        return fail(Errc::failed_precondition,
                    "the controller looks at this driver's shadow doorbells only: create the driver without");
    if (place.entries < 2 || place.entries > cap::mqes.get(capabilities_) + 1)
        return fail(Errc::out_of_range, "queues of {} entries: the controller can 2 to {}", place.entries,
                    cap::mqes.get(capabilities_) + 1);
    place.id = TRY(free_id());
    TRY(admin_->create_queue(place));
    queues_[place.id - 1u].foreign = true;
    return place.id;
}

Result<> Driver::delete_foreign_queue(uint16_t id) {
    if (id == 0 || id > queues_.size() || !queues_[id - 1u].foreign)
        return fail(Errc::not_found, "queue {} was not created for somebody else", id);
    TRY(admin_->delete_queue(id));
    queues_[id - 1u].foreign = false;
    return {};
}

Result<> Driver::delete_queue(QueuePair& queue) {
    const auto place = std::ranges::find_if(queues_, [&](auto& q) { return q.own.get() == &queue; });
    if (place == queues_.end()) return fail(Errc::not_found, "the queue is not one of this driver's");
    TRY(admin_->delete_queue(queue.id()));
    place->own.reset();
    return {};
}

Result<> Driver::check_health() {
    const uint32_t status = TRY(registers_.status());
    if (csts::cfs.get(status))
        return fail(Errc::io, "the NVMe controller reports a fatal status (CSTS {:#x}): reset it", status);
    if (!csts::rdy.get(status))
        return fail(Errc::cancelled, "the NVMe controller has been reset or disabled (CSTS {:#x})", status);
    return {};
}

QueuePair::HealthCheck Driver::health_check() {
    return [this] { return check_health(); };
}

Result<> Driver::shut_down() {
    if (stopped_) return {};
    const auto reported = std::chrono::microseconds(info_.shutdown_timeout_us);
    const io::Duration timeout =
        std::clamp<io::Duration>(reported, default_shutdown_timeout, max_shutdown_timeout);
    auto told = registers_.shut_down(clock_.now() + timeout);
    auto stopped = stop();
    return told ? stopped : told;
}

Result<> Driver::stop() {
    if (std::exchange(stopped_, true)) return {};
    // Even where the first step fails, the others are still taken: whatever can be cut is cut.
    auto disabled = registers_.disable(
        std::max(until(ControllerRegisters::ready_timeout(capabilities_)), clock_.now() + min_stop_timeout));
    if (!disabled && disabled.error().code() == Errc::timeout && function_.can_reset())
        disabled = function_.reset(); // a controller that does not stop must not keep our memory
    auto mastered = registers_.set_bus_master(false);
    Result<> silenced;
    if (irq_) silenced = function_.set_irqs(*irq_, 0, {});
    const Error reason(Errc::cancelled, "the driver has stopped");
    for (auto& queue : queues_)
        if (queue.own) queue.own->break_with(reason);
    if (admin_queue_) admin_queue_->break_with(reason);
    queues_.clear();
    admin_.reset();
    admin_queue_.reset();
    shadow_doorbells_ = {};
    event_indexes_ = {};
    for (auto* result : {&disabled, &mastered, &silenced})
        if (!*result) return *result;
    return {};
}

} // namespace lanepool::nvme
