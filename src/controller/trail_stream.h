// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "api/lanepool.grpc.pb.h"
#include "controller/core.h"

#include <deque>
#include <grpcpp/support/server_callback.h>
#include <memory>

namespace lanepool::controller {

// A part of the audit trail, and, where it is followed, what is added to it. Read from the store as fast as
// the client takes it: a slow one makes nobody keep anything.
class TrailStream final : public Stream, public grpc::ServerWriteReactor<v1::AuditEntry> {
  public:
    struct Wish {
        std::string subject; // fdid, device name, host, "loan:N"; empty: everything
        uint64_t after_sequence = 0;
        uint32_t last = 0; // 0: all
        bool follow = false;
    };
    static TrailStream* start(Core& core, Wish wish);

    void more() { pump(); }
    void close(const grpc::Status& status) override;

  private:
    TrailStream(Core& core, Wish wish) : core_(core), wish_(std::move(wish)) {}
    void OnWriteDone(bool ok) override;
    void OnCancel() override;
    void OnDone() override;
    void begin();
    Result<> find_start();
    void pump();

    Core& core_;
    const Wish wish_;
    std::shared_ptr<TrailStream> self_; // until OnDone
    // On the loop's thread:
    store::AuditFilter filter_;
    uint64_t after_ = 0;
    std::deque<pool::AuditEntry> read_;
    v1::AuditEntry out_;
    bool writing_ = false;
    bool closed_ = false;
};

} // namespace lanepool::controller
