// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/unique_fd.h"
#include "smartio/link.h"

#include <functional>
#include <sys/types.h>

namespace lanepool::bench {

// The process at the other end of all links: it answers round trips, as many as it is asked for, and sleeps
// otherwise.
class Peer {
  public:
    enum class Way { polled, blocking };

    // Forks, before this process has any thread; the child, on CORE, makes its ends of the links by
    // MAKE_LINKS (one for each index) and serves until this object goes.
    static Result<Peer> start(int core,
                              const std::function<Result<std::vector<std::unique_ptr<Link>>>()>& make_links);
    Peer(Peer&& other) noexcept;
    ~Peer();

    // COUNT round trips over LINK, which is the peer's link of that INDEX; what each took, in nanoseconds.
    Result<double> round_trip_ns(Link& link, size_t index, Way way, uint32_t count);

  private:
    struct Request {
        uint32_t index;
        Way way;
        uint32_t count;
    };
    Peer(pid_t process, UniqueFd requests, UniqueFd answers)
        : process_(process), requests_(std::move(requests)), answers_(std::move(answers)) {}
    static Result<> answer(Link& link, const Request& request);
    static int serve(const UniqueFd& requests, const UniqueFd& answers,
                     std::vector<std::unique_ptr<Link>> links);

    pid_t process_ = -1;
    UniqueFd requests_;
    UniqueFd answers_;
};

} // namespace lanepool::bench
