// SPDX-License-Identifier: Apache-2.0
#include "local_devices/custody.h"

#include "local_devices/simulated_kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::local_devices {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr pci::Address drive{0, 1, 0, 0};
constexpr pci::Address card{0, 2, 0, 0}; // two functions in one group, with a root port
constexpr pci::Address card_two{0, 2, 0, 1};
constexpr pci::Address root_port{0, 0, 1, 0};

SimulatedFunction function_with(std::string id, std::string native, std::string group) {
    SimulatedFunction function;
    function.id = std::move(id);
    function.native = std::move(native);
    function.group = std::move(group);
    return function;
}

SimulatedKernel machine() {
    SimulatedKernel kernel;
    kernel.functions[drive] = function_with("0x1b36", "nvme", "4");
    kernel.functions[card] = function_with("0x8086", "igb", "7");
    kernel.functions[card_two] = function_with("0x10de", "", "7");
    kernel.functions[root_port] = function_with("0x1b37", "pcieport", "7");
    kernel.functions[root_port].class_code = "0x060400";
    for (auto& [address, function] : kernel.functions)
        kernel.probe(function);
    return kernel;
}

std::unique_ptr<Custody> open(SimulatedKernel& kernel) {
    auto custody = Custody::open(std::make_unique<SimulatedSystem>(kernel), "/state");
    if (!custody) throw std::runtime_error(custody.error().message());
    return std::move(*custody);
}

// As machine() has it.
bool own(const SimulatedKernel& kernel) {
    const auto initial = machine();
    return std::ranges::all_of(kernel.functions, [&](const auto& pair) {
        const auto& [address, now] = pair;
        const auto& before = initial.functions.at(address);
        return now.driver == before.driver && now.override == before.override &&
               now.reset_methods == before.reset_methods;
    });
}

bool on_vfio(const SimulatedKernel& kernel, std::initializer_list<pci::Address> addresses) {
    return std::ranges::all_of(addresses, [&](const auto& address) {
        const auto& function = kernel.functions.at(address);
        return function.driver == "vfio-pci" && function.override == "vfio-pci";
    });
}

std::string message(const Result<>& result) { return result ? "" : result.error().message(); }

TEST(Custody, TakesAndGivesBack) {
    auto kernel = machine();
    const auto custody = open(kernel);
    EXPECT_FALSE(custody->taken(drive));
    ASSERT_EQ(message(custody->take(drive)), "");
    EXPECT_TRUE(custody->taken(drive));
    EXPECT_TRUE(on_vfio(kernel, {drive}));
    ASSERT_EQ(message(custody->give_back(drive)), "");
    EXPECT_FALSE(custody->taken(drive));
    EXPECT_TRUE(own(kernel));
}

TEST(Custody, TakingTwiceIsTakingOnce) {
    auto kernel = machine();
    const auto custody = open(kernel);
    ASSERT_TRUE(custody->take(drive));
    ASSERT_TRUE(custody->take(drive));
    ASSERT_TRUE(custody->give_back(drive));
    ASSERT_TRUE(custody->give_back(drive));
    EXPECT_TRUE(own(kernel));
}

TEST(Custody, TakesTheWholeGroupButNoBridge) {
    auto kernel = machine();
    const auto custody = open(kernel);
    EXPECT_THAT(custody->group(card).value(), ElementsAre(card, card_two));
    ASSERT_EQ(message(custody->take(card)), "");
    EXPECT_TRUE(on_vfio(kernel, {card, card_two}));
    EXPECT_EQ(kernel.functions[root_port].driver, "pcieport");
    EXPECT_FALSE(custody->taken(card_two)); // it only came along
    ASSERT_TRUE(custody->give_back(card));
    EXPECT_TRUE(own(kernel));
}

TEST(Custody, GivesAGroupBackWithTheLastOfIt) {
    auto kernel = machine();
    const auto custody = open(kernel);
    ASSERT_TRUE(custody->take(card));
    ASSERT_TRUE(custody->take(card_two));
    ASSERT_TRUE(custody->give_back(card));
    EXPECT_FALSE(custody->taken(card));
    EXPECT_TRUE(custody->taken(card_two));
    EXPECT_TRUE(on_vfio(kernel, {card, card_two}));
    ASSERT_TRUE(custody->give_back(card_two));
    EXPECT_TRUE(own(kernel));
}

TEST(Custody, RefusesAGroupWithABridgeThatADriverUses) {
    auto kernel = machine();
    kernel.functions[root_port].driver = "shpchp";
    const auto taken = open(kernel)->take(card);
    EXPECT_THAT(message(taken), HasSubstr("the driver shpchp uses"));
    EXPECT_EQ(kernel.functions[card].driver, "igb");
}

