// SPDX-License-Identifier: Apache-2.0
#include "session/message.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

namespace lanepool::session {
namespace {

struct Pair {
    UniqueFd ours, theirs;
    Pair() {
        int fds[2];
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        ours = UniqueFd(fds[0]);
        theirs = UniqueFd(fds[1]);
    }
    void send_raw(std::string_view text) const {
        EXPECT_EQ(::send(theirs.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    }
    Errc error() const {
        const auto message = receive(ours.get());
        EXPECT_FALSE(message);
        return message ? Errc::internal : message.error().code();
    }
};

TEST(Message, ArrivesWithItsDescriptors) {
    const Pair pair;
    const auto memory = create_memory("test", 4096);
    ASSERT_TRUE(memory);
    ASSERT_TRUE(send(pair.theirs.get(), {{"call", "hello"}, {"version", 1}}, {memory->get(), memory->get()}));
    const auto message = receive(pair.ours.get());
    ASSERT_TRUE(message);
    EXPECT_EQ(message->fds.size(), 2u);
    EXPECT_EQ(*get_text(message->body, "call"), "hello");
    EXPECT_EQ(*get_number(message->body, "version"), 1u);
}

TEST(Message, OneIsOnePacket) {
    const Pair pair;
    ASSERT_TRUE(send(pair.theirs.get(), {{"id", 1}}));
    ASSERT_TRUE(send(pair.theirs.get(), {{"id", 2}}));
    EXPECT_EQ(*get_number(receive(pair.ours.get())->body, "id"), 1u);
    EXPECT_EQ(*get_number(receive(pair.ours.get())->body, "id"), 2u);
    EXPECT_EQ(pair.error(), Errc::unavailable);
}

TEST(Message, GarbageIsAProtocolError) {
    const Pair pair;
    for (const std::string_view text : {"{", "[1]", "7", "\xff\xfe", "{\"a\":}"}) {
        pair.send_raw(text);
        EXPECT_EQ(pair.error(), Errc::protocol) << text;
    }
    pair.send_raw("{\"long\":\"" + std::string(max_message_bytes, 'x') + "\"}");
    EXPECT_EQ(pair.error(), Errc::protocol);
}

TEST(Message, TheEndIsSaid) {
    Pair pair;
    pair.theirs.reset();
    EXPECT_EQ(pair.error(), Errc::disconnected);
    EXPECT_EQ(send(pair.ours.get(), {{"id", 1}}).error().code(), Errc::disconnected);
}

TEST(Message, WhoDoesNotReadIsNoticed) {
    const Pair pair;
    Result<> sent;
    for (int i = 0; i < 100'000 && sent; ++i)
        sent = send(pair.theirs.get(), {{"event", "x"}});
    ASSERT_FALSE(sent);
    EXPECT_EQ(sent.error().code(), Errc::unavailable);
}

TEST(Message, FieldsAreChecked) {
    const Json body = {
        {"number", 7}, {"negative", -1}, {"text", "x"}, {"flag", true}, {"long", std::string(5000, 'x')}};
    EXPECT_EQ(*get_number(body, "number"), 7u);
    EXPECT_EQ(*get_number(body, "absent", 9), 9u);
    EXPECT_EQ(get_number(body, "absent").error().code(), Errc::protocol);
    EXPECT_EQ(get_number(body, "negative").error().code(), Errc::protocol);
    EXPECT_EQ(get_number(body, "text", 9).error().code(), Errc::protocol);
    EXPECT_TRUE(*get_flag(body, "flag", false));
    EXPECT_FALSE(*get_flag(body, "absent", false));
    EXPECT_EQ(get_flag(body, "number", false).error().code(), Errc::protocol);
    EXPECT_EQ(*get_text(body, "text"), "x");
    EXPECT_EQ(get_text(body, "long").error().code(), Errc::protocol);
}

} // namespace
} // namespace lanepool::session
