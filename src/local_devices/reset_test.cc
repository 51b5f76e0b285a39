// SPDX-License-Identifier: Apache-2.0
#include "local_devices/reset.h"

#include "local_devices/simulated_kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::local_devices {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr pci::Address card{0, 1, 0, 0};
constexpr pci::Address neighbour{0, 1, 0, 1};
constexpr pci::Address bridge{0, 0, 1, 0};

class Reset : public testing::Test {
  protected:
    Reset() { kernel_.functions[card].group = "1"; }

    SimulatedFunction& function() { return kernel_.functions[card]; }
    Result<std::string> choose(std::initializer_list<pci::Address> taken = {card}) {
        return choose_reset_method(system_, card, std::vector<pci::Address>(taken));
    }
    // Why none works.
    std::string refusal() {
        const auto chosen = choose();
        return chosen ? "chose " + *chosen : chosen.error().message();
    }

    SimulatedKernel kernel_;
    SimulatedSystem system_{kernel_};
};

TEST_F(Reset, TheBestMethodIsFirst) {
    function().reset_methods = "pm bus flr device_specific";
    EXPECT_THAT(usable_reset_methods(system_, card).value(),
                ElementsAre("device_specific", "flr", "pm", "bus"));
    EXPECT_EQ(choose().value(), "device_specific");
    EXPECT_EQ(function().reset_methods, "device_specific");
}

TEST_F(Reset, WhatTheKernelCannotDoIsPassedOver) {
    function().failing_resets = {"flr"};
    EXPECT_EQ(choose().value(), "bus");
    EXPECT_EQ(function().reset_methods, "bus");
}

TEST_F(Reset, AMethodThatLiesIsPassedOver) {
    function().losing_resets = {"flr"};
    EXPECT_EQ(choose().value(), "bus");
}

TEST_F(Reset, SilentRegistersAreNoticed) {
    function().silencing_resets = {"flr", "bus"};
    EXPECT_THAT(refusal(),
                HasSubstr("flr: the kernel calls it done, but the function's registers do not answer"));
    EXPECT_EQ(function().reset_methods, "flr bus");
}

TEST_F(Reset, RegistersOfAFunctionWithADriverAreNotLookedAt) {
    function().driver = "vfio-pci"; // it may be asleep
    function().silencing_resets = {"flr"};
    EXPECT_EQ(choose().value(), "flr");
}

TEST_F(Reset, AFunctionThatDoesNotComeBackIsRefused) {
    function().deadly_resets = {"flr", "bus"};
    EXPECT_THAT(refusal(),
                HasSubstr("flr: the kernel calls it done, but the function does not answer any more"));
}

TEST_F(Reset, OneThatIsDeadBeforehandIsRefused) {
    function().config.assign(64, '\xff');
    EXPECT_THAT(refusal(), HasSubstr("does not answer, even before"));
}

TEST_F(Reset, AVirtualFunctionHasNoIdentityOfItsOwn) {
    function().config.assign(64, '\xff');
    function().parent = neighbour;
    EXPECT_EQ(choose().value(), "flr");
}

TEST_F(Reset, ABusWithANeighbourIsNotReset) {
    function().reset_methods = "bus";
    kernel_.functions[neighbour].group = "2";
    EXPECT_THAT(usable_reset_methods(system_, card).value(), IsEmpty());
    EXPECT_THAT(refusal(), HasSubstr("would reset 0000:01:00.1, too"));
}

TEST_F(Reset, ANeighbourThatIsTakenTooMayBeResetByVfio) {
    function().reset_methods = "";
    function().below = bridge;
    kernel_.functions[neighbour].below = bridge;
    EXPECT_EQ(choose({card, neighbour}).value(), hot_reset);
}

TEST_F(Reset, AStaleMethodIsPassedOver) {
    function().stale_resets = {"flr"};
    EXPECT_EQ(choose().value(), "bus");
}

TEST_F(Reset, AStaleListIsMadeAnew) {
    function().reset_methods = "bus pm";
    function().stale_resets = {"bus"};
    function().failing_resets = {"pm"};
    function().default_resets = "pm";
    EXPECT_THAT(refusal(), HasSubstr("bus: stale"));
    EXPECT_EQ(function().reset_methods, "pm");
}

TEST_F(Reset, ARootBusIsNotReset) {
    function().reset_methods = "";
    kernel_.functions[neighbour].group = "1";
    EXPECT_FALSE(choose({card, neighbour}));
}

TEST_F(Reset, NoMethodAtAllIsSaid) {
    function().reset_methods = "";
    EXPECT_THAT(refusal(), HasSubstr("the kernel knows none"));
}

TEST_F(Reset, MethodsOfAFunctionThatIsNotThere) {
    EXPECT_EQ(reset_methods(system_, {0, 9, 0, 0}).error().code(), Errc::not_found);
}

} // namespace
} // namespace lanepool::local_devices
