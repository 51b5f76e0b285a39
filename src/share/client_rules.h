// SPDX-License-Identifier: Apache-2.0
//
// Who may use a shared drive, which part of it, and how much: the file of `lanepool nvme share --clients`
// (docs/shared-drives.md).
#pragma once

#include "base/result.h"
#include "share/layout.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::sharing {

// The part of the drive that a client sees as blocks 0 to blocks - 1.
struct Part {
    uint32_t nsid = 0;
    uint64_t first_block = 0;
    uint64_t blocks = 0;
    bool operator==(const Part&) const = default;
};

struct Grant {
    Part part;
    uint16_t weight = 1;
    bool read_only = false;
    uint32_t most_queues = 0; // of this user on this host, at a time
    size_t rule = 0;          // which rule it was, from 1 on; 0: none is there
};

class ClientRules {
  public:
    // Everybody may use everything.
    ClientRules() = default;
    // Errors: invalid_argument with all that is wrong, a line each; FILE_NAME is for these.
    static Result<ClientRules> parse(std::string_view text, std::string_view file_name);

    // That each rule can be kept on this drive. Errors: invalid_argument, naming the rule.
    Result<> check(const DriveFacts& facts) const;
    // What USER on HOST gets; the first rule that fits decides. Errors: permission_denied.
    Result<Grant> decide(std::string_view host, std::string_view user, const DriveFacts& facts) const;

  private:
    struct Rule {
        std::vector<std::string> hosts; // empty: all
        std::vector<std::string> users;
        bool allow = true;
        bool read_only = false;
        uint16_t weight = 1;
        uint32_t nsid = 0; // 0: the drive's first one
        uint64_t first_block = 0;
        uint64_t blocks = 0; // 0: up to the end
        uint64_t first_byte = 0;
        uint64_t size_bytes = 0;
        uint32_t most_queues = max_clients;
    };
    class Reader;
    static Result<Part> part(const Rule& rule, const DriveFacts& facts);

    std::vector<Rule> rules_;
    bool given_ = false; // there is a file: what no rule fits is refused
};

} // namespace lanepool::sharing
