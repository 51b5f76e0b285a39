// SPDX-License-Identifier: Apache-2.0
//
// What the bridge module costs by itself: shows a drive of this machine to its own kernel through the module,
// with no fabric and no agent in between.
//
//   lanepool-module-drive ADDRESS bounce|iommu|direct
//
// ADDRESS is the drive's, which vfio-pci has. Prints where the kernel has it, and stays until it is told to
// end (SIGTERM); ends with 0 when the function is gone, or with 1 and the reason.
#include "bridge/function.h"
#include "bridge/shown_config.h"
#include "pci/address.h"
#include "pci/config_space.h"
#include "vfio/open.h"

#include <array>
#include <csignal>
#include <cstdio>
#include <fmt/format.h>
#include <memory>
#include <poll.h>
#include <span>
#include <sys/signalfd.h>
#include <vector>

namespace lanepool {
namespace {

using pci::Region;
using Kind = bridge::Event::Kind;

constexpr uint64_t pool_bytes = 8 << 20;
// Where the drive's own mappings are: nothing else is in its container.
constexpr Iova base{uint64_t{4} << 30};
constexpr uint64_t iommu_bytes = 64 << 20;
constexpr uint64_t direct_bytes = uint64_t{4} << 30;

class ModuleDrive {
  public:
    static Result<std::unique_ptr<ModuleDrive>> create(const char* address, bridge::DmaMode mode) {
        auto drive = std::make_unique<ModuleDrive>();
        drive->device_ = TRY(vfio::open(TRY(pci::parse_address(address))));
        drive->function_ = TRY(bridge::kernel_bridge()->open());
        TRY(drive->describe(mode));
        TRY(drive->connect());
        const uint64_t memory = mode == bridge::DmaMode::bounce ? TRY(drive->map_pool()) : base.value;
        const auto command = TRY(pci::read16(*drive->device_, Region::config, pci::config::command));
        TRY(pci::write16(*drive->device_, Region::config, pci::config::command,
                         static_cast<uint16_t>(command | pci::command::bus_master)));
        fmt::print("{}\n", pci::to_string(TRY(drive->function_->plug(memory))));
        std::fflush(stdout);
        return drive;
    }

    // Until the removal has ended.
    Result<> serve(int signals) {
        while (true) {
            std::array<pollfd, 2> pollers{pollfd{signals, POLLIN, 0}, {function_->event_fd(), POLLIN, 0}};
            if (::poll(pollers.data(), pollers.size(), -1) < 0) return fail_errno("poll");
            if (pollers[0].revents) {
                signalfd_siginfo seen{};
                if (::read(signals, &seen, sizeof(seen)) == sizeof(seen)) TRY(function_->unplug(false));
            }
            for (const auto& event : TRY(function_->take_events())) {
                if (event.kind == Kind::reset) {
                    TRY(device_->reset());
                    TRY(function_->end_reset());
                } else if (event.kind == Kind::released) {
                    return {};
                }
            }
        }
    }

  private:
    Result<> describe(bridge::DmaMode mode) {
        std::vector<std::byte> config(device_->region(Region::config).size_bytes);
        TRY(device_->read(Region::config, 0, config));
        bridge::DeviceConfig device{
            config, {}, device_->irq(pci::Irq::msi).count, device_->irq(pci::Irq::msix).count, false};
        std::array<MemoryRef, pci::bar_count> memory;
        bridge::Description description;
        for (unsigned i = 0; i < pci::bar_count; ++i) {
            const auto region = static_cast<Region>(i);
            device.bar_bytes[i] = device_->region(region).size_bytes;
            if (device.bar_bytes[i] == 0) continue;
            const auto extents = TRY(device_->memory(region, 0, device.bar_bytes[i]));
            if (extents.empty()) return fail(Errc::not_supported, "BAR {} cannot be mapped", i);
            memory[i] = extents.front().memory;
            memory[i].size_bytes = device.bar_bytes[i];
            description.dma_bar = i;
        }
        auto shown = TRY(bridge::shown_config(device));
        description.bars = TRY(bridge::described_bars(shown, memory));
        interrupts_ = shown.by_msix ? pci::Irq::msix : pci::Irq::msi;
        vectors_ = shown.config.vector_count;
        description.config = std::move(shown.config);
        description.dma_mode = mode;
        if (mode == bridge::DmaMode::bounce) {
            description.pool_bytes = pool_bytes;
        } else {
            description.iova_base = base.value;
            description.iova_bytes = mode == bridge::DmaMode::iommu ? iommu_bytes : direct_bytes;
        }
        description.held = device_->lifelines();
        return function_->create(description);
    }

    Result<uint64_t> map_pool() {
        const auto pool = TRY(function_->pool());
        mapped_ = TRY(device_->map_dma(TRY(Range<Iova>::create(base, pool_bytes)), pool, Access::read_write));
        return base.value;
    }

    // The drive's interrupts are the function's.
    Result<> connect() {
        std::vector<int> eventfds;
        for (uint32_t i = 0; i < vectors_; ++i) {
            signalled_.push_back(TRY(create_eventfd()));
            eventfds.push_back(signalled_.back().get());
        }
        TRY(device_->set_irqs(interrupts_, 0, eventfds));
        return function_->set_vectors(0, eventfds);
    }

    std::unique_ptr<pci::Function> device_;
    std::vector<UniqueFd> signalled_;
    pci::DmaMapping mapped_;
    std::unique_ptr<bridge::Function> function_; // goes before what it rests on
    pci::Irq interrupts_ = pci::Irq::msi;
    uint32_t vectors_ = 0;
};

Result<> run(std::span<char*> words) {
    const auto mode = words.size() == 3 ? bridge::dma_mode(words[2]) : std::nullopt;
    if (!mode)
        return fail(Errc::invalid_argument, "usage: lanepool-module-drive ADDRESS bounce|iommu|direct");
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    const UniqueFd signalled(::signalfd(-1, &signals, SFD_CLOEXEC));
    if (!signalled) return fail_errno("signalfd");
    return TRY(ModuleDrive::create(words[1], *mode))->serve(signalled.get());
}

} // namespace
} // namespace lanepool

int main(int argc, char** argv) {
    const auto result = lanepool::run({argv, static_cast<size_t>(argc)});
    if (!result) fmt::print(stderr, "lanepool-module-drive: {}\n", result.error().message());
    return result ? 0 : 1;
}