TEST(Custody, RefusesABridge) {
    auto kernel = machine();
    EXPECT_THAT(message(open(kernel)->take(root_port)), HasSubstr("is a bridge"));
}

TEST(Custody, RefusesWithoutIommu) {
    auto kernel = machine();
    kernel.functions[drive].group.clear();
    EXPECT_THAT(message(open(kernel)->take(drive)), HasSubstr("intel_iommu=on"));
    EXPECT_TRUE(own(kernel));
}

TEST(Custody, RefusesWhatIsNotThere) {
    auto kernel = machine();
    const auto taken = open(kernel)->take({0, 9, 0, 0});
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code(), Errc::not_found);
}

TEST(Custody, SaysThatThereIsNoVfio) {
    auto kernel = machine();
    kernel.has_vfio_module = false;
    EXPECT_THAT(message(open(kernel)->take(drive)), HasSubstr("no driver vfio-pci"));
    EXPECT_TRUE(own(kernel));
}

TEST(Custody, NamesWhoUsesAnyOfTheGroup) {
    auto kernel = machine();
    kernel.functions[card].files["net/eth2/address"] = "52:54:00:00:00:01\n";
    kernel.files["/sys/class/net/eth2/flags"] = "0x1003\n";
    const auto custody = open(kernel);
    const auto taken = custody->take(card_two);
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code(), Errc::busy);
    EXPECT_EQ(taken.error().message(), "in use: eth2 is up");
    EXPECT_THAT(custody->holders(card_two).value(), ElementsAre("eth2 is up"));
    EXPECT_TRUE(own(kernel));
}

TEST(Custody, WaitsForWhoOnlyHasALook) {
    auto kernel = machine();
    kernel.functions[drive].files["nvme/nvme0/dev"] = "240:0\n";
    kernel.numbers["/dev/nvme0"] = {false, 240, 0};
    kernel.links["/proc/17/fd/3"] = "/dev/nvme0";
    kernel.files["/proc/17/comm"] = "udevd\n";
    const auto custody = open(kernel);
    EXPECT_THAT(message(custody->take(drive)), HasSubstr("process 17 (udevd) has /dev/nvme0 open"));
    kernel.links.clear();
    EXPECT_TRUE(custody->take(drive));
}

TEST(Custody, KeepsWhatAnAdministratorHadSet) {
    auto kernel = machine();
    auto& function = kernel.functions[drive];
    function.driver = function.override = "vfio-pci";
    kernel.drivers.insert("vfio-pci");
    const auto custody = open(kernel);
    ASSERT_TRUE(custody->take(drive));
    ASSERT_TRUE(custody->give_back(drive));
    EXPECT_TRUE(on_vfio(kernel, {drive}));
}

TEST(Custody, GivesByNameWhatNoDriverTakesUnasked) {
    auto kernel = machine();
    auto& function = kernel.functions[drive];
    function.native.clear(); // as of a VF whose parent has sriov_drivers_autoprobe off
    const auto custody = open(kernel);
    ASSERT_TRUE(custody->take(drive));
    ASSERT_TRUE(custody->give_back(drive));
    EXPECT_EQ(function.driver, "nvme");
    EXPECT_EQ(function.override, "");
}

TEST(Custody, ADriverThatDoesNotLetGoIsSaid) {
    auto kernel = machine();
    kernel.functions[card].clings = true;
    const auto custody = open(kernel);
    const auto taken = custody->take(card);
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code(), Errc::timeout);
    EXPECT_THAT(message(taken), HasSubstr("0000:02:00.0: the driver igb does not let go of it"));
    EXPECT_THAT(message(taken), HasSubstr("could not be put back as it was"));
    EXPECT_FALSE(custody->taken(card));
}

TEST(Custody, SettlesWhatHungOnceThatEnds) {
    auto kernel = machine();
    kernel.functions[card].clings = true;
    const auto custody = open(kernel);
    ASSERT_FALSE(custody->take(card));
    kernel.unlock(card);
    EXPECT_EQ(message(custody->give_back(card)), "");
    EXPECT_TRUE(own(kernel));
    EXPECT_EQ(message(custody->take(card)), "");
    EXPECT_TRUE(on_vfio(kernel, {card, card_two}));
}

TEST(Custody, ADriverThatDoesNotTakeItsDeviceAgainIsSaid) {
    auto kernel = machine();
    const auto custody = open(kernel);
    ASSERT_TRUE(custody->take(drive));
    kernel.functions[drive].refused_by.insert("nvme");
    const auto returned = custody->give_back(drive);
    EXPECT_THAT(message(returned), HasSubstr("its own driver nvme did not take it again"));
    EXPECT_EQ(kernel.functions[drive].driver, "");
    EXPECT_EQ(kernel.functions[drive].override, "");
    kernel.functions[drive].refused_by.clear();
    EXPECT_TRUE(custody->give_back(drive));
    EXPECT_TRUE(own(kernel));
}

