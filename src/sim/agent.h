// SPDX-License-Identifier: Apache-2.0
//
// The agent of one host: the real fence of each of its devices, the real book of what it borrows, and around
// them what src/agent/agent.cc is around them, over a simulated disk, network and guest.
#pragma once

#include "agent/borrowed_loans.h"
#include "agent/fence.h"
#include "agent/step_ledger.h"
#include "pool/input.h"
#include "sim/checker.h"
#include "sim/device.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::sim {

class Network;
struct Connection;

class SimAgent {
  public:
    SimAgent(World& world, Checker& checker, Network& network, uint32_t partition, std::string host,
             uint32_t devices, bool has_guest, bool whole, std::vector<pool::DmaMode> dma_modes);
    ~SimAgent();

    void start();
    // It dies in the middle; WITH_POWER: the whole host does. It is started again by start().
    void crash(bool with_power);
    bool running() const { return running_; }

    // ---- From the network.
    void connected(std::shared_ptr<Connection> connection);
    void disconnected(const Connection& connection);
    void welcomed(const std::vector<pool::Fdid>& fdids);
    void perform(const pool::Order& order);

    // WORK later, unless this run of the agent has ended by then.
    template <class Work>
    void later(int64_t delay_us, Work work) {
        world_.timeline.after(delay_us, [this, run = run_, work = std::move(work)]() mutable {
            if (run == run_) work();
        });
    }

    // ---- What happens to it.
    void guest_dies();
    void device_falls_silent(size_t device, int64_t for_us);
    void break_connection();
    // The guests use what they have.
    void use_loans();

    const std::string& host() const { return host_; }
    uint32_t partition() const { return partition_; }
    bool borrows() const { return has_guest_ || !dma_modes_.empty(); }
    const std::shared_ptr<Connection>& connection() const { return connection_; }
    size_t borrowed() const { return borrowed_.size(); }
    std::vector<SimDevice*> devices();
    SimDevice* device(pool::Fdid fdid);
    void set_neighbours(const std::vector<std::unique_ptr<SimAgent>>* all) { all_ = all; }

  private:
    class Lender;
    struct Borrowed {
        pool::Order order;
        SimDevice* device = nullptr;
        bool attached = false;
        bool going = false;
        bool in_use = false; // by somebody on a host that has it with its own kernel
    };

    void add(Checker& checker, const std::string& name, const std::string& parent);
    Result<> make_functions(const std::string& parent, uint32_t count);
    uint32_t functions_of(const std::string& parent) const;
    void go_home(bool with_power);
    void say_hello();
    void hello_soon();
    void beat();
    void answer(const pool::Step& step, Result<> result, std::optional<pool::Attached> attached = {});
    void report_lost(pool::LoanId loan, pool::Epoch epoch, bool as_lender, const std::string& reason);
    void attach(const pool::Order& order);
    void detach(const pool::Order& order);
    void finish_attach(pool::LoanId loan, bool works);
    void use_for_a_while(pool::LoanId loan);
    void finish_detach(const pool::Step& step, Result<> result);
    World& world_;
    Network& network_;
    const uint32_t partition_;
    const std::string host_;
    const bool has_guest_;
    const bool whole_; // its devices are its own until they are taken
    const std::vector<pool::DmaMode> dma_modes_;
    const std::vector<std::unique_ptr<SimAgent>>* all_ = nullptr;
    std::vector<std::unique_ptr<Lender>> lenders_;
    uint64_t run_ = 0;
    bool running_ = false;
    std::shared_ptr<Connection> connection_;
    std::vector<Lender*> hello_order_;
    bool hello_pending_ = false;
    agent::StepLedger ledger_;
    agent::BorrowedLoans loans_;
    std::map<pool::LoanId, Borrowed> borrowed_;
};

} // namespace lanepool::sim
