// SPDX-License-Identifier: Apache-2.0
#include "nvme/spec.h"

#include <gtest/gtest.h>

namespace lanepool::nvme {
namespace {

TEST(Spec, FieldsTakeAndPutTheirBitsOnly) {
    constexpr uint64_t raw = 0x0030'0020'1400'07ff; // a controller of MQES 2047, TO 10 s
    EXPECT_EQ(cap::mqes.get(raw), 2047u);
    EXPECT_EQ(cap::to.get(raw), 20u);
    EXPECT_EQ(cap::css.get(raw), cap::css_nvm);
    EXPECT_EQ(cap::mpsmax.get(raw), 3u);
    EXPECT_EQ(cc::iosqes.set(0xffffffff, 6), 0xfff6ffffu);
    EXPECT_EQ(cc::shn(7), 3u << 14);
}

TEST(Spec, DoorbellsFollowTheStride) {
    EXPECT_EQ(submission_doorbell_offset(1), 0x1008u);
    EXPECT_EQ(completion_doorbell_offset(1), 0x100cu);
    EXPECT_EQ(completion_doorbell_offset(3, 10), 0x1000u + 7 * 4096);
}

TEST(Spec, CompletionCarriesPhaseAndStatus) {
    Completion entry;
    entry.status_phase = Completion::make_status_phase({StatusCode::lba_out_of_range, true}, true);
    EXPECT_TRUE(entry.phase());
    EXPECT_EQ(entry.status().code(), StatusCode::lba_out_of_range);
    EXPECT_TRUE(entry.status().do_not_retry());
    EXPECT_FALSE(entry.status().ok());
    EXPECT_EQ(describe(entry.status()), "block out of range (0x080)");
    EXPECT_EQ(describe(Status(uint16_t{0x7c5})), "vendor specific error (0x7c5)");
}

TEST(Spec, FormatIndexTakesTheHighBits) {
    EXPECT_EQ(lba_format_index(0x13), 3u);
    EXPECT_EQ(lba_format_index(0x65), 0x35u);
}

TEST(Spec, ShadowDoorbellNotifiesWhenPassingTheEventIndex) {
    EXPECT_TRUE(shadow_needs_notify(5, 6, 5));
    EXPECT_FALSE(shadow_needs_notify(5, 5, 4));
    EXPECT_TRUE(shadow_needs_notify(0xffff, 2, 0xfffe));
    EXPECT_FALSE(shadow_needs_notify(9, 3, 1));
}

} // namespace
} // namespace lanepool::nvme
