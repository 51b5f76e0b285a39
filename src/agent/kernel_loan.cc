// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel_loan.h"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>

namespace lanepool::agent {

using smartio::DirectDevice;

namespace {
// A lender's IOMMU takes a while for all of a machine's memory: 131,072 pages for 512 MiB. That the lender is
// gone is noticed by its silence, long before.
constexpr io::Duration request_timeout = std::chrono::seconds(15);
constexpr unsigned most_event_errors = 16; // one after the other
} // namespace

KernelLoan::KernelLoan(KernelLoanSetup setup, BorrowedDeviceEvents events)
    : setup_(std::move(setup)), events_(std::move(events)),
      background_(std::make_unique<Background>(*setup_.loop)) {}

KernelLoan::~KernelLoan() {
    *alive_ = false;
    background_.reset();
    // As in remove().
    if (memory_ && setup_.dma_mode == bridge::DmaMode::bounce) memory_->adapter_gone();
    // Before its windows go. Destroying it is not enough: its pool keeps its file open.
    if (plugged_ && (phase_ != Phase::removed && phase_ != Phase::over))
        if (const auto gone = function()->unplug(true); !gone)
            spdlog::warn("loan {}: {}", setup_.key.loan, gone.error().message());
    function_events_.reset();
    registers_.reset();
    memory_.reset();
    device_.reset();
    if (attach_done_) attach_done_(fail(Errc::cancelled, "the loan was given up on this host"));
    for (const auto& done : detach_done_)
        done({});
}

const char* KernelLoan::name(Phase phase) {
    switch (phase) {
    case Phase::idle:
        return "idle";
    case Phase::reaching:
        return "reaching";
    case Phase::describing:
        return "describing";
    case Phase::connecting:
        return "connecting";
    case Phase::plugging:
        return "plugging";
    case Phase::waiting_for_driver:
        return "waiting_for_driver";
    case Phase::attached:
        return "attached";
    case Phase::removing:
        return "removing";
    case Phase::removed:
        return "removed";
    case Phase::over:
        break;
    }
    return "over";
}

std::optional<BorrowedDevice::InKernel> KernelLoan::in_kernel() const {
    InKernel in_kernel;
    if (memory_) in_kernel.dma_bytes = memory_->size_bytes();
    if (address_) in_kernel.function = pci::to_string(*address_);
    in_kernel.driver = driver_;
    return in_kernel;
}

admin::Json KernelLoan::status() const {
    const auto here = *in_kernel();
    return {{"state", name(phase_)},
            {"function", here.function},
            {"driver", here.driver},
            {"dma", std::string(bridge::name(setup_.dma_mode))},
            {"dma_bytes", here.dma_bytes}};
}

admin::Json KernelLoan::stats() const {
    if (phase_ != Phase::attached) return {};
    const auto stats = function()->stats();
    if (!stats) return {};
    return {{"messages", registers_->forwarded()},       {"resets", registers_->resets()},
            {"config_reads", stats->config_reads},       {"config_writes", stats->config_writes},
            {"events_lost", stats->events_lost},         {"vectors_delivered", stats->vectors_delivered},
            {"vectors_dropped", stats->vectors_dropped}, {"dma_maps", stats->dma_maps},
            {"dma_unmaps", stats->dma_unmaps},           {"dma_failures", stats->dma_failures},
            {"bytes_copied", stats->bytes_copied},       {"pool_used_bytes", stats->pool_used_bytes},
            {"pool_peak_bytes", stats->pool_peak_bytes}};
}

// ---- Attaching

void KernelLoan::attach(Done done) {
    if (phase_ == Phase::attached) return done({});
    if (phase_ != Phase::idle) return done(fail(Errc::busy, "loan {} is being taken away", setup_.key.loan));
    attach_done_ = std::move(done);
    phase_ = Phase::reaching;
    auto device = DirectDevice::attach({.loop = setup_.loop,
                                        .adapter = setup_.adapter,
                                        .channel = setup_.channel,
                                        .lender = setup_.lender,
                                        .key = setup_.key,
                                        .shared = false,
                                        .enable = false,
                                        .options = {.request_timeout = request_timeout}},
                                       {.attached = [this](Result<> result) { reached(std::move(result)); },
                                        .failed = [this](const Error& why) { lose(why.message()); }});
    if (!device) return finish_attach(tl::unexpected<Error>(device.error()));
    device_ = std::move(*device);
    deadline_ = setup_.loop->after(setup_.attach_timeout, [this] { attach_timed_out(); });
}

void KernelLoan::reached(Result<> result) {
    if (phase_ != Phase::reaching) return;
    if (!result) return finish_attach(std::move(result));
    auto described =
        describe({device_->config(), device_->bars(), device_->interrupts(), device_->msix_table_apart()});
    if (!described) return finish_attach(tl::unexpected<Error>(described.error()));
    phase_ = Phase::describing;
    described_ = std::move(*described);
    auto description = described_->function;
    description.dma_mode = setup_.dma_mode;
    while (description.dma_bar < description.bars.size() - 1 &&
           description.bars[description.dma_bar].memory.size_bytes == 0)
        ++description.dma_bar;
    description.held = setup_.adapter->function().lifelines();
    memory_ =
        std::make_unique<KernelMemory>(*setup_.loop, *background_, setup_.kernel, *setup_.adapter, *device_);
    described_->function.bars = {}; // nobody but the module keeps the adapter's files
    memory_->make(std::move(description), described_->class_code,
                  [this](Result<> made_it) { made(std::move(made_it)); });
}

void KernelLoan::made(Result<> result) {
    if (phase_ != Phase::describing) return;
    if (!result) return finish_attach(std::move(result));
    phase_ = Phase::connecting;
    auto watch = setup_.loop->watch(function()->event_fd(), EPOLLIN, [this](uint32_t) { take_events(); });
    if (!watch) return finish_attach(tl::unexpected<Error>(watch.error()));
    function_events_ = std::move(*watch);
    registers_ = std::make_unique<KernelRegisters>(*background_, *device_, function(),
                                                   described_->function.config, described_->registers,
                                                   [this](const Error& why) { lose(why.message()); });
    connect();
}

// One eventfd a vector, which the lender signals and the module hears.
Result<std::vector<UniqueFd>> KernelLoan::make_vectors() const {
    std::vector<UniqueFd> vectors;
    for (uint32_t i = 0; i < described_->function.config.vector_count; ++i)
        vectors.push_back(TRY(create_eventfd()));
    return vectors;
}

void KernelLoan::connect() {
    auto made = make_vectors();
    if (!made) return finish_attach(tl::unexpected<Error>(made.error()));
    if (made->empty()) return connected({}, nullptr);
    std::vector<UniqueFd> for_lender;
    for (const auto& vector : *made) {
        auto copy = vector.duplicate();
        if (!copy) return finish_attach(tl::unexpected<Error>(copy.error()));
        for_lender.push_back(std::move(*copy));
    }
    auto vectors = std::make_shared<std::vector<UniqueFd>>(std::move(*made));
    device_->set_interrupts(std::move(for_lender), [this, alive = alive_, vectors](Result<> result) {
        if (*alive) connected(std::move(result), vectors);
    });
}

void KernelLoan::connected(Result<> result, std::shared_ptr<std::vector<UniqueFd>> vectors) {
    if (phase_ != Phase::connecting) return;
    if (!result) return finish_attach(tl::unexpected(result.error().within("connecting interrupts")));
    background_->run(
        [function = function(), vectors]() -> Result<> {
            if (!vectors) return {};
            std::vector<int> fds;
            for (const auto& vector : *vectors)
                fds.push_back(vector.get());
            return function->set_vectors(0, fds);
        },
        [this](const Result<>& set) {
            if (phase_ != Phase::connecting) return;
            if (!set) return finish_attach(tl::unexpected(set.error().within("interrupts of the function")));
            registers_->turn_on([this, alive = alive_](const Result<>& on) {
                if (!*alive || phase_ != Phase::connecting) return;
                if (!on) return finish_attach(tl::unexpected(on.error().within("turning the device on")));
                plug();
            });
        });
}

void KernelLoan::plug() {
    phase_ = Phase::plugging;
    background_->run([function = function(), base = memory_->base()] { return function->plug(base.value); },
                     [this](Result<pci::Address> address) { plugged(std::move(address)); });
}

// Also when the loan has ended meanwhile: what was plugged in is on its way out behind it.
void KernelLoan::plugged(Result<pci::Address> address) {
    if (address) {
        plugged_ = true;
        address_ = *address;
    }
    if (phase_ != Phase::plugging) return;
    if (!address) return finish_attach(tl::unexpected(address.error().within("plugging the function in")));
    phase_ = Phase::waiting_for_driver;
    spdlog::info("loan {} is {} on this host", setup_.key.loan, pci::to_string(*address_));
    if (offered_) look();
}

void KernelLoan::look() {
    if (looks_ || !address_) return;
    looks_ = true;
    background_->run(
        [system = setup_.kernel.system, address = *address_] { return look_at(*system, address); },
        [this](const LocalFunction& found) { seen(found); });
}

void KernelLoan::seen(const LocalFunction& found) {
    looks_ = false;
    if (phase_ == Phase::waiting_for_driver) {
        if (!offered_) return;
        driver_ = found.driver;
        if (driver_.empty() && setup_.loop->clock().now() < offered_until_) {
            looking_ = setup_.loop->after(setup_.times.look_interval, [this] { look(); });
            return;
        }
        if (driver_.empty())
            spdlog::warn("loan {}: no driver of this host has taken {}; is there one for it ('modprobe')?",
                         setup_.key.loan, pci::to_string(*address_));
        return finish_attach({});
    }
    if (phase_ != Phase::attached) return;
    driver_ = found.driver;
    const auto now = setup_.loop->clock().now();
    if (found.present)
        absent_since_.reset();
    else if (!absent_since_)
        absent_since_ = now;
    else if (now - *absent_since_ >= setup_.times.absence_limit)
        lose(fmt::format("somebody has removed {} from this host's PCI bus", pci::to_string(*address_)));
}

void KernelLoan::attach_timed_out() {
    if (phase_ == Phase::waiting_for_driver && offered_) return finish_attach({});
    const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(setup_.attach_timeout);
    finish_attach(fail(Errc::timeout,
                       "the device could not be brought to this host's kernel within {} ms ({})",
                       waited.count(), name(phase_)));
}

void KernelLoan::finish_attach(Result<> result) {
    if (!attach_done_) return;
    deadline_.reset();
    const auto done = std::exchange(attach_done_, nullptr);
    if (result) {
        phase_ = Phase::attached;
        looking_ = setup_.loop->every(setup_.times.watch_interval, [this] { look(); });
    } else {
        remove(result.error().code() == Errc::disconnected);
    }
    done(std::move(result));
}

// ---- While it is attached

void KernelLoan::take_events() {
    const auto events = function()->take_events();
    if (!events) {
        spdlog::warn("loan {}: {}", setup_.key.loan, events.error().message());
        if (++event_errors_ < most_event_errors) return; // it may be one that is not known
        function_events_.reset();
        return lose(fmt::format("lanepool_bridge says nothing any more: {}", events.error().message()));
    }
    event_errors_ = 0;
    for (const auto& event : *events)
        handle(event);
}

void KernelLoan::handle(const bridge::Event& event) {
    if (event.lost_before && registers_) registers_->changed();
    switch (event.kind) {
    case bridge::Event::Kind::config_write:
        if (registers_) registers_->changed();
        break;
    case bridge::Event::Kind::reset:
        if (registers_) registers_->reset();
        break;
    case bridge::Event::Kind::attached:
        offered_ = true;
        offered_until_ = setup_.loop->clock().now() + setup_.times.driver_limit;
        look();
        break;
    case bridge::Event::Kind::presence:
        look();
        break;
    case bridge::Event::Kind::removed:
        was_removed();
        break;
    case bridge::Event::Kind::released:
        was_released();
        break;
    }
}

void KernelLoan::lose(const std::string& reason) {
    if (attach_done_) return finish_attach(fail(Errc::disconnected, "{}", reason));
    const bool was_attached = phase_ == Phase::attached;
    remove(true);
    if (was_attached) events_.lost(reason);
}

} // namespace lanepool::agent
