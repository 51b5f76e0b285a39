// SPDX-License-Identifier: Apache-2.0
//
// What applications want of the controller, asked in their users' names.
#pragma once

#include "agent/background.h"
#include "api/client.h"
#include "application/controller.h"

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace lanepool::agent {

class ControllerCalls final : public application::Controller {
  public:
    // HOST: this host's name.
    ControllerCalls(io::EventLoop& loop, api::ClientOptions controllers, std::string host)
        : loop_(loop), controllers_(std::move(controllers)), host_(std::move(host)), background_(loop) {}
    ~ControllerCalls() override; // cancels what is under way

    void list(std::function<void(Result<std::vector<application::PoolDevice>>)> done) override;
    void borrow(const Wish& wish, std::function<void(uint64_t loan)> begun,
                std::function<void(Result<Loan>)> done) override;
    void due(std::function<void(Result<std::vector<Due>>)> done) override;
    void give_back(uint64_t loan, const std::string& user, std::function<void(Result<>)> done) override;

  private:
    class Follower;
    using ClientPtr = std::shared_ptr<api::Client>;
    using WithClient = std::function<void(Result<ClientPtr>)>;
    using Start = std::function<void(v1::Pool::Stub::async_interface& pool, Follower& follower)>;
    // CALL gets a client of the controller that leads, which is looked for where there is none.
    void with_client(WithClient call);
    // Makes a call that takes steps: PROGRESS with each of them, DONE at its end, both on the loop's thread.
    // Where the controller does not lead any more it is made once again.
    void follow(Start start, std::function<void(const v1::Progress&)> progress,
                std::function<void(Result<>)> done, bool again = true);
    // BUSY, unless the device can be had soon.
    void try_again(const Wish& wish, std::function<void(uint64_t)> begun,
                   std::function<void(Result<Loan>)> done, const Error& busy);
    // Whether somebody is letting go of the device, or it is being made ready after that.
    void is_ending(uint64_t fdid, std::function<void(bool)> answer);
    void forget(const ClientPtr& client);  // it does not lead, or does not answer
    void post(std::function<void()> work); // dropped where this has been destroyed by then

    io::EventLoop& loop_;
    const api::ClientOptions controllers_;
    const std::string host_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true); // read and written on the loop's thread
    ClientPtr client_;
    std::vector<WithClient> waiting_; // for a client
    uint64_t next_retry_ = 1;
    std::map<uint64_t, io::EventLoop::Registration> retries_; // of wishes
    std::mutex mutex_;
    std::condition_variable changed_;
    std::set<Follower*> followers_;
    Background background_;
};

} // namespace lanepool::agent
