// SPDX-License-Identifier: Apache-2.0
//
// src/bridge with the real module, and with devices that are not ours: what bridge::shown_config makes of
// their configuration spaces is taken by the module, and the kernel's own drivers bind to it. Runs inside of
// a whole host; shown_test.py starts it there. As in bridge_host_test.cc there is no fabric: the "adapter" is
// the device itself, so what is injected is a device of the same machine, seen through the module.
#include "bridge/function.h"
#include "bridge/shown_config.h"
#include "pci/address.h"
#include "pci/config_space.h"
#include "vfio/open.h"

#include <chrono>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <gtest/gtest.h>
#include <optional>
#include <poll.h>
#include <stdexcept>
#include <unistd.h>

namespace lanepool::bridge {
namespace {

namespace fs = std::filesystem;
using pci::Irq;
using pci::Region;
using std::chrono::steady_clock;
using Vectors = ShownConfig::Vectors;

constexpr Iova pool_iova{16 << 20};
constexpr uint64_t pool_bytes = 4 << 20;

template <class T>
T value_of(Result<T> result, const char* what) {
    if (!result) throw std::runtime_error(std::string(what) + ": " + result.error().message());
    if constexpr (!std::is_void_v<T>) return *std::move(result);
}

// A device of this machine that vfio-pci has, as a lender would show it.
class Lent {
  public:
    explicit Lent(const std::string& variable) {
        const char* text = std::getenv(variable.c_str());
        if (!text) throw std::runtime_error(variable + " is not set");
        const auto address = value_of(pci::parse_address(text), "address");
        // The function of the test before may still be on its way out, which keeps VFIO's files.
        const auto end = steady_clock::now() + std::chrono::seconds(10);
        auto opened = vfio::open(address);
        while (!opened && opened.error().code() == Errc::busy && steady_clock::now() < end)
            opened = vfio::open(address);
        function = value_of(std::move(opened), "opening by VFIO");
        config.resize(function->region(Region::config).size_bytes);
        value_of(function->read(Region::config, 0, config), "configuration space");
        for (unsigned bar = 0; bar < pci::bar_count; ++bar) {
            const auto region = static_cast<Region>(bar);
            bar_bytes[bar] = function->region(region).size_bytes;
            if (bar_bytes[bar] == 0 || function->region(region).mappable.empty()) continue;
            const auto extents = value_of(function->memory(region, 0, bar_bytes[bar]), "memory of a BAR");
            memory[bar] = extents.at(0).memory;
        }
    }
    DeviceConfig described(bool msix_table_apart) const {
        return {config, bar_bytes, function->irq(Irq::msi).count, function->irq(Irq::msix).count,
                msix_table_apart};
    }

    std::unique_ptr<pci::Function> function;
    std::vector<std::byte> config;
    std::array<uint64_t, pci::bar_count> bar_bytes{};
    std::array<MemoryRef, pci::bar_count> memory;
};

// Shows a device to this kernel, and resets it when its driver asks.
class Injected {
  public:
    Injected(const Lent& lent, bool msix_table_apart)
        : lent_(lent), shown(value_of(shown_config(lent.described(msix_table_apart)), "shown_config")) {
        Description description;
        description.config = shown.config;
        description.bars = value_of(described_bars(shown, lent.memory), "described_bars");
        description.pool_bytes = pool_bytes;
        description.held = lent.function->lifelines();
        function = value_of(kernel_bridge()->open(), "opening the bridge");
        value_of(function->create(description), "create");
    }

