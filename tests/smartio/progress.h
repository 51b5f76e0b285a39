// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <cstdint>
#include <filesystem>

namespace lanepool::load {

// How much has been done, in a file that somebody else reads at any time: 8 bytes.
class Progress {
  public:
    static Result<Progress> create(const std::filesystem::path& file);
    void step();

  private:
    explicit Progress(UniqueFd file) : file_(std::move(file)) {}
    UniqueFd file_;
    uint64_t steps_ = 0;
};

// Something was not as it must be: says so and ends the process with status 2. Whatever may fail where others
// are killed is an Error instead, and is tried again.
[[noreturn]] void wrong(const std::string& what);

} // namespace lanepool::load
