// SPDX-License-Identifier: Apache-2.0
//
// Which whole hosts an embedded cluster has: decided once for a folder.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::dev {

// What somebody asks for; what is left out is as it is, or else as WholePlan says.
struct WholeWishes {
    std::optional<std::vector<std::string>> borrowers;
    std::optional<unsigned> drives;
    std::optional<uint64_t> drive_bytes;
    std::optional<unsigned> memory_mib;
    std::vector<std::string> kernels; // "6.1": of all hosts; "a=6.1": of one
};

struct WholePlan {
    std::string lender = "store";
    std::vector<std::string> borrowers = {"a", "b"};
    unsigned drives = 2; // of the lender, besides a network card and QEMU's device for teaching
    uint64_t drive_bytes = uint64_t{1} << 30;
    unsigned memory_mib = 512; // of each host
    std::map<std::string, std::string> kernels;

    // The lender, then the borrowers: the order of their ports.
    std::vector<std::string> hosts() const;

    // What FOLDER has; nothing: its cluster has none, or there is none.
    static Result<std::optional<WholePlan>> read(const std::filesystem::path& folder);
    // The same, or a new one, which is remembered only by save(). Errors: invalid_argument (a name, a kernel,
    // more drives than there are slots), failed_precondition (the cluster in FOLDER is another one).
    static Result<WholePlan> decide(const std::filesystem::path& folder, const WholeWishes& wishes);
    Result<> save(const std::filesystem::path& folder) const;

    bool operator==(const WholePlan&) const = default;

  private:
    Result<> apply(const WholeWishes& wishes);
    Result<> check() const;
};

} // namespace lanepool::dev
