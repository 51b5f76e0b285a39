// SPDX-License-Identifier: Apache-2.0
#include "smartio/guest_msix.h"

#include "base/endian.h"

#include <algorithm>
#include <sys/epoll.h>

namespace lanepool::smartio {

GuestMsix::GuestMsix(io::EventLoop& loop, ClientIrqs& irqs, const MsixCapability& capability,
                     std::function<void()> ready)
    : loop_(loop), irqs_(irqs), capability_(capability), ready_(std::move(ready)), table_(capability.vectors),
      now_(std::make_shared<bool>()) {}

void GuestMsix::disconnected() {
    client_ = nullptr;
    forget();
}

void GuestMsix::forget() {
    now_ = std::make_shared<bool>();
    vectors_.clear();
    table_.reset();
}

void GuestMsix::reset() {
    const bool was_active = active();
    forget();
    if (was_active) irqs_.set(pci::Irq::msix, 0, {}, {[](Result<>) {}});
}

bool GuestMsix::covers(pci::Region region, uint64_t offset_bytes, uint64_t size_bytes) const {
    const auto bar = static_cast<unsigned>(region);
    return capability_.table.overlaps(bar, offset_bytes, size_bytes) ||
           capability_.pending.overlaps(bar, offset_bytes, size_bytes);
}

// What is neither table nor pending bits in such an access is nothing (an access that crosses the end of
// either is undefined: PCI Express Base Specification 7.7.2).
std::vector<std::byte> GuestMsix::read(pci::Region region, uint64_t offset_bytes, size_t size_bytes) const {
    std::vector<std::byte> data(size_bytes);
    const auto& table = capability_.table;
    const auto& pending = capability_.pending;
    const auto bar = static_cast<unsigned>(region);
    if (table.overlaps(bar, offset_bytes, size_bytes) && offset_bytes >= table.offset_bytes)
        table_.read_table(offset_bytes - table.offset_bytes, data);
    else if (pending.overlaps(bar, offset_bytes, size_bytes) && offset_bytes >= pending.offset_bytes)
        table_.read_pending(offset_bytes - pending.offset_bytes, data);
    return data;
}

void GuestMsix::write(pci::Region region, uint64_t offset_bytes, std::span<const std::byte> data,
                      vfio_user::Reply<void> reply) {
    const auto& table = capability_.table;
    if (!table.overlaps(static_cast<unsigned>(region), offset_bytes, data.size()) ||
        offset_bytes < table.offset_bytes)
        return reply({});
    for (const auto vector : table_.write_table(offset_bytes - table.offset_bytes, data))
        signal(vector);
    settle(std::move(reply));
}

void GuestMsix::control(bool enabled, bool masked, vfio_user::Reply<void> reply) {
    for (const auto vector : table_.set_control(enabled, masked))
        signal(vector);
    settle(std::move(reply));
}

// Has the device signal what the guest uses.
void GuestMsix::settle(vfio_user::Reply<void> reply) {
    const auto before = static_cast<uint32_t>(vectors_.size());
    if (!table_.enabled() && before != 0) {
        now_ = std::make_shared<bool>();
        vectors_.clear();
        return irqs_.set(pci::Irq::msix, 0, {}, std::move(reply));
    }
    const uint32_t wanted = table_.wanted();
    if (wanted <= before) return reply({});
    auto eventfds = add_vectors(wanted);
    if (!eventfds) {
        vectors_.resize(before);
        return reply(tl::unexpected<Error>(eventfds.error()));
    }
    irqs_.set(pci::Irq::msix, before, std::move(*eventfds),
              {[this, before, weak = std::weak_ptr(now_),
                shared = std::make_shared<vfio_user::Reply<void>>(std::move(reply))](Result<> result) {
                  if (weak.lock()) return grown(before, std::move(result), std::move(*shared));
                  (*shared)(std::move(result));
              }});
}

Result<std::vector<UniqueFd>> GuestMsix::add_vectors(uint32_t wanted) {
    std::vector<UniqueFd> eventfds;
    while (vectors_.size() < wanted) {
        auto vector = std::make_unique<Vector>();
        vector->eventfd = TRY(create_eventfd());
        eventfds.push_back(TRY(vector->eventfd.duplicate()));
        const auto number = static_cast<uint32_t>(vectors_.size());
        vector->watch = TRY(loop_.watch(vector->eventfd.get(), EPOLLIN, [this, number](uint32_t) {
            drain(vectors_[number]->eventfd);
            signal(number);
        }));
        vectors_.push_back(std::move(vector));
    }
    return eventfds;
}

void GuestMsix::grown(uint32_t before, Result<> result, vfio_user::Reply<void> reply) {
    if (!result) {
        vectors_.resize(std::min<size_t>(vectors_.size(), before));
        return reply(std::move(result));
    }
    // The device may have been without interrupts for a moment: what fell into it would be lost.
    for (uint32_t vector = 0; vector < before; ++vector)
        signal(vector);
    ready_();
    reply({});
}

void GuestMsix::signal(uint32_t vector) {
    if (!client_ || vector >= vectors_.size()) return;
    auto& state = *vectors_[vector];
    if (state.under_way) {
        state.again = true;
        return;
    }
    const auto message = table_.signal(vector);
    if (!message) return;
    state.under_way = true;
    const le32 data = message->data;
    client_->dma_write({message->address}, std::as_bytes(std::span(&data, 1)),
                       [this, vector, weak = std::weak_ptr(now_)](Result<>) {
                           if (weak.lock()) sent(vector);
                       });
}

void GuestMsix::sent(uint32_t vector) {
    if (vector >= vectors_.size()) return;
    auto& state = *vectors_[vector];
    state.under_way = false;
    if (std::exchange(state.again, false)) signal(vector);
}

} // namespace lanepool::smartio