TEST(Custody, TakesAgainWhatItsOwnDriverRefuses) {
    auto kernel = machine();
    const auto custody = open(kernel);
    ASSERT_TRUE(custody->take(drive));
    kernel.functions[drive].refused_by.insert("nvme");
    ASSERT_FALSE(custody->give_back(drive));
    ASSERT_EQ(message(custody->take(drive)), "");
    EXPECT_TRUE(on_vfio(kernel, {drive}));
    kernel.functions[drive].refused_by.clear();
    ASSERT_TRUE(custody->give_back(drive));
    EXPECT_TRUE(own(kernel)); // what its host had is still known
}

TEST(Custody, DoesNotUnbindWhatSomebodyHasOpen) {
    auto kernel = machine();
    const auto custody = open(kernel);
    ASSERT_TRUE(custody->take(drive));
    kernel.links["/proc/99/fd/8"] = "/dev/vfio/4";
    kernel.files["/proc/99/comm"] = "qemu\n";
    const auto returned = custody->give_back(drive);
    EXPECT_THAT(message(returned), HasSubstr("process 99 (qemu) has /dev/vfio/4 open"));
    EXPECT_TRUE(custody->taken(drive));
}

TEST(Custody, WhatIsPulledIsGivenBack) {
    auto kernel = machine();
    const auto custody = open(kernel);
    ASSERT_TRUE(custody->take(card));
    kernel.functions.erase(card);
    EXPECT_FALSE(custody->taken(card));
    EXPECT_TRUE(custody->give_back(card));
    EXPECT_TRUE(own(kernel));
}

TEST(Custody, LeavesANewCardInTheSamePlaceAlone) {
    auto kernel = machine();
    const auto custody = open(kernel);
    ASSERT_TRUE(custody->take(drive));
    kernel.functions[drive] = function_with("0x144d", "nvme", "4");
    kernel.functions[drive].driver = "nvme";
    EXPECT_FALSE(custody->taken(drive));
    EXPECT_TRUE(custody->give_back(drive));
    EXPECT_TRUE(own(kernel));
    EXPECT_TRUE(custody->take(drive));
    EXPECT_TRUE(custody->taken(drive));
}

TEST(Recovery, StaysTakenWhenTheAgentRestarts) {
    auto kernel = machine();
    ASSERT_TRUE(open(kernel)->take(drive));
    const auto custody = open(kernel);
    EXPECT_TRUE(custody->taken(drive));
    EXPECT_THAT(custody->notes(), IsEmpty());
    EXPECT_TRUE(custody->give_back(drive));
    EXPECT_TRUE(own(kernel));
}

TEST(Recovery, NothingIsTakenAfterTheHostRestarts) {
    auto kernel = machine();
    ASSERT_TRUE(open(kernel)->take(drive));
    kernel.restart();
    const auto custody = open(kernel);
    EXPECT_FALSE(custody->taken(drive));
    EXPECT_THAT(custody->notes(), ElementsAre(HasSubstr("restarted")));
    EXPECT_EQ(kernel.functions[drive].driver, "nvme");
    EXPECT_TRUE(custody->take(drive));
}

TEST(Recovery, GivesUpWhatSomebodyElseHasBound) {
    auto kernel = machine();
    ASSERT_TRUE(open(kernel)->take(card));
    kernel.functions[card].driver = "igb";
    kernel.functions[card].override.clear();
    const auto custody = open(kernel);
    EXPECT_FALSE(custody->taken(card));
    EXPECT_THAT(custody->notes(), ElementsAre(HasSubstr("was taken, and the driver igb has it now")));
    EXPECT_EQ(kernel.functions[card].driver, "igb");
    EXPECT_EQ(kernel.functions[card_two].driver, "");
    EXPECT_EQ(kernel.functions[card_two].override, "");
}

TEST(Recovery, BindsAgainWhenVfioWasReloaded) {
    auto kernel = machine();
    ASSERT_TRUE(open(kernel)->take(card));
    kernel.functions[card].driver.clear();
    kernel.functions[card_two].driver.clear();
    kernel.drivers.erase("vfio-pci");
    EXPECT_TRUE(open(kernel)->taken(card));
    EXPECT_TRUE(on_vfio(kernel, {card, card_two}));
}

// As a VF does that is removed and made again.
TEST(Recovery, WhatIsPluggedInAnewIsNotTaken) {
    auto kernel = machine();
    const auto custody = open(kernel);
    ASSERT_TRUE(custody->take(card_two));
    kernel.functions[card_two] = function_with("0x10de", "", "7");
    EXPECT_FALSE(custody->taken(card_two));
    kernel.links["/proc/9/fd/1"] = "/sys/devices/" + kernel.folder_of(card_two) + "/resource0";
    const auto taken = custody->take(card_two);
    ASSERT_FALSE(taken) << "it is used by somebody by now";
    EXPECT_EQ(taken.error().code(), Errc::busy);
    EXPECT_TRUE(own(kernel));
}

