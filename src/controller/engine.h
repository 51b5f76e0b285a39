// SPDX-License-Identifier: Apache-2.0
//
// The controller without its connections: feeds the pool, has stored what follows, and only then lets anybody
// know. No sockets, no threads, no timers: whoever owns it hands in what arrives, calls flush() soon after,
// and tick() when next_tick() has come. The simulator owns one as the real controller does.
//
// Inputs since the last flush() share one transaction. If it cannot be stored none of them has happened:
// people get the error, agents are disconnected and say again what is there, what was due is due again.
#pragma once

#include "io/clock.h"
#include "pool/pool.h"

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::controller {

// The connection of one agent. None of these calls leads back into the engine.
class AgentLink {
  public:
    virtual ~AgentLink() = default;
    // The answer to a Hello: the fdid of each of its devices, before the steps that follow from it.
    virtual void welcome(const std::vector<pool::Fdid>& fdids) = 0;
    virtual void send(const pool::Order& order) = 0;
    // Ends it; its owner calls Engine::gone() afterwards.
    virtual void close(const Error& why) = 0;
};

class EnginePorts {
  public:
    virtual ~EnginePorts() = default;
    // All of it or nothing; on disk when it returns.
    virtual Result<> store(const pool::Outcome& outcome) = 0;
    // It is on disk; before anything is sent or answered.
    virtual void committed(const pool::Outcome& outcome) = 0;
};

struct EngineOptions {
    pool::Options pool;
    std::chrono::milliseconds heartbeat_timeout{3000};
    std::chrono::milliseconds heartbeat_check{250};
    // How soon what could not be stored is tried again: not at once, or a full disk keeps the thread busy.
    std::chrono::milliseconds retry_delay{200};
};

struct EngineStats {
    uint64_t decisions = 0; // requests of people
    uint64_t agent_messages = 0;
    uint64_t transactions = 0;
    uint64_t failed_transactions = 0;
    io::Duration store_time{0};
};

class Engine {
  public:
    // From what was stored; what follows from the restart is stored already. SITE: what STORED.site says.
    // CLOCK and PORTS must outlive it. Errors: what Pool::create() and the store say.
    static Result<std::unique_ptr<Engine>> create(const io::Clock& clock, EnginePorts& ports,
                                                  const pool::Snapshot& stored, pool::Site site,
                                                  const EngineOptions& options);

    // ---- People.
    // Hands the pool to INPUT now; ANSWER gets what it returned from inside of the flush() that has stored
    // it, or the error of that. A refusal stays one, also where it could not be written to the audit trail.
    template <class T>
    void decide(const std::function<Result<T>(pool::Pool&, pool::Now)>& input,
                std::function<void(Result<T>)> answer) {
        ++stats_.decisions;
        dirty_ = true;
        acts_.push_back([result = input(*pool_, now()), answer = std::move(answer)](const Result<>& stored) {
            if (result && !stored) return answer(tl::unexpected<Error>(stored.error()));
            answer(result);
        });
    }

    // ---- Agents. A link is known from listen() to gone(); one that says nothing is closed.
    void listen(AgentLink& link);
    void gone(AgentLink& link, const std::string& why);
    // Answered by welcome(), or by close().
    void hello(AgentLink& link, const pool::Hello& hello);
    // Of a link that has said whose it is; else it is closed.
    void answered(AgentLink& link, const pool::StepAnswer& answer);
    void lost(AgentLink& link, const pool::LoanLost& lost);
    void faulted(AgentLink& link, const pool::DeviceFault& fault);
    void heard(AgentLink& link, std::optional<uint32_t> windows_free);

    // ---- Storing and time.
    // Whether there is something to flush.
    bool dirty() const { return dirty_; }
    Result<> flush();
    // Instead of a flush, when there will be none any more: people get WHY, and nothing has happened.
    void abandon(const Error& why);
    // What is due. Call flush() afterwards.
    void tick();
    // When tick() is wanted next; ask again after each flush().
    io::TimePoint next_tick() const;

    const pool::Pool& pool() const { return *pool_; }
    const EngineStats& stats() const { return stats_; }
    size_t agents() const { return agents_.size(); }

  private:
    struct Link {
        uint64_t number = 0; // in the order of their coming: addresses have none that repeats
        io::TimePoint last_heard;
        std::string host; // after its Hello
    };
    struct Arrival { // a Hello that is not stored yet
        std::string host;
        AgentLink* link;
        AgentLink* before; // whose place it takes
        std::vector<pool::Fdid> fdids;
    };

    Engine(const io::Clock& clock, EnginePorts& ports, std::unique_ptr<pool::Pool> pool,
           const EngineOptions& options);
    pool::Now now() const;
    Link* known(AgentLink& link);
    const std::string* speaker(AgentLink& link);
    void committed(const pool::Outcome& outcome, const std::vector<Arrival>& arrivals);
    void rolled_back(const std::vector<Arrival>& arrivals, const std::vector<AgentLink*>& speakers,
                     const Error& why);
    void check_heartbeats();
    void disconnect(const std::string& host, const std::string& why);

    const io::Clock& clock_;
    EnginePorts& ports_;
    const EngineOptions options_;
    std::unique_ptr<pool::Pool> pool_;
    std::map<AgentLink*, Link> links_;
    uint64_t next_link_ = 1;
    std::map<std::string, AgentLink*> agents_; // by host, after their Hello
    io::TimePoint next_heartbeat_check_;
    io::TimePoint not_before_{}; // after a transaction that failed

    // Since the last flush:
    bool dirty_ = false;
    bool ticked_ = false; // what was due has been handed in
    std::vector<std::function<void(const Result<>&)>> acts_;
    std::vector<Arrival> arrivals_;
    std::vector<AgentLink*> speakers_; // who are disconnected if it cannot be stored
    std::vector<std::string> disconnected_;

    // Disconnections that are not stored yet: the reason, by host.
    std::map<std::string, std::string> unstored_;
    EngineStats stats_;
};

} // namespace lanepool::controller
