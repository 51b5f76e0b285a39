// SPDX-License-Identifier: Apache-2.0
#include "site/site_file.h"

#include "pool/input.h"
#include "site/document.h"
#include "site/draft.h"

#include <fmt/format.h>

namespace lanepool::site {

Reading read(std::string_view text) {
    Reading reading;
    Problems problems;
    if (const auto document = read_document(text, problems)) {
        auto draft = read_sections(*document, problems);
        check_names(draft, problems);
        check_rules(draft, problems);
        check_reservations(draft, problems);
        reading.site = std::move(draft.site);
    }
    reading.problems = problems.sorted();
    reading.problem_count = problems.count();
    return reading;
}

std::string problem_lines(const Reading& reading, std::string_view file_name) {
    const std::string name = pool::limited(file_name);
    std::string lines;
    for (const auto& problem : reading.problems) {
        if (!lines.empty()) lines += '\n';
        lines += problem.at.line == 0
                     ? fmt::format("{}: {}", name, problem.text)
                     : fmt::format("{}:{}:{}: {}", name, problem.at.line, problem.at.column, problem.text);
    }
    if (const size_t others = reading.problem_count - reading.problems.size(); others > 0)
        lines += fmt::format("\n{}: and {} more; mend these first", name, others);
    return lines;
}

Result<pool::Site> parse(std::string_view text, std::string_view file_name) {
    auto reading = read(text);
    if (!reading.good()) return fail(Errc::invalid_argument, "{}", problem_lines(reading, file_name));
    return std::move(reading.site);
}

} // namespace lanepool::site
