// SPDX-License-Identifier: Apache-2.0
//
// Devices of whole hosts and SR-IOV functions, as those see them who ask the real controller.
#include "cli/context.h"
#include "integration/controller_bench.h"

#include <gmock/gmock.h>

#include <future>

namespace lanepool::integration {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class OwnHostTest : public ControllerTest {
  protected:
    OwnHostTest() {
        EXPECT_TRUE(eventually([&] { return up() == 5; })) << process.log();
    }

    Ended restore(const std::string& id) {
        v1::RestoreRequest request;
        request.set_device(id);
        return follow([&](auto& pool, auto* context) { return pool.Restore(context, request); });
    }
    Ended set_functions(uint32_t count, const std::string& id = "whole/nic0") {
        v1::SetFunctionsRequest request;
        request.set_device(id);
        request.set_functions(count);
        return follow([&](auto& pool, auto* context) { return pool.SetFunctions(context, request); });
    }
    grpc::Status keep_local(const std::string& id) {
        v1::KeepLocalRequest request;
        request.set_device(id);
        grpc::ClientContext context;
        v1::Done done;
        const auto connected = client();
        connected->prepare(context);
        return connected->pool().KeepLocal(&context, request, &done);
    }
    struct Said {
        int exit_code;
        std::string out;
        std::string error;
    };
    // As somebody types it.
    Said type(std::vector<std::string> words) {
        words.insert(words.begin(), {"lanepool", "--controller", process.endpoint()});
        std::vector<char*> arguments;
        for (auto& word : words)
            arguments.push_back(word.data());
        ::testing::internal::CaptureStdout();
        ::testing::internal::CaptureStderr();
        const int exit_code = cli::run(static_cast<int>(arguments.size()), arguments.data());
        return {exit_code, ::testing::internal::GetCapturedStdout(),
                ::testing::internal::GetCapturedStderr()};
    }
    bool becomes(const std::string& id, const std::string& state) {
        return eventually([&] { return device(id).state() == state; });
    }

