// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "share/fabric.h"
#include "share/layout.h"
#include "share/messages.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace lanepool::sharing {

// A client's side of its manager: finds it, asks it, watches whether it lives, and finds its successor. It
// knows nothing of commands. One thread but for what the fabric calls.
class Membership {
  public:
    struct Place {
        uint32_t node = 0; // of the manager
        uint64_t fdid = 0;
    };
    // What it has come to.
    enum class Standing {
        apart,   // there is no manager, or none that answers: look() goes on
        asking,  // a join is under way
        member,  // the queue pair that joined() names is ours
        refused, // refusal() says why
    };

    static Result<std::unique_ptr<Membership>> create(Fabric& fabric, const io::Clock& clock, Place place);

    ClientPage& page() { return *reinterpret_cast<ClientPage*>(page_->bytes().data()); }
    Standing standing() const { return standing_; }
    const Joined& joined() const { return *joined_; }
    const DriveFacts& facts() const { return facts_; } // of the manager that was joined or asked last
    const Error& refusal() const { return *refusal_; }

    // To be called often. As a member: Standing::apart comes when the queue pair is gone, because another
    // manager has reset the drive.
    void look(io::TimePoint now);
    // The queue pair does not work any more: look for who makes a new one.
    void part(io::TimePoint now);
    // Asks the manager that was found for a queue pair over this memory, when there is one; while apart.
    void ask(Join join, io::TimePoint now);
    bool found() const { return control_ != nullptr; }

    // Whether doorbells may be rung: that no other manager had the drive was seen a short while ago.
    bool fresh(io::TimePoint now) const { return now - seen_ <= client_look_limit; }
    // The heartbeat: changes whenever allowances were computed. Stale ones count for nothing.
    uint64_t heartbeat() const { return heartbeat_; }
    bool paced(io::TimePoint now) const {
        return control_ && !*control_lost_ && now - beat_ <= stale_heartbeat;
    }
    uint64_t allowance() const;

    // Tells the manager, and waits for it at most TIMEOUT. Errors: timeout, and those of sending.
    Result<> leave(io::Duration timeout);

  private:
    Membership(Fabric& fabric, const io::Clock& clock, Place place)
        : fabric_(fabric), clock_(clock), place_(place) {}
    void received(std::span<const std::byte> message);
    void take_answers();
    void search(io::TimePoint now);
    void forget();
    const ControlPage& control() const {
        return *reinterpret_cast<const ControlPage*>(control_->bytes().data());
    }

    Fabric& fabric_;
    const io::Clock& clock_;
    Place place_;
    std::unique_ptr<SharedMemory> page_;
    std::unique_ptr<SharedMemory> control_; // of the manager that we are with, or that we have found
    std::unique_ptr<Outbox> outbox_;
    Standing standing_ = Standing::apart;
    std::optional<Joined> joined_;
    std::optional<Error> refusal_;
    DriveFacts facts_{};
    uint64_t generation_ = 0;      // of the manager of control_
    uint64_t past_generation_ = 0; // of the one that we were with: its queue pairs are gone
    uint64_t token_ = 0;
    bool left_ = false;
    io::TimePoint asked_;
    io::TimePoint next_search_;
    uint64_t heartbeat_ = 0;
    io::TimePoint beat_;
    io::TimePoint seen_;

    std::mutex mutex_;
    std::vector<Answer> answers_;
    std::atomic<bool> has_answers_{false};
    std::shared_ptr<std::atomic<bool>> control_lost_;
    std::unique_ptr<Inbox> inbox_; // last
};

} // namespace lanepool::sharing
