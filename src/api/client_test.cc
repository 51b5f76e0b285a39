// SPDX-License-Identifier: Apache-2.0
#include "api/client.h"

#include "api/test_controllers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::api {
namespace {

using namespace std::chrono_literals;
using test::HangingController;
using test::TestController;
using ::testing::HasSubstr;

using Clock = std::chrono::steady_clock;

std::string list(std::initializer_list<std::string> endpoints) {
    return fmt::format("{}", fmt::join(endpoints, ","));
}

class ClientTest : public ::testing::Test {
  protected:
    TemporaryFolder folder;
    TestController a{folder / "a"}, b{folder / "b"}, c{folder / "c"};
};

TEST_F(ClientTest, FindsTheOneThatLeads) {
    a.stand_by("b", b.endpoint());
    b.lead();
    c.stand_by("b", b.endpoint());
    const auto client = Client::connect({.endpoints = list({a.endpoint(), b.endpoint(), c.endpoint()})});
    ASSERT_TRUE(client) << client.error().message();
    EXPECT_EQ((*client)->endpoint().text(), b.endpoint());
}

TEST_F(ClientTest, OfOneControllerItAsksOneQuestion) {
    a.lead();
    ASSERT_TRUE(Client::connect({.endpoints = a.endpoint()}));
    EXPECT_EQ(a.asked(), 1);
}

TEST_F(ClientTest, OneThatHangsDelaysNobody) {
    const HangingController hanging(folder / "hanging");
    a.lead();
    const auto started = Clock::now();
    const auto client =
        Client::connect({.endpoints = list({hanging.endpoint(), a.endpoint()}), .timeout = 20s});
    ASSERT_TRUE(client) << client.error().message();
    EXPECT_LT(Clock::now() - started, 2s); // milliseconds, but the machine may be busy; not 20 s
}

TEST_F(ClientTest, OneThatHangsIsAskedAnyNumberOfTimes) {
    // More often than the kernel keeps connections that nobody accepts.
    const HangingController hanging(folder / "hanging");
    a.lead();
    const auto started = Clock::now();
    for (int i = 0; i < 40; ++i)
        ASSERT_TRUE(Client::connect({.endpoints = list({hanging.endpoint(), a.endpoint()}), .timeout = 20s}));
    EXPECT_LT(Clock::now() - started, 15s);
}

TEST_F(ClientTest, GoesWhereAControllerThatStandsBySaysTheLeaderIs) {
    a.stand_by("b", b.endpoint());
    b.lead();
    const auto client = Client::connect({.endpoints = a.endpoint()});
    ASSERT_TRUE(client) << client.error().message();
    EXPECT_EQ((*client)->endpoint().text(), b.endpoint());
}

TEST_F(ClientTest, WhatItIsSentToMayBeNonsense) {
    a.stand_by("b", "no place at all");
    const auto client = Client::connect({.endpoints = a.endpoint(), .timeout = 200ms});
    ASSERT_FALSE(client);
    EXPECT_THAT(client.error().message(), HasSubstr("b leads, at no place at all"));
}

TEST_F(ClientTest, WaitsForAnElection) {
    for (auto* controller : {&a, &b, &c})
        controller->stand_by();
    std::thread election([&] {
        std::this_thread::sleep_for(300ms);
        c.lead();
    });
    const auto client =
        Client::connect({.endpoints = list({a.endpoint(), b.endpoint(), c.endpoint()}), .timeout = 10s});
    election.join();
    ASSERT_TRUE(client) << client.error().message();
    EXPECT_EQ((*client)->endpoint().text(), c.endpoint());
}

TEST_F(ClientTest, SaysThatNobodyLeads) {
    a.stand_by();
    const HangingController hanging(folder / "hanging");
    const auto client = Client::connect(
        {.endpoints = list({a.endpoint(), hanging.endpoint(), "/nowhere/c.sock"}), .timeout = 200ms});
    ASSERT_FALSE(client);
    EXPECT_EQ(client.error().code(), Errc::unavailable);
    EXPECT_THAT(client.error().message(), HasSubstr("no controller leads"));
    EXPECT_THAT(client.error().message(), HasSubstr(a.endpoint() + ": stands by; nobody leads yet"));
    EXPECT_THAT(client.error().message(), HasSubstr("no answer in 200 ms"));
    EXPECT_THAT(client.error().message(), HasSubstr("No such file"));
}

TEST_F(ClientTest, SurveysThemAll) {
    a.lead();
    b.stand_by("me", a.endpoint());
    const HangingController hanging(folder / "hanging");
    const auto all = Client::survey(
        {.endpoints = list({hanging.endpoint(), b.endpoint(), a.endpoint()}), .timeout = 300ms});
    ASSERT_TRUE(all);
    ASSERT_EQ(all->size(), 3U);
    EXPECT_FALSE((*all)[0].reply);
    EXPECT_FALSE((*all)[1].reply->here());
    EXPECT_EQ((*all)[1].reply->name(), "me");
    EXPECT_TRUE((*all)[2].reply->here());
}

TEST(Client, SaysWhoWasTriedWhenNobodyAnswers) {
    const auto client = Client::connect(
        {.endpoints = "unix:/nonexistent/lanepool.sock,/nonexistent/other.sock", .timeout = 50ms});
    ASSERT_FALSE(client);
    EXPECT_EQ(client.error().code(), Errc::unavailable);
    EXPECT_THAT(client.error().message(), HasSubstr("no controller answers"));
    EXPECT_THAT(client.error().message(), HasSubstr("/nonexistent/lanepool.sock"));
    EXPECT_THAT(client.error().message(), HasSubstr("/nonexistent/other.sock"));
}

TEST(Client, AnAddressNeedsCertificates) {
    const auto client = Client::connect({.endpoints = "/nonexistent/lanepool.sock,127.0.0.1:1"});
    ASSERT_FALSE(client);
    EXPECT_EQ(client.error().code(), Errc::invalid_argument);
    EXPECT_THAT(client.error().message(), HasSubstr("127.0.0.1:1"));
    EXPECT_THAT(client.error().message(), HasSubstr("--tls-cert"));
}

TEST(Client, AListThatIsWrongIsSaidAtOnce) {
    EXPECT_EQ(Client::connect({.endpoints = "a,b"}).error().code(), Errc::invalid_argument);
    EXPECT_EQ(Client::survey({.endpoints = ""}).error().code(), Errc::invalid_argument);
}

TEST(Status, OneThatStandsByIsKnownByWhatItSays) {
    v1::ErrorDetail detail;
    detail.set_leader("unix:/b");
    const grpc::Status status(grpc::StatusCode::UNAVAILABLE,
                              "controller a does not lead; b leads, at unix:/b", detail.SerializeAsString());
    EXPECT_TRUE(does_not_lead(status));
    EXPECT_EQ(leader_of(status), "unix:/b");
    EXPECT_FALSE(does_not_lead({grpc::StatusCode::UNAVAILABLE, "the connection was reset"}));
}

} // namespace
} // namespace lanepool::api
