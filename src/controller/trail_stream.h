// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/lanepool.grpc.pb.h"
#include "controller/server_stream.h"

namespace lanepool::controller {

// A part of the audit trail, and, where it is followed, what is added to it. Read from the store as fast as
// the client takes it: a slow one makes nobody keep anything.
class TrailStream final : public ServerStream<v1::AuditEntry> {
  public:
    struct Wish {
        std::string subject;       // fdid, device name, host, "loan:N"; empty: everything
        pool::Caller caller;       // sees what is his tenant's
        store::AuditFilter filter; // and what it lets through
        uint64_t after_sequence = 0;
        uint32_t last = 0; // 0: all
        bool follow = false;
    };
    TrailStream(Seat& seat, Wish wish) : ServerStream(seat), wish_(std::move(wish)) {}

    // There is more in the trail.
    void more() { pump(); }

  private:
    void begin() override;
    void pump() override;
    void forget() override;
    Result<> find_start();
    bool may_see(const pool::AuditEntry& entry) const;

    const Wish wish_;
    // On the loop's thread:
    store::AuditFilter filter_;
    uint64_t after_ = 0;
    // What was there when it was asked for: without following, whoever reads more slowly than others write
    // comes to an end.
    uint64_t until_ = 0;
};

} // namespace lanepool::controller
