// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/session.h"

#include <bit>

namespace lanepool::vfio_user {

namespace {
// The vectors that an action without descriptors is meant for.
std::vector<uint32_t> chosen_vectors(const wire::IrqSet& set, std::span<const std::byte> flags_by_vector) {
    std::vector<uint32_t> vectors;
    for (uint32_t i = 0; i < set.count; ++i)
        if (flags_by_vector.empty() || flags_by_vector[i] != std::byte{0}) vectors.push_back(set.start + i);
    return vectors;
}
} // namespace

Result<> Session::set_irqs(Request& request) {
    auto payload = request.payload();
    const auto set = TRY(wire::take<wire::IrqSet>(payload));
    const uint32_t data = set.flags & wire::irq_set::data_mask;
    const uint32_t action = set.flags & wire::irq_set::action_mask;
    const auto& fds = request.message.fds;
    if (set.argsz < sizeof set ||
        (set.flags & ~(wire::irq_set::data_mask | wire::irq_set::action_mask)) != 0 ||
        std::popcount(data) != 1 || std::popcount(action) != 1 || set.index >= pci::irq_count)
        return fail(Errc::invalid_argument, "interrupts: index {}, argsz {}, flags {:#x}",
                    uint32_t{set.index}, uint32_t{set.argsz}, uint32_t{set.flags});
    const auto index = static_cast<pci::Irq>(uint32_t{set.index});
    const auto& info = environment_.handler.irq(index);
    if (set.start > info.count || set.count > info.count - set.start)
        return fail(Errc::out_of_range, "interrupts: {} vectors from {}, index {} has {}",
                    uint32_t{set.count}, uint32_t{set.start}, uint32_t{set.index}, info.count);
    const bool turn_off = data == wire::irq_set::data_none && action == wire::irq_set::trigger &&
                          set.start == 0 && set.count == 0;
    if (set.count == 0 && !turn_off) return fail(Errc::invalid_argument, "interrupts: no vectors");
    if (data == wire::irq_set::data_bool && payload.size() != set.count)
        return fail(Errc::protocol, "interrupts: {} flags for {} vectors", payload.size(),
                    uint32_t{set.count});
    const bool with_eventfds = data == wire::irq_set::data_eventfd;
    if (!fds.empty() && (!with_eventfds || fds.size() != set.count))
        return fail(Errc::invalid_argument, "interrupts: {} descriptors for {} vectors", fds.size(),
                    uint32_t{set.count});

    if (turn_off) {
        assign_irqs(request.ticket, set, {});
        return {};
    }
    if (action == wire::irq_set::trigger && with_eventfds) {
        auto eventfds = std::move(request.message.fds);
        eventfds.resize(set.count); // none came: those vectors signal nobody any more
        assign_irqs(request.ticket, set, std::move(eventfds));
        return {};
    }
    if (with_eventfds)
        return fail(Errc::not_supported, "interrupts: masking by eventfd is not supported; use messages");
    const auto vectors =
        chosen_vectors(set, data == wire::irq_set::data_bool ? payload : std::span<const std::byte>());
    if (action == wire::irq_set::trigger) {
        for (const uint32_t vector : vectors)
            if (const auto found = eventfds_.find({set.index, vector}); found != eventfds_.end())
                signal(found->second);
        answer(request.ticket, Payload{});
        return {};
    }
    if (!info.maskable)
        return fail(Errc::invalid_argument, "interrupts: index {} cannot be masked", uint32_t{set.index});
    mask_irqs(request.ticket, set, vectors, action == wire::irq_set::mask);
    return {};
}

void Session::assign_irqs(Ticket ticket, const wire::IrqSet& set, std::vector<UniqueFd> eventfds) {
    if (eventfds.empty())
        eventfds_.erase(eventfds_.lower_bound({set.index, 0}), eventfds_.lower_bound({set.index + 1, 0}));
    for (uint32_t i = 0; i < eventfds.size(); ++i) {
        const std::pair key{uint32_t{set.index}, set.start + i};
        eventfds_.erase(key);
        if (!eventfds[i]) continue;
        auto copy = eventfds[i].duplicate();
        if (!copy) return answer(ticket, tl::unexpected<Error>(copy.error()));
        eventfds_.emplace(key, std::move(*copy));
    }
    environment_.handler.set_irqs(static_cast<pci::Irq>(uint32_t{set.index}), set.start, std::move(eventfds),
                                  reply_done(ticket, Payload{}));
}

void Session::mask_irqs(Ticket ticket, const wire::IrqSet& set, const std::vector<uint32_t>& vectors,
                        bool masked) {
    if (vectors.empty()) return answer(ticket, Payload{});
    struct Progress {
        size_t outstanding;
        std::optional<Error> error;
    };
    const auto progress = std::make_shared<Progress>(Progress{vectors.size(), std::nullopt});
    for (const uint32_t vector : vectors) {
        if (ended_) return;
        environment_.handler.mask_irq(static_cast<pci::Irq>(uint32_t{set.index}), vector, masked,
                                      {[weak = weak_from_this(), ticket, progress](Result<> result) {
                                          if (!result && !progress->error) progress->error = result.error();
                                          const auto self = weak.lock();
                                          if (--progress->outstanding > 0 || !self) return;
                                          if (progress->error)
                                              self->answer(ticket, tl::unexpected<Error>(*progress->error));
                                          else
                                              self->answer(ticket, Payload{});
                                      }});
    }
}

} // namespace lanepool::vfio_user
