// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"
#include "io/clock.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace lanepool::application {

// A device of the pool, as processes see it in a list.
struct PoolDevice {
    uint64_t fdid = 0;
    std::string name;
    std::string host; // in which it sits
    uint32_t node = 0;
    std::string state;
    std::string reason;
    uint32_t vendor_id = 0;
    uint32_t device_id = 0;
    uint32_t class_code = 0;
    std::string kind;
    std::string model;
    std::string serial;
    std::string borrower;
};

// What is asked of the pool's controller for users of this host. Called on the loop's thread, and answered
// there, later, once; nothing is answered after its destruction.
class Controller {
  public:
    virtual ~Controller() = default;

    virtual void list(std::function<void(Result<std::vector<PoolDevice>>)> done) = 0;

    struct Wish {
        uint64_t fdid = 0;
        bool shared = false;
        std::string user;       // of this host
        io::TimePoint deadline; // until then it waits for a device that somebody is letting go of
    };
    struct Loan {
        uint64_t id = 0;
        uint64_t due_us = 0; // Unix time; 0: none
    };
    // BEGUN, if the loan comes into being: its number, before DONE; the steps for it may come earlier. DONE:
    // it is active, or why not.
    virtual void borrow(const Wish& wish, std::function<void(uint64_t loan)> begun,
                        std::function<void(Result<Loan>)> done) = 0;
    // When loans of this host end; those that it does not have any more are missing.
    struct Due {
        uint64_t loan = 0;
        uint64_t due_us = 0; // Unix time; 0: none
        std::string soon;    // why it has to be given back soon; empty: it has not
    };
    virtual void due(std::function<void(Result<std::vector<Due>>)> done) = 0;
    // DONE: the loan is over, or the controller is against that.
    virtual void give_back(uint64_t loan, const std::string& user, std::function<void(Result<>)> done) = 0;
};

} // namespace lanepool::application
