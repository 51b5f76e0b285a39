// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/controller.h"

#include <algorithm>
#include <cstring>
#include <spdlog/spdlog.h>

namespace lanepool::nvme::model {

namespace {
constexpr uint64_t msix_table_bytes = uint64_t{msix_vectors} * 16;
constexpr uint64_t register_page_bytes = doorbell_page_offset;
static_assert(register_page_bytes == Registers::size_bytes);
} // namespace

Result<std::unique_ptr<Controller>> Controller::create(const ControllerOptions& options, Media& media,
                                                       const io::Clock& clock) {
    auto identity = TRY(Identity::create(options.serial));
    const pci::Area mapped = options.map_registers ? pci::Area{0, bar0_bytes}
                                                   : pci::Area{doorbell_page_offset, doorbell_page_bytes};
    auto bar = TRY(device_model::BarMemory::create("lanepool-nvme-bar0", mapped));
    return std::unique_ptr<Controller>(
        new Controller(options, std::move(identity), std::move(bar), media, clock));
}

Controller::Controller(const ControllerOptions& options, Identity identity, device_model::BarMemory bar,
                       Media& media, const io::Clock& clock)
    : options_(options), identity_(std::move(identity)), media_(media), clock_(clock),
      config_(config_options(options.msix, identity_.eui64)), bar_(std::move(bar)),
      mapped_registers_(bar_, registers_), msix_table_(msix_table_bytes), dma_(memory_), doorbells_(bar_),
      interrupts_(options.msix),
      engine_(memory_, dma_, doorbells_, interrupts_, features_, media.files(), *this, clock),
      context_{identity_, engine_, media_, features_, interrupts_, clock_, clock_.now()}, admin_(context_),
      io_(context_) {
    features_.io_queues = max_io_queues;
    auto& bar0 = regions_[static_cast<size_t>(pci::Region::bar0)];
    bar0 = {bar0_bytes, true, true, {bar_.area()}};
    regions_[static_cast<size_t>(pci::Region::config)] = {pci::extended_config_bytes, true, true, {}};
    if (options_.map_registers) mapped_registers_.show_all();
    tick();
}

Controller::~Controller() {
    media_.on_sanitized(nullptr);
    engine_.stop();
    dma_.disconnected();
    // Requests are ours, and the kernel may still be at work for them.
    const auto deadline = clock_.now() + std::chrono::seconds(5);
    while (!engine_.drained() && clock_.now() < deadline)
        media_.files().poll();
}

const pci::RegionInfo& Controller::region(pci::Region index) const {
    return regions_[static_cast<size_t>(index)];
}

// --- the round

void Controller::execute(Request& request) {
    if (request.sq->id == 0)
        admin_.execute(request);
    else
        io_.execute(request);
}

bool Controller::poll() {
    bool busy = media_.files().poll() > 0;
    if (polls_registers() && mapped_registers_.pending()) {
        take_mapped_writes();
        busy = true;
    }
    if (polls_queues()) {
        busy |= engine_.poll();
        if (!interrupts_.uses_messages()) update_interrupt_level();
    }
    if (busy || enable_wanted_ || disable_wanted_) finish_waiting();
    media_.files().flush(); // also what answers of the client's have set going
    return busy;
}

void Controller::tick() {
    engine_.tick(clock_.now());
    if (polls_registers()) take_mapped_writes();
    finish_waiting();
}

// What waited for operations to end.
void Controller::finish_waiting() {
    if (hung_) return;
    admin_.poll();
    const bool drained = engine_.drained();
    if (disable_wanted_ && drained) {
        disable_wanted_ = false;
        registers_.set_csts(csts::rdy, 0);
    }
    if (enable_wanted_ && !disable_wanted_ && drained) {
        enable_wanted_ = false;
        const bool weighted = cc::ams.get(registers_.cc()) == cc::ams_weighted;
        engine_.start(weighted, registers_.submission_base(), registers_.submission_entries(),
                      registers_.completion_base(), registers_.completion_entries());
        registers_.set_csts(csts::rdy, 1);
    }
    if (engine_.fatal() && !csts::cfs.get(registers_.csts())) {
        spdlog::warn("nvme model: a queue cannot be reached in the client's memory; controller fatal status");
        registers_.set_csts(csts::cfs, 1);
    }
    if (waiting_reset_ && (drained || clock_.now() >= waiting_reset_->deadline)) {
        auto reply = std::move(waiting_reset_->reply);
        waiting_reset_.reset();
        if (drained)
            reply({});
        else
            reply(fail(Errc::timeout, "file operations of before the reset do not end"));
    }
    for (auto waiting = waiting_unmaps_.begin(); waiting != waiting_unmaps_.end();) {
        // One owner left, ourselves: nobody uses it.
        if (waiting->region.use_count() > 1 && clock_.now() < waiting->deadline) {
            ++waiting;
            continue;
        }
        Result<> outcome;
        if (waiting->region.use_count() > 1) outcome = waiting->region->sever();
        auto reply = std::move(waiting->reply);
        waiting = waiting_unmaps_.erase(waiting);
        reply(std::move(outcome));
    }
}

void Controller::update_interrupt_level() {
    const bool level = engine_.interrupt_level() && !config_.intx_disabled();
    config_.set_interrupt_status(level);
    interrupts_.set_level(level);
}

void Controller::set_hung(bool hung) {
    hung_ = hung;
    if (hung) return;
    for (auto& reply : std::exchange(hung_replies_, {}))
        reply(fail(Errc::cancelled, "the controller was hung"));
    finish_waiting();
}

// --- the client

void Controller::connected(vfio_user::Client& client) {
    client_ = &client;
    dma_.connected(client);
}

void Controller::disconnected() {
    client_ = nullptr;
    engine_.stop();
    dma_.disconnected();
    waiting_reset_.reset();
    hung_replies_.clear();
    // The client may believe that its memory is its own again: transfers under way end without it.
    auto regions = memory_.clear();
    for (auto& waiting : waiting_unmaps_)
        regions.push_back(waiting.region);
    waiting_unmaps_.clear();
    for (const auto& region : regions)
        if (region.use_count() > 1)
            if (auto severed = region->sever(); !severed) spdlog::error("{}", severed.error().message());
    renew_bar();
    function_reset(false);
}

void Controller::renew_bar() {
    if (auto renewed = bar_.renew(); !renewed) {
        // Without fresh memory the old client could still ring: nobody listens any more.
        spdlog::error("nvme model: {}; the controller is out of order", renewed.error().message());
        hung_ = true;
    }
    if (options_.map_registers) mapped_registers_.show_all();
}

void Controller::map_dma(vfio_user::DmaMap map, vfio_user::Reply<void> reply) {
    reply(memory_.map(std::move(map)));
}

void Controller::unmap_dma(Range<Iova> range, vfio_user::Reply<void> reply) {
    auto region = memory_.unmap(range);
    if (!region) {
        reply(fail(Errc::not_found, "nothing is mapped at {:#x}", range.start().value));
    } else if (region.use_count() == 1) {
        region.reset();
        reply({});
    } else {
        waiting_unmaps_.push_back(
            {std::move(region), std::move(reply), clock_.now() + options_.drain_timeout});
    }
}

void Controller::set_irqs(pci::Irq index, uint32_t first, std::vector<UniqueFd> eventfds,
                          vfio_user::Reply<void> reply) {
    interrupts_.set(index, first, std::move(eventfds));
    engine_.retry_interrupts();
    reply({});
}

void Controller::mask_irq(pci::Irq index, uint32_t vector, bool masked, vfio_user::Reply<void> reply) {
    interrupts_.mask(index, vector, masked);
    if (!masked && index == pci::Irq::intx) update_interrupt_level();
    reply({});
}

Result<std::vector<pci::Extent>> Controller::memory(pci::Region region, uint64_t offset_bytes,
                                                    uint64_t size_bytes) {
    if (region != pci::Region::bar0) return std::vector<pci::Extent>{};
    return bar_.extents(offset_bytes, size_bytes);
}

// --- registers and config space

void Controller::read(pci::Region region, uint64_t offset_bytes, size_t size_bytes,
                      vfio_user::Reply<std::vector<std::byte>> reply) {
    if (region == pci::Region::config) {
        reply(config_.read(offset_bytes, size_bytes));
        return;
    }
    if (polls_registers()) take_mapped_writes();
    if (offset_bytes + size_bytes <= register_page_bytes) {
        reply(registers_.read(offset_bytes, size_bytes));
        return;
    }
    // Bytes of several pages, one by one: nobody reads across them who is in a hurry.
    std::vector<std::byte> data(size_bytes);
    for (size_t i = 0; i < size_bytes; ++i)
        data[i] = read_bar0(offset_bytes + i);
    reply(std::move(data));
}

std::byte Controller::read_bar0(uint64_t at) const {
    if (at < register_page_bytes) return registers_.read(at, 1)[0];
    if (bar_.contains(at, 1)) return static_cast<std::byte>(bar_.load(at & ~uint64_t{3}) >> (8 * (at % 4)));
    if (at >= msix_table_offset && at - msix_table_offset < msix_table_.size())
        return msix_table_[at - msix_table_offset];
    return {};
}

void Controller::write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data,
                       vfio_user::Reply<void> reply) {
    if (region == pci::Region::config)
        write_config(offset_bytes, data);
    else
        write_bar0(offset_bytes, data);
    reply({});
}

