// SPDX-License-Identifier: Apache-2.0
#include "dma_model/function.h"

#include <cstring>
#include <spdlog/spdlog.h>

namespace lanepool::dma_model {

namespace {
constexpr size_t at(pci::Region index) { return static_cast<size_t>(index); }
constexpr size_t at(pci::Irq index) { return static_cast<size_t>(index); }

device_model::ConfigOptions config_options(uint64_t serial_number) {
    device_model::ConfigOptions options;
    options.device_id = device_id;
    options.class_code = class_code;
    options.bar0_bytes = bar0_bytes;
    options.intx = false;
    options.serial_number = serial_number;
    return options;
}
} // namespace

Result<std::unique_ptr<Function>> Function::create(uint64_t serial_number) {
    auto bar = TRY(device_model::BarMemory::create("lanepool-dma-bar0", {0, bar0_bytes}));
    return std::unique_ptr<Function>(new Function(std::move(bar), serial_number));
}

Function::Function(device_model::BarMemory bar, uint64_t serial_number)
    : config_(config_options(serial_number)), bar_(std::move(bar)),
      engine_(memory_, [this](bool signal) { done(signal); }) {
    regions_[at(pci::Region::bar0)] = {bar0_bytes, true, true, {bar_.area()}};
    regions_[at(pci::Region::config)] = {pci::extended_config_bytes, true, true, {}};
    irqs_[at(pci::Irq::msi)] = {1, false, false};
    initialise_registers();
}

const pci::RegionInfo& Function::region(pci::Region index) const { return regions_[at(index)]; }
const pci::IrqInfo& Function::irq(pci::Irq index) const { return irqs_[at(index)]; }

// --- the round

bool Function::poll() {
    if (!needs_polling()) return false;
    bool busy = bar_.load(reg::control) != control_ && look();
    if (!engine_.running() || !config_.may_master()) return busy;
    EngineError error = EngineError::none;
    if (engine_.step(bar_.load(reg::tail), error)) {
        if (error != EngineError::none) fail_with(error);
        busy = true;
    }
    return busy;
}

// Takes what the client has written to the control register, and restores what it may not write. Returns
// whether there was something to do.
bool Function::look() {
    if (!needs_polling()) return false;
    const uint32_t control = bar_.load(reg::control);
    const bool written = control != control_;
    if (written) control_written(control);
    show();
    return written;
}

void Function::control_written(uint32_t value) {
    const bool enabled = control::enable.get(control_) != 0;
    if (control::reset.get(value)) {
        initialise_registers();
        return;
    }
    control_ = value & control::enable.mask;
    if (control_ != value) bar_.replace(reg::control, value, control_);
    if (control_ && !enabled) {
        start();
    } else if (!control_ && enabled) {
        engine_.stop();
        error_ = EngineError::none;
        status_ = 0;
    }
}

void Function::start() {
    const Iova ring{uint64_t{bar_.load(reg::ring_base_high)} << 32 | bar_.load(reg::ring_base_low)};
    const auto error = engine_.start(ring, bar_.load(reg::ring_entries));
    if (error != EngineError::none) return fail_with(error);
    bar_.store(reg::head, 0);
    bar_.store(reg::tail, 0);
    status_ = status::running(1);
}

void Function::fail_with(EngineError error) {
    error_ = error;
    status_ = status::failed(1);
    show();
}

// The head goes first: who is signalled looks at it.
void Function::done(bool signal) {
    bar_.store(reg::head, engine_.head());
    if (!signal || !vector_) return;
    lanepool::signal(vector_);
    ++interrupts_;
}

// Puts what is read-only where it belongs.
void Function::show() {
    bar_.store(reg::identity, magic);
    bar_.store(reg::version, current_version);
    bar_.store(reg::capabilities,
               capabilities::max_ring_log2(max_ring_log2) | capabilities::max_length_log2(max_length_log2));
    bar_.store(reg::opcodes, (1u << opcode_count) - 1);
    bar_.store(reg::error, static_cast<uint32_t>(error_));
    bar_.store(reg::head, engine_.head());
    // Who has waited for it may go on with all the others.
    bar_.store(reg::status, status_);
}

// As after power-on; in place.
void Function::initialise_registers() {
    engine_.reset();
    status_ = 0;
    error_ = EngineError::none;
    bar_.clear(reg::scratch, bar0_bytes - reg::scratch);
    show();
    control_ = 0;
    bar_.store(reg::control, 0); // last: it says that it is done
}

// --- the client

void Function::disconnected() {
    client_ = nullptr;
    hung_replies_.clear();
    engine_.reset();
    memory_.clear();
    renew_bar();
    function_reset();
}

void Function::renew_bar() {
    if (auto renewed = bar_.renew(); !renewed) {
        // Without fresh memory the old client could still ring: nobody listens any more.
        spdlog::error("dma model: {}; the engine is out of order", renewed.error().message());
        hung_ = true;
    }
}

void Function::function_reset() {
    config_.reset();
    vector_.reset();
    initialise_registers();
}

void Function::reset(vfio_user::Reply<void> reply) {
    if (hung_) {
        hung_replies_.push_back(std::move(reply)); // the server's deadline answers
        return;
    }
    // Any other client maps the BAR once, and would go on with the old memory.
    if (client_ && client_->speaks_lanepool()) renew_bar();
    function_reset();
    reply({});
}

void Function::set_hung(bool hung) {
    hung_ = hung;
    if (hung) return;
    for (auto& reply : std::exchange(hung_replies_, {}))
        reply(fail(Errc::cancelled, "the engine was hung"));
}

void Function::map_dma(vfio_user::DmaMap map, vfio_user::Reply<void> reply) {
    reply(memory_.map(std::move(map)));
}

// Between two steps nothing is in use.
void Function::unmap_dma(Range<Iova> range, vfio_user::Reply<void> reply) {
    if (memory_.unmap(range))
        reply({});
    else
        reply(fail(Errc::not_found, "nothing is mapped at {:#x}", range.start().value));
}

void Function::set_irqs(pci::Irq index, uint32_t, std::vector<UniqueFd> eventfds,
                        vfio_user::Reply<void> reply) {
    if (index == pci::Irq::msi) vector_ = eventfds.empty() ? UniqueFd() : std::move(eventfds[0]);
    reply({});
}

void Function::mask_irq(pci::Irq, uint32_t, bool, vfio_user::Reply<void> reply) {
    reply(fail(Errc::not_supported, "the vector cannot be masked"));
}

Result<std::vector<pci::Extent>> Function::memory(pci::Region region, uint64_t offset_bytes,
                                                  uint64_t size_bytes) {
    if (region != pci::Region::bar0) return std::vector<pci::Extent>{};
    return bar_.extents(offset_bytes, size_bytes);
}

void Function::read(pci::Region region, uint64_t offset_bytes, size_t size_bytes,
                    vfio_user::Reply<std::vector<std::byte>> reply) {
    if (region == pci::Region::config) return reply(config_.read(offset_bytes, size_bytes));
    look();
    std::vector<std::byte> data(size_bytes);
    for (size_t i = 0; i < size_bytes; ++i) {
        const uint64_t place = offset_bytes + i;
        data[i] = static_cast<std::byte>(bar_.load(place & ~uint64_t{3}) >> (8 * (place % 4)));
    }
    reply(std::move(data));
}

void Function::write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data,
                     vfio_user::Reply<void> reply) {
    if (region == pci::Region::config) {
        if (config_.write(offset_bytes, data)) {
            // A driver's own reset: interrupts stay as they are set up.
            config_.reset();
            initialise_registers();
        }
        return reply({});
    }
    look(); // what the memory says was first
    for (size_t done = 0; done < data.size();) {
        const uint64_t word = (offset_bytes + done) & ~uint64_t{3};
        const size_t start = offset_bytes + done - word;
        const size_t count = std::min<size_t>(4 - start, data.size() - done);
        uint32_t value = bar_.load(word);
        std::memcpy(reinterpret_cast<std::byte*>(&value) + start, data.data() + done, count);
        bar_.store(word, value);
        done += count;
    }
    look();
    reply({});
}

} // namespace lanepool::dma_model
