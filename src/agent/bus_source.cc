// SPDX-License-Identifier: Apache-2.0
#include "agent/bus_source.h"

#include "agent/bus_identity.h"
#include "local_devices/pci_tree.h"
#include "local_devices/sriov.h"
#include "vfio/open.h"

#include <mutex>

namespace lanepool::agent {

namespace {

using local_devices::Purpose;

Result<std::unique_ptr<pci::Function>> open_function(const Bus& bus, const pci::Address& address) {
    return vfio::open(address, {bus.paths.sys, bus.paths.dev});
}

class BusDevice final : public FunctionSource, public HostUse {
  public:
    BusDevice(std::shared_ptr<Bus> bus, const pci::Address& address)
        : bus_(std::move(bus)), address_(address), place_(place_of(address)) {}

    const std::string& place() const override { return place_; }
    Result<std::unique_ptr<pci::Function>> open() override { return open_function(*bus_, address_); }
    std::optional<pci::RequesterId> requester() const override { return pci::requester_of(address_); }
    HostUse* host() override { return this; }

    Result<Sighting> look() override;
    Result<> take() override;
    Result<> give_back() override { return bus_->custody->give_back(address_); }
    Result<> set_functions(uint32_t count, io::Duration limit) override;
    Result<> clean() override;

  private:
    const std::shared_ptr<Bus> bus_;
    const pci::Address address_;
    const std::string place_;
    std::mutex mutex_;
    BusIdentity identity_;
};

Result<Sighting> BusDevice::look() {
    auto& system = *bus_->system;
    const std::lock_guard lock(mutex_);
    if (!local_devices::present(system, address_)) {
        identity_.forget();
        return fail(Errc::not_found, "this machine has no function {} (any more)", pci::to_string(address_));
    }
    Sighting seen;
    seen.taken = bus_->custody->taken(address_);
    seen.iommu = local_devices::iommu_group_of(system, address_).has_value();
    const auto sriov = TRY(local_devices::sriov(system, address_));
    seen.most_functions = sriov.total;
    seen.functions = sriov.functions;
    identity_.read(system, address_, seen);
    return seen;
}

Result<> BusDevice::take() {
    const auto sriov = TRY(local_devices::sriov(*bus_->system, address_));
    if (sriov.enabled > 0)
        return fail(Errc::busy,
                    "it has {} SR-IOV functions, which would go with it: lend those, or remove them first",
                    sriov.enabled);
    return bus_->custody->take(address_, Purpose::lending);
}

Result<> BusDevice::set_functions(uint32_t count, io::Duration limit) {
    TRY(local_devices::set_functions(*bus_->system, address_, count, io::system_clock().now() + limit));
    return {};
}

Result<> BusDevice::clean() {
    if (!local_devices::parent_of(*bus_->system, address_)) return {};
    return local_devices::clean_function(*bus_->system, address_);
}

class BusAdapter final : public FunctionSource {
  public:
    BusAdapter(std::shared_ptr<Bus> bus, const pci::Address& address)
        : bus_(std::move(bus)), address_(address), place_(place_of(address)) {}

    const std::string& place() const override { return place_; }
    Result<std::unique_ptr<pci::Function>> open() override;
    std::optional<pci::RequesterId> requester() const override { return std::nullopt; }
    HostUse* host() override { return nullptr; }

  private:
    const std::shared_ptr<Bus> bus_;
    const pci::Address address_;
    const std::string place_;
};

Result<std::unique_ptr<pci::Function>> BusAdapter::open() {
    constexpr std::string_view microchip = "0x11f8";
    constexpr uint32_t other_bridge = 0x068000; // the class of an NT endpoint
    auto& system = *bus_->system;
    if (!local_devices::present(system, address_))
        return fail(Errc::not_found, "this machine has no function {}", pci::to_string(address_));
    const std::string vendor = text_of(system, local_devices::attribute(address_, "vendor"));
    const auto class_code = local_devices::class_code_of(system, address_);
    if (vendor != microchip || class_code != other_bridge)
        return fail(Errc::failed_precondition,
                    "{} (vendor {}, class {:06x}) is not the NT endpoint of a Switchtec switch (vendor {}, "
                    "class {:06x}), and is left alone; 'lanepool inventory' lists a machine's adapters",
                    pci::to_string(address_), vendor, class_code.value_or(0), microchip, other_bridge);
    if (auto taken = bus_->custody->take(address_, Purpose::adapter); !taken)
        return tl::unexpected(taken.error().within("taking the adapter from its driver"));
    return open_function(*bus_, address_);
}

} // namespace

Result<std::shared_ptr<Bus>> Bus::open(const std::filesystem::path& state_file) {
    auto bus = std::make_shared<Bus>();
    bus->system = local_devices::linux_system(bus->paths);
    bus->custody = TRY(local_devices::Custody::open(bus->paths, state_file));
    return bus;
}

std::shared_ptr<FunctionSource> bus_device(std::shared_ptr<Bus> bus, const pci::Address& address) {
    return std::make_shared<BusDevice>(std::move(bus), address);
}

std::shared_ptr<FunctionSource> bus_adapter(std::shared_ptr<Bus> bus, const pci::Address& address) {
    return std::make_shared<BusAdapter>(std::move(bus), address);
}

} // namespace lanepool::agent
