// SPDX-License-Identifier: Apache-2.0
#include "ntb/interrupts.h"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>

namespace lanepool::ntb {

Result<std::unique_ptr<Interrupts>> Interrupts::create(pci::Function& function, const Identity& identity,
                                                       const Links& links, Messages& messages,
                                                       EventWords& words, AdapterEvents events) {
    auto loop = TRY(io::EventLoop::create());
    std::unique_ptr<Interrupts> self(
        new Interrupts(std::move(loop), links, messages, words, std::move(events)));
    TRY(self->set_up(function, identity));
    self->thread_ = std::thread([loop = self->loop_.get()] { loop->run(); });
    return self;
}

Result<> Interrupts::set_up(pci::Function& function, const Identity& identity) {
    const auto index = function.irq(pci::Irq::msix).count > 0 ? pci::Irq::msix : pci::Irq::msi;
    const uint32_t count = function.irq(index).count;
    const uint32_t link_vector =
        TRY(Registers(function).read32(switchtec::gas::part_cfg(identity.partition.value) +
                                       offsetof(switchtec::PartCfg, vep_vector))) &
        0xffff;
    if (link_vector >= count)
        return fail(Errc::not_supported,
                    "the switch signals events by vector {}, but the adapter has only {} vectors",
                    link_vector, count);
    uint32_t message_vector = link_vector;
    if (count > 1) message_vector = link_vector == 0 ? 1 : 0;

    message_eventfd_ = TRY(create_eventfd());
    link_eventfd_ = TRY(create_eventfd());
    std::vector<int> eventfds(std::max(link_vector, message_vector) + 1, -1);
    eventfds[link_vector] = link_eventfd_.get();
    if (message_vector != link_vector) eventfds[message_vector] = message_eventfd_.get();
    message_watch_ =
        TRY(loop_->watch(message_eventfd_.get(), EPOLLIN, [this](uint32_t) { take_messages(); }));
    link_watch_ = TRY(
        loop_->watch(link_eventfd_.get(), EPOLLIN, [this, shared = message_vector == link_vector](uint32_t) {
            take_link_events();
            if (shared) take_messages();
        }));
    TRY(function.set_irqs(index, 0, eventfds));
    TRY(messages_.set_up(static_cast<uint8_t>(message_vector)));
    return links_.enable_events();
}

void Interrupts::take_messages() {
    drain(message_eventfd_);
    // A register that is filled again while the others are looked at interrupts again.
    const auto taken = messages_.take([this](Partition from, uint32_t message) {
        if (message != event_message && events_.message) events_.message(from, message);
    });
    // After the registers have been emptied: who found them full has written before we look.
    words_.look();
    if (!taken && taken.error().code() == Errc::disconnected) return report_gone();
    if (!taken) spdlog::warn("taking messages of the adapter: {}", taken.error().message());
}

void Interrupts::take_link_events() {
    drain(link_eventfd_);
    const auto changed = links_.take_events();
    if (!changed && changed.error().code() == Errc::disconnected) return report_gone();
    if (!changed) spdlog::warn("taking link events of the adapter: {}", changed.error().message());
    if (changed && *changed && events_.link_changed) events_.link_changed();
}

void Interrupts::report_gone() {
    loop_->post([this] {
        if (std::exchange(gone_, true)) return;
        message_watch_.reset();
        link_watch_.reset();
        if (events_.gone) events_.gone();
    });
}

void Interrupts::stop() {
    if (!thread_.joinable()) return;
    loop_->stop();
    thread_.join();
}

} // namespace lanepool::ntb