    void plug() {
        pool_ = value_of(lent_.function->map_dma(Range<Iova>::create(pool_iova, pool_bytes).value(),
                                                 value_of(function->pool(), "pool"), Access::read_write),
                         "mapping the pool");
        std::vector<int> descriptors;
        for (uint32_t i = 0; i < shown.config.vector_count; ++i) {
            vectors_.push_back(value_of(create_eventfd(), "eventfd"));
            descriptors.push_back(vectors_.back().get());
        }
        if (!descriptors.empty()) {
            value_of(lent_.function->set_irqs(shown.by_msix ? Irq::msix : Irq::msi, 0, descriptors),
                     "vectors");
            value_of(function->set_vectors(0, descriptors), "set_vectors");
        }
        // On before its driver says so, which nobody waits for: what the driver does next needs it.
        const auto command =
            value_of(pci::read16(*lent_.function, Region::config, shown.registers.command), "reading");
        value_of(pci::write16(*lent_.function, Region::config, shown.registers.command,
                              command | pci::command::memory_space | pci::command::bus_master),
                 "writing");
        const auto where = value_of(function->plug(pool_iova.value), "plug");
        folder = fs::path("/sys/bus/pci/devices") / pci::to_string(where);
    }

    // Serves events until CONDITION holds.
    bool wait_until(const std::function<bool()>& condition) {
        const auto end = steady_clock::now() + std::chrono::seconds(20);
        while (!condition()) {
            if (steady_clock::now() > end) return false;
            pollfd poller{function->event_fd(), POLLIN, 0};
            if (::poll(&poller, 1, 5) != 1) continue;
            for (const auto& event : value_of(function->take_events(), "events"))
                serve(event);
        }
        return true;
    }

    std::string driver() const {
        std::error_code none;
        return fs::read_symlink(folder / "driver", none).filename().string();
    }

  private:
    const Lent& lent_;

  public:
    Shown shown;
    std::unique_ptr<Function> function;
    fs::path folder;
    bool attached = false, removed = false, released = false;
    int writes = 0; // noticed
    std::vector<uint16_t> power_states;

  private:
    void set_power_state(uint16_t state) {
        power_states.push_back(state);
        value_of(pci::write16(*lent_.function, Region::config, *shown.registers.power_state, state), "power");
    }
    void serve(const Event& event) {
        switch (event.kind) {
        case Event::Kind::config_write:
            ++writes;
            if (shown.registers.power_state && event.offset_bytes == *shown.registers.power_state)
                set_power_state(static_cast<uint16_t>(event.value & 3));
            break;
        case Event::Kind::reset:
            value_of(lent_.function->reset(), "reset");
            value_of(function->update_config(shown.registers.command, std::array<std::byte, 2>{}), "update");
            value_of(function->end_reset(), "end_reset");
            break;
        case Event::Kind::attached:
            attached = true;
            break;
        case Event::Kind::presence: // sysfs says what there is
            break;
        case Event::Kind::removed:
            removed = true;
            break;
        case Event::Kind::released:
            released = true;
            break;
        }
    }

