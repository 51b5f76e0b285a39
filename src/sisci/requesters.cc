// SPDX-License-Identifier: Apache-2.0
//
// Devices of this host, which no pool knows, as users of the fabric.
#include "sisci/library.h"

namespace lanepool::sisci {
namespace {

Outcome<std::pair<uint8_t, uint8_t>> function_of(unsigned bus, unsigned devfn) {
    if (bus > UINT8_MAX || devfn > UINT8_MAX) return failed(SCI_ERR_ILLEGAL_PARAMETER);
    return std::pair(static_cast<uint8_t>(bus), static_cast<uint8_t>(devfn));
}

} // namespace
} // namespace lanepool::sisci

using namespace lanepool::sisci;

extern "C" void SCIRegisterPCIeRequester(sci_desc_t sd, unsigned int localAdapterNo, unsigned int bus,
                                         unsigned int devfn, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto session = SCI_TAKE(Library::get().session());
        auto descriptor = SCI_TAKE(Library::get().hold(sd));
        SCI_TAKE(check_flags(flags, SCI_FLAG_PCIE_REQUESTER_GLOBAL));
        SCI_TAKE(check_adapter(localAdapterNo));
        auto function = SCI_TAKE(function_of(bus, devfn));
        std::lock_guard lock(descriptor->mutex);
        if (descriptor->requesters.contains(function)) return failed(SCI_ERR_BUSY);
        auto requester =
            SCI_TAKE(outcome_of(lanepool::Requester::add(*session, function.first, function.second),
                                {.already_exists = SCI_ERR_BUSY, .disconnected = SCI_ERR_NO_LINK_ACCESS}));
        descriptor->requesters.emplace(function, std::move(requester));
        return {};
    });
}
SISCI_NAMES(SCIRegisterPCIeRequester)

extern "C" void SCIUnregisterPCIeRequester(sci_desc_t sd, unsigned int localAdapterNo, unsigned int bus,
                                           unsigned int devfn, unsigned int flags, sci_error_t* error) {
    call(error, [&]() -> Outcome<> {
        auto descriptor = SCI_TAKE(Library::get().hold(sd));
        SCI_TAKE(check_flags(flags, SCI_FLAG_PCIE_REQUESTER_GLOBAL));
        SCI_TAKE(check_adapter(localAdapterNo));
        auto function = SCI_TAKE(function_of(bus, devfn));
        std::lock_guard lock(descriptor->mutex);
        auto found = descriptor->requesters.find(function);
        if (found == descriptor->requesters.end()) return failed(SCI_ERR_ILLEGAL_OPERATION);
        SCI_TAKE(unless_gone(found->second.remove()));
        descriptor->requesters.erase(found);
        return {};
    });
}
SISCI_NAMES(SCIUnregisterPCIeRequester)
