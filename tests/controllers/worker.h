// SPDX-License-Identifier: Apache-2.0
//
// Somebody who borrows and returns, or renews, all the time, whatever becomes of the controllers.
#pragma once

#include "api/client.h"
#include "controllers/journal.h"

#include <atomic>
#include <thread>

namespace lanepool::controllers_test {

struct Job {
    std::string endpoints;
    bool direct = false; // nothing lies between this client and the controllers
    std::string device;  // for example "store/nvme0"
    std::string host{};  // the borrower; nobody else borrows for it
    bool renews = false; // keeps one loan and renews it
    std::chrono::milliseconds pause{100};
};

class Worker {
  public:
    Worker(Job job, Journal& journal) : job_(std::move(job)), journal_(journal), thread_([this] { run(); }) {}
    ~Worker() {
        stopping_ = true;
        thread_.join();
    }

  private:
    using Reader = std::unique_ptr<grpc::ClientReader<v1::Progress>>;

    void run();
    Result<> round();
    Result<uint64_t> borrow();
    Result<> give_back(uint64_t loan);
    Result<> renew(uint64_t loan);
    // The loan that this one's host has of the device; 0: none.
    Result<uint64_t> held();
    // Follows a request; says so when it is accepted, and when it is done.
    Result<uint64_t> follow(const std::function<Reader(grpc::ClientContext&)>& start, Ack accepted, Ack done);
    void note(Ack what, uint64_t loan, double asked_s) {
        journal_.acknowledged({what, loan, asked_s, now_s(), job_.direct});
    }

    const Job job_;
    Journal& journal_;
    std::unique_ptr<api::Client> client_;
    uint64_t loan_ = 0; // that is renewed
    std::atomic<bool> stopping_{false};
    std::thread thread_;
};

} // namespace lanepool::controllers_test
