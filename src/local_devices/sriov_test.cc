// SPDX-License-Identifier: Apache-2.0
#include "local_devices/sriov.h"

#include "local_devices/nic_functions.h"
#include "local_devices/simulated_drive.h"
#include "local_devices/simulated_kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::local_devices {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

constexpr pci::Address parent{0, 1, 0, 0};
constexpr pci::Address first{0, 1, 0x10, 0};

std::string error_of(const Result<std::vector<pci::Address>>& result) {
    return result ? "" : result.error().message();
}

class Sriov : public testing::Test {
  protected:
    Sriov() {
        auto& function = kernel_.functions[parent];
        function.native = function.driver = "igb";
        function.class_code = "0x020000";
        function.group = "3";
        function.total_functions = 7;
        function.function_driver = "nvme"; // any that is there
    }
    Result<std::vector<pci::Address>> set(unsigned count) {
        return set_functions(system_, parent, count, system_.now() + 10s);
    }

    SimulatedKernel kernel_;
    SimulatedSystem system_{kernel_};
};

TEST_F(Sriov, FunctionsAreMadeAndLeftAlone) {
    EXPECT_THAT(set(3).value(), SizeIs(3));
    const auto state = sriov(system_, parent).value();
    EXPECT_EQ(state.total, 7U);
    EXPECT_EQ(state.enabled, 3U);
    EXPECT_EQ(state.functions.front(), first);
    EXPECT_EQ(kernel_.functions[first].driver, "");
    kernel_.probe(kernel_.functions[first]); // a driver that is loaded later
    EXPECT_EQ(kernel_.functions[first].driver, "");
}

TEST_F(Sriov, WithNoneTheHostsDriversAreFreeAgain) {
    ASSERT_TRUE(set(2));
    EXPECT_FALSE(kernel_.functions[parent].autoprobe);
    EXPECT_THAT(set(0).value(), IsEmpty());
    EXPECT_TRUE(kernel_.functions[parent].autoprobe);
    EXPECT_THAT(kernel_.functions, SizeIs(1));
}

TEST_F(Sriov, AnotherNumberGoesThroughNone) {
    ASSERT_TRUE(set(2));
    EXPECT_THAT(set(5).value(), SizeIs(5));
    EXPECT_THAT(set(1).value(), SizeIs(1));
}

TEST_F(Sriov, TheSameNumberChangesNothing) {
    ASSERT_TRUE(set(2));
    kernel_.functions[first].driver = "vfio-pci";
    EXPECT_THAT(set(2).value(), SizeIs(2));
    EXPECT_EQ(kernel_.functions[first].driver, "vfio-pci");
}

TEST_F(Sriov, MoreThanThereCouldBe) {
    EXPECT_EQ(set(8).error().code(), Errc::out_of_range);
    EXPECT_THAT(error_of(set(8)), HasSubstr("at most 7"));
}

TEST_F(Sriov, AFunctionWithoutSriov) {
    kernel_.functions[parent].total_functions = 0;
    EXPECT_EQ(set(1).error().code(), Errc::not_supported);
}

TEST_F(Sriov, ADriverWithoutAWay) {
    kernel_.functions[parent].makes_functions = false;
    EXPECT_THAT(error_of(set(1)), HasSubstr("its driver igb does not set up 1 VFs"));
}

TEST_F(Sriov, FunctionsInUseAreNotRemoved) {
    ASSERT_TRUE(set(2));
    kernel_.functions[first].driver = "vfio-pci";
    kernel_.links["/proc/9/fd/3"] = "/dev/vfio/3-0";
    kernel_.files["/proc/9/comm"] = "qemu\n";
    EXPECT_EQ(set(0).error().code(), Errc::busy);
    EXPECT_THAT(error_of(set(1)), HasSubstr("process 9 (qemu) has /dev/vfio/3-0 open"));
    EXPECT_TRUE(kernel_.functions.contains(first));
}

TEST_F(Sriov, ADeadlineThatHasPassed) {
    EXPECT_EQ(set_functions(system_, parent, 1, system_.now() - 1s).error().code(), Errc::timeout);
}

// Whatever change fails or is the last: the next call gets there.
TEST_F(Sriov, IsRepeatableFromWhereverItStops) {
    for (const auto mishap :
         {SimulatedKernel::Mishap::crash, SimulatedKernel::Mishap::error, SimulatedKernel::Mishap::outage}) {
        bool struck = true;
        for (int at = 0; struck; ++at) {
            kernel_.arm(SimulatedKernel::Mishap::none, 0);
            ASSERT_TRUE(set(2));
            kernel_.arm(mishap, at);
            try {
                (void)set(3);
                (void)set(0);
            } catch (const Crash&) {
            }
            struck = kernel_.struck();
            kernel_.arm(SimulatedKernel::Mishap::none, 0);
            EXPECT_THAT(set(3).value(), SizeIs(3)) << at;
            EXPECT_EQ(kernel_.functions[first].driver, "") << at;
            EXPECT_THAT(set(0).value(), IsEmpty()) << at;
            EXPECT_TRUE(kernel_.functions[parent].autoprobe) << at;
        }
    }
}

