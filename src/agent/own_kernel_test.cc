// SPDX-License-Identifier: Apache-2.0
#include "agent/own_kernel.h"

#include "local_devices/simulated_kernel.h"

#include <gtest/gtest.h>

namespace lanepool::agent {
namespace {

class OwnKernelTest : public testing::Test {
  protected:
    Result<uint64_t> end_of(const std::string& iomem) {
        kernel_.files["/proc/iomem"] = iomem;
        return memory_end(system_);
    }
    local_devices::SimulatedKernel kernel_;
    local_devices::SimulatedSystem system_{kernel_};
};

TEST_F(OwnKernelTest, MemoryEndsWithItsLastRange) {
    EXPECT_EQ(end_of("00000000-00000fff : Reserved\n"
                     "00001000-0009fbff : System RAM\n"
                     "00100000-bffdefff : System RAM\n"
                     "  01000000-01ffffff : Kernel code\n"
                     "fd000000-fdffffff : PCI Bus 0000:00\n"
                     "100000000-23fffffff : System RAM\n"
                     "380000000000-387fffffffff : PCI Bus 0000:00\n"),
              0x240000000u);
}

TEST_F(OwnKernelTest, WhoIsNotRootIsToldSo) {
    const auto end = end_of("00000000-00000000 : System RAM\n00000000-00000000 : System RAM\n");
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code(), Errc::failed_precondition);
}

TEST_F(OwnKernelTest, LinesOfAnotherKindAreNoMemory) {
    EXPECT_FALSE(end_of(" : System RAM\nxyz : System RAM\n-\n"));
}

TEST_F(OwnKernelTest, DriversAreSeen) {
    const pci::Address address{0x1ff00, 0, 0, 0};
    EXPECT_FALSE(look_at(system_, address).present);
    kernel_.functions[address].driver = "nvme";
    EXPECT_TRUE(look_at(system_, address).present);
    EXPECT_EQ(look_at(system_, address).driver, "nvme");
    EXPECT_EQ(users_of(system_, address), "");
}

} // namespace
} // namespace lanepool::agent
