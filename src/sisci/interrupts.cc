// SPDX-License-Identifier: Apache-2.0
//
// Interrupts without data.
#include "sisci/interrupt_meanings.h"
#include "sisci/library.h"

#include <algorithm>
#include <optional>

namespace lanepool::sisci {

struct LocalInterrupt final : Object {
    Hold<Descriptor> descriptor;
    bool counting = false;
    std::mutex mutex;
    uint64_t pending = 0;               // counted, but not yet waited for
    std::optional<Interrupt> interrupt; // the last: its callbacks use the rest
};
template <>
struct Named<sci_local_interrupt_t> {
    using type = LocalInterrupt;
};

struct RemoteInterruptConnection final : Object {
    Hold<Descriptor> descriptor;
    std::optional<RemoteInterrupt> interrupt;
};
template <>
struct Named<sci_remote_interrupt_t> {
    using type = RemoteInterruptConnection;
};

namespace {

constexpr unsigned create_flags_not_implemented =
    SCI_FLAG_SHARED_INT | SCI_FLAG_CONDITIONAL_INTERRUPT | SCI_FLAG_SHARE_EXTERNAL;
// Who triggers may be hostile: an eventfd takes any count.
constexpr uint64_t max_count = 1 << 16;

// Calls CALLBACK until it says that it does not want to be called again. It may remove what this is part of.
std::function<void(uint64_t)> caller(sci_cb_interrupt_t callback, void* arg, sci_local_interrupt_t handle,
                                     bool counting) {
    auto wanted = std::make_shared<bool>(true);
    return [=](uint64_t count) {
        std::shared_ptr<bool> again = wanted;
        uint64_t calls = counting ? std::min(count, max_count) : 1;
        for (auto [call, to] = std::pair(callback, arg); calls > 0 && *again; --calls)
            *again = call(to, handle, SCI_ERR_OK) != SCI_CALLBACK_CANCEL;
    };
}

Outcome<> wait_for(LocalInterrupt& interrupt, std::chrono::milliseconds timeout) {
    {
        std::lock_guard lock(interrupt.mutex);
        if (interrupt.pending > 0) {
            --interrupt.pending;
            return {};
        }
    }
    uint64_t count = SCI_TAKE(outcome_of(interrupt.interrupt->wait(timeout)));
    if (!interrupt.counting) return {};
    std::lock_guard lock(interrupt.mutex);
    interrupt.pending = std::min(interrupt.pending + count - 1, max_count);
    return {};
}

} // namespace
} // namespace lanepool::sisci

using namespace lanepool::sisci;

extern "C" void SCICreateInterrupt(sci_desc_t sd, sci_local_interrupt_t* interrupt,
                                   unsigned int localAdapterNo, unsigned int* interruptNo,
                                   sci_cb_interrupt_t callback, void* callbackArg, unsigned int flags,
                                   sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto session = SCI_TAKE(Library::get().session());
        if (!interrupt || !interruptNo) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *interrupt = nullptr;
        SCI_TAKE(check_flags(flags, SCI_FLAG_USE_CALLBACK | SCI_FLAG_FIXED_INTNO | SCI_FLAG_COUNTING_INT,
                             create_flags_not_implemented));
        auto made = std::make_shared<LocalInterrupt>();
        made->descriptor = SCI_TAKE(Library::get().hold(sd));
        SCI_TAKE(check_adapter(localAdapterNo));
        if (flags & SCI_FLAG_USE_CALLBACK && !callback) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        made->counting = flags & SCI_FLAG_COUNTING_INT;
        return Library::get().make(interrupt, [&](sci_local_interrupt_t handle) -> Outcome<> {
            lanepool::InterruptOptions options;
            if (flags & SCI_FLAG_FIXED_INTNO) options.number = *interruptNo;
            if (flags & SCI_FLAG_USE_CALLBACK)
                options.on_interrupt = caller(callback, callbackArg, handle, made->counting);
            made->interrupt.emplace(SCI_TAKE(
                outcome_of(lanepool::Interrupt::create(*session, std::move(options)), create_meaning)));
            *interruptNo = made->interrupt->number();
            return Library::get().add(handle, made);
        });
    });
}
SISCI_NAMES(SCICreateInterrupt)

extern "C" void SCIRemoveInterrupt(sci_local_interrupt_t interrupt, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(interrupt));
        SCI_TAKE(check_flags(flags, 0));
        return Library::get().remove(interrupt, [](LocalInterrupt& removed) -> Outcome<> {
            SCI_TAKE(unless_gone(removed.interrupt->remove()));
            removed.descriptor.reset();
            return {};
        });
    });
}
SISCI_NAMES(SCIRemoveInterrupt)

extern "C" void SCIWaitForInterrupt(sci_local_interrupt_t interrupt, unsigned int timeout, unsigned int flags,
                                    sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().find(interrupt));
        SCI_TAKE(check_flags(flags, 0));
        return wait_for(*found, timeout_of(timeout));
    });
}
SISCI_NAMES(SCIWaitForInterrupt)

extern "C" void SCIConnectInterrupt(sci_desc_t sd, sci_remote_interrupt_t* interrupt, unsigned int nodeId,
                                    unsigned int localAdapterNo, unsigned int interruptNo,
                                    unsigned int timeout, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto session = SCI_TAKE(Library::get().session());
        if (!interrupt) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *interrupt = nullptr;
        SCI_TAKE(check_flags(flags, SCI_FLAG_COUNTING_INT));
        auto made = std::make_shared<RemoteInterruptConnection>();
        made->descriptor = SCI_TAKE(Library::get().hold(sd));
        SCI_TAKE(check_adapter(localAdapterNo));
        SCI_TAKE(check_node(*session, nodeId));
        made->interrupt.emplace(SCI_TAKE(outcome_of(
            lanepool::RemoteInterrupt::connect(*session, nodeId, interruptNo, connect_timeout_of(timeout)),
            connect_meaning)));
        return Library::get().make(
            interrupt, [&](sci_remote_interrupt_t handle) { return Library::get().add(handle, made); });
    });
}
SISCI_NAMES(SCIConnectInterrupt)

extern "C" void SCIDisconnectInterrupt(sci_remote_interrupt_t interrupt, unsigned int flags,
                                       sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(interrupt));
        SCI_TAKE(check_flags(flags, 0));
        return Library::get().remove(interrupt, [](RemoteInterruptConnection& removed) {
            return unless_gone(removed.interrupt->disconnect());
        });
    });
}
SISCI_NAMES(SCIDisconnectInterrupt)

extern "C" void SCITriggerInterrupt(sci_remote_interrupt_t interrupt, unsigned int flags,
                                    sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().hold(interrupt));
        SCI_TAKE(check_flags(flags, 0));
        return outcome_of(found->interrupt->trigger());
    });
}
SISCI_NAMES(SCITriggerInterrupt)
