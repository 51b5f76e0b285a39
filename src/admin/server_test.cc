// SPDX-License-Identifier: Apache-2.0
#include "admin/server.h"
#include "base/temporary_folder.h"
#include "io/unix_socket.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <thread>

namespace lanepool::admin {
namespace {

class Admin : public ::testing::Test {
  protected:
    Admin() {
        server_ = *Server::create(*loop_, path());
        server_->add("double", [](const Json& request) -> Result<Json> {
            return Json{{"value", 2 * request.at("value").get<int>()}};
        });
        server_->add("fail", [](const Json&) -> Result<Json> { return fail(Errc::busy, "held by {}", "x"); });
    }
    ~Admin() override {
        if (thread_.joinable()) {
            loop_->stop();
            thread_.join();
        }
        server_.reset();
    }
    void start() {
        thread_ = std::thread([this] { loop_->run(); });
    }
    std::filesystem::path path() const { return folder_ / "admin"; }
    // What comes back for these bytes.
    std::string raw(std::string_view bytes) {
        const auto socket = *io::connect_unix(path());
        EXPECT_TRUE(io::send(socket.get(), std::as_bytes(std::span(bytes))));
        std::vector<std::byte> buffer(4096);
        const auto received = io::receive(socket.get(), buffer);
        return {reinterpret_cast<const char*>(buffer.data()), received ? received->bytes : 0};
    }

    TemporaryFolder folder_;
    std::unique_ptr<io::EventLoop> loop_ = *io::EventLoop::create();
    std::unique_ptr<Server> server_;
    std::thread thread_;
};

TEST_F(Admin, AnswersWithWhatTheCommandReturns) {
    start();
    EXPECT_EQ(*call(path(), {{"command", "double"}, {"value", 21}}), (Json{{"value", 42}}));
    EXPECT_EQ(*call(path(), {{"command", "ping"}}), Json::object());
}

TEST_F(Admin, AnErrorKeepsItsCodeAndWords) {
    start();
    const auto answer = call(path(), {{"command", "fail"}});
    EXPECT_EQ(answer.error().code(), Errc::busy);
    EXPECT_EQ(answer.error().message(), "held by x");
}

TEST_F(Admin, AnUnknownCommandNamesTheKnownOnes) {
    start();
    const auto answer = call(path(), {{"command", "dance"}});
    EXPECT_EQ(answer.error().code(), Errc::not_found);
    EXPECT_NE(answer.error().message().find("double"), std::string::npos);
}

TEST_F(Admin, ARequestWithoutWhatIsNeededIsTheCallersFault) {
    start();
    EXPECT_EQ(call(path(), {{"command", "double"}}).error().code(), Errc::invalid_argument);
    EXPECT_EQ(call(path(), {{"command", 5}}).error().code(), Errc::invalid_argument);
    EXPECT_EQ(call(path(), Json::array()).error().code(), Errc::invalid_argument);
}

TEST_F(Admin, GarbageIsAnswered) {
    start();
    EXPECT_NE(raw("not json\n").find("invalid_argument"), std::string::npos);
    EXPECT_NE(raw("\n").find("invalid_argument"), std::string::npos);
    EXPECT_NE(raw(std::string(70000, 'x')).find("at most"), std::string::npos);
}

TEST_F(Admin, SeveralRequestsOnOneConnectionAreAnsweredInOrder) {
    start();
    const auto socket = *io::connect_unix(path());
    const std::string two = "{\"command\":\"double\",\"value\":1}\n{\"command\":\"ping\"}\n";
    ASSERT_TRUE(io::send(socket.get(), std::as_bytes(std::span(two))));
    std::string all;
    while (std::count(all.begin(), all.end(), '\n') < 2) {
        std::byte buffer[256];
        const auto received = io::receive(socket.get(), buffer);
        ASSERT_TRUE(received && received->bytes > 0);
        all.append(reinterpret_cast<const char*>(buffer), received->bytes);
    }
    EXPECT_EQ(all, "{\"ok\":true,\"value\":2}\n{\"ok\":true}\n");
}

TEST_F(Admin, TheSeventeenthClientIsToldThatItIsOneTooMany) {
    start();
    std::vector<UniqueFd> others;
    for (int i = 0; i < 16; ++i) {
        others.push_back(*io::connect_unix(path()));
        // Each has been accepted once it is answered.
        const std::string ping = "{\"command\":\"ping\"}\n";
        ASSERT_TRUE(io::send(others.back().get(), std::as_bytes(std::span(ping))));
        std::byte buffer[64];
        ASSERT_TRUE(io::receive(others.back().get(), buffer));
    }
    // The connection may be closed before there is a request, or after it.
    for (int i = 0; i < 200; ++i)
        ASSERT_EQ(call(path(), {{"command", "ping"}}).error().code(), Errc::busy);
}

TEST_F(Admin, AServerThatDoesNotAnswerIsATimeout) {
    // Nobody runs the loop.
    EXPECT_EQ(call(path(), {{"command", "ping"}}, std::chrono::milliseconds(50)).error().code(),
              Errc::timeout);
}

TEST_F(Admin, TheSocketIsForTheOwner) {
    struct stat status {};
    ASSERT_EQ(::stat(path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(Admin, ALineWithoutEndIsCutOffAndOthersGoOn) {
    start();
    const auto socket = *io::connect_unix(path());
    const std::string block(4096, 'x');
    bool closed = false;
    for (int i = 0; i < 1000 && !closed; ++i)
        closed = !io::send(socket.get(), std::as_bytes(std::span(block)));
    EXPECT_TRUE(closed);
    EXPECT_TRUE(call(path(), {{"command", "ping"}}));
}

TEST_F(Admin, TheSocketFileGoesWithTheServer) {
    server_.reset();
    EXPECT_FALSE(std::filesystem::exists(path()));
}

} // namespace
} // namespace lanepool::admin
