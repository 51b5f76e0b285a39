// SPDX-License-Identifier: Apache-2.0
//
// `lanepool inventory`: what this machine, or one whose files were saved, has on its PCI buses. It takes no
// cluster.
#include "cli/context.h"
#include "cli/table.h"
#include "inventory/json.h"
#include "inventory/links.h"
#include "inventory/names.h"
#include "inventory/reader.h"
#include "inventory/save.h"
#include "inventory/text.h"
#include "pci/address.h"

#include <algorithm>
#include <fmt/ranges.h>
#include <iostream>

namespace lanepool::cli {

namespace {

struct Arguments {
    std::string address;
    std::string sysroot, save;
    std::vector<std::string> kinds;
    bool all = false, tree = false, toml = false, registers = false;
};

Result<inventory::Roots> roots_of(const Arguments& arguments) {
    if (arguments.sysroot.empty()) return inventory::Roots{};
    auto roots = inventory::Roots::saved_in(arguments.sysroot);
    std::error_code error;
    if (!std::filesystem::is_directory(roots.sys, error))
        return fail(Errc::not_found,
                    "there is no folder {}: name one that 'lanepool inventory --save' has written",
                    roots.sys.string());
    return roots;
}

std::string number_or_dash(const auto& number) { return number ? fmt::format("{}", *number) : "-"; }

std::string reset_text(const inventory::Function& function) {
    return function.reset_methods.empty() ? "-" : fmt::format("{}", fmt::join(function.reset_methods, ","));
}

std::string sriov_text(const inventory::Function& function) {
    if (function.parent) return "of " + pci::to_string(*function.parent);
    return function.sriov ? fmt::format("{}/{}", function.sriov->enabled, function.sriov->total) : "-";
}

// Without bridges, unless they are asked for.
bool is_shown(const Arguments& arguments, const inventory::Function& function) {
    const auto kind = inventory::kind_of(function);
    if (!arguments.kinds.empty()) return std::ranges::find(arguments.kinds, kind) != arguments.kinds.end();
    return arguments.all || kind != "bridge";
}

void print_table(const Arguments& arguments, const inventory::Machine& machine) {
    Table table(
        {"ADDRESS", "CLASS", "NAME", "DRIVER", "LINK", "AT BEST", "NUMA", "GROUP", "RESET", "SR-IOV"});
    size_t bridges = 0;
    for (const auto& function : machine.functions) {
        if (!is_shown(arguments, function)) {
            bridges += inventory::kind_of(function) == "bridge" ? 1 : 0;
            continue;
        }
        table.add({pci::to_string(function.address), std::string(inventory::kind_of(function)),
                   inventory::title_of(function), function.driver ? function.driver->name : "-",
                   inventory::link_text(function.link),
                   inventory::link_text(inventory::possible_link(machine, function)),
                   number_or_dash(function.numa_node), number_or_dash(function.iommu_group),
                   reset_text(function), sriov_text(function)});
    }
    std::cout << table.text();
    if (bridges > 0 && arguments.kinds.empty())
        std::cerr << fmt::format("not shown: {} bridge{}; --tree shows where everything is\n", bridges,
                                 bridges == 1 ? "" : "s");
}

void print_lines(const std::vector<std::pair<std::string, std::string>>& lines) {
    for (const auto& [heading, text] : lines)
        std::cout << fmt::format("{:<13} {}\n", heading, text);
}

void print_notes(const inventory::Machine& machine) {
    for (const auto& note : machine.notes)
        std::cerr << "note: " << note << "\n";
}

Result<> print_one(const Context& context, const std::string& text, const inventory::Machine& machine) {
    const auto address = TRY(pci::parse_address(text));
    const auto* function = machine.find(address);
    if (!function)
        return fail(Errc::not_found, "there is no function at {}; 'lanepool inventory --all' lists them",
                    pci::to_string(address));
    if (context.json())
        std::cout << inventory::to_json(machine, *function).dump(2) << "\n";
    else
        print_lines(inventory::details(machine, *function));
    return {};
}

Json filtered(const Arguments& arguments, const inventory::Machine& machine) {
    Json json = inventory::to_json(machine);
    if (arguments.kinds.empty()) return json;
    auto& functions = json["functions"];
    functions.erase(std::remove_if(functions.begin(), functions.end(),
                                   [&](const Json& each) {
                                       return std::ranges::find(arguments.kinds,
                                                                each["kind"].get<std::string>()) ==
                                              arguments.kinds.end();
                                   }),
                    functions.end());
    return json;
}

Result<> run_inventory(const Context& context, const Arguments& arguments) {
    const auto roots = TRY(roots_of(arguments));
    if (!arguments.save.empty()) {
        const auto saved = TRY(inventory::save_machine(roots, arguments.save));
        if (context.json())
            std::cout << Json{{"folder", arguments.save}, {"entries", saved.entries}, {"bytes", saved.bytes}}
                             .dump(2)
                      << std::endl;
        else
            std::cout << fmt::format(
                             "{}: {} files, folders and links, {} bytes; serial numbers are among them\n",
                             arguments.save, saved.entries, saved.bytes)
                      << std::flush;
        return {};
    }
    inventory::DiskFiles files(roots);
    const auto machine = inventory::read_machine(
        files, inventory::read_ids(roots.ids), arguments.registers ? std::optional(roots.sys) : std::nullopt);
    if (!arguments.address.empty()) return print_one(context, arguments.address, machine);
    if (context.json()) {
        std::cout << filtered(arguments, machine).dump(2) << std::endl;
        return {};
    }
    if (arguments.toml)
        std::cout << inventory::site_toml(machine) << std::flush;
    else if (arguments.tree)
        std::cout << inventory::tree_text(machine) << std::flush;
    else {
        print_lines(inventory::details(machine));
        std::cout << "\n";
        print_table(arguments, machine);
        std::cout << std::flush;
    }
    print_notes(machine);
    return {};
}

} // namespace

void add_inventory_command(CLI::App& app, Context& context) {
    auto* sub =
        app.add_subcommand(
               "inventory",
               "List what is on this machine's PCI buses, and what it could be lent for; takes no cluster")
            ->group("Looking");
    auto arguments = std::make_shared<Arguments>();
    sub->add_option("ADDRESS", arguments->address,
                    "all that is known of this function, such as 0000:3b:00.0");
    auto* tree = sub->add_flag("--tree", arguments->tree, "as a tree of buses, with the ACS of ports");
    auto* toml = sub->add_flag("--toml", arguments->toml, "as the sections of a site file");
    tree->excludes(toml);
    sub->add_flag("--all", arguments->all, "bridges as well");
    sub->add_option("--class", arguments->kinds, "only these (may be repeated)")
        ->check(CLI::IsMember(
            {"nvme", "gpu", "nic", "fpga", "ntb", "bridge", "storage", "usb", "audio", "other"}));
    auto* sysroot = sub->add_option("--sysroot", arguments->sysroot,
                                    "of another machine, whose files --save has written to this folder");
    sub->add_option("--save", arguments->save,
                    "only write what is read to this folder, for --sysroot; it must be new or empty");
    sub->add_flag("--registers", arguments->registers,
                  "also read the registers of NTB adapters, of this machine only: takes root")
        ->excludes(sysroot);
    sub->callback([=, &context] { finish(context, run_inventory(context, *arguments)); });
}

} // namespace lanepool::cli