    FakeAgent whole{process.endpoint(), "whole", 4, {"nvme0", "nic0"}, {}, [](auto& devices) {
                        for (auto& [name, device] : devices) {
                            device.local = true;
                            device.clean = false;
                        }
                        devices["nic0"].most_functions = 4;
                    }};
};

TEST_F(OwnHostTest, ADeviceGoesFromItsHostToAGuestAndBack) {
    EXPECT_EQ(device("whole/nvme0").state(), "local");
    EXPECT_THAT(borrow("a", "whole/nvme0").status.error_message(), HasSubstr("lanepool restore"));
    const auto restored = restore("whole/nvme0");
    ASSERT_TRUE(restored.status.ok()) << restored.status.error_message();
    EXPECT_TRUE(restored.progress.back().done());
    EXPECT_EQ(restored.progress.back().device().state(), "available");
    ASSERT_TRUE(borrow("a", "whole/nvme0").status.ok());
    v1::ReturnRequest request;
    request.set_loan_or_device("whole/nvme0");
    request.set_to_local(true);
    const auto returned = follow([&](auto& pool, auto* context) { return pool.Return(context, request); });
    ASSERT_TRUE(returned.status.ok()) << returned.status.error_message();
    EXPECT_EQ(device("whole/nvme0").state(), "local");
    EXPECT_TRUE(whole.device("nvme0").local);
    ASSERT_TRUE(restore("whole/nvme0").status.ok());
    ASSERT_TRUE(keep_local("whole/nvme0").ok());
    EXPECT_TRUE(becomes("whole/nvme0", "local"));
    EXPECT_TRUE(whole.device("nvme0").local);
}

TEST_F(OwnHostTest, ADeviceThatIsInUseStaysAndTheCommandSaysByWhom) {
    whole.change([](auto& devices) { devices["nvme0"].used_by = "/dev/nvme0n1 is mounted on /data"; });
    const auto refused = restore("whole/nvme0");
    const Error error = api::from_status(refused.status).error();
    EXPECT_EQ(error.code(), Errc::busy);
    EXPECT_THAT(error.message(), HasSubstr("/dev/nvme0n1 is mounted on /data"));
    EXPECT_EQ(device("whole/nvme0").state(), "local");
    EXPECT_THAT(device("whole/nvme0").reason(), HasSubstr("mounted on /data"));
    whole.change([](auto& devices) { devices["nvme0"].used_by.clear(); });
    EXPECT_TRUE(restore("whole/nvme0").status.ok());
}

TEST_F(OwnHostTest, AHostThatStartsAnewHasItsDevicesAgain) {
    ASSERT_TRUE(restore("whole/nvme0").status.ok());
    ASSERT_TRUE(borrow("a", "whole/nvme0").status.ok());
    whole.change([](auto& devices) {
        devices["nvme0"].local = true;
        devices["nvme0"].clean = false;
    });
    whole.die();
    EXPECT_TRUE(eventually([&] { return loans().empty() && device("whole/nvme0").state() == "available"; }))
        << device("whole/nvme0").DebugString();
    EXPECT_FALSE(whole.device("nvme0").local);
    EXPECT_EQ(whole.unclean_prepares(), 0);
    EXPECT_EQ(loans(true).back().state(), "failed");
    EXPECT_THAT(loans(true).back().reason(), HasSubstr("its own host has it again"));
}

TEST_F(OwnHostTest, FunctionsAreMadeLentAndRemoved) {
    const auto made = set_functions(2);
    ASSERT_TRUE(made.status.ok()) << made.status.error_message();
    EXPECT_EQ(made.progress.back().device().functions(), 2u);
    const auto function = device("whole/nic0.vf0"); // it is there when the command has ended
    EXPECT_EQ(function.parent(), "whole/nic0");
    EXPECT_EQ(api::from_status(restore("whole/nic0").status).error().code(), Errc::busy);
    ASSERT_TRUE(restore("whole/nic0.vf0").status.ok());
    ASSERT_TRUE(restore("whole/nic0.vf1").status.ok());
    ASSERT_TRUE(borrow("a", "whole/nic0.vf0").status.ok());
    ASSERT_TRUE(borrow("b", "whole/nic0.vf1").status.ok());
    EXPECT_EQ(loans().front().access_model(), "vf");
    const auto refused = set_functions(0);
    EXPECT_EQ(api::from_status(refused.status).error().code(), Errc::busy);
    EXPECT_THAT(refused.status.error_message(), HasSubstr("lent to host"));
    ASSERT_TRUE(give_back("whole/nic0.vf0").status.ok());
    ASSERT_TRUE(give_back("whole/nic0.vf1").status.ok());
    ASSERT_TRUE(set_functions(0).status.ok());
    EXPECT_EQ(device("whole/nic0.vf0").state(), "offline");
    EXPECT_TRUE(restore("whole/nic0").status.ok());
    std::vector<std::string> changes;
    for (const auto& entry : audit("whole/nic0"))
        if (entry.action() == "functions") changes.push_back(entry.from() + ">" + entry.to());
    EXPECT_THAT(changes, ElementsAre("0>2", "2>0"));
}

TEST_F(OwnHostTest, TheCommandsSayWhatComesOfThem) {
    EXPECT_EQ(type({"functions", "whole/nvme0"}).out, "whole/nvme0 has no SR-IOV\n");
    const auto made = type({"functions", "whole/nic0", "2"});
    EXPECT_EQ(made.exit_code, cli::exit_ok) << made.error;
    EXPECT_THAT(made.out, HasSubstr("whole/nic0 has 2 of at most 4 functions\n"));
    EXPECT_THAT(made.out, HasSubstr("  whole/nic0.vf1"));
    EXPECT_EQ(type({"functions", "whole/nic0"}).out, made.out);
    EXPECT_THAT(type({"-o", "json", "functions", "whole/nic0"}).out, HasSubstr("\"most_functions\": 4"));
    EXPECT_THAT(type({"show", "whole/nic0.vf1"}).out, HasSubstr("parent           whole/nic0"));
    EXPECT_EQ(type({"functions", "whole/nic0", "9"}).exit_code, cli::exit_usage);
    EXPECT_EQ(type({"restore", "whole/nic0"}).exit_code, cli::exit_busy);

    whole.change([](auto& devices) { devices["nvme0"].used_by = "/dev/nvme0n1 is mounted on /data"; });
    const auto refused = type({"restore", "whole/nvme0"});
    EXPECT_EQ(refused.exit_code, cli::exit_busy);
    EXPECT_THAT(refused.error, HasSubstr("/dev/nvme0n1 is mounted on /data"));
    whole.change([](auto& devices) { devices["nvme0"].used_by.clear(); });
    EXPECT_EQ(type({"restore", "whole/nvme0"}).out, "available\n");
    EXPECT_EQ(type({"local", "whole/nvme0"}).out, "whole/nvme0 is its own host's\n");
    EXPECT_TRUE(whole.device("nvme0").local); // when the command has ended
    EXPECT_EQ(type({"functions", "whole/nic0", "0"}).out, "whole/nic0 has 0 of at most 4 functions\n");
}

TEST_F(OwnHostTest, WhatIsUnderWayOutlivesTheController) {
    whole.hold(v1::STEP_TAKE);
    whole.hold(v1::STEP_SET_FUNCTIONS);
    auto restoring = std::async(std::launch::async, [&] { return restore("whole/nvme0"); });
    auto making = std::async(std::launch::async, [&] { return set_functions(2); });
    ASSERT_TRUE(whole.kept_back(v1::STEP_TAKE) && whole.kept_back(v1::STEP_SET_FUNCTIONS));
    whole.hold_nothing();
    process.restart();
    restoring.wait();
    making.wait();
    EXPECT_TRUE(becomes("whole/nvme0", "available")) << device("whole/nvme0").DebugString();
    EXPECT_TRUE(eventually([&] { return device("whole/nic0.vf1").state() == "local"; }));
}

} // namespace
} // namespace lanepool::integration
