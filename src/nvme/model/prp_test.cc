// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/prp.h"

#include <cstring>
#include <gtest/gtest.h>
#include <map>

namespace lanepool::nvme::model {
namespace {

// Pages of list entries by address; everything else is unreachable.
class Lists final : public PrpListReader {
  public:
    Answer read(Iova address, std::span<le64> entries) override {
        ++reads;
        const auto page = pages.find(address.value & ~uint64_t{4095});
        if (page == pages.end()) return Answer::unreachable;
        const size_t first = (address.value & 4095) / 8;
        EXPECT_LE(first + entries.size(), page->second.size());
        std::copy_n(page->second.begin() + static_cast<std::ptrdiff_t>(first), entries.size(),
                    entries.begin());
        return Answer::ok;
    }
    std::map<uint64_t, std::array<le64, 512>> pages;
    unsigned reads = 0;
};

uint64_t total(const PieceList& list) {
    uint64_t sum = 0;
    for (const auto& piece : list.pieces())
        sum += piece.size_bytes;
    return sum;
}

class Prp : public ::testing::Test {
  protected:
    Status walk(uint64_t prp1, uint64_t prp2, uint32_t size) {
        return walk_prps({prp1}, {prp2}, size, lists, pieces).status;
    }
    Lists lists;
    PieceList pieces;
};

TEST_F(Prp, one_page_needs_no_second_entry) {
    ASSERT_TRUE(walk(0x1000, 0xdead'beef'dead'beef, 4096).ok());
    ASSERT_EQ(pieces.pieces().size(), 1u);
    EXPECT_EQ(pieces.pieces()[0].address.value, 0x1000u);
}

TEST_F(Prp, an_offset_may_stand_in_the_first_entry) {
    ASSERT_TRUE(walk(0x1ffc, 0x5000, 512).ok());
    ASSERT_EQ(pieces.pieces().size(), 2u);
    EXPECT_EQ(pieces.pieces()[0].size_bytes, 4u);
    EXPECT_EQ(pieces.pieces()[1].address.value, 0x5000u);
    EXPECT_EQ(pieces.pieces()[1].size_bytes, 508u);
}

TEST_F(Prp, neighbours_are_joined) {
    ASSERT_TRUE(walk(0x1000, 0x2000, 8192).ok());
    ASSERT_EQ(pieces.pieces().size(), 1u);
    EXPECT_EQ(pieces.pieces()[0].size_bytes, 8192u);
}

TEST_F(Prp, the_first_entry_is_aligned_to_a_dword) {
    EXPECT_EQ(walk(0x1002, 0, 512).code(), StatusCode::prp_offset_invalid);
}

TEST_F(Prp, the_second_entry_has_no_offset) {
    EXPECT_EQ(walk(0x1000, 0x2004, 8192).code(), StatusCode::prp_offset_invalid);
}

TEST_F(Prp, a_list_serves_more_than_two_pages) {
    for (uint64_t i = 0; i < 512; ++i)
        lists.pages[0x8000][i] = 0x100000 + i * 0x2000;
    ASSERT_TRUE(walk(0x1000, 0x8000, max_transfer_bytes).ok());
    EXPECT_EQ(total(pieces), max_transfer_bytes);
    EXPECT_EQ(pieces.pieces().size(), 128u);
}

TEST_F(Prp, the_longest_transfer_may_start_inside_a_page) {
    for (uint64_t i = 0; i < 512; ++i)
        lists.pages[0x8000][i] = 0x100000 + i * 0x2000;
    ASSERT_TRUE(walk(0x1004, 0x8000, max_transfer_bytes).ok());
    EXPECT_EQ(total(pieces), max_transfer_bytes);
    EXPECT_EQ(pieces.pieces().size(), max_pieces);
}

TEST_F(Prp, a_list_goes_on_in_the_next_page) {
    lists.pages[0x8000][510] = 0x100000;
    lists.pages[0x8000][511] = 0x9000;
    lists.pages[0x9000][0] = 0x200000;
    lists.pages[0x9000][1] = 0x300000;
    ASSERT_TRUE(walk(0x1000, 0x8ff0, 4 * 4096).ok());
    ASSERT_EQ(pieces.pieces().size(), 4u);
    EXPECT_EQ(pieces.pieces()[1].address.value, 0x100000u);
    EXPECT_EQ(pieces.pieces()[3].address.value, 0x300000u);
}

TEST_F(Prp, the_last_place_of_a_page_holds_the_last_entry) {
    lists.pages[0x8000][510] = 0x100000;
    lists.pages[0x8000][511] = 0x200000;
    ASSERT_TRUE(walk(0x1000, 0x8ff0, 3 * 4096).ok());
    EXPECT_EQ(pieces.pieces()[2].address.value, 0x200000u);
}

TEST_F(Prp, entries_in_a_list_have_no_offset) {
    lists.pages[0x8000][0] = 0x100000;
    lists.pages[0x8000][1] = 0x200008;
    EXPECT_EQ(walk(0x1000, 0x8000, 3 * 4096).code(), StatusCode::prp_offset_invalid);
}

TEST_F(Prp, a_list_is_aligned_to_a_quadword) {
    EXPECT_EQ(walk(0x1000, 0x8004, 3 * 4096).code(), StatusCode::prp_offset_invalid);
}

TEST_F(Prp, a_chain_pointer_has_no_offset) {
    lists.pages[0x8000][511] = 0x9008;
    EXPECT_EQ(walk(0x1000, 0x8ff8, 4 * 4096).code(), StatusCode::prp_offset_invalid);
}

TEST_F(Prp, a_list_that_leads_to_its_own_last_place_ends) {
    // Refused for the offset; with one page less per round it would turn for ever.
    lists.pages[0x8000][511] = 0x8ff8;
    EXPECT_EQ(walk(0x1000, 0x8ff8, max_transfer_bytes).code(), StatusCode::prp_offset_invalid);
}

TEST_F(Prp, a_list_that_leads_to_itself_ends_with_the_data) {
    for (uint64_t i = 0; i < 512; ++i)
        lists.pages[0x8000][i] = 0x8000;
    EXPECT_TRUE(walk(0x1000, 0x8ff8, max_transfer_bytes).ok());
    EXPECT_LE(lists.reads, 3u);
}

TEST_F(Prp, a_list_nowhere_is_a_transfer_error) {
    EXPECT_EQ(walk(0x1000, 0x8000, 3 * 4096).code(), StatusCode::data_transfer_error);
}

} // namespace
} // namespace lanepool::nvme::model
