// SPDX-License-Identifier: Apache-2.0
//
// One device of this host as the agent keeps it: found, identified, reset, lent and fenced, also when its
// process, the adapter or the controller go away and come back. What may be done with it is decided by the
// fence; this carries it out. Everything on the loop's thread.
#pragma once

#include "agent/background.h"
#include "agent/device_records.h"
#include "agent/fence.h"
#include "api/lanepool.pb.h"
#include "ntb/channel.h"
#include "smartio/lender.h"

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace lanepool::agent {

struct LentDeviceEvents {
    std::function<void()> changed; // what observed() says
    // The loan cannot go on: the device or the adapter went away. Every way of it is closed already.
    std::function<void(uint64_t loan_id, uint64_t epoch, const std::string& reason)> loan_lost;
};

class LentDevice final : private FencePorts {
  public:
    using Done = std::function<void(Result<>)>;

    LentDevice(io::EventLoop& loop, Background& background, DeviceRecords& records, std::string name,
               std::filesystem::path socket, LentDeviceEvents events);
    ~LentDevice() override;

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
    void perform(const pool::Order& order, Done done);
    // A borrower's request for this device.
    void serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply);

  private:
    class Epochs;
    struct Reached {
        std::unique_ptr<pci::Function> function;
        std::unique_ptr<smartio::DeviceClass> device_class;
        v1::DeviceIdentity identity;
    };

    void connect();
    static Result<Reached> reach(const std::filesystem::path& socket);
    void reached(Result<Reached> result);
    Result<> recognise(const std::string& serial);
    void function_gone(uint64_t generation);
    void create_lender_if_possible();
    void drop_lender(const std::string& reason);

    // What the fence asks for.
    Result<> store(const DeviceRecord& record) override;
    void open(uint64_t operation, const Opening& opening) override;
    void expel(uint64_t operation, const Opening& opening) override;
    void close(uint64_t operation, pool::Epoch epoch) override;
    void reset(uint64_t operation) override;
    void sanitize(uint64_t operation, int64_t limit_us) override;
    void answer(const pool::Order& order, Result<> result) override;
    void lost(const Opening& opening, const std::string& reason) override;
    void changed() override;
    // For the lender, which may answer at once: the fence hears of it later.
    Done end_of(uint64_t operation);
    int64_t now_us() const;
    void arm();

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
    LenderFence fence_;
    std::unique_ptr<smartio::Lender> lender_;   // uses all of the above
    std::string problem_ = "not reached yet";   // why there is no lender
    std::multimap<pool::StepId, Done> answers_; // that are owed
    io::EventLoop::Registration fence_timer_;
    io::EventLoop::Registration retry_;
};

} // namespace lanepool::agent
