// SPDX-License-Identifier: Apache-2.0
//
// Whether the audit trail, what was acknowledged, and what the agents have done are one story.
#pragma once

#include "api/client.h"
#include "controllers/journal.h"

#include <map>
#include <set>
#include <vector>

namespace lanepool::controllers_test {

// Each check goes on where the last one has ended.
class TrailCheck {
  public:
    explicit TrailCheck(const Journal& journal) : journal_(journal) {}

    // Reads the trail from the controller that leads, and compares. What is wrong; nothing: all is well.
    Result<std::vector<std::string>> run(api::Client& client);

    size_t entries() const { return entries_; }
    size_t acknowledged() const { return acknowledged_; }
    size_t performed() const { return performed_; }

  private:
    struct Loan {
        bool borrowed = false, active = false, going = false, ended = false;
        size_t renewed = 0;               // as the trail says
        size_t acknowledged_renewals = 0; // as clients were told
    };
    struct Device {
        uint64_t holder = 0; // the loan for which it is prepared
        uint64_t epoch = 0;
    };

    Result<> read(api::Client& client);
    void take(const v1::AuditEntry& entry);
    void take_transition(const v1::AuditEntry& entry);
    void compare(const Acknowledged& entry);
    void take(const Performed& performed);
    template <class... Args>
    void wrong(fmt::format_string<Args...> format, Args&&... args) {
        problems_.push_back(fmt::format(format, std::forward<Args>(args)...));
    }

    const Journal& journal_;
    std::vector<std::string> problems_;
    uint64_t sequence_ = 0;
    size_t entries_ = 0, acknowledged_ = 0, performed_ = 0;
    std::map<uint64_t, Loan> loans_;
    std::map<uint64_t, Device> devices_;      // by fdid, as the trail says
    std::map<std::string, Device> at_lender_; // by name, as the agent says
};

} // namespace lanepool::controllers_test
