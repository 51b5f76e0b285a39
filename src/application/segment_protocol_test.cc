// SPDX-License-Identifier: Apache-2.0
#include "application/segment_protocol.h"

#include <gtest/gtest.h>
#include <limits>

namespace lanepool::application {
namespace {

Errc refusal(const auto& result) { return result ? Errc::internal : result.error().code(); }

TEST(SegmentProtocol, ConnectComesBack) {
    const Connect connect{7, 0xffffffff, true, "ana@a"};
    EXPECT_EQ(decode_connect(encode(connect)).value(), connect);
    const Connect plain{std::numeric_limits<uint64_t>::max(), 0, false, ""};
    EXPECT_EQ(decode_connect(encode(plain)).value(), plain);
}

TEST(SegmentProtocol, ConnectIsChecked) {
    auto body = encode(Connect{1, 2, false, "ana"});
    auto shorter = body;
    shorter.pop_back();
    EXPECT_EQ(refusal(decode_connect(shorter)), Errc::protocol);
    auto longer = body;
    longer.push_back(std::byte{'x'});
    EXPECT_EQ(refusal(decode_connect(longer)), Errc::protocol);
    body[12] = std::byte{2};
    EXPECT_EQ(refusal(decode_connect(body)), Errc::protocol);
    EXPECT_EQ(refusal(decode_connect(encode(Connect{1, 2, false, "a\nb"}))), Errc::protocol);
    EXPECT_EQ(refusal(decode_connect({})), Errc::protocol);
    EXPECT_EQ(decode_connect(encode(Connect{1, 2, false, std::string(1000, 'a')}))->user.size(),
              max_user_bytes);
}

TEST(SegmentProtocol, WhatIsShownMustBeThere) {
    const Shown shown{{0x1'0000'0000}, 4096};
    EXPECT_EQ(decode_shown(encode(shown)).value(), shown);
    EXPECT_FALSE(decode_shown(encode(Shown{{0x1000}, 0})));
    EXPECT_FALSE(decode_shown(encode(Shown{{0x1000}, max_shown_bytes + 1})));
    EXPECT_FALSE(decode_shown(encode(Shown{{~uint64_t{0} - 10}, 4096})));
    const ShownInterrupt interrupt{{0x2000}, {{0x4000}, 65536}};
    EXPECT_EQ(decode_shown_interrupt(encode(interrupt)).value(), interrupt);
    EXPECT_EQ(decode_shown_interrupt(encode(ShownInterrupt{{0x2000}, {}})).value(),
              (ShownInterrupt{{0x2000}, {}}));
    EXPECT_FALSE(decode_shown_interrupt(encode(ShownInterrupt{{0x2000}, {{1}, 0}})));
    EXPECT_FALSE(decode_shown_interrupt(encode(ShownInterrupt{{~uint64_t{0}}, {}})));
}

TEST(SegmentProtocol, ListsHaveALimit) {
    std::vector<uint64_t> ids(max_ids);
    for (size_t i = 0; i < ids.size(); ++i)
        ids[i] = i + 5;
    auto body = encode_ids(ids);
    EXPECT_EQ(decode_ids(body).value(), ids);
    body.resize(body.size() - 1);
    EXPECT_EQ(refusal(decode_ids(body)), Errc::protocol);
    EXPECT_EQ(decode_ids(encode_ids({})).value().size(), 0u);
    ids.push_back(1);
    EXPECT_EQ(decode_ids(encode_ids(ids))->size(), max_ids);
}

TEST(SegmentProtocol, KindsAreKnown) {
    EXPECT_EQ(segment_request(0x200).value(), SegmentRequest::connect_segment);
    EXPECT_EQ(segment_request(0x203).value(), SegmentRequest::gone);
    EXPECT_EQ(refusal(segment_request(0x204)), Errc::not_supported);
    EXPECT_EQ(refusal(segment_request(0x1ff)), Errc::not_supported);
}

} // namespace
} // namespace lanepool::application
