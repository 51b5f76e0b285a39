// SPDX-License-Identifier: Apache-2.0
//
// kernel/lanepool_bridge, with a real kernel and its unmodified NVMe driver. Runs inside of a whole host,
// whose kernel has the module loaded; bridge_test.py starts it there.
#include "bridge_host.h"

namespace {

using namespace bridge_host;

class EachMode : public testing::TestWithParam<lanepool_bridge_dma_mode> {};

TEST_P(EachMode, DriverReadsAndWrites) {
    Agent agent(GetParam());
    verify(agent.disk(), 1);
    const auto stats = agent.stats();
    EXPECT_GT(stats.vectors_delivered, 0u);
    EXPECT_GT(stats.dma_maps, 0u);
    EXPECT_EQ(stats.events_lost, 0u);
    EXPECT_EQ(stats.bytes_copied > (8 << 20), GetParam() == LANEPOOL_BRIDGE_DMA_BOUNCE);
    agent.unplug(false);
    EXPECT_TRUE(wait_until([&] { return agent.removed() && agent.released(); }));
    EXPECT_TRUE(nothing_injected());
    EXPECT_GT(agent.writes, 0);
    const auto after = agent.stats();
    EXPECT_EQ(after.dma_maps, after.dma_unmaps);
    EXPECT_EQ(after.pool_used_bytes, 0u);
}

TEST_P(EachMode, ComesAndGoesTenTimes) {
    for (int i = 0; i < 10; i++) {
        Agent agent(GetParam());
        verify(agent.disk(), static_cast<uint64_t>(i), 1 << 20);
        agent.unplug(false);
        ASSERT_TRUE(wait_until([&] { return agent.released(); }));
    }
    EXPECT_TRUE(nothing_injected());
}

TEST_P(EachMode, GoesBySurpriseUnderLoad) {
    for (int i = 0; i < 3; i++) {
        Agent agent(GetParam());
        std::atomic<int> done{0};
        std::thread thread = load(agent.disk(), done);
        EXPECT_TRUE(wait_until([&] { return done > 10; }));
        agent.unplug(true);
        EXPECT_TRUE(wait_until([&] { return agent.released(); }));
        thread.join();
        EXPECT_TRUE(nothing_injected());
    }
}

TEST_P(EachMode, GoesOrderlyUnderLoad) {
    Agent agent(GetParam());
    std::atomic<int> done{0};
    std::thread thread = load(agent.disk(), done);
    EXPECT_TRUE(wait_until([&] { return done > 10; }));
    agent.unplug(false);
    EXPECT_TRUE(wait_until([&] { return agent.released(); }));
    thread.join();
}

// An agent that is killed: the function goes, and its adapter can be opened again.
TEST_P(EachMode, SurvivesAKilledAgent) {
    for (int i = 0; i < 3; i++) {
        int ready[2];
        ASSERT_EQ(::pipe(ready), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            try {
                Agent agent(GetParam());
                const auto disk = agent.disk() + "\n";
                if (::write(ready[1], disk.data(), disk.size()) < 0) ::_exit(2);
                ::pause();
            } catch (const std::exception& error) {
                std::fprintf(stderr, "%s\n", error.what());
            }
            ::_exit(1);
        }
        ::close(ready[1]);
        char name[64] = {};
        ASSERT_GT(::read(ready[0], name, sizeof(name) - 1), 0);
        ::close(ready[0]);
        std::atomic<int> done{0};
        std::thread thread = load(std::string(name, std::strcspn(name, "\n")), done);
        EXPECT_TRUE(wait_until([&] { return done > 10; }));
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        thread.join();
        EXPECT_TRUE(wait_until(nothing_injected));
        // VFIO lets go when the removal has ended.
        EXPECT_TRUE(wait_until([] {
            try {
                const VfioDrive drive;
                return true;
            } catch (const std::exception&) {
                return false;
            }
        }));
    }
}

TEST_P(EachMode, ADiskHeldOpenKeepsTheMemory) {
    Agent agent(GetParam());
    Fd held = open_file(agent.disk(), O_RDONLY);
    agent.unplug(true);
    EXPECT_TRUE(wait_until([&] { return agent.removed(); }));
    char byte;
    EXPECT_LT(::read(held.get(), &byte, 1), 1);
    held.reset();
    EXPECT_TRUE(wait_until([&] { return agent.released(); }));
}

TEST_P(EachMode, ResetsWhenTheDriverAsks) {
    Agent agent(GetParam());
    verify(agent.disk(), 5, 1 << 20);
    {
        std::ofstream file(agent.where / "reset");
        file << "1" << std::flush;
        EXPECT_TRUE(file.good());
    }
    EXPECT_EQ(agent.resets, 1);
    verify(agent.disk(), 6, 1 << 20);
}

// A rescan finds the function again, and it still gives no bare addresses away.
TEST_P(EachMode, ComesBackAfterARescan) {
    Agent agent(GetParam());
    agent.disk();
    std::ofstream(agent.where / "remove") << "1" << std::flush;
    EXPECT_TRUE(nothing_injected());
    std::ofstream("/sys/bus/pci/rescan") << "1" << std::flush;
    verify(agent.disk(), 7, 1 << 20);
}

// The adapter is taken away under the function: VFIO waits for its users, and the lock that all hot-plug
// needs is held meanwhile.
TEST_P(EachMode, LetsItsAdapterBeRemoved) {
    {
        Agent agent(GetParam());
        std::atomic<int> done{0};
        std::thread thread = load(agent.disk(), done);
        const Fd wanted(::eventfd(0, EFD_CLOEXEC));
        agent.drive.set_vectors({wanted.get()}, VFIO_PCI_REQ_IRQ_INDEX);
        std::atomic<bool> gone{false};
        std::thread remover([&] {
            write_file("/sys/bus/pci/devices/" + address() + "/remove", "1");
            gone = true;
        });
        pollfd waiting{wanted.get(), POLLIN, 0};
        EXPECT_EQ(::poll(&waiting, 1, 20'000), 1);
        EXPECT_FALSE(gone);
        agent.unplug(true);
        agent.drive.close();
        EXPECT_TRUE(wait_until([&] { return gone && agent.released(); }));
        thread.join();
        remover.join();
    }
    EXPECT_FALSE(fs::exists("/sys/bus/pci/devices/" + address()));
    write_file("/sys/bus/pci/rescan", "1");
    give_to_vfio(address());
}

INSTANTIATE_TEST_SUITE_P(Dma, EachMode, testing::ValuesIn(modes), [](const auto& mode) {
    return std::string(mode.param == LANEPOOL_BRIDGE_DMA_BOUNCE  ? "Bounce"
                       : mode.param == LANEPOOL_BRIDGE_DMA_IOMMU ? "Iommu"
                                                                 : "Direct");
});

// What the host's own user does with the function is told of.
TEST(Presence, IsToldOf) {
    Agent agent;
    agent.disk();
    EXPECT_TRUE(agent.heard(LANEPOOL_BRIDGE_EVENT_ATTACHED, 1));
    EXPECT_EQ(agent.told[LANEPOOL_BRIDGE_EVENT_PRESENT], 1);
    EXPECT_EQ(agent.told[LANEPOOL_BRIDGE_EVENT_BOUND], 1);
    EXPECT_EQ(agent.presence(), uint32_t{LANEPOOL_BRIDGE_PRESENT | LANEPOOL_BRIDGE_BOUND});
    // Whoever may bind drivers is not kept from it by what keeps them away while the function is made.
    std::string override;
    std::ifstream(agent.where / "driver_override") >> override;
    EXPECT_EQ(override, "(null)");
    const auto name = agent.where.filename().string();
    write_file("/sys/bus/pci/drivers/nvme/unbind", name);
    EXPECT_TRUE(agent.heard(LANEPOOL_BRIDGE_EVENT_UNBOUND, 1));
    EXPECT_EQ(agent.presence(), uint32_t{LANEPOOL_BRIDGE_PRESENT});
    write_file("/sys/bus/pci/drivers/nvme/bind", name);
    EXPECT_TRUE(agent.heard(LANEPOOL_BRIDGE_EVENT_BOUND, 2));
    write_file(agent.where / "remove", "1");
    EXPECT_TRUE(agent.heard(LANEPOOL_BRIDGE_EVENT_ABSENT, 1));
    EXPECT_EQ(agent.told[LANEPOOL_BRIDGE_EVENT_UNBOUND], 2);
    EXPECT_EQ(agent.presence(), 0u);
    write_file("/sys/bus/pci/rescan", "1");
    EXPECT_TRUE(agent.heard(LANEPOOL_BRIDGE_EVENT_BOUND, 3));
    EXPECT_EQ(agent.told[LANEPOOL_BRIDGE_EVENT_PRESENT], 2);
    verify(agent.disk(), 8, 1 << 20);
    agent.unplug(false);
    EXPECT_TRUE(agent.heard(LANEPOOL_BRIDGE_EVENT_RELEASED, 1));
    EXPECT_EQ(agent.told[LANEPOOL_BRIDGE_EVENT_ABSENT], 2);
    EXPECT_EQ(agent.presence(), 0u);
}

TEST(Bounce, ASmallPoolStaysCorrect) {
    Agent agent(LANEPOOL_BRIDGE_DMA_BOUNCE, 1 << 20);
    const auto disk = agent.disk();
    std::vector<std::thread> threads;
    // Each its own part of the disk, all at once.
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&, i] {
            const Fd file = open_file(disk, O_RDWR | O_DIRECT);
            const Aligned out(256 << 10), in(256 << 10);
            for (int round = 0; round < 8; round++) {
                const off_t at = (8 << 20) + i * (1 << 20);
                out.fill(static_cast<uint64_t>(i * 100 + round));
                ASSERT_EQ(::pwrite(file.get(), out.data, out.bytes, at), ssize_t(out.bytes));
                ASSERT_EQ(::pread(file.get(), in.data, in.bytes, at), ssize_t(in.bytes));
                ASSERT_EQ(std::memcmp(out.data, in.data, in.bytes), 0);
            }
        });
    for (auto& thread : threads)
        thread.join();
}

} // namespace
