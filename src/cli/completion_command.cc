// SPDX-License-Identifier: Apache-2.0
//
// `lanepool completion bash`: made from the commands themselves, so that it is never out of date.
#include "cli/context.h"

#include <iostream>

namespace lanepool::cli {

namespace {

// "COMMAND PATH|word word ..." for APP and all below it.
void collect(const CLI::App& app, const std::string& path, std::string& cases) {
    std::string words;
    for (const auto* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
        if (sub->get_name().empty()) continue;
        words += " " + sub->get_name();
        collect(*sub, path + (path.empty() ? "" : " ") + sub->get_name(), cases);
    }
    for (const auto* option :
         app.get_options([](const CLI::Option* each) { return !each->get_group().empty(); }))
        for (const auto& name : option->get_lnames())
            words += " --" + name;
    cases += fmt::format("    '{}') words='{}' ;;\n", path, words.empty() ? words : words.substr(1));
}

} // namespace

void add_completion_command(CLI::App& app, Context&) {
    auto* sub =
        app.add_subcommand("completion",
                           "Print the completion script of a shell: source <(lanepool completion bash)")
            ->group("Help");
    auto shell = std::make_shared<std::string>("bash");
    sub->add_option("SHELL", *shell, "which shell")->check(CLI::IsMember({"bash"}))->capture_default_str();
    sub->callback([&app, shell] { // which has to live as long as the option that writes to it
        std::string cases;
        collect(app, "", cases);
        std::cout
            << "_lanepool() {\n  local path='' word words=''\n  for word in "
               "\"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
               "    case $word in -*) ;; *) path=\"${path:+$path }$word\" ;; esac\n  done\n  case $path in\n"
            << cases
            << "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\ncomplete "
               "-F _lanepool lanepool\n";
    });
}

} // namespace lanepool::cli
