// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

namespace lanepool::application {

// What this host shows by a number: that which its owner wants, or one that nobody has.
template <class T>
class Numbers {
  public:
    // Those that are chosen lie where people's own seldom do.
    static constexpr uint32_t first_chosen = 0x8000'0000;

    // Errors: already_exists.
    Result<uint32_t> add(std::optional<uint32_t> wanted, std::shared_ptr<T> thing) {
        if (wanted && things_.contains(*wanted))
            return fail(Errc::already_exists, "{:#x} is used on this host", *wanted);
        const uint32_t number = wanted ? *wanted : choose();
        things_.emplace(number, std::move(thing));
        return number;
    }
    void remove(uint32_t number) { things_.erase(number); }
    // Null: there is none.
    std::shared_ptr<T> find(uint32_t number) const {
        const auto found = things_.find(number);
        return found == things_.end() ? nullptr : found->second;
    }
    size_t size() const { return things_.size(); }
    auto begin() const { return things_.begin(); }
    auto end() const { return things_.end(); }

  private:
    // Not the one that was free last: who still looks for that would find something else.
    uint32_t choose() {
        do
            next_ = next_ == UINT32_MAX ? first_chosen : next_ + 1;
        while (things_.contains(next_)); // ends: sessions' limits are far below 2^31 together
        return next_;
    }
    uint32_t next_ = first_chosen;
    std::map<uint32_t, std::shared_ptr<T>> things_;
};

} // namespace lanepool::application