TEST_F(Sriov, CleaningTakesAVirtualFunction) {
    EXPECT_EQ(clean_function(system_, parent).error().code(), Errc::invalid_argument);
    EXPECT_EQ(clean_function(system_, {0, 9, 0, 0}).error().code(), Errc::not_found);
}

TEST_F(Sriov, AnInterfaceThatCannotBeSeenIsSaid) {
    ASSERT_TRUE(set(1));
    EXPECT_THAT(clean_function(system_, first).error().message(), HasSubstr("not in this network namespace"));
}

TEST_F(Sriov, OtherClassesHaveNothingToClean) {
    kernel_.functions[parent].class_code = "0x030000";
    ASSERT_TRUE(set(1));
    EXPECT_TRUE(clean_function(system_, first));
}

class DriveFunctions : public Sriov {
  protected:
    DriveFunctions() {
        auto& function = kernel_.functions[parent];
        function.native = function.driver = "nvme";
        function.class_code = "0x010802";
        function.total_functions = 2;
        function.files["nvme/nvme0/cntlid"] = "0\n";
        function.when_reset = [this] { drive_.reset(); };
        kernel_.files["/sys/class/nvme/nvme0/state"] = "live\n";
    }
    // Each is online with its share, and has what nobody else has.
    void expect_online(unsigned count) {
        for (uint16_t id = 1; id <= count; ++id) {
            EXPECT_TRUE(drive_.secondaries[id].online) << id;
            EXPECT_EQ(drive_.secondaries[id].queues, 3U);
            EXPECT_EQ(drive_.secondaries[id].interrupts, 2U);
            EXPECT_THAT(drive_.namespaces[id + 1U], UnorderedElementsAre(id));
        }
        EXPECT_THAT(drive_.namespaces[1], UnorderedElementsAre(SimulatedDrive::primary_id));
    }

    SimulatedDrive drive_{kernel_};
};

TEST_F(DriveFunctions, ComeOnlineWithNamespacesOfTheirOwn) {
    ASSERT_EQ(error_of(set(2)), "");
    expect_online(2);
}

TEST_F(DriveFunctions, DoNotKeepWhatTheirParentUses) {
    drive_.namespaces = {{1, {SimulatedDrive::primary_id, 1, 2}}, {2, {1, 2}}, {3, {}}};
    ASSERT_EQ(error_of(set(2)), "");
    EXPECT_THAT(drive_.namespaces[1], UnorderedElementsAre(SimulatedDrive::primary_id));
    EXPECT_THAT(drive_.namespaces[2], SizeIs(1));
    EXPECT_THAT(drive_.namespaces[3], SizeIs(1));
}

TEST_F(DriveFunctions, ThatCannotBeKeptApartAreRefused) {
    drive_.namespaces = {{1, {SimulatedDrive::primary_id, 1}}};
    drive_.namespace_management = false;
    EXPECT_THAT(error_of(set(1)), HasSubstr("controller 1 reaches namespace 1, which others use"));
    EXPECT_THAT(sriov(system_, parent).value().functions, IsEmpty());
}

TEST_F(DriveFunctions, NeedQueuesForEach) {
    drive_.flexible_queues = 3;
    EXPECT_EQ(set(2).error().code(), Errc::no_space);
}

TEST_F(DriveFunctions, WithoutVirtualizationManagementNeedNothing) {
    drive_.virtualization = false;
    EXPECT_THAT(set(2).value(), SizeIs(2));
}

TEST_F(DriveFunctions, AParentThatDoesNotComeBackIsSaid) {
    kernel_.files["/sys/class/nvme/nvme0/state"] = "resetting\n";
    EXPECT_THAT(error_of(set(1)), HasSubstr("has not come back from a reset: it is 'resetting'"));
}

TEST_F(DriveFunctions, CleaningLeavesTheSiblingAlone) {
    ASSERT_TRUE(set(2));
    drive_.namespaces[3].insert(1); // the last borrower's doing
    drive_.secondaries[2].interrupts = 1;
    ASSERT_TRUE(clean_function(system_, first));
    EXPECT_THAT(drive_.namespaces[3], UnorderedElementsAre(2));
    EXPECT_TRUE(drive_.secondaries[2].online);
    EXPECT_EQ(drive_.secondaries[2].interrupts, 1U); // untouched
    EXPECT_TRUE(drive_.secondaries[1].online);
}

TEST_F(DriveFunctions, AreRepeatableFromWhereverItStops) {
    for (const auto mishap :
         {SimulatedKernel::Mishap::crash, SimulatedKernel::Mishap::error, SimulatedKernel::Mishap::outage}) {
        bool struck = true;
        int at = 0;
        for (; struck; ++at) {
            kernel_.arm(mishap, at);
            try {
                (void)set(2);
            } catch (const Crash&) {
            }
            struck = kernel_.struck();
            kernel_.arm(SimulatedKernel::Mishap::none, 0);
            ASSERT_EQ(error_of(set(2)), "") << at;
            expect_online(2);
            ASSERT_TRUE(set(0)) << at;
            drive_.restart();
        }
        EXPECT_GT(at, 8);
    }
}

} // namespace
} // namespace lanepool::local_devices
