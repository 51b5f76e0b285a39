// SPDX-License-Identifier: Apache-2.0
//
// Interrupts with data.
#include "sisci/interrupt_meanings.h"
#include "sisci/library.h"

#include <cstring>
#include <optional>

namespace lanepool::sisci {

struct LocalDataInterrupt final : Object {
    Hold<Descriptor> descriptor;
    std::mutex mutex;
    std::optional<std::vector<std::byte>> kept; // a message that was too long for who waited
    std::optional<DataInterrupt> interrupt;     // the last: its callbacks use the rest
};
template <>
struct Named<sci_local_data_interrupt_t> {
    using type = LocalDataInterrupt;
};

struct RemoteDataInterruptConnection final : Object {
    Hold<Descriptor> descriptor;
    std::optional<RemoteDataInterrupt> interrupt;
};
template <>
struct Named<sci_remote_data_interrupt_t> {
    using type = RemoteDataInterruptConnection;
};

namespace {

constexpr unsigned create_flags_not_implemented =
    SCI_FLAG_SHARED_INT | SCI_FLAG_CONDITIONAL_INTERRUPT | SCI_FLAG_COUNTING_INT | SCI_FLAG_SHARE_EXTERNAL;

// Calls CALLBACK until it says that it does not want to be called again. It may remove what this is part of.
std::function<void(std::span<const std::byte>)> caller(sci_cb_data_interrupt_t callback, void* arg,
                                                       sci_local_data_interrupt_t handle) {
    auto wanted = std::make_shared<bool>(true);
    return [=](std::span<const std::byte> data) {
        std::shared_ptr<bool> again = wanted;
        if (!*again) return;
        std::vector<std::byte> message(data.begin(), data.end()); // it may write to it
        auto length = static_cast<unsigned>(message.size());
        *again = callback(arg, handle, message.data(), length, SCI_ERR_OK) != SCI_CALLBACK_CANCEL;
    };
}

Outcome<std::vector<std::byte>> next_message(LocalDataInterrupt& interrupt,
                                             std::chrono::milliseconds timeout) {
    {
        std::lock_guard lock(interrupt.mutex);
        if (interrupt.kept) {
            std::vector<std::byte> message = std::move(*interrupt.kept);
            interrupt.kept.reset();
            return message;
        }
    }
    std::vector<std::byte> message(max_interrupt_bytes);
    message.resize(SCI_TAKE(outcome_of(interrupt.interrupt->wait(message, timeout))));
    return message;
}

Outcome<> wait_for(LocalDataInterrupt& interrupt, void* data, unsigned* length,
                   std::chrono::milliseconds timeout) {
    std::vector<std::byte> message = SCI_TAKE(next_message(interrupt, timeout));
    auto room = *length;
    *length = static_cast<unsigned>(message.size());
    if (message.size() > room) {
        std::lock_guard lock(interrupt.mutex);
        interrupt.kept = std::move(message);
        return failed(SCI_ERR_OVERFLOW);
    }
    if (!message.empty()) std::memcpy(data, message.data(), message.size());
    return {};
}

} // namespace
} // namespace lanepool::sisci

using namespace lanepool::sisci;

extern "C" void SCICreateDataInterrupt(sci_desc_t sd, sci_local_data_interrupt_t* interrupt,
                                       unsigned int localAdapterNo, unsigned int* interruptNo,
                                       sci_cb_data_interrupt_t callback, void* callbackArg,
                                       unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto session = SCI_TAKE(Library::get().session());
        if (!interrupt || !interruptNo) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *interrupt = nullptr;
        SCI_TAKE(
            check_flags(flags, SCI_FLAG_USE_CALLBACK | SCI_FLAG_FIXED_INTNO, create_flags_not_implemented));
        auto made = std::make_shared<LocalDataInterrupt>();
        made->descriptor = SCI_TAKE(Library::get().hold(sd));
        SCI_TAKE(check_adapter(localAdapterNo));
        if (flags & SCI_FLAG_USE_CALLBACK && !callback) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        return Library::get().make(interrupt, [&](sci_local_data_interrupt_t handle) -> Outcome<> {
            lanepool::DataInterruptOptions options;
            if (flags & SCI_FLAG_FIXED_INTNO) options.number = *interruptNo;
            if (flags & SCI_FLAG_USE_CALLBACK) options.on_message = caller(callback, callbackArg, handle);
            made->interrupt.emplace(SCI_TAKE(
                outcome_of(lanepool::DataInterrupt::create(*session, std::move(options)), create_meaning)));
            *interruptNo = made->interrupt->number();
            return Library::get().add(handle, made);
        });
    });
}
SISCI_NAMES(SCICreateDataInterrupt)

