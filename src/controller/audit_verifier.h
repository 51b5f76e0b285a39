// SPDX-License-Identifier: Apache-2.0
//
// Verifies the audit trail in small pieces between other work: a million entries take about a second, and
// nobody else waits for that. All on the loop's thread.
#pragma once

#include "io/event_loop.h"
#include "store/store.h"

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace lanepool::controller {

class AuditVerifier {
  public:
    using Answer = std::function<void(const Result<store::AuditCheck>&)>;

    // Both must outlive it.
    AuditVerifier(io::EventLoop& loop, store::Store& store) : loop_(loop), store_(store) {}
    ~AuditVerifier() { stop(Error(Errc::cancelled, "the controller has ended; ask again")); }
    AuditVerifier(const AuditVerifier&) = delete;
    AuditVerifier& operator=(const AuditVerifier&) = delete;

    // Verifies the trail as it is at one moment after this call: however many ask, it is read once at a time.
    // io: the message names the first sequence that does not fit. busy: the store forgets entries faster than
    // they can be read.
    void ask(Answer answer);
    // Whoever waits hears WHY; nothing more is read for them.
    void stop(const Error& why);

  private:
    void begin();
    void next();
    // Nothing: there is more to do.
    std::optional<Result<store::AuditCheck>> piece();
    std::optional<Result<store::AuditCheck>> end();
    // Whether what comes next has been forgotten meanwhile: then it begins anew, with what is left.
    Result<bool> has_been_forgotten();
    void post(void (AuditVerifier::*what)());

    io::EventLoop& loop_;
    store::Store& store_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    std::vector<Answer> waiting_; // for the next run
    std::vector<Answer> asked_;   // whom the run that is under way answers
    std::optional<store::ChainCheck> check_;
    store::ChainEnds ends_; // when the run began: the state that it is about
    int beginnings_ = 0;
};

} // namespace lanepool::controller
