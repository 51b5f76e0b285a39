// SPDX-License-Identifier: Apache-2.0
//
// Verdicts on the collection of machines: nothing that is fit is called unfit, nor the reverse.
#include "qualify/qualify.h"

#include "inventory/reader.h"
#include "inventory/testing/machines.h"

#include <functional>
#include <gtest/gtest.h>

namespace lanepool::qualify {
namespace {

using namespace inventory::testing;
using enum Verdict;

inventory::Machine read(MachineBuilder builder) { return inventory::read_machine(builder.tree(), "ids"); }

Report report_on(const inventory::Machine& machine, const char* address) {
    const auto* function = machine.find(pci::parse_address(address).value());
    if (!function) throw std::runtime_error(std::string("no ") + address);
    return judge(machine, *function, built_in_matrix(), 1'763'737'200'000'000);
}

const Check& check_of(const Report& report, AccessModel model, std::string_view id) {
    for (const auto& check : report.of(model).checks)
        if (check.id == id) return check;
    throw std::runtime_error("no check " + std::string(id));
}

// What is neither passed nor skipped, as "id:result".
std::string objections(const Report& report, AccessModel model) {
    std::string text;
    for (const auto& check : report.of(model).checks)
        if (check.result != Outcome::pass && check.result != Outcome::skipped)
            text += fmt::format("{}{}:{}", text.empty() ? "" : " ", check.id, name(check.result));
    return text;
}

struct Expectation {
    const char* machine;
    const char* address;
    Verdict lending, vf, smartio;
    const char* objections; // to the main model
};
constexpr Expectation expectations[]{
    {"plain", "0000:01:00.0", fit, unfit, fit, ""},
    {"plain", "0000:02:00.0", fit, unfit, fit, ""},
    {"plain", "0000:03:00.0", unfit, unfit, unfit, "iommu_group:limits acs:limits windows:fail"},
    {"plain", "0000:03:00.1", unfit, unfit, unfit, "reset:fail iommu_group:limits acs:limits"},
    {"plain", "0000:04:00.0", unfit, unfit, unfit, "function:fail windows:limits"},
    {"plain", "0000:00:01.0", unfit, unfit, unfit, "function:fail reset:fail bars:fail"},
    {"no_iommu", "0000:01:00.0", unfit, unfit, unfit, "iommu:fail"},
    {"shared_groups", "0000:01:00.0", limits, unfit, limits, "iommu_group:limits acs:limits"},
    {"shared_groups", "0000:02:00.0", limits, unfit, limits, "iommu_group:limits acs:limits"},
    {"degraded_link", "0000:01:00.0", limits, unfit, limits, "link:limits errors:limits"},
    {"broken_chains", "0000:01:00.0", unfit, unfit, unfit,
     "configuration:fail interrupts:limits peer_to_peer:limits"},
    {"broken_chains", "0000:02:00.0", unfit, unfit, unfit,
     "configuration:fail interrupts:limits peer_to_peer:limits"},
    {"broken_chains", "0000:03:00.0", unfit, unfit, unfit, "configuration:fail peer_to_peer:limits"},
    {"broken_chains", "0000:04:00.0", unfit, unfit, unfit,
     "configuration:fail interrupts:unknown peer_to_peer:limits"},
    {"broken_chains", "0000:05:00.0", unknown, unfit, unknown,
     "configuration:unknown interrupts:unknown peer_to_peer:limits"},
    {"broken_chains", "0000:06:00.0", unknown, unfit, unknown,
     "configuration:unknown interrupts:unknown peer_to_peer:limits"},
    {"broken_chains", "0000:08:00.0", unfit, unfit, unfit, "reset:limits bars:fail peer_to_peer:limits"},
    {"virtual_functions", "0000:01:00.0", unfit, limits, unfit, "sriov:fail"},
    {"virtual_functions", "0000:01:00.1", fit, fit, fit, ""},
    {"virtual_functions", "0000:02:00.0", unfit, limits, unfit, "sriov:fail"},
    {"virtual_functions", "0000:02:00.2", fit, fit, fit, ""},
    {"two_sockets", "0000:01:00.0", fit, unfit, fit, ""},
    {"two_sockets", "0000:81:00.0", limits, unfit, limits, "peer_to_peer:limits"},
    {"switch_without_acs", "0000:04:00.0", unfit, unfit, unfit, "iommu_group:fail acs:limits"},
    {"switch_with_acs", "0000:04:00.0", fit, unfit, fit, ""},
    {"switch_with_acs", "0000:05:00.0", unfit, unfit, unfit, "windows:fail"},
    {"adapters", "0000:05:00.0", fit, unfit, fit, ""},
    {"adapters", "0000:04:00.0", unfit, unfit, unfit, "x"},
    {"laptop", "0000:01:00.0", limits, unfit, limits, "peer_to_peer:limits platform:limits"},
    {"laptop", "0000:00:02.0", limits, unfit, limits, "bars:limits peer_to_peer:limits platform:limits"},
    {"laptop", "0000:00:14.0", limits, unfit, limits, "reset:limits peer_to_peer:limits platform:limits"},
    {"laptop", "0000:02:01.0", unfit, unfit, unfit, "x"},
    {"without_root", "0000:01:00.0", unknown, unfit, unknown, "configuration:unknown interrupts:unknown"},
    {"amd", "0000:01:00.0", fit, unfit, fit, ""},
    {"amd", "0000:02:00.0", limits, unfit, limits, "device:limits"},
    {"small_guest", "0000:00:01.0", unfit, unfit, unfit, "x"},
};

TEST(Qualify, JudgesEachDeviceOfEachMachineForEachModel) {
    for (const auto& expected : expectations) {
        const auto made =
            std::ranges::find(machines, std::string_view(expected.machine), &NamedMachine::name);
        ASSERT_NE(made, machines.end()) << expected.machine;
        const auto report = report_on(read(made->make()), expected.address);
        const std::string where = fmt::format("{} {}", expected.machine, expected.address);
        for (const auto& [model, verdict] : {std::pair{AccessModel::lending, expected.lending},
                                             {AccessModel::vf, expected.vf},
                                             {AccessModel::smartio, expected.smartio}})
            EXPECT_EQ(words_for(report.verdict(model)), words_for(verdict))
                << where << " " << name(model) << ": " << objections(report, model);
        const auto found = objections(report, report.main_model);
        EXPECT_TRUE(found == expected.objections || std::string_view(expected.objections) == "x")
            << where << ": " << found << " instead of " << expected.objections;
    }
}

TEST(Qualify, EveryObjectionHasAReasonAndARemedyAndNothingElseHas) {
    for (const auto& made : machines) {
        const auto machine = read(made.make());
        for (const auto& function : machine.functions)
            for (const auto& model : judge(machine, function, built_in_matrix(), 0).models)
                for (const auto& check : model.checks) {
                    const bool objects = check.result == Outcome::limits || check.result == Outcome::fail ||
                                         check.result == Outcome::unknown;
                    EXPECT_FALSE(check.reason.empty()) << check.id;
                    EXPECT_EQ(check.remedy.empty(), !objects)
                        << made.name << " " << pci::to_string(function.address) << " " << check.id;
                }
    }
}

// One thing is changed about a drive that is fit, and exactly one check objects.
struct Change {
    const char* name;
    std::function<void(FunctionSpec&)> drive;
    std::function<void(MachineBuilder&)> machine;
    const char* objections;
};

MachineBuilder server_with(const Change& change) {
    MachineBuilder builder;
    builder.add_host_bridge("0000:00:00.0", 0x8086, 0x09a2);
    builder.add(with_group(root_port("0000:00:01.0", 1), 1)).add(with_group(root_port("0000:00:04.0", 4), 2));
    auto drive = with_group(nvme_drive("0000:01:00.0", "0000:00:01.0"), 11);
    if (change.drive) change.drive(drive);
    builder.add(drive);
    builder.add(with_group(ntb_adapter("0000:04:00.0", "0000:00:04.0"), 14));
    if (change.machine) change.machine(builder);
    return builder;
}

TEST(Qualify, OneThingThatIsWrongIsTheOneThingThatIsSaid) {
    const Change changes[]{
        {"as it is", {}, {}, ""},
        {"without a driver",
         [](auto& drive) {
             drive.driver = drive.module = "";
             drive.dma_bits = 32;
         },
         {},
         ""},
        {"with VFIO",
         [](auto& drive) {
             drive.driver = drive.module = "vfio-pci";
             drive.dma_bits = 32;
         },
         {},
         ""},
        {"no reset", [](auto& drive) { drive.reset_methods = ""; }, {}, "reset:fail"},
        {"bus reset, alone",
         [](auto& drive) {
             drive.reset_methods = "bus";
             drive.flr = false;
         },
         {},
         ""},
        {"power state reset",
         [](auto& drive) {
             drive.reset_methods = "pm";
             drive.flr = false;
         },
         {},
         "reset:limits"},
        {"a reset that lies", [](auto& drive) { drive.flr = false; }, {}, "reset:limits"},
        {"only MSI", [](auto& drive) { drive.msix = 0; }, {}, ""},
        {"only INTx",
         [](auto& drive) {
             drive.msix = 0;
             drive.msi = false;
         },
         {},
         "interrupts:limits"},
        {"I/O ports of an endpoint",
         [](auto& drive) {
             drive.bars.push_back({64, true});
         },
         {},
         ""},
        {"I/O ports alone",
         [](auto& drive) {
             drive.bars = {{64, true}};
         },
         {},
         "bars:fail"},
        {"a BAR smaller than a page", [](auto& drive) { drive.bars = {{256}}; }, {}, "bars:limits"},
        {"a BAR as large as the window",
         [](auto& drive) { drive.bars = {{16 << 20}}; },
         {},
         "windows:limits"},
        {"a BAR larger than the window", [](auto& drive) { drive.bars = {{32 << 20}}; }, {}, "windows:fail"},
        {"narrow DMA", [](auto& drive) { drive.dma_bits = 32; }, {}, "dma_width:limits"},
        {"very narrow DMA", [](auto& drive) { drive.dma_bits = 28; }, {}, "dma_width:fail"},
        {"a link of one lane",
         [](auto& drive) {
             drive.link = {16.0, 1};
         },
         {},
         "link:limits"},
        {"corrected errors", {}, [](auto& machine) { machine.errors("0000:01:00.0", 99, 0, 0); }, ""},
        {"uncorrected errors",
         {},
         [](auto& machine) { machine.errors("0000:01:00.0", 0, 1, 0); },
         "errors:limits"},
        {"a console",
         {},
         [](auto& machine) { machine.tree().add_file(machine.folder("0000:01:00.0") + "/boot_vga", "1\n"); },
         "driver:limits"},
        {"in no group", [](auto& drive) { drive.group.reset(); }, {}, "iommu:fail"},
        {"in the adapter's group", [](auto& drive) { drive.group = 14; }, {}, "iommu_group:fail"},
        {"in its port's group", [](auto& drive) { drive.group = 1; }, {}, ""},
        {"no interrupt remapping",
         {},
         [](auto& machine) { machine.tree().add_file("/proc/interrupts", "24: 0 PCI-MSI\n"); },
         "interrupt_remapping:fail"},
        {"interrupts not seen",
         {},
         [](auto& machine) { machine.tree().remove("/proc/interrupts"); },
         "interrupt_remapping:unknown"},
        {"no VFIO",
         {},
         [](auto& machine) {
             machine.tree().add_file("/lib/modules/6.1.0-50-amd64/modules.dep", "kernel/x.ko:\n");
         },
         "vfio:fail"},
        {"VFIO not seen", {}, [](auto& machine) { machine.tree().remove("/lib/modules"); }, "vfio:unknown"},
        {"IOMMUFD alone",
         {},
         [](auto& machine) {
             machine.tree().add_file("/lib/modules/6.1.0-50-amd64/modules.dep",
                                     "a/vfio-pci.ko:\na/iommufd.ko:\n");
         },
         ""},
        {"no ACS, but alone",
         {},
         [](auto& machine) { machine.add(with_group(root_port("0000:00:01.0", 1, std::nullopt), 1)); },
         ""},
        {"an old kernel", {}, [](auto& machine) { machine.host("a", "5.10.0-30-amd64"); }, "kernel:fail"},
        {"Linux 6.12", {}, [](auto& machine) { machine.host("a", "6.12.107"); }, ""},
        {"a kernel that was not tried",
         {},
         [](auto& machine) { machine.host("a", "7.2.0"); },
         "kernel:limits"},
        {"no kernel seen", {}, [](auto& machine) { machine.host("a", "what"); }, "kernel:unknown"},
        {"a platform that was not tried",
         {},
         [](auto& machine) { machine.add_host_bridge("0000:00:00.0", 0x8086, 0x1237); },
         "platform:limits"},
        {"no adapter",
         {},
         [](auto& machine) { machine.tree().remove("/sys/bus/pci/devices/0000:04:00.0"); },
         "peer_to_peer:limits"},
        {"a device known to be bad",
         [](auto& drive) {
             drive.vendor = 0x1002;
             drive.device = 0x731f;
         },
         {},
         "device:fail"},
        {"functions of its own", [](auto& drive) { drive.total_vfs = 4; }, {}, ""},
        {"passthrough",
         {},
         [](auto& machine) { machine.tree().add_file("/sys/kernel/iommu_groups/11/type", "identity\n"); },
         ""},
    };
    for (const auto& change : changes)
        EXPECT_EQ(objections(report_on(read(server_with(change)), "0000:01:00.0"), AccessModel::lending),
                  change.objections)
            << change.name;
}

TEST(Qualify, ABusOfSeveralIsNotReset) {
    auto builder = server_with({"",
                                [](auto& drive) {
                                    drive.reset_methods = "bus";
                                    drive.flr = false;
                                },
                                {},
                                ""});
    auto other = with_group(nvme_drive("0000:01:01.0", "0000:00:01.0"), 12);
    const auto report = report_on(read(builder.add(other)), "0000:01:00.0");
    EXPECT_EQ(check_of(report, AccessModel::lending, "reset").result, Outcome::fail);
    EXPECT_NE(check_of(report, AccessModel::lending, "reset").reason.find("0000:01:01.0"), std::string::npos);
}

TEST(Qualify, NamesTheBridgeThatDoesNotSeparate) {
    const auto report = report_on(read(shared_groups()), "0000:01:00.0");
    const auto& check = check_of(report, AccessModel::lending, "acs");
    EXPECT_EQ(check.reason, "0000:00:1c.0 does not separate it from others");
    EXPECT_NE(check_of(report, AccessModel::lending, "iommu_group").evidence.find("0000:02:00.0 (igb)"),
              std::string::npos);
}

TEST(Qualify, ABridgeWhoseDriverKeepsTheGroup) {
    auto builder = shared_groups();
    auto port = root_port("0000:00:1c.1", 2, std::nullopt);
    port.driver = "shpchp";
    builder.add(with_group(port, 5));
    const auto report = report_on(read(builder), "0000:01:00.0");
    EXPECT_EQ(check_of(report, AccessModel::lending, "iommu_group").result, Outcome::fail);
}

TEST(Qualify, OfSeveralAdaptersTheNearestCounts) {
    auto builder = two_sockets();
    auto near = with_group(ntb_adapter("0000:82:00.0", "0000:80:02.0"), 21);
    auto port = with_group(root_port("0000:80:02.0", 0x82), 20);
    port.numa_node = near.numa_node = 1;
    const auto report = report_on(read(builder.add(port).add(near)), "0000:81:00.0");
    EXPECT_EQ(objections(report, AccessModel::lending), "");
    EXPECT_NE(check_of(report, AccessModel::lending, "peer_to_peer").evidence.find("0000:82:00.0"),
              std::string::npos);
}

TEST(Report, HasTheFieldsOfAQualification) {
    auto report = report_on(read(plain_server()), "0000:01:00.0");
    auto json = to_json(report, AccessModel::lending)["qualification"];
    EXPECT_EQ(json["vendor_id"], "144d");
    EXPECT_EQ(json["device_id"], "a80a");
    EXPECT_EQ(json["serial"], "S1234567");
    EXPECT_EQ(json["firmware"], "EX01");
    EXPECT_EQ(json["kernel_release"], "6.1.0-50-amd64");
    EXPECT_EQ(json["result"], "fit");
    EXPECT_EQ(json["time"], "2025-11-21T15:00:00Z");
    EXPECT_EQ(json["checks"].size(), report.of(AccessModel::lending).checks.size());
    EXPECT_EQ(json["models"].size(), 3u);
    // What was tried on the device counts for all models.
    report.active.push_back({"cycles", Outcome::fail, "it did not come back", "", "replace it"});
    json = to_json(report, AccessModel::lending)["qualification"];
    EXPECT_EQ(json["result"], "not_fit");
    EXPECT_EQ(json["checks"].back()["id"], "cycles");
}

TEST(SupportMatrix, TheBuiltInOneIsSound) {
    const auto matrix = parse_matrix(built_in_matrix_text(), "support-matrix.toml");
    ASSERT_TRUE(matrix) << matrix.error().message();
    EXPECT_GE(matrix->kernels.size(), 3u);
    EXPECT_GE(matrix->devices.size(), 6u);
    EXPECT_GE(matrix->platforms.size(), 4u);
}

TEST(SupportMatrix, SaysAllThatIsWrong) {
    const auto wrong =
        parse_matrix("[[kernel]]\nname='a'\nfrom='six'\nresult='fine'\n[[device]]\nname='b'\nresult='bad'\n"
                     "reason='r'\nsource='s'\nvendor_id=70000\n[[platfrom]]\n",
                     "mine.toml");
    ASSERT_FALSE(wrong);
    for (const char* part : {"mine.toml:3:", "reason", "remedy", "vendor_id", "platfrom"})
        EXPECT_NE(wrong.error().message().find(part), std::string::npos) << part << "\n"
                                                                         << wrong.error().message();
}

TEST(SupportMatrix, TheFirstEntryThatFitsCounts) {
    const auto matrix = parse_matrix(
        "[[device]]\nname='own'\nresult='good'\nreason='seen'\nsource='here'\nvendor_id=0x1002\n"
        "[[device]]\nname='all'\nresult='bad'\nreason='r'\nremedy='m'\nsource='s'\nclass_code=0x0108\n",
        "mine");
    ASSERT_TRUE(matrix) << matrix.error().message();
    const auto judged = [&](uint16_t vendor) {
        const auto machine = read(server_with({"", [&](auto& drive) { drive.vendor = vendor; }, {}, ""}));
        return check_of(judge(machine, *machine.find({0, 1, 0, 0}), *matrix, 0), AccessModel::lending,
                        "device")
            .result;
    };
    EXPECT_EQ(judged(0x1002), Outcome::pass);
    EXPECT_EQ(judged(0x144d), Outcome::fail);
}

TEST(SupportMatrix, ReadsVersionsOfKernels) {
    EXPECT_EQ(kernel_version("6.12.107"), (KernelVersion{6, 12}));
    EXPECT_EQ(kernel_version("6.1-rc1"), (KernelVersion{6, 1}));
    for (const char* text : {"", "6", "6.", "x.1", "99999999999.1"})
        EXPECT_FALSE(kernel_version(text)) << text;
}

} // namespace
} // namespace lanepool::qualify
