// SPDX-License-Identifier: Apache-2.0
//
// One device of this host as the agent keeps it: found, identified, taken from its own host, reset, lent and
// fenced, also when its process, the adapter or the controller go away and come back. What may be done with
// it is decided by the fence; this carries it out. Everything on the loop's thread.
#pragma once

#include "agent/background.h"
#include "agent/device_records.h"
#include "agent/fence.h"
#include "agent/function_source.h"
#include "agent/qualification.h"
#include "api/lanepool.pb.h"
#include "ntb/channel.h"
#include "smartio/lender.h"

#include <functional>
#include <map>
#include <memory>
#include <string>

namespace lanepool::agent {

struct LentDeviceEvents {
    std::function<void()> changed; // what observed() says
    // The loan cannot go on: the device or the adapter went away. Every way of it is closed already.
    std::function<void(uint64_t loan_id, uint64_t epoch, const std::string& reason)> loan_lost;
    // The SR-IOV functions that it has from now on, by number.
    std::function<void(const std::vector<pci::Address>&)> functions;
};

struct LentDeviceSetup {
    io::EventLoop* loop = nullptr;
    // For what blocks. Of its own where its host can use the device: a driver may take its time.
    std::shared_ptr<Background> background;
    DeviceRecords* records = nullptr;
    const Qualifications* qualifications = nullptr;
    std::string name;
    std::string parent; // of an SR-IOV function: the name of the device that it is a part of
    std::shared_ptr<FunctionSource> source;
    LentDeviceEvents events;
};

class LentDevice final : private FencePorts, private HostPorts {
  public:
    using Done = std::function<void(Result<>)>;

    explicit LentDevice(LentDeviceSetup setup);
    ~LentDevice() override;

    const std::string& name() const { return setup_.name; }
    const std::string& parent() const { return setup_.parent; }
    const std::string& place() const { return setup_.source->place(); }
    // Known once the function has been reached for the first time.
    bool identified() const { return identity_.has_value(); }
    // It has been looked for once, whether or not it was there.
    bool looked_for() const { return looked_for_; }
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

    // The SR-IOV functions that were seen last.
    uint32_t function_count() const { return sighting_ ? sighting_->function_count() : 0; }
    // Whether it may be removed from its bus. Errors: busy (a loan, or a step that is under way).
    Result<> may_go() const;
    // It is about to be: closes it and gives it back. Nobody is told that it is its host's then: it is not
    // there, until stay(). Errors: as may_go(), and what giving it back says.
    void let_go(Done done);
    // The removal has ended. If it is still there, or again, it is found soon.
    void stay();
    // Its thread, which may outlive it for as long as its last job takes.
    std::shared_ptr<Background> background() const { return setup_.background; }

  private:
    class Epochs;
    struct Reached {
        std::unique_ptr<pci::Function> function;
        std::unique_ptr<smartio::DeviceClass> device_class;
        v1::DeviceIdentity identity;
    };
    struct Found {
        std::optional<Sighting> seen;           // where its host can use it
        std::optional<Result<Reached>> reached; // where that is not its host's
    };

    void look();
    void look_again();
    static Result<Found> find(const std::shared_ptr<FunctionSource>& source);
    static Result<Reached> reach(const std::shared_ptr<FunctionSource>& source,
                                 const std::optional<Sighting>& seen);
    void found(Result<Found> result);
    void reached(Result<Reached> result);
    void adopt(Reached reached);
    void absent(const std::string& problem);
    Result<> recognise(const std::string& serial);
    void function_gone(uint64_t generation);
    void close_then(std::function<void()> then);
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
    void say_changed();
    void finish(uint64_t operation, const Result<>& result);
    int64_t now_us() const;
    void arm();

    // ---- lent_host.cc: a device that its own host can use, too
    HostUse& host() const { return *setup_.source->host(); }
    void take(uint64_t operation, int64_t limit_us) override;
    void give_back(uint64_t operation, int64_t limit_us) override;
    void set_functions(uint64_t operation, uint32_t functions, int64_t limit_us) override;
    // Runs WORK on the background thread, and THEN with what it returned and whether it came too late: the
    // fence's OPERATION has ended then, with WHAT.
    template <class Work, class Then>
    void ask_host(uint64_t operation, int64_t limit_us, std::string what, Work work, Then then);
    static Result<Found> take_and_reach(const std::shared_ptr<FunctionSource>& source);
    void taken(uint64_t operation, Result<Found> result, bool late);
    void undo_take(uint64_t operation, Error why, std::shared_ptr<pci::Function> function);
    void seen_local();
    void note(const Sighting& seen);
    void identify_by_host();
    std::string serial_by_host() const;

    const LentDeviceSetup setup_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

    uint64_t fdid_ = 0;
    ntb::Adapter* adapter_ = nullptr;
    uint64_t generation_ = 0; // of function_
    std::unique_ptr<pci::Function> function_;
    std::unique_ptr<smartio::DeviceClass> device_class_;
    std::optional<v1::DeviceIdentity> identity_; // as last seen
    std::optional<Sighting> sighting_;           // the last one
    std::unique_ptr<Epochs> epochs_;
    LenderFence fence_;
    std::unique_ptr<smartio::Lender> lender_;   // uses all of the above
    std::string problem_ = "not reached yet";   // why there is no lender
    std::multimap<pool::StepId, Done> answers_; // that are owed
    Done going_;                                // who waits until it is let go
    uint64_t looks_ = 0;                        // what an earlier one finds is out of date
    bool looked_for_ = false;
    bool with_host_ = false;    // its host is being asked for something
    int64_t host_until_us_ = 0; // and that is how long
    std::string said_;          // of observed()
    io::EventLoop::Registration fence_timer_;
    io::EventLoop::Registration retry_;
    io::EventLoop::Registration host_limit_;
};

} // namespace lanepool::agent
