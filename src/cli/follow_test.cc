// SPDX-License-Identifier: Apache-2.0
//
// What commands make of controllers that go away in the middle.
#include "cli/follow.h"

#include "api/test_controllers.h"
#include "cli/pursuit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::cli {
namespace {

using ::testing::HasSubstr;

const grpc::Status gone{grpc::StatusCode::UNAVAILABLE, "the socket was closed"};
const grpc::Status stands_by{grpc::StatusCode::UNAVAILABLE, "controller a does not lead; nobody leads yet"};

// Ends each request in the way that it is told, one after the other; then all is well.
class FleetingController final : public api::test::TestController {
  public:
    using TestController::TestController;
    ~FleetingController() override { end(); }

    std::vector<grpc::Status> ends;
    bool grants = false;                       // says, before it goes, that the loan is made
    std::vector<std::string> states{"active"}; // of the loan, one look after the other
    std::atomic<size_t> requests{0}, looks{0};

  private:
    grpc::Status Borrow(grpc::ServerContext*, const v1::BorrowRequest*,
                        grpc::ServerWriter<v1::Progress>* writer) override {
        const size_t number = requests++;
        v1::Progress progress;
        progress.set_step("preparing");
        progress.add_loans()->set_id(7);
        if (number >= ends.size()) {
            progress.set_step("active");
            progress.set_done(true);
            writer->Write(progress);
            return grpc::Status::OK;
        }
        if (grants) writer->Write(progress);
        return ends[number];
    }
    grpc::Status Drain(grpc::ServerContext*, const v1::DrainRequest*, v1::Done*) override {
        const size_t number = requests++;
        return number < ends.size() ? ends[number] : grpc::Status::OK;
    }
    grpc::Status Show(grpc::ServerContext*, const v1::ShowRequest* request, v1::ShowReply* reply) override {
        if (request->id() != "loan:7") return {grpc::StatusCode::NOT_FOUND, "there is no such thing"};
        const size_t number = looks++;
        reply->mutable_loan()->set_id(7);
        reply->mutable_loan()->set_state(states[std::min(number, states.size() - 1)]);
        return grpc::Status::OK;
    }
};

class FollowTest : public ::testing::Test {
  protected:
    FollowTest() {
        controller.lead();
        context.controllers = controller.endpoint();
    }
    Result<> borrow() {
        testing::internal::CaptureStdout();
        auto result = perform(context, Goal::loans_active,
                              [](auto& pool, auto* grpc_context) { return pool.Borrow(grpc_context, {}); });
        printed = testing::internal::GetCapturedStdout();
        return result;
    }
    Result<v1::Done> drain(Nature nature) {
        return ask<v1::Done>(context, nature, [](auto& pool, auto* grpc_context, auto* out) {
            return pool.Drain(grpc_context, {}, out);
        });
    }

    TemporaryFolder folder;
    FleetingController controller{folder / "a"};
    Context context;
    std::string printed;
};

TEST_F(FollowTest, WhatWasAcceptedIsFollowedToItsEnd) {
    controller.ends = {gone};
    controller.grants = true;
    controller.states = {"preparing", "attaching", "active"};
    const auto result = borrow();
    ASSERT_TRUE(result) << result.error().message();
    EXPECT_EQ(printed, "active\n");
    EXPECT_EQ(controller.requests, 1U); // it was not asked for again
    EXPECT_EQ(controller.looks, 3U);
}

TEST_F(FollowTest, WhatWasAcceptedAndFailedIsSaidToHaveFailed) {
    controller.ends = {gone};
    controller.grants = true;
    controller.states = {"failed"};
    const auto result = borrow();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Errc::failed_precondition);
}

TEST_F(FollowTest, WhereNobodyCanKnowItSaysSo) {
    controller.ends = {gone};
    const auto result = borrow();
    ASSERT_FALSE(result);
    EXPECT_EQ(report(context, result.error()), exit_unavailable);
    EXPECT_THAT(result.error().message(), HasSubstr("whether the request was accepted is not known"));
    EXPECT_THAT(result.error().message(), HasSubstr("lanepool loans"));
    EXPECT_EQ(controller.requests, 1U);
}

TEST_F(FollowTest, WhatWasRefusedForWantOfALeaderIsAskedAgain) {
    controller.ends = {stands_by, stands_by};
    EXPECT_TRUE(borrow());
    EXPECT_EQ(controller.requests, 3U);
}

TEST_F(FollowTest, AChangeIsNotMadeTwice) {
    controller.ends = {gone};
    const auto result = drain(Nature::changes);
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().message(), HasSubstr("is not known"));
    EXPECT_EQ(controller.requests, 1U);
}

TEST_F(FollowTest, ALookIsTakenAgain) {
    controller.ends = {gone, gone};
    EXPECT_TRUE(drain(Nature::looks));
    EXPECT_EQ(controller.requests, 3U);
}

TEST(Pursuit, KnowsWhenAGoalCannotBeReached) {
    v1::Loan loan;
    loan.set_state("attaching");
    EXPECT_FALSE(*has_reached(Goal::loans_active, loan));
    loan.set_state("quiescing");
    EXPECT_TRUE(*has_reached(Goal::loans_active, loan));
    EXPECT_FALSE(*has_reached(Goal::loan_over, loan));
    loan.set_state("returned");
    EXPECT_EQ(has_reached(Goal::loans_active, loan).error().code(), Errc::cancelled);
    EXPECT_TRUE(*has_reached(Goal::loan_over, loan));
    loan.set_state("active"); // it was on its way back
    loan.set_reason("not given back: /dev/nvme0n1 is mounted [busy]");
    EXPECT_TRUE(*has_reached(Goal::loans_active, loan));
    const auto in_use = has_reached(Goal::loan_over, loan);
    ASSERT_FALSE(in_use);
    EXPECT_EQ(in_use.error().code(), Errc::busy);
    EXPECT_THAT(in_use.error().message(), HasSubstr("goes on: not given back: /dev/nvme0n1 is mounted"));
    v1::Device device;
    device.set_state("recovering");
    EXPECT_FALSE(*has_reached(device));
    device.set_state("quarantined");
    EXPECT_FALSE(has_reached(device));
    device.set_state("local");
    EXPECT_TRUE(*has_reached(device));
    device.set_reason("take failed: /dev/sda is mounted [busy]");
    const auto refused = has_reached(device, Goal::device_available);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Errc::busy);
    device.set_state("offline");
    EXPECT_TRUE(*has_reached(device, Goal::device_local));
}

} // namespace
} // namespace lanepool::cli
