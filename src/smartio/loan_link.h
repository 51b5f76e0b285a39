// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/clock.h"
#include "ntb/channel.h"
#include "smartio/loan_protocol.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace lanepool::smartio {

// One loan's requests to its lender. On the channel's loop thread. Requests arrive in the order in which they
// are sent. After an answer that means that the loan is over, every further one fails at once with it.
class LoanLink {
  public:
    using Answer = std::function<void(Result<std::vector<std::byte>>)>;

    // BROKEN is called once, when the loan turns out to be over.
    LoanLink(ntb::Channel& channel, ntb::Partition lender, const LoanKey& key, io::Duration timeout,
             std::function<void(const Error&)> broken);

    const LoanKey& key() const { return key_; }
    // ANSWER may come before this returns; it does not come after the link is destroyed. It may take MORE
    // than the usual time.
    void send(LoanRequest request, std::span<const std::byte> body, Answer answer, io::Duration more = {});
    void send_bare(LoanRequest request, Answer answer) { send(request, encode_key(key_), std::move(answer)); }

    void break_with(const Error& why);
    const std::optional<Error>& broken() const { return why_; }
    uint64_t sent() const { return sent_; }

  private:
    ntb::Channel& channel_;
    const ntb::Partition lender_;
    const LoanKey key_;
    const io::Duration timeout_;
    std::function<void(const Error&)> on_broken_;
    std::optional<Error> why_;
    uint64_t sent_ = 0;
    std::shared_ptr<LoanLink*> self_; // how an answer finds out whether we are still there
};

} // namespace lanepool::smartio