void Controller::write_config(uint64_t offset_bytes, std::span<const std::byte> data) {
    const bool could_master = config_.may_master();
    if (config_.write(offset_bytes, data)) {
        // A driver's own reset: who has mapped the doorbells goes on with that mapping.
        function_reset(true);
    } else {
        engine_.set_mastering(config_.may_master());
        if (!could_master && config_.may_master()) engine_.retry_interrupts();
    }
}

// What a client has written to the register page's memory since the last look.
void Controller::take_mapped_writes() {
    const auto written = mapped_registers_.look();
    if (written.cc) configuration_written(written.old_cc);
    mapped_registers_.show();
}

void Controller::write_bar0(uint64_t offset_bytes, std::span<const std::byte> data) {
    if (offset_bytes + data.size() <= register_page_bytes) {
        if (polls_registers()) take_mapped_writes(); // it was first
        const auto written = registers_.write(offset_bytes, data);
        if (written.interrupt_mask) {
            interrupts_.set_register_mask(registers_.interrupt_mask());
            engine_.retry_interrupts();
        }
        if (written.cc) configuration_written(written.old_cc);
        if (options_.map_registers) mapped_registers_.show();
    } else if (offset_bytes >= doorbell_page_offset &&
               offset_bytes + data.size() <= doorbell_page_offset + doorbell_page_bytes) {
        if (offset_bytes % 4 != 0 || data.size() != 4) return; // doorbells are 32 bits wide (section 3.1.3.5)
        uint32_t value;
        std::memcpy(&value, data.data(), sizeof value);
        const size_t index = (offset_bytes - doorbell_page_offset) / 4;
        doorbells_.store(index, value);
    } else if (offset_bytes >= msix_table_offset && offset_bytes - msix_table_offset < msix_table_.size()) {
        const size_t at = offset_bytes - msix_table_offset;
        const size_t size = std::min(data.size(), msix_table_.size() - at);
        std::copy_n(data.begin(), size, msix_table_.begin() + static_cast<std::ptrdiff_t>(at));
        for (uint64_t i = at & ~size_t{3}; options_.map_registers && i < at + size; i += 4)
            bar_.store(msix_table_offset + i, load_word(msix_table_.data() + i));
    }
}