extern "C" void SCIRemoveDataInterrupt(sci_local_data_interrupt_t interrupt, unsigned int flags,
                                       sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(interrupt));
        SCI_TAKE(check_flags(flags, 0));
        return Library::get().remove(interrupt, [](LocalDataInterrupt& removed) -> Outcome<> {
            SCI_TAKE(unless_gone(removed.interrupt->remove()));
            removed.descriptor.reset();
            return {};
        });
    });
}
SISCI_NAMES(SCIRemoveDataInterrupt)

extern "C" void SCIWaitForDataInterrupt(sci_local_data_interrupt_t interrupt, void* data,
                                        unsigned int* length, unsigned int timeout, unsigned int flags,
                                        sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().find(interrupt));
        SCI_TAKE(check_flags(flags, 0));
        if (!length || (!data && *length > 0)) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        return wait_for(*found, data, length, timeout_of(timeout));
    });
}
SISCI_NAMES(SCIWaitForDataInterrupt)

extern "C" void SCIConnectDataInterrupt(sci_desc_t sd, sci_remote_data_interrupt_t* interrupt,
                                        unsigned int nodeId, unsigned int localAdapterNo,
                                        unsigned int interruptNo, unsigned int timeout, unsigned int flags,
                                        sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto session = SCI_TAKE(Library::get().session());
        if (!interrupt) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        *interrupt = nullptr;
        SCI_TAKE(check_flags(flags, 0, SCI_FLAG_BROADCAST));
        auto made = std::make_shared<RemoteDataInterruptConnection>();
        made->descriptor = SCI_TAKE(Library::get().hold(sd));
        SCI_TAKE(check_adapter(localAdapterNo));
        SCI_TAKE(check_node(*session, nodeId));
        made->interrupt.emplace(
            SCI_TAKE(outcome_of(lanepool::RemoteDataInterrupt::connect(*session, nodeId, interruptNo,
                                                                       connect_timeout_of(timeout)),
                                connect_meaning)));
        return Library::get().make(
            interrupt, [&](sci_remote_data_interrupt_t handle) { return Library::get().add(handle, made); });
    });
}
SISCI_NAMES(SCIConnectDataInterrupt)

extern "C" void SCIDisconnectDataInterrupt(sci_remote_data_interrupt_t interrupt, unsigned int flags,
                                           sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        SCI_TAKE(Library::get().find(interrupt));
        SCI_TAKE(check_flags(flags, 0));
        return Library::get().remove(interrupt, [](RemoteDataInterruptConnection& removed) {
            return unless_gone(removed.interrupt->disconnect());
        });
    });
}
SISCI_NAMES(SCIDisconnectDataInterrupt)

extern "C" void SCITriggerDataInterrupt(sci_remote_data_interrupt_t interrupt, void* data,
                                        unsigned int length, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto found = SCI_TAKE(Library::get().hold(interrupt));
        SCI_TAKE(check_flags(flags, 0));
        if (!data && length > 0) return failed(SCI_ERR_ILLEGAL_PARAMETER);
        auto sent = found->interrupt->send({static_cast<const std::byte*>(data), length});
        // The ring is full: what is in it is taken sooner or later.
        if (!sent && sent.error().code() == lanepool::Errc::no_space) return failed(SCI_ERR_BUSY);
        return outcome_of(std::move(sent));
    });
}
SISCI_NAMES(SCITriggerDataInterrupt)
