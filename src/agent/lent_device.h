// SPDX-License-Identifier: Apache-2.0
//
// One device of this host as the agent keeps it: found, identified, reset, lent and fenced, also when its
// process, the adapter or the controller go away and come back. Everything on the loop's thread.
#pragma once

#include "agent/background.h"
#include "agent/device_records.h"
#include "api/lanepool.pb.h"
#include "ntb/channel.h"
#include "smartio/lender.h"

#include <filesystem>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>

namespace lanepool::agent {

struct LentDeviceEvents {
    std::function<void()> changed; // what observed() says
    // The loan cannot go on: the device or the adapter went away. Every way of it is closed already.
    std::function<void(uint64_t loan_id, uint64_t epoch, const std::string& reason)> loan_lost;
};

class LentDevice {
  public:
    using Done = std::function<void(Result<>)>;

    LentDevice(io::EventLoop& loop, Background& background, DeviceRecords& records, std::string name,
               std::filesystem::path socket, LentDeviceEvents events);
    ~LentDevice();

    const std::string& name() const { return name_; }
    // Known once the function has been reached for the first time.
    bool identified() const { return identity_.has_value(); }
    v1::ObservedDevice observed() const;
    const std::optional<smartio::LenderStatus> lender_status() const;

    // The fabric device id that the controller gave it; before that it cannot be lent.
    void set_fdid(uint64_t fdid);
    uint64_t fdid() const { return fdid_; }
    // The adapter to lend through; null: it is about to go. A loan is cut then.
    void set_adapter(ntb::Adapter* adapter);

    // Carries out one step for which this host is the lender. DONE comes at the latest after the step's
    // deadline.
    void perform(const v1::Step& step, Done done);
    // A borrower's request for this device.
    void serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply);

  private:
    // A step that needs the lender while there is none: it waits for the device to come back.
    struct Waiting {
        v1::Step step;
        Done done;
        io::TimePoint deadline;
        io::EventLoop::Registration expiry;
    };
    // A step that the lender is at.
    struct Running {
        v1::Step step;
        Done done;
        io::TimePoint deadline;
    };
    class Epochs;
    struct Opened {
        std::unique_ptr<pci::Function> function;
        std::unique_ptr<smartio::DeviceClass> device_class;
        v1::DeviceIdentity identity;
    };

    void connect();
    static Result<Opened> open(const std::filesystem::path& socket);
    void opened(Result<Opened> opened);
    void function_gone(uint64_t generation);
    void create_lender_if_possible();
    void lender_ready(const Result<>& result);
    void drop_lender(const std::string& reason);
    void wait_for_lender(const v1::Step& step, io::TimePoint deadline, Done done);
    void perform_now(const v1::Step& step, io::TimePoint deadline, Done done);
    Done answer_of(uint64_t running);
    void end_running_steps(const std::string& reason);
    void retry_waiting();

    io::EventLoop& loop_;
    Background& background_;
    DeviceRecords& records_;
    const std::string name_;
    const std::filesystem::path socket_;
    const LentDeviceEvents events_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

    uint64_t fdid_ = 0;
    ntb::Adapter* adapter_ = nullptr;
    uint64_t generation_ = 0; // of function_
    std::unique_ptr<pci::Function> function_;
    std::unique_ptr<smartio::DeviceClass> device_class_;
    std::optional<v1::DeviceIdentity> identity_; // as last seen
    std::unique_ptr<Epochs> epochs_;
    std::unique_ptr<smartio::Lender> lender_; // uses all of the above
    bool first_reset_ = false;                // under way: every lender begins with one
    bool ready_ = false;                      // that, or a later one, has succeeded
    std::string problem_ = "not reached yet"; // why there is no lender, or why it is not ready
    std::list<Waiting> waiting_;
    std::map<uint64_t, Running> running_;
    uint64_t next_running_ = 1;
    io::EventLoop::Registration retry_;
};

} // namespace lanepool::agent