void Controller::configuration_written(uint32_t old_cc) {
    const uint32_t now = registers_.cc();
    if (cc::en.get(old_cc) && !cc::en.get(now)) {
        controller_reset(false);
        return;
    }
    if (cc::shn.get(now) != cc::shn.get(old_cc) && cc::shn.get(now) != cc::shn_none) start_shutdown();
    if (!cc::en.get(old_cc) && cc::en.get(now)) {
        if (registers_.can_enable())
            enable_wanted_ = true;
        else
            registers_.set_csts(csts::cfs, 1);
        finish_waiting();
    }
}

void Controller::start_shutdown() {
    registers_.set_csts(csts::shst, csts::shst_occurring);
    FileOp op;
    op.kind = FileOp::Kind::sync;
    media_.files().submit(op, [this](int64_t result) {
        if (result < 0)
            spdlog::error("nvme model: flushing at shutdown: {}", std::strerror(static_cast<int>(-result)));
        if (csts::shst.get(registers_.csts()) == csts::shst_occurring)
            registers_.set_csts(csts::shst, csts::shst_complete);
    });
    media_.files().flush();
}

// --- resets

// Everything in flight is abandoned, all queues go. RDY stays until what was abandoned has ended.
void Controller::controller_reset(bool entire) {
    engine_.stop();
    const bool ready = csts::rdy.get(registers_.csts()) != 0;
    registers_.reset(entire);
    interrupts_.set_register_mask(0);
    enable_wanted_ = false;
    disable_wanted_ = !entire && ready;
    if (disable_wanted_) registers_.set_csts(csts::rdy, 1);
    features_ = Features{};
    features_.io_queues = max_io_queues;
    doorbells_.clear();
    finish_waiting();
    // What a client has written to memory before an entire reset must not enable the controller after it.
    if (entire && options_.map_registers) mapped_registers_.show_all();
}

// As VFIO has it, the eventfds of a client that did not ask for the reset stay.
void Controller::function_reset(bool keep_interrupts) {
    config_.reset();
    engine_.set_mastering(config_.may_master());
    std::ranges::fill(msix_table_, std::byte{0});
    if (options_.map_registers) bar_.clear(msix_table_offset, bar0_bytes - msix_table_offset);
    if (!keep_interrupts) interrupts_.reset();
    controller_reset(true);
}

void Controller::reset(vfio_user::Reply<void> reply) {
    if (hung_) {
        hung_replies_.push_back(std::move(reply)); // the server's deadline answers
        return;
    }
    // Any other client maps the BAR once, and would go on ringing the old ones.
    if (client_ && client_->speaks_lanepool()) renew_bar();
    function_reset(false);
    if (engine_.drained())
        reply({});
    else
        waiting_reset_.emplace(std::move(reply), clock_.now() + options_.drain_timeout);
}

} // namespace lanepool::nvme::model
