// SPDX-License-Identifier: Apache-2.0
//
// The manager of a shared drive. It alone owns the drive's controller and its admin queue; on request it
// creates queue pairs in clients' memory, which they then use without it. It divides the drive among them by
// the allowances that it computes (pacer.h), and deletes the queue pairs of those who leave or die.
#pragma once

#include "nvme/driver.h"
#include "share/client_rules.h"
#include "share/fabric.h"
#include "share/layout.h"
#include "share/messages.h"
#include "share/pacing_thread.h"

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

namespace lanepool::sharing {

struct ManagerOptions {
    ClientRules rules;
    // How long nobody gets a queue pair after the controller was reset. Clients of an earlier manager look
    // for a new one at least every client_look_interval; one that did not know yet that its queue is gone
    // must not ring the doorbell of somebody else's.
    io::Duration grace = std::chrono::milliseconds(400);
};

class Manager {
  public:
    // Takes the drive of FDID over. FABRIC, DRIVE and CLOCK must outlive this. WAKE is called on any thread
    // when there is something for poll(). Errors: busy (this host has a manager for the drive already),
    // invalid_argument (rules that the drive cannot keep), and those of nvme::Driver::create().
    static Result<std::unique_ptr<Manager>> create(Fabric& fabric, BorrowedDrive& drive, uint64_t fdid,
                                                   const io::Clock& clock, ManagerOptions options,
                                                   std::function<void()> wake);
    // Tells the clients why, and stops the controller.
    ~Manager();
    Manager(const Manager&) = delete;
    Manager& operator=(const Manager&) = delete;

    // Does what has been asked since. Errors: the drive is of no use any more, or another manager has taken
    // it over.
    Result<> poll();
    // Whether the controller is still this manager's. Errors as of poll().
    Result<> check();
    // What clients are told at the end instead of "the manager has ended".
    void end(Error reason) { reason_ = std::move(reason); }

    struct ClientStatus {
        uint32_t slot = 0;
        std::string host;
        uint32_t node = 0;
        std::string user;
        Part part;
        uint16_t weight = 1;
        bool read_only = false;
        uint16_t queue = 0;
        uint16_t depth = 0;
        double bytes_per_second = 0;
    };
    struct Status {
        uint64_t generation = 0;
        double bytes_per_second = 0;
        std::vector<ClientStatus> clients;
        uint64_t joined = 0; // since the start
        uint64_t refused = 0;
        uint64_t died = 0;
    };
    Status status() const;
    const nvme::Driver& driver() const { return *driver_; }

  private:
    struct Client {
        Sender sender;
        Grant grant;
        std::unique_ptr<Outbox> reply;
        uint32_t slot = 0;
        uint16_t queue = 0;
        uint16_t depth = 0;
    };
    struct Message {
        Sender sender;
        std::vector<std::byte> bytes;
    };
    struct Gone {
        Sender sender;
    };
    using Event = std::variant<Message, Gone>;

    Manager(Fabric& fabric, BorrowedDrive& drive, const io::Clock& clock, ManagerOptions options,
            std::function<void()> wake);
    Result<> start(uint64_t fdid);
    Result<> show_facts();
    void add_event(Event event);
    Result<> handle(const Message& message);
    Result<> handle(const Gone& gone);
    Result<> join(const Sender& sender, uint64_t token, const Join& join);
    Result<Joined> admit(Client& client, const Join& join);
    Result<> leave(uint64_t sender, std::string_view how);
    Result<uint32_t> free_slot() const;
    ControlPage& control() { return *reinterpret_cast<ControlPage*>(control_memory_->bytes().data()); }

    Fabric& fabric_;
    BorrowedDrive& drive_;
    const io::Clock& clock_;
    ManagerOptions options_;
    std::function<void()> wake_;
    std::unique_ptr<SharedMemory> control_memory_;
    std::unique_ptr<nvme::Driver> driver_;
    uint64_t admin_queue_ = 0; // its address, as the controller was told: ours while it is
    std::unique_ptr<PacingThread> pacing_;
    std::map<uint64_t, Client> clients_; // by their senders
    Error reason_{Errc::disconnected, "the shared drive's manager has ended"};
    Status totals_;

    mutable std::mutex mutex_;
    std::vector<Event> events_;
    size_t most_events_ = 4096;
    std::unique_ptr<Inbox> inbox_; // last: no message comes once it is gone
};

} // namespace lanepool::sharing
