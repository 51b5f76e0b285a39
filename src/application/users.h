// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

#include <set>
#include <string>
#include <sys/types.h>

namespace lanepool::application {

// Who may open sessions: root and the user that the agent runs as in any case.
class Users {
  public:
    // NAMES: users' names or numbers, separated by commas; "*": everybody. Errors: not_found.
    static Result<Users> parse(const std::string& names);

    bool allowed(uid_t uid) const;
    bool only_owner() const { return !everybody_ && uids_.empty(); }

  private:
    bool everybody_ = false;
    std::set<uid_t> uids_;
};

// The name that this machine has for him, or "uid:NUMBER".
std::string user_name(uid_t uid);

} // namespace lanepool::application
