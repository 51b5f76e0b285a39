// SPDX-License-Identifier: Apache-2.0
//
// The agent of one host: carries out the controller's steps for the devices that it lends and those that it
// borrows, says what it observes, and is the fence for its own devices. Everything on the loop's thread.
#pragma once

#include "admin/server.h"
#include "agent/background.h"
#include "agent/borrowed_device.h"
#include "agent/borrowed_loans.h"
#include "agent/control_stream.h"
#include "agent/controller_calls.h"
#include "agent/fabric_port.h"
#include "agent/fault_reports.h"
#include "agent/function_source.h"
#include "agent/guest.h"
#include "agent/iommu_faults.h"
#include "agent/lent_device.h"
#include "agent/options.h"
#include "agent/own_kernel.h"
#include "agent/qualification.h"
#include "agent/step_ledger.h"
#include "application/server.h"

#include <deque>
#include <map>
#include <memory>

namespace lanepool::agent {

class Agent {
  public:
    // SOURCES: where the functions come from that the options name. It must outlive the agent.
    static Result<std::unique_ptr<Agent>> create(io::EventLoop& loop, const AgentOptions& options,
                                                 FunctionSources& sources);
    ~Agent();

  private:
    Agent(io::EventLoop& loop, const AgentOptions& options, FunctionSources& sources, DeviceRecords records);

    Result<> start();
    void add_device(const std::string& name, const std::string& parent,
                    std::shared_ptr<FunctionSource> source);
    // SR-IOV functions come and go.
    void functions_are(const std::string& parent, const std::vector<pci::Address>& functions);
    void remove_device(const std::string& name);
    void set_functions(LentDevice& device, const pool::Order& order, std::function<void(Result<>)> done);
    void let_go(std::vector<std::string> names, std::function<void(Result<>)> done);
    // To the controller.
    void say_hello();
    bool is_complete() const; // what a Hello would say of this host's devices
    void hello_soon();        // one Hello for the several changes of one moment
    void report_lost(uint64_t loan_id, uint64_t epoch, bool as_lender, const std::string& reason);
    // From the controller.
    void handle(const v1::ControllerMessage& message);
    void welcome(const v1::Welcome& message);
    void perform(const pool::Order& order);
    // From the fabric.
    void fabric_up();
    void fabric_down();
    void peer_changed(ntb::Partition peer, bool alive);
    void serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply);

    // ---- agent_borrowing.cc: loans of this host as their borrower
    void attach(const pool::Order& order, std::function<void(Result<>)> done);
    void attach_to_application(const pool::Order& order, std::function<void(Result<>)> done);
    Result<std::unique_ptr<BorrowedDevice>> make_borrowed(const pool::Order& order);
    std::unique_ptr<BorrowedDevice> guest_loan(const pool::Order& order, Guest& to);
    Result<std::unique_ptr<BorrowedDevice>> kernel_loan(const pool::Order& order, bridge::DmaMode mode);
    BorrowedDeviceEvents events_of(const pool::Step& step);
    void detach(const pool::Order& order, std::function<void(Result<>)> done);
    void forget_borrowed(pool::LoanId loan);
    void keep_while_it_lingers(std::unique_ptr<BorrowedDevice> device);
    void give_up_borrowed(); // the adapter is about to go
    void add_attached(uint64_t loan, v1::StepDone& answer) const;
    admin::Json borrowed_status() const;
    admin::Json leftovers_status() const;
    void look_for_bridge();

    // ---- agent_faults.cc: what the IOMMU of this host has stopped
    void watch_iommu();
    void iommu_stopped(const IommuFault& fault, uint64_t left_out);
    bool report(const FaultReport& fault);

    LentDevice* lent_device(const pool::Order& order); // null: there is none
    Result<Guest*> guest(const std::string& name);
    Result<> serve_applications();
    Result<std::unique_ptr<admin::Server>> serve_admin();
    admin::Json status() const;
    admin::Json stats() const;

    io::EventLoop& loop_;
    const AgentOptions options_;
    const std::string instance_;
    FunctionSources& sources_;
    DeviceRecords records_;
    const Qualifications qualifications_;
    const std::shared_ptr<Background> background_;
    std::map<std::string, std::unique_ptr<Guest>> guests_;
    std::map<std::string, std::unique_ptr<LentDevice>> devices_; // SR-IOV functions, too
    // Of the devices in each Hello that has not been answered: Welcomes come in the same order.
    std::deque<std::vector<std::string>> hellos_;
    std::unique_ptr<FabricPort> fabric_;
    std::unique_ptr<ControllerCalls> calls_;            // of applications
    std::unique_ptr<application::Server> applications_; // null: none are served
    BorrowedLoans loans_;
    std::map<uint64_t, std::unique_ptr<BorrowedDevice>> borrowed_; // by loan
    // Of loans that have ended, of which somebody here holds something still.
    std::vector<std::unique_ptr<BorrowedDevice>> leftovers_;
    OwnKernel own_kernel_;
    std::vector<std::string> dma_modes_; // in which it can borrow now
    std::string bridge_problem_;         // why it cannot; logged once
    unsigned beats_ = 0;
    StepLedger ledger_;
    std::unique_ptr<ControlStream> control_;
    bool welcomed_ = false;
    FaultReports fault_reports_{loop_, [this](const FaultReport& fault) { return report(fault); }};
    std::unique_ptr<IommuFaultWatch> iommu_faults_; // null: none of its devices is behind one
    io::TimePoint complete_until_;                  // how long a Hello waits for what is not known yet
    size_t functions_to_add_ = 0;                   // changes of SR-IOV functions that have been seen
    io::EventLoop::Registration heartbeat_;
    io::EventLoop::Registration pending_hello_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    std::unique_ptr<admin::Server> admin_;
};

} // namespace lanepool::agent
