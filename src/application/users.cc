// SPDX-License-Identifier: Apache-2.0
#include "application/users.h"

#include <array>
#include <charconv>
#include <pwd.h>
#include <sstream>
#include <unistd.h>

namespace lanepool::application {

namespace {
Result<uid_t> uid_of(const std::string& name) {
    std::array<char, 4096> buffer;
    passwd entry{};
    passwd* found = nullptr;
    if (::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) == 0 && found)
        return found->pw_uid;
    uid_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc() && end == name.data() + name.size()) return number;
    return fail(Errc::not_found, "there is no user '{}' on this machine", name);
}
} // namespace

Result<Users> Users::parse(const std::string& names) {
    Users users;
    std::istringstream stream(names);
    for (std::string name; std::getline(stream, name, ',');) {
        if (name.empty()) continue;
        if (name == "*")
            users.everybody_ = true;
        else
            users.uids_.insert(TRY(uid_of(name)));
    }
    return users;
}

bool Users::allowed(uid_t uid) const {
    return everybody_ || uid == 0 || uid == ::geteuid() || uids_.contains(uid);
}

std::string user_name(uid_t uid) {
    std::array<char, 4096> buffer;
    passwd entry{};
    passwd* found = nullptr;
    if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found) return found->pw_name;
    return fmt::format("uid:{}", uid);
}

} // namespace lanepool::application