TEST(Recovery, RefusesAForeignStateFile) {
    auto kernel = machine();
    kernel.state = "{\"version\": 7}";
    const auto custody = Custody::open(std::make_unique<SimulatedSystem>(kernel), "/state");
    ASSERT_FALSE(custody);
    EXPECT_THAT(custody.error().message(), HasSubstr("by hand"));
}

// Runs ACTION with a mishap at its change number AT. False: it has fewer.
template <class Action>
bool with_mishap(SimulatedKernel& kernel, SimulatedKernel::Mishap mishap, int at, const Action& action) {
    kernel.arm(mishap, at);
    try {
        action();
    } catch (const Crash&) {
    }
    const bool struck = kernel.struck();
    kernel.arm(SimulatedKernel::Mishap::none, 0);
    return struck;
}

// Taken as a whole, or as before as a whole; and what Custody says is so.
void expect_whole(SimulatedKernel& kernel, const Custody& custody, const std::string& when) {
    const bool taken = custody.taken(card);
    EXPECT_TRUE(taken ? on_vfio(kernel, {card, card_two}) : own(kernel)) << when;
}

class Mishaps : public testing::TestWithParam<SimulatedKernel::Mishap> {};

// At each point at which taking can stop, and at each point of the recovery from it.
TEST_P(Mishaps, WhileTakingAndAgainWhileRecovering) {
    bool first_struck = true;
    int cases = 0;
    for (int first = 0; first_struck; ++first) {
        bool second_struck = true;
        for (int second = 0; second_struck; ++second, ++cases) {
            auto kernel = machine();
            auto before = open(kernel);
            first_struck = with_mishap(kernel, GetParam(), first, [&] { (void)before->take(card); });
            second_struck = with_mishap(kernel, GetParam(), second, [&] {
                (void)Custody::open(std::make_unique<SimulatedSystem>(kernel), "/state");
            });
            const auto custody = open(kernel);
            expect_whole(kernel, *custody, fmt::format("mishaps at {} and {}", first, second));
            ASSERT_TRUE(custody->take(card));
            ASSERT_TRUE(custody->give_back(card));
            EXPECT_TRUE(own(kernel)) << first << ' ' << second;
        }
    }
    EXPECT_GT(cases, GetParam() == SimulatedKernel::Mishap::error ? 10 : 50);
}

TEST_P(Mishaps, WhileGivingBackAndAgainWhileRecovering) {
    bool first_struck = true;
    int cases = 0;
    for (int first = 0; first_struck; ++first) {
        bool second_struck = true;
        for (int second = 0; second_struck; ++second, ++cases) {
            auto kernel = machine();
            auto before = open(kernel);
            ASSERT_TRUE(before->take(card));
            first_struck = with_mishap(kernel, GetParam(), first, [&] { (void)before->give_back(card); });
            second_struck = with_mishap(kernel, GetParam(), second, [&] {
                (void)Custody::open(std::make_unique<SimulatedSystem>(kernel), "/state");
            });
            const auto custody = open(kernel);
            expect_whole(kernel, *custody, fmt::format("mishaps at {} and {}", first, second));
            ASSERT_TRUE(custody->give_back(card));
            EXPECT_TRUE(own(kernel)) << first << ' ' << second;
        }
    }
    EXPECT_GT(cases, GetParam() == SimulatedKernel::Mishap::error ? 8 : 30);
}

// Without a new start: what the next calls meet.
TEST_P(Mishaps, AreSettledByTheNextCall) {
    if (GetParam() == SimulatedKernel::Mishap::crash) return; // a crash has no next call
    bool struck = true;
    for (int at = 0; struck; ++at) {
        auto kernel = machine();
        const auto custody = open(kernel);
        struck = with_mishap(kernel, GetParam(), at, [&] { (void)custody->take(card); });
        if (GetParam() == SimulatedKernel::Mishap::error)
            expect_whole(kernel, *custody, fmt::format("mishap of take at {}", at));
        ASSERT_TRUE(custody->take(card)) << at;
        EXPECT_TRUE(on_vfio(kernel, {card, card_two}));
        with_mishap(kernel, GetParam(), at, [&] { (void)custody->give_back(card); });
        ASSERT_TRUE(custody->give_back(card)) << at;
        EXPECT_TRUE(own(kernel)) << at;
    }
}

INSTANTIATE_TEST_SUITE_P(Each, Mishaps,
                         testing::Values(SimulatedKernel::Mishap::crash, SimulatedKernel::Mishap::error,
                                         SimulatedKernel::Mishap::outage));

} // namespace
} // namespace lanepool::local_devices
