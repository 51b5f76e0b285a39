// SPDX-License-Identifier: Apache-2.0
//
// Which of several controllers leads: the one that has made the leader's key in etcd. It writes the key again
// (a beat) every fifth of the time to live. Whoever does not lead reads the key as often, and removes it when
// nobody has written it for a whole time to live; then all campaign, and one of them makes it anew. There is
// no lease of etcd's in it: etcd grants none below two seconds and expires them late.
//
// Clocks need not agree, they only have to run about equally fast: a leader believes that it leads until one
// time to live after its last acknowledged beat was begun, and everybody else waits for at least so long
// after having seen that beat. A follower counts only while etcd answers it: when etcd itself has to elect,
// nobody is deposed. And whatever anybody believes, the store lets nobody write whose key is not the one that
// is there.
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
    // How long after its last sign of life another one may lead: 100 ms to 60 s. Well above what etcd takes
    // for a write.
    std::chrono::milliseconds ttl{1000};
};

struct Leader {
    std::string name;
    std::string endpoint;
    int64_t create_revision = 0; // of his key: grows with each election

    bool operator==(const Leader&) const = default;
};

class Election {
  public:
    // Campaigns from now on, in a thread of its own, with connections of its own to the members of etcd at
    // ENDPOINTS. CHANGED is called in that thread, without a lock, when leadership() or leader() has changed,
    // also when leadership() has just run out; it must not wait, nor call resign(). It is called no more when
    // the destructor has returned. invalid_argument: endpoints or options.
    static Result<std::unique_ptr<Election>> start(const std::vector<std::string>& endpoints,
                                                   const ElectionOptions& options,
                                                   std::function<void()> changed = {});
    // Resigns.
    ~Election();
    Election(const Election&) = delete;
    Election& operator=(const Election&) = delete;

    // Any thread.
    // Ours, with which a store is opened for writing. Nothing: we do not lead, or another one may lead by
    // now. After an etcd that did not answer it may be the same one again: then nobody else has led in
    // between.
    std::optional<Leadership> leadership() const;
    // For how long we have not believed any more that we lead, because etcd does not answer, while our key
    // may still be there and nobody else lead. Nothing: we believe it, or know better.
    std::optional<std::chrono::milliseconds> doubt() const;
    // Who leads, as far as we know; nothing: nobody.
    std::optional<Leader> leader() const;
    // Waits until we lead, or for so long.
    std::optional<Leadership> wait_until_leading(std::chrono::milliseconds timeout) const;
    // Lets another one lead, within a fifth of the time to live, and campaigns no more. Where etcd does not
    // answer it takes a second, and others wait for the time to live.
    void resign();
    // The same, and campaigns again after so long.
    void stand_aside(std::chrono::milliseconds time);

  private:
    using Clock = std::chrono::steady_clock;
    // What others are to know of us: everybody's view is replaced at once.
    struct View {
        std::optional<Leader> leader;
        bool leading = false;

        bool operator==(const View&) const = default;
    };

    Election(std::shared_ptr<EtcdClient> client, const ElectionOptions& options,
             std::function<void()> changed);
    std::chrono::milliseconds interval() const { return options_.ttl / 5; }
    void run();
    // One beat, or one look at the key; where it is vacant, a campaign.
    Result<> step();
    Result<> beat();
    Result<> follow();
    Result<> depose(int64_t mod_revision);
    Result<> campaign();
    // The leader's KEY, as it is now; null: there is none.
    void learn(const mvccpb::KeyValue* key);
    // We have written our key at a time after BEGAN.
    void lead(int64_t create_revision, Clock::time_point began);
    void lose();
    Clock::time_point next_step(bool well) const;
    // Until the next step; false: it is over. Tells when what we believe runs out in between.
    bool sleep(Clock::time_point until);
    void tell();
    bool stands_aside() const;
    void give_up();

    const std::shared_ptr<EtcdClient> client_;
    const ElectionOptions options_;
    const std::string key_;
    const std::string value_; // of the key, as we write it: nobody else writes the same
    const std::function<void()> changed_;

    mutable std::mutex mutex_;
    mutable std::condition_variable wake_;
    bool stopping_ = false;
    Clock::time_point aside_until_{};
    std::optional<Leader> leader_;
    int64_t leading_ = 0; // the create revision of our key; 0: it is not there
    Clock::time_point believed_until_{};

    // Of the thread.
    View told_;
    bool complained_ = false;
    // The key of another one: since when we know that it was not written.
    int64_t seen_ = 0; // its mod revision; 0: the count begins with the next read
    Clock::time_point seen_since_{};
    Clock::time_point not_before_{}; // nobody is deposed: he may not have had a chance to write
    Clock::time_point read_{};       // the last time it was

    std::thread thread_;
};

} // namespace lanepool::store
