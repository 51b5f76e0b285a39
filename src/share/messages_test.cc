// SPDX-License-Identifier: Apache-2.0
#include "share/messages.h"

#include <gtest/gtest.h>

namespace lanepool::sharing {
namespace {

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Messages, AJoinArrivesAsItWasSent) {
    const Request sent{7, Join{3, 9, 64, {0x1000}, {0xffff'ffff'f000}}};
    const auto got = decode_request(encode(sent)).value();
    EXPECT_EQ(got.token, 7u);
    ASSERT_TRUE(got.join);
    EXPECT_EQ(got.join->reply, 3u);
    EXPECT_EQ(got.join->segment, 9u);
    EXPECT_EQ(got.join->depth, 64);
    EXPECT_EQ(got.join->submission, sent.join->submission);
    EXPECT_EQ(got.join->completion, sent.join->completion);
}

TEST(Messages, ALeaveHasNoJoin) {
    EXPECT_FALSE(decode_request(encode(Request{1, std::nullopt})).value().join);
}

TEST(Messages, WhatAClientIsGivenArrives) {
    const Joined sent{5, 1, 2, 3, 4, 1000, 2000, true};
    const auto got = decode_answer(encode(Answer{9, sent})).value();
    EXPECT_EQ(got.token, 9u);
    const auto joined = got.outcome.value().value();
    EXPECT_EQ(joined.generation, 5u);
    EXPECT_EQ(joined.slot, 1u);
    EXPECT_EQ(joined.queue, 2);
    EXPECT_EQ(joined.weight, 3);
    EXPECT_EQ(joined.nsid, 4u);
    EXPECT_EQ(joined.first_block, 1000u);
    EXPECT_EQ(joined.blocks, 2000u);
    EXPECT_TRUE(joined.read_only);
}

TEST(Messages, ARefusalKeepsItsCodeAndWords) {
    const auto got = decode_answer(encode(Answer{9, fail(Errc::permission_denied, "not \"you\"")})).value();
    EXPECT_EQ(got.outcome.error().code(), Errc::permission_denied);
    EXPECT_EQ(got.outcome.error().message(), "not \"you\"");
    EXPECT_FALSE(decode_answer(encode(Answer{9, std::nullopt})).value().outcome.value());
}

TEST(Messages, NonsenseIsRefused) {
    for (const char* text :
         {"", "[]", "{", "{}", R"({"version":1})", R"({"version":1,"token":-1,"ask":"leave"})",
          R"({"version":1,"token":1,"ask":"join"})",
          R"({"version":1,"token":1,"ask":"join","reply":1,"segment":1,"depth":0,)"
          R"("submission":0,"completion":0})",
          R"({"version":1,"token":1,"ask":"join","reply":4294967296,"segment":1,"depth":1,)"
          R"("submission":0,"completion":0})"})
        EXPECT_EQ(decode_request(bytes(text)).error().code(), Errc::protocol) << text;
    EXPECT_EQ(decode_request(bytes(R"({"version":2,"token":1,"ask":"leave"})")).error().code(),
              Errc::not_supported);
    EXPECT_EQ(decode_answer(bytes(R"({"version":1,"token":1,"ok":true,"generation":0})")).error().code(),
              Errc::protocol);
}

} // namespace
} // namespace lanepool::sharing
