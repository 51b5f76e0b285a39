// SPDX-License-Identifier: Apache-2.0
//
// For tests: a pool with a disk of maps, a clock that is moved by hand, and words for what agents say.
#pragma once

#include "pool/pool.h"
#include "pool/test_disk.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace lanepool::pool::testing {

// One lender "store" (partition 0) with nvme0 and nvme1, borrowers "a", "b", "c" (1, 2, 3) with guest "g".
class Bench : public ::testing::Test {
  protected:
    Bench() { restart(); }

    void restart() {
        auto made = Pool::create(disk.snapshot(), site, options, now);
        ASSERT_TRUE(made) << made.error().message();
        pool = std::move(*made);
        keep();
    }

    // Stores what has changed and collects what is to be sent.
    void keep() {
        const auto outcome = pool->outcome();
        ASSERT_TRUE(outcome) << outcome.error().message();
        disk.apply(*outcome);
        sent.insert(sent.end(), outcome->orders.begin(), outcome->orders.end());
        pool->commit();
    }

    static Hello lender() {
        Hello hello;
        hello.host = "store";
        hello.instance = "1";
        for (const char* device : {"nvme0", "nvme1"}) {
            ObservedDevice observed;
            observed.name = device;
            observed.identity.serial = std::string("serial-") + device;
            observed.identity.kind = "nvme";
            observed.answering = true;
            observed.clean = true;
            hello.devices.push_back(observed);
        }
        return hello;
    }

    static Hello borrower(const std::string& host, uint32_t partition) {
        Hello hello;
        hello.host = host;
        hello.partition = partition;
        hello.instance = "1";
        hello.guests = {"g"};
        return hello;
    }

    Result<std::vector<Fdid>> say(const Hello& hello, bool connected = true) {
        auto fdids = pool->hello(hello, connected, now);
        keep();
        return fdids;
    }

    void connect_all() {
        ASSERT_TRUE(say(lender()));
        ASSERT_TRUE(say(borrower("a", 1)));
        ASSERT_TRUE(say(borrower("b", 2)));
        ASSERT_TRUE(say(borrower("c", 3)));
        sent.clear();
    }

    static Caller owner(const std::string& user = "user") { return {user, true}; }

    static BorrowRequest request(const std::string& host, const std::string& device = "80000",
                                 int64_t duration_s = 0, const std::string& guest = "") {
        BorrowRequest request;
        request.devices.resize(1);
        request.devices[0].device = device;
        request.host = host;
        request.guest = guest;
        request.duration_s = duration_s;
        request.caller = owner();
        return request;
    }

    Result<LoanId> borrow(const std::string& host, const std::string& device = "80000",
                          int64_t duration_s = 0) {
        auto loans = pool->borrow(request(host, device, duration_s), now);
        keep();
        if (!loans) return tl::unexpected<Error>(loans.error());
        return loans->front();
    }

    // The one step that has been sent and not been taken yet.
    Order take(StepKind kind) {
        for (size_t i = 0; i < sent.size(); ++i) {
            if (sent[i].step.kind != kind) continue;
            Order order = sent[i];
            sent.erase(sent.begin() + static_cast<std::ptrdiff_t>(i));
            return order;
        }
        ADD_FAILURE() << "no " << name(kind) << " was sent";
        return {};
    }

    void answer(const Order& order, bool ok = true, const std::string& message = "") {
        const Step& step = order.step;
        pool->answered(step.host, {step.id, step.loan, step.epoch, step.kind, ok, ok ? "" : "io", message},
                       now);
        keep();
    }
    void done(StepKind kind) { answer(take(kind)); }
    void failed(StepKind kind, const std::string& message) { answer(take(kind), false, message); }

    LoanId lend_to(const std::string& host, const std::string& device = "80000", int64_t duration_s = 0) {
        const auto loan = borrow(host, device, duration_s);
        EXPECT_TRUE(loan) << loan.error().message();
        done(StepKind::prepare);
        done(StepKind::attach);
        return loan ? *loan : LoanId{};
    }
    void recover() {
        done(StepKind::cut);
        done(StepKind::reset);
        done(StepKind::sanitize);
    }

    void pass(int64_t ms) {
        now.steady_us += ms * 1000;
        now.unix_us += ms * 1000;
        pool->tick(now);
        keep();
    }

    void lost(const std::string& host, LoanId id, bool as_lender = false, const std::string& reason = "") {
        pool->lost(host, {id, loan(id).epoch, as_lender, reason}, now);
        keep();
    }
    void disconnect(const std::string& host) {
        pool->disconnected(host, "connection closed", now);
        keep();
    }

    const Loan& loan(LoanId id) { return *pool->ledger().loans.find(id); }
    const Device& device(uint64_t fdid = 0x80000) { return *pool->ledger().devices.find({fdid}); }

    // A lender's Hello in which a device is as the records have it.
    Hello lender_now(LoanId prepared, Epoch epoch) {
        Hello hello = lender();
        hello.devices[0].loan = prepared;
        hello.devices[0].epoch = epoch;
        hello.devices[0].clean = false;
        return hello;
    }
    Hello borrower_now(const std::string& host, uint32_t partition, const Loan& held) {
        Hello hello = borrower(host, partition);
        hello.loans.push_back({held.id, held.fdid, held.epoch, true});
        return hello;
    }

    Options options;
    Site site;
    Now now{1'000'000, 1'700'000'000'000'000};
    Disk disk;
    std::unique_ptr<Pool> pool;
    std::vector<Order> sent;
};

} // namespace lanepool::pool::testing
