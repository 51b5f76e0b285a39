// SPDX-License-Identifier: Apache-2.0
#include "dev/cache.h"

#include <cstdlib>

namespace lanepool::dev {

std::filesystem::path cache_folder() {
    if (const char* cache = std::getenv("LANEPOOL_CACHE"); cache && *cache) return cache;
    if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache)
        return std::filesystem::path(cache) / "lanepool";
    const char* home = std::getenv("HOME");
    return std::filesystem::path(home ? home : "/root") / ".cache/lanepool";
}

Result<std::filesystem::path> cache_with(const std::vector<std::string>& parts, const std::string& remedy) {
    const auto cache = cache_folder();
    for (const auto& part : parts)
        if (!std::filesystem::exists(cache / part))
            return fail(Errc::not_found, "{} is missing; run {}", (cache / part).string(), remedy);
    return cache;
}

} // namespace lanepool::dev