    std::optional<pci::DmaMapping> pool_;
    std::vector<UniqueFd> vectors_;
};

bool has_entry(const fs::path& folder, const std::string& prefix) {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(folder, none))
        if (entry.path().filename().string().starts_with(prefix)) return true;
    return false;
}

// What is there when the device has answered its driver, which takes DMA and interrupts.
bool has_disk(const fs::path& device) {
    std::error_code none;
    for (const auto& controller : fs::directory_iterator(device / "nvme", none))
        if (has_entry(controller, "nvme")) return true;
    return false;
}
bool has_network(const fs::path& device) { return has_entry(device / "net", ""); }
bool has_screen(const fs::path& device) { return has_entry(device / "drm", "card"); }
bool computes(const fs::path& device) {
    std::ofstream(device / "factorial") << "5" << std::flush;
    std::string answer;
    std::ifstream(device / "factorial") >> answer;
    return answer == "120";
}

struct Case {
    const char* device; // of the environment
    bool msix_table_apart;
    Vectors vectors;
    uint32_t vector_count;
    const char* driver; // null: only the module is tried
    bool (*works)(const fs::path& device) = nullptr;
    bool interrupts = true; // by then
};
void PrintTo(const Case& one, std::ostream* out) {
    *out << one.device << (one.msix_table_apart ? ", table apart" : "");
}

class ShownDevice : public testing::TestWithParam<Case> {};

TEST_P(ShownDevice, IsTakenByTheModuleAndItsDriver) {
    const auto& expected = GetParam();
    const Lent lent(expected.device);
    Injected injected(lent, expected.msix_table_apart);
    EXPECT_EQ(injected.shown.config.vectors, expected.vectors);
    EXPECT_EQ(injected.shown.config.vector_count, expected.vector_count);
    if (!expected.driver) return;
    injected.plug();
    ASSERT_TRUE(injected.wait_until([&] { return injected.attached; }));
    EXPECT_EQ(injected.driver(), expected.driver);
    EXPECT_TRUE(injected.wait_until([&] { return expected.works(injected.folder); }));
    const auto stats = value_of(injected.function->stats(), "stats");
    EXPECT_EQ(stats.vectors_delivered > 0, expected.interrupts);
    EXPECT_EQ(stats.events_lost, 0u);
    EXPECT_GT(injected.writes, 0); // of the command register
    std::printf("%s: %llu interrupts, %llu DMA mappings, %d writes\n", expected.device,
                static_cast<unsigned long long>(stats.vectors_delivered),
                static_cast<unsigned long long>(stats.dma_maps), injected.writes);
    ASSERT_TRUE(injected.function->unplug(false));
    EXPECT_TRUE(injected.wait_until([&] { return injected.removed && injected.released; }));
    EXPECT_FALSE(fs::exists(injected.folder));
}

void write_file(const fs::path& path, const std::string& text) {
    std::ofstream file(path);
    file << text << std::flush;
    if (!file) throw std::runtime_error("writing " + path.string());
}

// A device that sleeps and wakes up, and whose driver comes anew. The kernel waits for what is forwarded.
TEST(ShownPower, StatesAreForwarded) {
    const Lent lent("GPU");
    Injected injected(lent, true);
    injected.plug();
    ASSERT_TRUE(injected.wait_until([&] { return injected.attached && has_screen(injected.folder); }));
    const auto address = injected.folder.filename().string();
    auto user = std::async(std::launch::async, [&] {
        write_file(injected.folder / "driver/unbind", address);
        write_file(injected.folder / "reset_method", "pm"); // from D0 to D3hot, and back
        const auto start = steady_clock::now();
        write_file(injected.folder / "reset", "1");
        const auto end = steady_clock::now();
        write_file("/sys/bus/pci/drivers_probe", address);
        return std::chrono::duration_cast<std::chrono::milliseconds>(end - start).count();
    });
    EXPECT_TRUE(injected.wait_until(
        [&] { return user.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }));
    EXPECT_GE(user.get(), 2 * 200); // 20 on a bus of this machine's own
    EXPECT_EQ(injected.power_states, (std::vector<uint16_t>{3, 0}));
    EXPECT_TRUE(injected.wait_until([&] { return has_screen(injected.folder); }));
    ASSERT_TRUE(injected.function->unplug(false));
    EXPECT_TRUE(injected.wait_until([&] { return injected.removed && injected.released; }));
}

INSTANTIATE_TEST_SUITE_P(
    Devices, ShownDevice,
    testing::Values(Case{"NVME", false, Vectors::msi, 32, "nvme", has_disk},
                    Case{"NVME", true, Vectors::msix, 65, "nvme", has_disk},
                    Case{"DRIVE_VF", false, Vectors::msi, 1, nullptr}, // it would have to be configured first
                    Case{"DRIVE_VF", true, Vectors::msix, 1, nullptr},
                    Case{"NIC_VF", false, Vectors::msi, 2, nullptr}, // its driver knows MSI-X only
                    Case{"NIC_VF", true, Vectors::msix, 3, "igbvf", has_network, false},
                    Case{"GPU", false, Vectors::msi, 2, nullptr}, // likewise
                    Case{"GPU", true, Vectors::msix, 3, "virtio-pci", has_screen},
                    Case{"EDU", false, Vectors::msi, 1, "edu", computes}));

} // namespace
} // namespace lanepool::bridge
