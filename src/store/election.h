// SPDX-License-Identifier: Apache-2.0
//
// Which of several controllers leads. Each has one lease in etcd; who has made the leader's key, with his
// lease, leads until the lease has run out or he resigns. Nothing depends on clocks that agree: a leader that
// was too slow believes for a while that it still is one, but the store lets it write nothing.
#pragma once

#include "store/etcd_client.h"
#include "store/etcd_store.h"

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace lanepool::store {

struct ElectionOptions {
    std::string prefix = "/lanepool/"; // as the store's
    std::string name;                  // of this controller
    std::string endpoint;              // where it is to be reached
    std::chrono::seconds ttl{5};       // 1 to 60: how long after its death another one may lead
};

struct Leader {
    std::string name;
    std::string endpoint;
    int64_t create_revision = 0; // of his key: grows with each election

    bool operator==(const Leader&) const = default;
};

class Election {
  public:
    // Campaigns from now on, in threads of its own. CHANGED is called in one of them, without a lock, when
    // leadership() or leader() has changed; it must not wait, nor call resign(). It is called no more when
    // the destructor has returned. invalid_argument: options.
    static Result<std::unique_ptr<Election>> start(std::shared_ptr<EtcdClient> client,
                                                   const ElectionOptions& options,
                                                   std::function<void()> changed = {});
    // Resigns.
    ~Election();
    Election(const Election&) = delete;
    Election& operator=(const Election&) = delete;

    // Any thread.
    // Ours, with which a store is opened for writing. Nothing: we do not lead, or our lease may have run out.
    std::optional<Leadership> leadership() const;
    // Who leads, as far as we know; nothing: nobody.
    std::optional<Leader> leader() const;
    // Waits until we lead, or for so long.
    std::optional<Leadership> wait_until_leading(std::chrono::milliseconds timeout) const;
    // Lets another one lead, at once, and campaigns no more. Where etcd does not answer it takes as long as a
    // call does, and the lease runs out by itself.
    void resign();

  private:
    using Clock = std::chrono::steady_clock;

    Election(std::shared_ptr<EtcdClient> client, const ElectionOptions& options,
             std::function<void()> changed);
    // One thread keeps the lease and campaigns, the other one watches the leader's key.
    void keep();
    // Whether it went well.
    bool keep_once();
    Result<> keep_lease();
    Result<> campaign();
    void give_up();
    void observe();
    Result<> observe_once();
    // Of REVISION: there is this LEADER, or none.
    void learn(const mvccpb::KeyValue* leader, int64_t revision);
    void set_leading(int64_t create_revision);
    // Sleeps; false: it is over.
    bool sleep(std::chrono::milliseconds time);
    std::chrono::milliseconds renewal() const { return std::chrono::milliseconds(options_.ttl) / 3; }
    void tell() const {
        if (changed_) changed_();
    }

    const std::shared_ptr<EtcdClient> client_;
    const ElectionOptions options_;
    const std::string key_;
    const std::function<void()> changed_;

    mutable std::mutex mutex_;
    mutable std::condition_variable wake_;
    bool stopping_ = false;
    bool vacant_ = false; // the leader's key has gone: campaign at once
    std::optional<Leader> leader_;
    int64_t leading_ = 0; // the create revision of our key; 0: we do not lead
    Clock::time_point lease_end_{};
    EtcdClient::Watch* watch_ = nullptr; // to be cancelled

    // Of the keeping thread.
    int64_t lease_ = 0; // 0: none
    Clock::time_point renewed_{};

    std::thread keeper_;
    std::thread observer_;
};

} // namespace lanepool::store
