// SPDX-License-Identifier: Apache-2.0
#include "smartio/loan_link.h"

#include <utility>

namespace lanepool::smartio {

namespace {
bool ends_the_loan(Errc code) {
    return code == Errc::stale_epoch || code == Errc::permission_denied || code == Errc::disconnected ||
           code == Errc::unavailable;
}
} // namespace

LoanLink::LoanLink(ntb::Channel& channel, ntb::Partition lender, const LoanKey& key, io::Duration timeout,
                   std::function<void(const Error&)> broken)
    : channel_(channel), lender_(lender), key_(key), timeout_(timeout), on_broken_(std::move(broken)),
      self_(std::make_shared<LoanLink*>(this)) {}

void LoanLink::send(LoanRequest request, std::span<const std::byte> body, Answer answer, io::Duration more) {
    if (why_) return answer(tl::unexpected<Error>(*why_));
    ++sent_;
    channel_.request(lender_, static_cast<uint16_t>(request), body, timeout_ + more,
                     [weak = std::weak_ptr(self_), answer = std::move(answer)](auto result) {
                         const auto alive = weak.lock();
                         if (!alive) return;
                         if (!result && ends_the_loan(result.error().code()))
                             (*alive)->break_with(result.error());
                         answer(std::move(result));
                     });
}

void LoanLink::break_with(const Error& why) {
    if (why_) return;
    why_ = why;
    if (const auto tell = std::exchange(on_broken_, nullptr)) tell(why);
}

} // namespace lanepool::smartio
