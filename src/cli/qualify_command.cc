// SPDX-License-Identifier: Apache-2.0
//
// `lanepool qualify`: whether a device of this machine, or of one whose files were saved, can be lent.
#include "cli/context.h"
#include "cli/qualify_active.h"
#include "cli/table.h"
#include "cli/trial_borrower.h"
#include "cli/units.h"
#include "inventory/names.h"
#include "inventory/reader.h"
#include "pci/address.h"
#include "qualify/qualify.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>

namespace lanepool::cli {

namespace {

using qualify::AccessModel;
using qualify::Outcome;
using qualify::Verdict;

struct Arguments {
    std::string device, sysroot, matrix, model;
    bool active = false, yes = false;
    ActiveOptions trial;
    int64_t deadline_s = 60;
    uint64_t borrower_seed = 0;
    CLI::Option* as_borrower = nullptr;
};

// 0 says that it can be lent.
int exit_code_of(Verdict verdict) {
    return verdict == Verdict::fit || verdict == Verdict::limits ? exit_ok : exit_failed;
}

Result<inventory::Machine> read_machine(const Arguments& arguments) {
    if (arguments.sysroot.empty()) return inventory::read_machine(inventory::Roots{});
    const auto roots = inventory::Roots::saved_in(arguments.sysroot);
    std::error_code error;
    if (!std::filesystem::is_directory(roots.sys, error))
        return fail(Errc::not_found,
                    "there is no folder {}: name one that 'lanepool inventory --save' has written",
                    roots.sys.string());
    return inventory::read_machine(roots);
}

Result<qualify::SupportMatrix> read_matrix(const std::string& path) {
    if (path.empty()) return qualify::built_in_matrix();
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error))
        return fail(Errc::not_found, "there is no file {}", path);
    std::ifstream file(path, std::ios::binary);
    if (!file) return fail_errno("opening " + path);
    constexpr size_t most_bytes = 2 << 20;
    std::string text(most_bytes, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
    return qualify::parse_matrix(text, path);
}

AccessModel model_of(const Arguments& arguments, const qualify::Report& report) {
    for (const auto model : qualify::access_models)
        if (name(model) == arguments.model) return model;
    return report.main_model;
}

int64_t now_us() {
    return std::chrono::duration_cast<std::chrono::microseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

void print_report(const std::string& device, const qualify::Report& report, AccessModel model) {
    std::cout << fmt::format("{} {}\n", device, report.title);
    for (const auto each : qualify::access_models)
        std::cout << fmt::format("{:<9} {}\n", name(each), words_for(report.verdict(each)));
    Table table({"CHECK", "RESULT", "REASON"});
    std::string remedies;
    auto checks = report.of(model).checks;
    checks.insert(checks.end(), report.active.begin(), report.active.end());
    for (const auto& check : checks) {
        table.add(
            {check.id, std::string(name(check.result)),
             check.evidence.empty() ? check.reason : fmt::format("{} [{}]", check.reason, check.evidence)});
        if (!check.remedy.empty()) remedies += fmt::format("  {:<20} {}\n", check.id, check.remedy);
    }
    std::cout << fmt::format("\nfor {}:\n", name(model)) << table.text();
    if (!remedies.empty()) std::cout << "\nwhat to do:\n" << remedies;
    std::cout << std::flush;
}

// Which checks object, the worst first.
std::string objections(const qualify::Report& report) {
    std::string text;
    for (const auto outcome : {Outcome::fail, Outcome::unknown, Outcome::limits})
        for (const auto& check : report.of(report.main_model).checks)
            if (check.result == outcome) text += (text.empty() ? "" : ", ") + check.id;
    return text;
}

int judge_all(const Context& context, const inventory::Machine& machine,
              const qualify::SupportMatrix& matrix) {
    Table table({"ADDRESS", "NAME", "LENDING", "VF", "SMARTIO", "OBJECTIONS"});
    Json json = Json::array();
    for (const auto& function : machine.functions) {
        if (!qualify::is_candidate(function)) continue;
        const auto report = judge(machine, function, matrix, now_us());
        json.push_back(qualify::to_json(report, report.main_model));
        table.add({pci::to_string(function.address), report.title,
                   std::string(words_for(report.verdict(AccessModel::lending))),
                   std::string(words_for(report.verdict(AccessModel::vf))),
                   std::string(words_for(report.verdict(AccessModel::smartio))),
                   or_dash(objections(report))});
    }
    if (context.json())
        std::cout << json.dump(2) << std::endl;
    else
        std::cout << table.text() << std::flush;
    return exit_ok;
}

Result<qualify::Report> judge_one(const inventory::Machine& machine, const pci::Address& address,
                                  const qualify::SupportMatrix& matrix) {
    const auto* function = machine.find(address);
    if (!function)
        return fail(Errc::not_found, "there is no function at {}; 'lanepool inventory' lists them",
                    pci::to_string(address));
    return judge(machine, *function, matrix, now_us());
}

Result<int> run_active(const Context& context, const Arguments& arguments,
                       const qualify::SupportMatrix& matrix) {
    if (arguments.device.empty()) return fail(Errc::invalid_argument, "--active tries one DEVICE: name it");
    if (!arguments.yes)
        return fail(Errc::invalid_argument,
                    "--active takes {} out of use and erases everything on it; add --yes if that is meant",
                    arguments.device);
    ActiveOptions options = arguments.trial;
    options.device = arguments.device;
    options.trial.recovery_limit = std::chrono::seconds(arguments.deadline_s);
    const auto tried = TRY(try_device(context, options, [&](const pci::Address& address) {
        return judge_one(inventory::read_machine(inventory::Roots{}), address, matrix);
    }));
    const auto model = model_of(arguments, tried.report);
    if (context.json())
        std::cout << to_json(tried, model).dump(2) << std::endl;
    else
        print_report(tried.device, tried.report, model);
    if (!options.store.empty()) TRY(store(options, tried, model));
    return exit_code_of(tried.report.verdict(model));
}

Result<int> run_qualify(const Context& context, const Arguments& arguments) {
    if (arguments.as_borrower->count())
        return work_until_killed(std::strtoull(arguments.device.c_str(), nullptr, 16), arguments.trial.agent,
                                 arguments.borrower_seed);
    const auto matrix = TRY(read_matrix(arguments.matrix));
    if (arguments.active) return run_active(context, arguments, matrix);
    const auto machine = TRY(read_machine(arguments));
    if (arguments.device.empty()) return judge_all(context, machine, matrix);
    const auto address = TRY(pci::parse_address(arguments.device));
    const auto report = TRY(judge_one(machine, address, matrix));
    const auto model = model_of(arguments, report);
    if (context.json())
        std::cout << qualify::to_json(report, model).dump(2) << std::endl;
    else
        print_report(pci::to_string(address), report, model);
    return exit_code_of(report.verdict(model));
}

void add_active_options(CLI::App* sub, Arguments& arguments, CLI::Option* sysroot) {
    auto* active =
        sub->add_flag("--active", arguments.active,
                      "also try it, on its own host: it is taken out of use, and everything on it is ERASED; "
                      "DEVICE may be HOST/DEVICE or an fdid, too")
            ->excludes(sysroot);
    sub->add_flag("--yes", arguments.yes, "with --active: the device may be erased")->needs(active);
    auto& trial = arguments.trial;
    sub->add_option("--cycles", trial.trial.cycles,
                    "how often it is borrowed and returned, and its driver bound")
        ->check(CLI::Range(1, 10'000))
        ->capture_default_str()
        ->needs(active);
    add_capacity(sub, "--load-bytes", trial.trial.load_bytes,
                 "how much is written to a drive and read back (default: 1 MiB)")
        ->needs(active);
    add_time(sub, "--deadline", arguments.deadline_s,
             "how soon after a loan's end, or its borrower's, it must be available again (default: 60s)")
        ->needs(active);
    sub->add_option("--store", trial.store,
                    "keep the result as evidence in this folder, that of the agent's --state: rules with "
                    "needs_qualification look at it")
        ->needs(active);
    sub->add_option("--agent", trial.agent,
                    "the application socket of this host's agent (default: $LANEPOOL_AGENT, or "
                    "/run/lanepool/application.sock)");
    sub->add_option("--agent-admin", trial.agent_admin, "the administration socket of this host's agent")
        ->capture_default_str()
        ->needs(active);
    // For the process that is killed while it uses the device.
    arguments.as_borrower = sub->add_option("--as-borrower", arguments.borrower_seed)->group("");
}

} // namespace

void add_qualify_command(CLI::App& app, Context& context) {
    auto* sub = app.add_subcommand("qualify", "Say whether a device of this machine can be lent, and what "
                                              "stands in the way; ends with 1 if it cannot")
                    ->group("Looking");
    auto arguments = std::make_shared<Arguments>();
    sub->add_option("DEVICE", arguments->device,
                    "its address, such as 0000:3b:00.0; by default all that could be lent");
    sub->add_option("--model", arguments->model,
                    "the access model that decides: by default vf for an SR-IOV function, else lending")
        ->check(CLI::IsMember({"lending", "vf", "smartio"}));
    auto* sysroot = sub->add_option(
        "--sysroot", arguments->sysroot,
        "of another machine, whose files 'lanepool inventory --save' has written to this folder");
    sub->add_option("--matrix", arguments->matrix,
                    "judge by this support matrix instead of the one built in");
    add_active_options(sub, *arguments, sysroot);
    sub->callback([=, &context] { finish(context, run_qualify(context, *arguments)); });
}

} // namespace lanepool::cli
