// SPDX-License-Identifier: Apache-2.0
#include "agent/machine_sources.h"

#include "agent/bus_source.h"
#include "vfio_user/client.h"

namespace lanepool::agent {

using namespace std::chrono_literals;

namespace {

// Below the lender's deadline for cutting (smartio::LenderOptions::cut_deadline).
constexpr auto device_timeout = 1500ms;
// An adapter answers a register access in well under a millisecond.
constexpr auto adapter_timeout = 1s;

class SocketSource final : public FunctionSource {
  public:
    SocketSource(std::string socket, io::Duration timeout) : socket_(std::move(socket)), timeout_(timeout) {}

    const std::string& place() const override { return socket_; }
    Result<std::unique_ptr<pci::Function>> open() override {
        return vfio_user::connect(socket_, {.timeout = timeout_});
    }
    std::optional<pci::RequesterId> requester() const override { return std::nullopt; }
    HostUse* host() override { return nullptr; }

  private:
    const std::string socket_;
    const io::Duration timeout_;
};

class MachineSources final : public FunctionSources {
  public:
    explicit MachineSources(std::filesystem::path state) : state_(std::move(state)) {}

    Result<std::shared_ptr<FunctionSource>> device(const std::string& place) override {
        if (!place.starts_with(pci_place)) return std::make_shared<SocketSource>(place, device_timeout);
        const auto address = TRY(pci::parse_address(place.substr(pci_place.size())));
        return bus_device(TRY(bus()), address);
    }
    Result<std::shared_ptr<FunctionSource>> adapter(const std::string& place) override {
        if (!place.starts_with(pci_place)) return std::make_shared<SocketSource>(place, adapter_timeout);
        const auto address = TRY(pci::parse_address(place.substr(pci_place.size())));
        auto adapter = bus_adapter(TRY(bus()), address);
        bridge_ = bridge::kernel_bridge();
        return adapter;
    }
    OwnKernel own_kernel() override {
        return bridge_ ? OwnKernel{bridge_.get(), bus_->system.get()} : OwnKernel{};
    }

  private:
    Result<std::shared_ptr<Bus>> bus() {
        if (!bus_) bus_ = TRY(Bus::open(state_ / "taken-functions.json"));
        return bus_;
    }

    const std::filesystem::path state_;
    std::shared_ptr<Bus> bus_; // null: nothing of it has been named
    // Null: the adapter is none of this machine's bus, and no kernel could reach through it.
    std::unique_ptr<bridge::Bridge> bridge_;
};

} // namespace

std::unique_ptr<FunctionSources> machine_sources(std::filesystem::path state) {
    return std::make_unique<MachineSources>(std::move(state));
}

} // namespace lanepool::agent
