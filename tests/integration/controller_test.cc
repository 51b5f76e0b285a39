// SPDX-License-Identifier: Apache-2.0
//
// The real controller with its database, as a process of its own, and agents that are not real.
#include "admin/server.h"
#include "integration/controller_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <sys/resource.h>

namespace lanepool::integration {
namespace {

using ::testing::HasSubstr;
TEST_F(ControllerTest, LendsAndTakesBack) {
    EXPECT_EQ(std::filesystem::status(process.socket()).permissions(),
              std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    const auto borrowed = borrow("a");
    ASSERT_TRUE(borrowed.status.ok()) << borrowed.status.error_message();
    ASSERT_FALSE(borrowed.progress.empty());
    EXPECT_TRUE(borrowed.progress.back().done());
    EXPECT_EQ(borrowed.progress.back().loans(0).state(), "active");
    EXPECT_EQ(borrowed.progress.back().loans(0).steps_size(), 2);
    EXPECT_EQ(device().state(), "lent");
    EXPECT_EQ(device("store/nvme0").borrower(), "a");
    EXPECT_EQ(store.device("nvme0").loan, borrowed.progress.back().loans(0).id());

    const auto second = borrow("b");
    EXPECT_EQ(api::from_status(second.status).error().code(), Errc::busy);
    EXPECT_EQ(api::holder_of(second.status), "a");
    EXPECT_THAT(second.status.error_message(), HasSubstr("is lent to host a"));

    const auto returned = give_back();
    ASSERT_TRUE(returned.status.ok()) << returned.status.error_message();
    EXPECT_EQ(returned.progress.back().loans(0).state(), "returned");
    EXPECT_EQ(returned.progress.back().loans(0).steps_size(), 6);
    expect_settled();

    std::vector<std::string> states;
    for (const auto& entry : audit("loan:1"))
        if (entry.subject() == "loan:1" && entry.action() == "transition") states.push_back(entry.to());
    EXPECT_THAT(states, ::testing::ElementsAre("reserved", "preparing", "attaching", "active", "quiescing",
                                               "detaching", "resetting", "returned"));
    EXPECT_EQ(audit("80000", 2).size(), 2u);
    const auto of_a = audit("a");
    EXPECT_EQ(of_a.front().subject(), "host:a");
    for (const auto& entry : of_a)
        EXPECT_EQ(entry.actor(), "agent:a");
}

TEST_F(ControllerTest, LendsToAnApplicationInItsUsersName) {
    v1::BorrowRequest request;
    request.add_devices()->set_device("80000");
    request.set_host("store"); // where the device sits
    request.set_access_model("smartio");
    request.set_on_behalf_of("eve");
    const auto borrowed = follow([&](auto& pool, auto* context) { return pool.Borrow(context, request); });
    ASSERT_TRUE(borrowed.status.ok()) << borrowed.status.error_message();
    EXPECT_EQ(borrowed.progress.back().loans(0).requested_by(), "eve@store");
    EXPECT_EQ(borrowed.progress.back().loans(0).access_model(), "smartio");
    EXPECT_EQ(store.attached(), 1u);

    v1::ReturnRequest back;
    back.set_loan_or_device("loan:1");
    back.set_on_behalf_of("eve");
    const auto returned = follow([&](auto& pool, auto* context) { return pool.Return(context, back); });
    ASSERT_TRUE(returned.status.ok()) << returned.status.error_message();
    EXPECT_THAT(returned.progress.back().loans(0).reason(), HasSubstr("returned by eve@store"));
    expect_settled();
    EXPECT_EQ(store.attached(), 0u);

    request.set_access_model("borrowed");
    const auto refused = follow([&](auto& pool, auto* context) { return pool.Borrow(context, request); });
    EXPECT_EQ(refused.status.error_code(), grpc::UNIMPLEMENTED);
}

TEST_F(ControllerTest, LetsApplicationsOfSeveralHostsShareADevice) {
    const auto share = [&](const std::string& host) {
        v1::BorrowRequest request;
        request.add_devices()->set_device("80000");
        request.set_host(host);
        request.set_access_model("smartio");
        request.set_shared(true);
        return follow([&](auto& pool, auto* context) { return pool.Borrow(context, request); });
    };
    for (const char* host : {"a", "b", "store"}) {
        const auto borrowed = share(host);
        ASSERT_TRUE(borrowed.status.ok()) << borrowed.status.error_message();
        EXPECT_TRUE(borrowed.progress.back().loans(0).shared());
    }
    EXPECT_THAT(device().sharing_loan_ids(), ::testing::ElementsAre(1, 2, 3));
    EXPECT_EQ(store.device("nvme0").joined.size(), 2u);
    EXPECT_EQ(api::from_status(borrow("c").status).error().code(), Errc::busy);

    const auto first = give_back("loan:1");
    ASSERT_TRUE(first.status.ok()) << first.status.error_message();
    EXPECT_EQ(first.progress.back().loans(0).state(), "returned");
    EXPECT_EQ(device().loan_id(), 2u);
    b.die(); // it alone loses what it had
    EXPECT_TRUE(eventually([&] { return device().sharing_loan_ids_size() == 0; }));
    EXPECT_EQ(device().loan_id(), 3u);
    EXPECT_EQ(device().state(), "lent");
    ASSERT_TRUE(give_back("loan:3").status.ok());
    expect_settled();
}

TEST_F(ControllerTest, ReclaimsAndReassigns) {
    ASSERT_TRUE(borrow("a").status.ok());
    const auto reassigned = reassign("b");
    ASSERT_TRUE(reassigned.status.ok()) << reassigned.status.error_message();
    EXPECT_EQ(reassigned.progress.back().loans(0).borrower(), "b");
    EXPECT_EQ(a.attached(), 0u);
    b.hold(v1::STEP_DETACH); // a borrower that does nothing
    const auto reclaimed = reclaim();
    ASSERT_TRUE(reclaimed.status.ok()) << reclaimed.status.error_message();
    expect_settled();
    EXPECT_EQ(b.attached(), 1u); // it keeps what leads nowhere
    ASSERT_TRUE(borrow("c").status.ok());
}

TEST_F(ControllerTest, GuestThatDiesFreesTheDevice) {
    ASSERT_TRUE(borrow("a").status.ok());
    const auto began = std::chrono::steady_clock::now();
    a.lose(1, "the guest was killed");
    expect_settled();
    EXPECT_LT(std::chrono::steady_clock::now() - began, 2s);
    EXPECT_THAT(loans(true).back().reason(), HasSubstr("the guest was killed"));
}

TEST_F(ControllerTest, AnswersThatAreStaleOrTwiceChangeNothing) {
    store.hold(v1::STEP_PREPARE);
    auto borrowing = std::async(std::launch::async, [&] { return borrow("a"); });
    ASSERT_TRUE(store.kept_back(v1::STEP_PREPARE));
    const v1::Step step = store.held(v1::STEP_PREPARE);
    v1::AgentMessage message;
    auto& done = *message.mutable_step_done();
    done.set_step_id(step.step_id());
    done.set_loan_id(step.loan_id());
    done.set_epoch(step.epoch() - 1);
    done.set_kind(step.kind());
    done.set_ok(true);
    store.say(message);
    done.set_epoch(step.epoch());
    a.say(message); // not its step
    std::this_thread::sleep_for(200ms);
    EXPECT_EQ(loans().at(0).state(), "preparing");
    store.say(message);
    store.say(message);
    EXPECT_TRUE(borrowing.get().status.ok());
    done.set_ok(false);
    store.say(message);
    std::this_thread::sleep_for(200ms);
    EXPECT_EQ(loans().at(0).state(), "active");
}

TEST_F(ControllerTest, RefusesAgentsThatBreakTheRules) {
    const auto connected = client();
    const auto refusal = [&](const v1::AgentMessage& first) {
        grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() + 5s);
        connected->prepare(context);
        const auto stream = connected->agents().Connect(&context);
        stream->Write(first);
        v1::ControllerMessage reply;
        while (stream->Read(&reply))
            ;
        return api::from_status(stream->Finish()).error().code();
    };
    v1::AgentMessage message;
    message.mutable_loan_lost()->set_loan_id(1);
    EXPECT_EQ(refusal(message), Errc::protocol);
    message.mutable_hello()->set_host("not a name");
    EXPECT_EQ(refusal(message), Errc::invalid_argument);
    message.mutable_hello()->set_host("x");
    message.mutable_hello()->set_instance("1");
    message.mutable_hello()->set_partition(0); // store's
    EXPECT_EQ(refusal(message), Errc::already_exists);
    EXPECT_EQ(up(), 4);
}

TEST_F(ControllerTest, AConnectionThatSaysNothingIsClosed) {
    const auto connected = client();
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + 10s);
    connected->prepare(context);
    const auto stream = connected->agents().Connect(&context);
    v1::ControllerMessage reply;
    EXPECT_FALSE(stream->Read(&reply));
    EXPECT_THAT(stream->Finish().error_message(), HasSubstr("nothing was heard"));
}

TEST_F(ControllerTest, AnAgentThatFallsSilentIsDown) {
    ASSERT_TRUE(borrow("a").status.ok());
    a.fall_silent(true);
    EXPECT_TRUE(eventually([&] { return device().state() == "available"; }));
    EXPECT_THAT(loans(true).back().reason(), HasSubstr("host a does not answer"));
    a.fall_silent(false);
    EXPECT_TRUE(eventually([&] { return up() == 4; }));
    expect_settled();
}

TEST_F(ControllerTest, AClientThatDoesNotReadHoldsUpNobody) {
    const auto connected = client();
    std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
    std::vector<std::unique_ptr<grpc::ClientReader<v1::AuditEntry>>> readers;
    v1::EventsRequest request;
    request.set_follow(true);
    for (int i = 0; i < 20; ++i) {
        contexts.push_back(std::make_unique<grpc::ClientContext>());
        connected->prepare(*contexts.back());
        readers.push_back(connected->pool().Events(contexts.back().get(), request));
    }
    for (int i = 0; i < 10; ++i) {
        ASSERT_TRUE(borrow("a").status.ok());
        ASSERT_TRUE(give_back().status.ok());
    }
    for (auto& context : contexts)
        context->TryCancel();
    for (auto& reader : readers)
        static_cast<void>(reader->Finish());
    EXPECT_TRUE(eventually([&] {
        const auto stats = admin::call(process.admin_socket(), {{"command", "stats"}});
        return stats && stats->at("streams") == 4;
    }));
}

TEST_F(ControllerTest, EventsAreFollowedLive) {
    const auto connected = client();
    v1::EventsRequest request;
    request.set_follow(true);
    request.set_last(1);
    grpc::ClientContext context;
    connected->prepare(context);
    const auto reader = connected->pool().Events(&context, request);
    v1::AuditEntry entry;
    ASSERT_TRUE(reader->Read(&entry)); // the last one that was there
    auto borrowing = std::async(std::launch::async, [&] { return borrow("a"); });
    uint64_t sequence = entry.sequence();
    while (entry.to() != "active" && reader->Read(&entry))
        EXPECT_EQ(entry.sequence(), ++sequence);
    EXPECT_EQ(entry.subject(), "loan:1");
    context.TryCancel();
    static_cast<void>(reader->Finish());
    EXPECT_TRUE(borrowing.get().status.ok());
}

TEST_F(ControllerTest, ADiskThatCannotBeWrittenChangesNothing) {
    ASSERT_TRUE(borrow("b", "80001").status.ok());
    const rlimit nothing{1, RLIM_INFINITY};
    ASSERT_EQ(::prlimit(process.pid(), RLIMIT_FSIZE, &nothing, nullptr), 0);
    const auto refused = borrow("a");
    EXPECT_EQ(api::from_status(refused.status).error().code(), Errc::io) << refused.status.error_message();
    EXPECT_EQ(device().state(), "available");
    EXPECT_EQ(device().epoch(), 0u);
    EXPECT_EQ(loans().size(), 1u);
    // An agent that goes while nothing can be written is not forgotten.
    b.stay_away(true);
    std::this_thread::sleep_for(700ms);
    const rlimit all{RLIM_INFINITY, RLIM_INFINITY};
    ASSERT_EQ(::prlimit(process.pid(), RLIMIT_FSIZE, &all, nullptr), 0);
    EXPECT_TRUE(eventually([&] { return up() == 3; }));
    EXPECT_TRUE(eventually([&] { return device("80001").state() == "available"; }));
    const auto borrowed = borrow("a");
    EXPECT_TRUE(borrowed.status.ok()) << borrowed.status.error_message();
}

TEST_F(ControllerTest, StopsCleanlyAndRefusesASecond) {
    const pid_t second = process.spawn();
    const int refused = ControllerProcess::wait(second);
    EXPECT_EQ(WEXITSTATUS(refused), 1);
    EXPECT_EQ(up(), 4);
    store.hold(v1::STEP_PREPARE);
    auto borrowing = std::async(std::launch::async, [&] { return borrow("a"); });
    ASSERT_TRUE(store.kept_back(v1::STEP_PREPARE));
    const auto began = std::chrono::steady_clock::now();
    const int status = process.stop();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_LT(std::chrono::steady_clock::now() - began, 3s);
    EXPECT_EQ(api::from_status(borrowing.get().status).error().code(), Errc::unavailable);
    process.start();
}

TEST_F(ControllerTest, AdminTellsWhatIsThere) {
    const auto status = admin::call(process.admin_socket(), {{"command", "status"}});
    ASSERT_TRUE(status) << status.error().message();
    EXPECT_EQ(status->at("hosts").at("store"), "up");
    EXPECT_EQ(status->at("devices").at("available"), 2);
}

// ---- who dies at which step

enum class Who { lender, borrower, controller };
struct Death {
    Who who;
    v1::StepKind at;
};
std::string describe(const ::testing::TestParamInfo<Death>& death) {
    const char* who = death.param.who == Who::lender     ? "Lender"
                      : death.param.who == Who::borrower ? "Borrower"
                                                         : "Controller";
    return std::string(who) + "At" + v1::StepKind_Name(death.param.at).substr(5);
}

class DeathTest : public ControllerTest, public ::testing::WithParamInterface<Death> {};

TEST_P(DeathTest, LeavesNothingBehind) {
    const auto [who, at] = GetParam();
    FakeAgent& taker = at == v1::STEP_ATTACH || at == v1::STEP_DETACH ? a : store;
    const bool while_borrowing = at == v1::STEP_PREPARE || at == v1::STEP_ATTACH;
    if (!while_borrowing) {
        ASSERT_TRUE(borrow("a").status.ok());
    }
    taker.hold(at);
    auto request =
        std::async(std::launch::async, [&] { return while_borrowing ? borrow("a") : give_back(); });
    ASSERT_TRUE(taker.kept_back(at));
    taker.hold_nothing();
    if (who == Who::lender) store.die();
    if (who == Who::borrower) a.die();
    if (who == Who::controller) process.restart();
    // The answer of an agent that lives comes late: after the loan is known to be lost.
    if (who == Who::lender && &taker == &a) {
        EXPECT_TRUE(eventually([&] { return device().state() == "available"; }));
    }
    taker.release();
    const auto ended = request.get();

    // Only a lender that forgets what it has prepared cannot go on.
    const bool goes_on = who != Who::lender || at != v1::STEP_ATTACH;
    if (while_borrowing && goes_on) {
        EXPECT_TRUE(eventually([&] { return device().state() == "lent"; })) << device().DebugString();
        EXPECT_EQ(loans().at(0).state(), "active");
        EXPECT_EQ(store.device("nvme0").loan, 1u);
        if (who != Who::controller) {
            EXPECT_TRUE(ended.status.ok()) << ended.status.error_message();
        }
        ASSERT_TRUE(give_back().status.ok());
    } else if (while_borrowing) {
        EXPECT_FALSE(ended.status.ok());
    } else if (who != Who::controller) {
        EXPECT_TRUE(ended.status.ok()) << ended.status.error_message();
    }
    expect_settled();
    ASSERT_TRUE(eventually([&] { return up() == 4; }));
    ASSERT_TRUE(borrow("b").status.ok());
    EXPECT_EQ(store.device("nvme0").loan, loans().at(0).id());
}

INSTANTIATE_TEST_SUITE_P(
    EachStep, DeathTest,
    ::testing::Values(Death{Who::lender, v1::STEP_PREPARE}, Death{Who::lender, v1::STEP_ATTACH},
                      Death{Who::lender, v1::STEP_DETACH}, Death{Who::lender, v1::STEP_CUT},
                      Death{Who::lender, v1::STEP_RESET}, Death{Who::lender, v1::STEP_SANITIZE},
                      Death{Who::borrower, v1::STEP_PREPARE}, Death{Who::borrower, v1::STEP_ATTACH},
                      Death{Who::borrower, v1::STEP_DETACH}, Death{Who::borrower, v1::STEP_CUT},
                      Death{Who::borrower, v1::STEP_RESET}, Death{Who::borrower, v1::STEP_SANITIZE},
                      Death{Who::controller, v1::STEP_PREPARE}, Death{Who::controller, v1::STEP_ATTACH},
                      Death{Who::controller, v1::STEP_DETACH}, Death{Who::controller, v1::STEP_CUT},
                      Death{Who::controller, v1::STEP_RESET}, Death{Who::controller, v1::STEP_SANITIZE}),
    describe);

TEST_F(ControllerTest, AHeldLoanOutlivesTheController) {
    ASSERT_TRUE(borrow("a").status.ok());
    process.restart();
    EXPECT_TRUE(eventually([&] { return up() == 4; }));
    EXPECT_EQ(device().state(), "lent");
    EXPECT_EQ(device().borrower(), "a");
    EXPECT_EQ(loans().at(0).state(), "active");
    EXPECT_EQ(api::holder_of(borrow("b").status), "a");
}

TEST_F(ControllerTest, AgentsThatDieWhileLent) {
    ASSERT_TRUE(borrow("a").status.ok());
    a.die();
    expect_settled();
    ASSERT_TRUE(borrow("a").status.ok());
    store.die();
    expect_settled();
    ASSERT_TRUE(borrow("b").status.ok());
}

} // namespace
} // namespace lanepool::integration
