// SPDX-License-Identifier: Apache-2.0
//
// Where a function of this host comes from, be it an adapter or a device: a vfio-user socket, whose function
// nobody else on this host could use; or this machine's own bus, whose functions have drivers and users that
// come before us. Calls block and may be made from any thread.
#pragma once

#include "agent/own_kernel.h"
#include "api/lanepool.pb.h"
#include "base/result.h"
#include "io/clock.h"
#include "pci/address.h"
#include "pci/function.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::agent {

// What this host's kernel says of one of its own functions, without touching it.
struct Sighting {
    bool taken = false;          // from its host, by us or by a predecessor of ours
    v1::DeviceIdentity identity; // as far as it is known
    // False: only a driver could say it, and none has the function now.
    bool serial_known = true;
    bool iommu = false; // it is isolated
    uint32_t most_functions = 0;
    std::vector<pci::Address> functions; // SR-IOV functions that it has, by number

    uint32_t function_count() const { return static_cast<uint32_t>(functions.size()); }
};

// Of a function that its own host can use, too. Before somebody else may, it is taken.
class HostUse {
  public:
    virtual ~HostUse() = default;
    // Errors: not_found (it is not there, or not any more).
    virtual Result<Sighting> look() = 0;
    // Takes it from its host, with its whole IOMMU group; one that is taken: done. Errors: busy, naming who
    // uses it; failed_precondition. After an error its host has it as before.
    virtual Result<> take() = 0;
    // Gives it back to the driver that it had; one that is not taken: done.
    virtual Result<> give_back() = 0;
    // Gives it COUNT SR-IOV functions, or removes all. Only while it is its host's. Errors: busy,
    // not_supported, out_of_range, timeout.
    virtual Result<> set_functions(uint32_t count, io::Duration limit) = 0;
    // Of an SR-IOV function, between two users: removes what the last one left at its parent. Others: done.
    virtual Result<> clean() = 0;
};

class FunctionSource {
  public:
    virtual ~FunctionSource() = default;
    // A path, or "pci:0000:3b:00.0".
    virtual const std::string& place() const = 0;
    virtual Result<std::unique_ptr<pci::Function>> open() = 0;
    // What it says of itself on this host's bus; none where it sits on no bus of this host.
    virtual std::optional<pci::RequesterId> requester() const = 0;
    // Null: nobody but us could use it.
    virtual HostUse* host() = 0;
};

// Makes them: of the machine (machine_sources.h), or made up for a test.
class FunctionSources {
  public:
    virtual ~FunctionSources() = default;
    virtual Result<std::shared_ptr<FunctionSource>> device(const std::string& place) = 0;
    // An adapter has no host side: opening it takes it.
    virtual Result<std::shared_ptr<FunctionSource>> adapter(const std::string& place) = 0;
    // Once the adapter is named: what borrows beside guests and applications. As long as this is there.
    virtual OwnKernel own_kernel() { return {}; }
};

inline constexpr std::string_view pci_place = "pci:"; // what such a place begins with
inline std::string place_of(const pci::Address& address) {
    return std::string(pci_place) + pci::to_string(address);
}
// None: it is not on this machine's bus.
inline std::optional<pci::Address> address_of(std::string_view place) {
    if (!place.starts_with(pci_place)) return std::nullopt;
    const auto address = pci::parse_address(place.substr(pci_place.size()));
    return address ? std::optional(*address) : std::nullopt;
}

} // namespace lanepool::agent
