// SPDX-License-Identifier: Apache-2.0
#include "agent/control_stream.h"

#include "api/test_controllers.h"

#include <gtest/gtest.h>

namespace lanepool::agent {
namespace {

using namespace std::chrono_literals;
using api::test::HangingController;
using api::test::TestController;

class ControlStreamTest : public ::testing::Test {
  protected:
    std::unique_ptr<ControlStream> stream_to(const std::string& endpoints) {
        ControlEvents events;
        events.connected = [this] { ++connected; };
        events.disconnected = [this] { ++disconnected; };
        events.message = [](const v1::ControllerMessage&) {};
        return std::make_unique<ControlStream>(*loop, api::ClientOptions{.endpoints = endpoints},
                                               std::move(events));
    }
    template <class Condition>
    bool eventually(const Condition& condition, std::chrono::milliseconds within = 15s) {
        const auto end = std::chrono::steady_clock::now() + within;
        while (!condition() && std::chrono::steady_clock::now() < end)
            loop->run_once(10ms);
        return condition();
    }
    static grpc::Status does_not_lead(const std::string& leader) {
        v1::ErrorDetail detail;
        detail.set_code("unavailable");
        detail.set_leader(leader);
        return {grpc::StatusCode::UNAVAILABLE, "controller a does not lead; nobody leads yet",
                detail.SerializeAsString()};
    }

    TemporaryFolder folder;
    TestController a{folder / "a"}, b{folder / "b"};
    std::unique_ptr<io::EventLoop> loop = *io::EventLoop::create();
    int connected = 0, disconnected = 0;
};

TEST_F(ControlStreamTest, GoesToTheOneThatLeads) {
    const HangingController hanging(folder / "hanging");
    a.stand_by("b", b.endpoint());
    b.lead();
    const auto stream = stream_to(hanging.endpoint() + "," + a.endpoint() + "," + b.endpoint());
    EXPECT_TRUE(eventually([&] { return connected == 1 && b.streams() == 1; }));
    EXPECT_EQ(a.streams(), 0);
}

TEST_F(ControlStreamTest, GoesToTheNextOneWhenItsOwnLeadsNoMore) {
    a.lead();
    const auto stream = stream_to(a.endpoint() + "," + b.endpoint());
    ASSERT_TRUE(eventually([&] { return a.streams() == 1; }));
    a.stand_by();
    b.lead();
    a.end_streams(does_not_lead({}));
    EXPECT_TRUE(eventually([&] { return disconnected == 1 && connected == 2 && b.streams() == 1; }));
}

TEST_F(ControlStreamTest, GoesWhereItIsSentByTheOneThatLedItself) {
    a.lead();
    const auto stream = stream_to(a.endpoint()); // of b it does not know
    ASSERT_TRUE(eventually([&] { return a.streams() == 1; }));
    a.stand_by();
    b.lead();
    a.end_streams(does_not_lead(b.endpoint()));
    EXPECT_TRUE(eventually([&] { return b.streams() == 1; }));
}

TEST_F(ControlStreamTest, HasMorePatienceWhereAnswersTakeTheirTime) {
    a.lead();
    a.answer_after(1500ms);
    const auto stream = stream_to(a.endpoint());
    EXPECT_TRUE(eventually([&] { return a.streams() == 1; }));
}

TEST_F(ControlStreamTest, EndsInTheMiddleOfASearch) {
    const HangingController hanging(folder / "hanging");
    auto stream = stream_to(hanging.endpoint());
    EXPECT_FALSE(eventually([&] { return connected > 0; }, 4s)); // the search that is under way has 4 s
    const auto started = std::chrono::steady_clock::now();
    stream.reset();
    EXPECT_LT(std::chrono::steady_clock::now() - started, 1s);
}

TEST_F(ControlStreamTest, WhatItIsSentToMayBeNonsense) {
    a.lead();
    const auto stream = stream_to(a.endpoint());
    ASSERT_TRUE(eventually([&] { return a.streams() == 1; }));
    a.end_streams(does_not_lead("no place, at all"));
    EXPECT_TRUE(eventually([&] { return a.streams() == 2; }));
}

} // namespace
} // namespace lanepool::agent
