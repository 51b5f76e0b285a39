// SPDX-License-Identifier: Apache-2.0
#include "smartio/client_irqs.h"

#include <algorithm>
#include <utility>

namespace lanepool::smartio {

namespace {

// Every change exports all vectors of an index anew: rare, and the lender never has half of them.
std::vector<SharedFd> merged(std::vector<SharedFd> events, uint32_t first, std::vector<UniqueFd> changed) {
    if (first == 0 && changed.empty()) return {};
    events.resize(std::max(events.size(), size_t{first} + changed.size()));
    for (size_t i = 0; i < changed.size(); ++i)
        events[first + i] = changed[i] ? share(std::move(changed[i])) : nullptr;
    return events;
}

} // namespace

void ClientIrqs::set(pci::Irq index, uint32_t first, std::vector<UniqueFd> eventfds,
                     vfio_user::Reply<void> reply) {
    const auto number = static_cast<size_t>(index);
    if (number >= indices_.size()) return reply(fail(Errc::not_supported, "interrupt index {}", number));
    if (first > max_loan_vectors || eventfds.size() > max_loan_vectors - first)
        return reply(fail(Errc::out_of_range, "vectors beyond {} of a lent device", max_loan_vectors));
    auto& events = indices_[number].events;
    events = merged(std::move(events), first, std::move(eventfds));
    start(index, std::move(reply));
}

void ClientIrqs::replace(pci::Irq index, std::vector<UniqueFd> eventfds, vfio_user::Reply<void> reply) {
    if (eventfds.size() > max_loan_vectors)
        return reply(fail(Errc::out_of_range, "{} vectors are more than the {} of a lent device",
                          eventfds.size(), max_loan_vectors));
    indices_.at(static_cast<size_t>(index)).events = merged({}, 0, std::move(eventfds));
    start(index, std::move(reply));
}

void ClientIrqs::start(pci::Irq index, vfio_user::Reply<void> reply) {
    const auto& events = indices_.at(static_cast<size_t>(index)).events;
    auto job = [&adapter = adapter_, events]() -> Result<ntb::Export> {
        if (events.empty()) return ntb::Export();
        std::vector<int> fds;
        for (const auto& event : events)
            fds.push_back(event ? event->get() : -1);
        return adapter.export_events(fds);
    };
    errands_.run(std::move(job), [this, index, events, generation = generation_,
                                  reply = std::move(reply)](Result<ntb::Export> result) mutable {
        if (generation == generation_)
            return exported(index, std::move(events), std::move(result), std::move(reply));
        if (result) errands_.dispose(std::move(*result));
    });
}

void ClientIrqs::exported(pci::Irq index, std::vector<SharedFd> events, Result<ntb::Export> result,
                          vfio_user::Reply<void> reply) {
    if (!result) return reply(tl::unexpected(std::move(result).error()));
    SetIrqsRequest request{link_.key(), index, {}, {}};
    if (*result) request.address = result->address();
    for (const auto& event : events)
        request.present.push_back(event != nullptr);
    // The lender still signals through the export before: it stays until the answer.
    auto& current = indices_.at(static_cast<size_t>(index)).exported;
    auto before = std::make_shared<ntb::Export>(std::exchange(current, std::move(*result)));
    link_.send(LoanRequest::set_irqs, encode(request),
               [this, before, shared = std::make_shared<vfio_user::Reply<void>>(std::move(reply))](
                   Result<std::vector<std::byte>> answer) {
                   errands_.dispose(std::move(*before));
                   (*shared)(answer.map([](auto&&) {}));
               });
}

std::vector<ntb::Export> ClientIrqs::forget() {
    ++generation_;
    std::vector<ntb::Export> exports;
    for (auto& index : indices_) {
        index.events.clear();
        if (index.exported) exports.push_back(std::move(index.exported));
    }
    return exports;
}

bool ClientIrqs::active(pci::Irq index) const {
    const auto& events = indices_.at(static_cast<size_t>(index)).events;
    return std::ranges::any_of(events, [](const auto& event) { return event != nullptr; });
}

} // namespace lanepool::smartio
