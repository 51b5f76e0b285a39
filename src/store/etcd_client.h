// SPDX-License-Identifier: Apache-2.0
//
// Calls to an etcd cluster (v3 API, gRPC), with a deadline each, to whichever of its members answers. Any
// thread.
#pragma once

#include "base/result.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <store/etcd_rpc.grpc.pb.h>
#include <string>
#include <vector>

namespace lanepool::store {

struct EtcdOptions {
    std::vector<std::string> endpoints; // HOST:PORT of each member
    // For one member to answer; another one is asked then.
    std::chrono::milliseconds member_timeout{1000};
    // For the whole call: without a quorum for so long it fails.
    std::chrono::milliseconds call_timeout{5000};
};

class EtcdClient {
  public:
    // Connects when it is first called. invalid_argument: no endpoints, or one that is not HOST:PORT.
    static Result<std::shared_ptr<EtcdClient>> create(const EtcdOptions& options);
    EtcdClient(const EtcdClient&) = delete;
    EtcdClient& operator=(const EtcdClient&) = delete;

    // Errors of all calls: unavailable (no member answers, or
    // there is no quorum; a call that writes may have been carried out all the same), no_space (etcd's
    // quota), invalid_argument, out_of_range (compacted), permission_denied.
    Result<etcdserverpb::RangeResponse> range(const etcdserverpb::RangeRequest& request) const;
    // May be carried out more than once, or later, where an answer is lost: its compares have to see to it
    // that only the first time counts. TIMEOUT: instead of call_timeout. REPEATED is set where it was tried
    // more than once: an earlier try may have been carried out.
    Result<etcdserverpb::TxnResponse> txn(const etcdserverpb::TxnRequest& request,
                                          std::optional<std::chrono::milliseconds> timeout = std::nullopt,
                                          bool* repeated = nullptr) const;
    // Of the member that answers.
    Result<etcdserverpb::StatusResponse> status() const;

    const EtcdOptions& options() const { return options_; }

  private:
    struct Member {
        explicit Member(std::shared_ptr<grpc::Channel> to);
        std::shared_ptr<grpc::Channel> channel;
        std::unique_ptr<etcdserverpb::KV::Stub> kv;
        std::unique_ptr<etcdserverpb::Maintenance::Stub> maintenance;
    };
    using Call = std::function<grpc::Status(Member&, grpc::ClientContext&)>;

    explicit EtcdClient(const EtcdOptions& options);
    Result<> call(std::string_view what, std::chrono::milliseconds timeout, const Call& call,
                  bool* repeated = nullptr) const;

    const EtcdOptions options_;
    std::vector<std::unique_ptr<Member>> members_;
    mutable std::atomic<size_t> first_{0}; // whom to ask first: who answered last
};

} // namespace lanepool::store
