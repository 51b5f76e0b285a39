// SPDX-License-Identifier: Apache-2.0
#include "admin/server.h"

#include "io/unix_socket.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <thread>

namespace lanepool::admin {
namespace {

using namespace std::chrono_literals;

class AdminTest : public testing::Test {
  protected:
    void SetUp() override {
        char folder[] = "/tmp/lanepool-admin-XXXXXX";
        ASSERT_NE(::mkdtemp(folder), nullptr);
        folder_ = folder;
        loop_ = *io::EventLoop::create();
        server_ = *Server::create(*loop_, path());
        server_->add("double", [](const Json& request) -> Result<Json> {
            if (!request.contains("value")) return fail(Errc::invalid_argument, "no value");
            return Json{{"value", request["value"].get<int>() * 2}};
        });
        thread_ = std::thread([this] { loop_->run(); });
    }
    void TearDown() override {
        loop_->stop();
        thread_.join();
        server_.reset();
        EXPECT_FALSE(std::filesystem::exists(path()));
        std::filesystem::remove_all(folder_);
    }
    std::filesystem::path path() const { return folder_ / "s"; }

    std::filesystem::path folder_;
    std::unique_ptr<io::EventLoop> loop_;
    std::unique_ptr<Server> server_;
    std::thread thread_;
};

TEST_F(AdminTest, AnswersACommand) {
    EXPECT_EQ((*call(path(), {{"command", "double"}, {"value", 21}}))["value"], 42);
}

TEST_F(AdminTest, ACommandsErrorArrivesWithItsCode) {
    const auto result = call(path(), {{"command", "double"}});
    EXPECT_EQ(result.error().code(), Errc::invalid_argument);
    EXPECT_EQ(result.error().message(), "no value");
}

TEST_F(AdminTest, AnUnknownCommandNamesTheKnownOnes) {
    EXPECT_NE(call(path(), {{"command", "halve"}}).error().message().find("double"), std::string::npos);
}

TEST_F(AdminTest, GarbageIsAnsweredAndTheNextLineStillWorks) {
    auto socket = *io::connect_unix(path());
    const std::string text = "\xff{]\n{\"command\":\"ping\"}\n";
    ASSERT_TRUE(io::send(socket.get(), std::as_bytes(std::span(text))));
    std::string answers;
    std::array<std::byte, 1000> buffer;
    while (std::count(answers.begin(), answers.end(), '\n') < 2) {
        const auto received = io::receive(socket.get(), buffer);
        ASSERT_GT(received->bytes, 0u);
        answers.append(reinterpret_cast<const char*>(buffer.data()), received->bytes);
    }
    EXPECT_NE(answers.find("\"ok\":true"), std::string::npos);
}

TEST_F(AdminTest, ALineWithoutEndIsCutOff) {
    auto socket = *io::connect_unix(path());
    const std::string block(4096, 'x');
    bool closed = false;
    for (int i = 0; i < 1000 && !closed; ++i)
        closed = !io::send(socket.get(), std::as_bytes(std::span(block)));
    EXPECT_TRUE(closed);
    EXPECT_TRUE(call(path(), {{"command", "ping"}}));
}

} // namespace
} // namespace lanepool::admin
