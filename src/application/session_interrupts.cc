// SPDX-License-Identifier: Apache-2.0
#include "application/host.h"
#include "application/session.h"
#include "session/protocol.h"

#include <array>

namespace lanepool::application {

using session::Message;

Result<> Session::interrupt_create(Message& call, Reply reply) {
    auto interrupt = std::make_shared<Interrupt>();
    interrupt->owner = this;
    interrupt->data = TRY(session::get_flag(call.body, "data", false));
    std::optional<uint32_t> wanted;
    if (call.body.contains("number")) wanted = TRY(get_number32(call.body, "number"));
    if (interrupts_.size() >= session::max_interrupts)
        return fail(Errc::no_space, "the session has {} interrupts, which is the limit", interrupts_.size());
    interrupt->event = share(TRY(create_eventfd()));
    interrupt->number = TRY(host_.showing().interrupts.add(wanted, interrupt));
    interrupt->handle = new_handle();
    interrupts_.emplace(interrupt->handle, interrupt);
    export_event(interrupt, std::move(reply));
    return {};
}

void Session::export_event(const std::shared_ptr<Interrupt>& interrupt, Reply reply) {
    Fabric& fabric = host_.fabric();
    fabric.errands.run(
        [&adapter = fabric.adapter, event = interrupt->event] {
            return adapter.export_events(std::array{event->get()});
        },
        [this, &fabric, weak = std::weak_ptr(interrupt),
         reply = std::move(reply)](Result<ntb::Export> shown) {
            const auto there = weak.lock();
            if (!there || !there->owner) { // and so may be the session
                if (shown) fabric.errands.dispose(std::move(*shown));
                return reply(fail(Errc::not_found, "the interrupt has been removed meanwhile"));
            }
            if (!shown) {
                host_.showing().withdraw(*there);
                interrupts_.erase(there->handle);
                return reply(tl::unexpected(std::move(shown).error()));
            }
            there->shown = std::move(*shown);
            reply(Answer{{{"interrupt", there->handle}, {"number", there->number}}, {there->event}});
        });
}

Result<> Session::interrupt_remove(Message& call, Reply reply) {
    const auto found = TRY(get_handle(call.body, "interrupt", interrupts_));
    if (!found->second->senders.empty() && !TRY(session::get_flag(call.body, "force", false)))
        return fail(Errc::busy, "the interrupt has {} connections", found->second->senders.size());
    const auto interrupt = found->second;
    interrupts_.erase(found);
    host_.showing().withdraw(*interrupt);
    host_.fabric().errands.flush([reply = std::move(reply)] { reply(Answer{}); });
    return {};
}

Result<> Session::interrupt_connect(Message& call, Reply reply) {
    auto wanted = TRY(wish(call.body, "number"));
    wanted.kind = SegmentRequest::connect_interrupt;
    wanted.data = TRY(session::get_flag(call.body, "data", false));
    return connect(std::move(wanted), std::move(reply));
}

} // namespace lanepool::application
