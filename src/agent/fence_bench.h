// SPDX-License-Identifier: Apache-2.0
//
// For tests: a fence with a disk and a device that do as they are told, one call at a time.
#pragma once

#include "agent/fence.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>

namespace lanepool::agent::testing {

class FenceBench : public ::testing::Test, protected FencePorts, protected HostPorts {
  protected:
    struct Operation {
        std::string what;
        uint64_t number;
    };
    struct Answer {
        pool::StepId step;
        Result<> result;
    };

    FenceBench() { start(); }

    // The agent of this host has been started, anew.
    void start() {
        operations.clear();
        FencePorts& ports = *this;
        fence.emplace("nvme0", disk, ports, own_host ? static_cast<HostPorts*>(this) : nullptr);
    }
    // The device is there, and its first reset has verified.
    void reach() {
        fence->present(false);
        done("reset");
    }
    // A device that is in the pool, at epoch 4.
    void pooled() {
        reach();
        recover(4);
        did.clear();
        answers.clear();
    }
    void recover(uint64_t epoch) {
        ask(pool::StepKind::cut, epoch);
        ask(pool::StepKind::reset, epoch);
        done("reset");
        ask(pool::StepKind::sanitize, epoch);
        done("sanitize");
    }
    // Loan 7 of partition 2 has it, at epoch 5.
    void lent(int64_t lease_ms = 0) {
        pooled();
        prepare(7, 5, lease_ms);
        done("open");
        did.clear();
        answers.clear();
    }

    // A device that its own host could use, in the pool at epoch 4.
    void pooled_of_host() {
        own_host = true;
        start();
        fence->local(now_us);
        ask(pool::StepKind::take, 4);
        done("take");
        recover(4);
        did.clear();
        answers.clear();
    }

    pool::StepId ask(pool::StepKind kind, uint64_t epoch, uint64_t loan = 0, int64_t lease_ms = 0,
                     bool suffices = false, bool shared = false) {
        pool::Order order;
        if (shared) order.access_model = pool::AccessModel::smartio;
        order.shared = shared;
        order.step.id = {next_step++};
        order.step.kind = kind;
        order.step.loan = {loan};
        order.step.epoch = {epoch};
        order.step.deadline_ms = 10'000;
        order.step.lease_ms = lease_ms;
        order.step.suffices = suffices;
        order.step.functions = functions;
        order.borrower_partition = 2;
        last = order;
        fence->perform(order, now_us);
        return order.step.id;
    }
    pool::StepId prepare(uint64_t loan, uint64_t epoch, int64_t lease_ms = 0) {
        return ask(pool::StepKind::prepare, epoch, loan, lease_ms);
    }
    // Beside others, if they are shared, too.
    pool::StepId share(uint64_t loan, uint64_t epoch, int64_t lease_ms = 0) {
        return ask(pool::StepKind::prepare, epoch, loan, lease_ms, false, true);
    }
    // Loans 7, 8, ... have it, at epoch 5.
    void shared(uint64_t loans, int64_t lease_ms = 0) {
        pooled();
        for (uint64_t loan = 7; loan < 7 + loans; ++loan) {
            share(loan, 5, lease_ms);
            done("open");
        }
        did.clear();
        answers.clear();
    }
    // The same once more, as it comes over a network that repeats things.
    void repeat(const pool::Order& order) { fence->perform(order, now_us); }

    // The oldest operation of that kind has ended.
    void done(const std::string& what, Result<> result = {}) {
        for (auto operation = operations.begin(); operation != operations.end(); ++operation) {
            if (operation->what != what) continue;
            const uint64_t number = operation->number;
            operations.erase(operation);
            return fence->finished(number, std::move(result), now_us);
        }
        ADD_FAILURE() << "no " << what << " is under way";
    }
    void pass(int64_t ms) {
        now_us += ms * 1000;
        fence->tick(now_us);
    }
    // The last answer: the stable name of its code; "ok"; or "none".
    std::string answer() const {
        if (answers.empty()) return "none";
        return answers.back().result ? "ok"
                                     : std::string(lanepool::name(answers.back().result.error().code()));
    }

    bool own_host = false; // could use it, too; from the next start()
    std::optional<LenderFence> fence;
    DeviceRecord disk;
    bool disk_fails = false;
    std::vector<std::string> did; // in order: "store 5 unclean", "open 7", ...
    std::deque<Operation> operations;
    std::vector<Answer> answers;
    std::vector<Opening> losses;
    pool::Order last;
    uint64_t next_step = 1;
    int64_t now_us = 1'000'000;
    int64_t limit_ms = 0;   // that the host was given last
    uint32_t functions = 0; // that are asked for

  private:
    Result<> store(const DeviceRecord& record) override {
        if (disk_fails) return fail(Errc::no_space, "the disk is full");
        disk = record;
        did.push_back(fmt::format("store {} {}", record.epoch, record.clean ? "clean" : "unclean"));
        return {};
    }
    void begin(const std::string& what, uint64_t operation) {
        did.push_back(what);
        operations.push_back({what.substr(0, what.find(' ')), operation});
    }
    void open(uint64_t operation, const Opening& opening) override {
        begin(fmt::format("open {}", opening.loan), operation);
    }
    void expel(uint64_t operation, const Opening& opening) override {
        begin(fmt::format("expel {}", opening.loan), operation);
    }
    void close(uint64_t operation, pool::Epoch) override { begin("close", operation); }
    void reset(uint64_t operation) override { begin("reset", operation); }
    void sanitize(uint64_t operation, int64_t) override { begin("sanitize", operation); }
    void answer(const pool::Order& order, Result<> result) override {
        answers.push_back({order.step.id, std::move(result)});
    }
    void lost(const Opening& opening, const std::string&) override {
        did.push_back(fmt::format("lost {}", opening.loan));
        losses.push_back(opening);
    }
    void changed() override {}
    void take(uint64_t operation, int64_t limit_us) override {
        limit_ms = limit_us / 1000;
        begin("take", operation);
    }
    void give_back(uint64_t operation, int64_t limit_us) override {
        limit_ms = limit_us / 1000;
        begin("give-back", operation);
    }
    void set_functions(uint64_t operation, uint32_t count, int64_t limit_us) override {
        limit_ms = limit_us / 1000;
        begin(fmt::format("functions {}", count), operation);
    }
};

} // namespace lanepool::agent::testing
