// SPDX-License-Identifier: Apache-2.0
//
// What programs are told when an agent refuses something, or dies. What happens with agents that do as they
// should is in tests/sisci.
#include "lanepool/test_agent.h"

#include <cstdlib>
#include <future>
#include <gtest/gtest.h>
#include <sisci_api.h>
#include <sys/eventfd.h>

namespace lanepool::sisci {
namespace {

// What FUNCTION leaves in its last argument.
template <class Function, class... Arguments>
sci_error_t outcome(Function function, Arguments... arguments) {
    sci_error_t error = 0xdeadbeef;
    function(arguments..., &error);
    return error;
}

UniqueFd an_eventfd() { return UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

class Refusal : public testing::Test {
  protected:
    void SetUp() override {
        ::setenv("LANEPOOL_AGENT", agent_.path().c_str(), 1);
        agent_.on("nodes", {{"nodes", {{{"node", 1}, {"alive", true}}, {{"node", 2}, {"alive", true}}}}});
        agent_.on("segment_create", [](const session::Message&) {
            return TestAgent::Reply{{{"segment", 1}, {"segment_id", 77}}};
        });
        agent_.on("interrupt_create", {{"interrupt", 2}, {"number", 5}}, {eventfd_.get()});
    }
    void TearDown() override { SCITerminate(); }
    void open() {
        ASSERT_EQ(sci_error_t{SCI_ERR_OK}, outcome(SCIInitialize, 0));
        ASSERT_EQ(sci_error_t{SCI_ERR_OK}, outcome(SCIOpen, &sd_, 0));
    }

    UniqueFd eventfd_ = an_eventfd();
    TestAgent agent_;
    sci_desc_t sd_ = nullptr;
};

TEST_F(Refusal, of_a_user) {
    agent_.refuse("hello", Errc::permission_denied);
    EXPECT_EQ(sci_error_t{SCI_ERR_ACCESS}, outcome(SCIInitialize, 0));
}

TEST_F(Refusal, of_a_version) {
    agent_.refuse("hello", Errc::not_supported);
    EXPECT_EQ(sci_error_t{SCI_ERR_INCONSISTENT_VERSIONS}, outcome(SCIInitialize, 0));
}

TEST_F(Refusal, of_connections_says_why) {
    open();
    for (auto [refusal, expected] : {std::pair{Errc::permission_denied, SCI_ERR_CONNECTION_REFUSED},
                                     {Errc::not_found, SCI_ERR_NO_SUCH_SEGMENT},
                                     {Errc::unavailable, SCI_ERR_NODE_NOT_RESPONDING},
                                     {Errc::timeout, SCI_ERR_TIMEOUT},
                                     {Errc::no_space, SCI_ERR_NOSPC},
                                     {Errc::internal, SCI_ERR_SYSTEM}}) {
        agent_.refuse("segment_connect", refusal);
        agent_.refuse("interrupt_connect", refusal);
        sci_remote_segment_t segment = nullptr;
        sci_remote_interrupt_t interrupt = nullptr;
        sci_remote_data_interrupt_t with_data = nullptr;
        auto code = static_cast<sci_error_t>(expected);
        EXPECT_EQ(code, outcome(SCIConnectSegment, sd_, &segment, 2, 4, 0, nullptr, nullptr, 0, 0));
        EXPECT_EQ(code, outcome(SCIConnectInterrupt, sd_, &interrupt, 2, 0, 4, 0, 0));
        EXPECT_EQ(code, outcome(SCIConnectDataInterrupt, sd_, &with_data, 2, 0, 4, 0, 0));
    }
}

TEST_F(Refusal, of_loans_says_why) {
    open();
    for (auto [refusal, expected] : {std::pair{Errc::permission_denied, SCI_ERR_ACCESS},
                                     {Errc::not_found, SCI_ERR_NO_SUCH_FDID},
                                     {Errc::busy, SCI_ERR_NOT_AVAILABLE},
                                     {Errc::unavailable, SCI_ERR_NOT_AVAILABLE},
                                     {Errc::timeout, SCI_ERR_TIMEOUT}}) {
        agent_.refuse("device_borrow", refusal);
        sci_smartio_device_t device = nullptr;
        EXPECT_EQ(static_cast<sci_error_t>(expected),
                  outcome(SCIBorrowDevice, sd_, &device, 0x80000, SCI_FLAG_EXCLUSIVE));
        EXPECT_EQ(nullptr, device);
    }
}

TEST_F(Refusal, of_a_probe_says_that_the_node_does_not_answer) {
    open();
    sci_error_t error = 0;
    agent_.refuse("probe", Errc::unavailable);
    EXPECT_EQ(0, SCIProbeNode(sd_, 0, 2, 0, &error));
    EXPECT_EQ(sci_error_t{SCI_ERR_NODE_NOT_RESPONDING}, error);
    agent_.on("probe", Json::object());
    EXPECT_EQ(1, SCIProbeNode(sd_, 0, 2, 0, &error));
    EXPECT_EQ(sci_error_t{SCI_ERR_OK}, error);
}

TEST_F(Refusal, of_requesters_says_why) {
    open();
    agent_.refuse("requester_register", Errc::not_supported);
    EXPECT_EQ(sci_error_t{SCI_ERR_NOT_SUPPORTED}, outcome(SCIRegisterPCIeRequester, sd_, 0, 1, 0, 0));
    agent_.refuse("requester_register", Errc::already_exists);
    EXPECT_EQ(sci_error_t{SCI_ERR_BUSY}, outcome(SCIRegisterPCIeRequester, sd_, 0, 1, 0, 0));
    EXPECT_EQ(sci_error_t{SCI_ERR_OK}, outcome(SCIClose, sd_, 0));
}

TEST_F(Refusal, comes_of_all_when_the_agent_has_died) {
    open();
    sci_local_segment_t watched = nullptr, waited_for = nullptr;
    sci_local_interrupt_t interrupt = nullptr;
    unsigned number = 0;
    std::promise<sci_segment_cb_reason_t> told;
    auto callback = [](void* arg, sci_local_segment_t, sci_segment_cb_reason_t reason, unsigned, unsigned,
                       sci_error_t) {
        static_cast<std::promise<sci_segment_cb_reason_t>*>(arg)->set_value(reason);
        return SCI_CALLBACK_CANCEL;
    };
    ASSERT_EQ(sci_error_t{SCI_ERR_OK},
              outcome(SCICreateSegment, sd_, &watched, 77, 4096,
                      static_cast<sci_cb_local_segment_t>(callback), &told, SCI_FLAG_USE_CALLBACK));
    agent_.on("segment_create", {{"segment", 3}, {"segment_id", 78}});
    ASSERT_EQ(sci_error_t{SCI_ERR_OK},
              outcome(SCICreateSegment, sd_, &waited_for, 78, 4096, nullptr, nullptr, 0));
    ASSERT_EQ(sci_error_t{SCI_ERR_OK},
              outcome(SCICreateInterrupt, sd_, &interrupt, 0, &number, nullptr, nullptr, 0));
    EXPECT_EQ(5u, number);
    auto waiting = std::async(
        std::launch::async, [&] { return outcome(SCIWaitForInterrupt, interrupt, SCI_INFINITE_TIMEOUT, 0); });
    agent_.die();
    auto reason = told.get_future();
    ASSERT_EQ(std::future_status::ready, reason.wait_for(std::chrono::seconds(20)));
    EXPECT_EQ(SCI_CB_LOST, reason.get());
    EXPECT_EQ(sci_error_t{SCI_ERR_NOT_CONNECTED}, waiting.get());
    sci_error_t error = 0;
    EXPECT_EQ(SCI_CB_LOST, SCIWaitForLocalSegmentEvent(waited_for, nullptr, nullptr, 20000, 0, &error));

    sci_local_segment_t another = nullptr;
    sci_remote_segment_t remote = nullptr;
    EXPECT_EQ(sci_error_t{SCI_ERR_NO_LINK_ACCESS},
              outcome(SCICreateSegment, sd_, &another, 1, 4096, nullptr, nullptr, 0));
    EXPECT_EQ(sci_error_t{SCI_ERR_NO_LINK_ACCESS},
              outcome(SCIConnectSegment, sd_, &remote, 2, 1, 0, nullptr, nullptr, 0, 0));
    // Who tidies up does nothing wrong.
    EXPECT_EQ(sci_error_t{SCI_ERR_OK}, outcome(SCIRemoveSegment, watched, 0));
    EXPECT_EQ(sci_error_t{SCI_ERR_OK}, outcome(SCIRemoveSegment, waited_for, 0));
    EXPECT_EQ(sci_error_t{SCI_ERR_OK}, outcome(SCIRemoveInterrupt, interrupt, 0));
    EXPECT_EQ(sci_error_t{SCI_ERR_OK}, outcome(SCIClose, sd_, 0));
}

} // namespace
} // namespace lanepool::sisci
