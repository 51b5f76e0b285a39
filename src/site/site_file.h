// SPDX-License-Identifier: Apache-2.0
//
// The site file: what an operator decides about a site, as TOML. docs/site-file.md has every key. Pure: it
// reads no file and no clock.
#pragma once

#include "base/result.h"
#include "pool/site.h"
#include "site/problems.h"

#include <string>
#include <string_view>
#include <vector>

namespace lanepool::site {

struct Reading {
    pool::Site site;               // of use only without problems
    std::vector<Problem> problems; // by their place in the file; at most Problems::most
    size_t problem_count = 0;      // all that there are

    bool good() const { return problem_count == 0; }
};

// Reads TEXT, of at most 1 MiB, and finds everything that is wrong with it.
Reading read(std::string_view text);

// The problems as lines "FILE_NAME:LINE:COLUMN: what is wrong; what would be right", and one more that says
// how many others there are.
std::string problem_lines(const Reading& reading, std::string_view file_name);

// The site that TEXT describes. Errors: invalid_argument, with problem_lines().
Result<pool::Site> parse(std::string_view text, std::string_view file_name);

} // namespace lanepool::site
