// SPDX-License-Identifier: Apache-2.0
#include "store/chain.h"
#include "store/test_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::store {
namespace {

using ::testing::HasSubstr;

struct Trail {
    std::vector<ChainedEntry> entries;
    ChainEnds ends;
};

Trail trail(uint64_t first, uint64_t last) {
    Trail made;
    made.ends.start = made.ends.head = {first - 1, no_hash};
    for (uint64_t i = first; i <= last; ++i) {
        made.ends.head = {i, chained(made.ends.head.hash, test::entry(i))};
        made.entries.push_back({test::entry(i), made.ends.head.hash});
    }
    made.ends.next_sequence = last + 1;
    return made;
}

Result<AuditCheck> verify(const Trail& trail) {
    ChainCheck check(trail.ends.start);
    if (auto added = check.add(trail.entries); !added) return tl::unexpected(added.error());
    return check.finish(trail.ends);
}

// Of the format, as docs/store.md gives it, by another program (Python's hashlib).
TEST(ChainTest, HashesWhatTheDocumentSays) {
    const pool::AuditEntry entry{1,          1'700'000'000'000'000, "alice",   "loan:7", "why", "queued",
                                 "reserved", "first in the queue",  {0x80000}, {7},      {3}};
    const Hash first = chained(no_hash, entry);
    EXPECT_EQ(hex(first), "cd66b8161e0d0d97cce7eb31e9984c59ddd3be5395594e243e389732618f4f2b");
    auto next = entry;
    next.sequence = 2;
    EXPECT_EQ(hex(chained(first, next)), "4cf34016256c6b1ce30b27a01b6f92ad38c48152c10d7cc8e82340b1a5aa7706");
}

TEST(ChainTest, EveryFieldIsHashed) {
    pool::AuditEntry entry;
    auto& [a, b, c, d, e, f, g, h, i, j, k] = entry;
    const Hash before = chained(no_hash, entry);
    const auto changes = [&](auto& field, auto value) {
        const auto kept = field;
        field = value;
        EXPECT_NE(chained(no_hash, entry), before);
        field = kept;
    };
    changes(a, 1u);
    changes(b, 1);
    for (auto* text : {&c, &d, &e, &f, &g, &h})
        changes(*text, "x");
    changes(i, pool::Fdid{1});
    changes(j, pool::LoanId{1});
    changes(k, pool::Epoch{1});
    EXPECT_NE(chained(Hash{1}, entry), before);
}

TEST(ChainTest, WhereOneTextEndsIsHashed) {
    pool::AuditEntry one;
    one.actor = "ab";
    pool::AuditEntry other;
    other.actor = "a";
    other.subject = "b";
    EXPECT_NE(canonical(one), canonical(other));
}

TEST(ChainTest, VerifiesWhatIsWhole) {
    const auto all = trail(1, 9);
    const auto check = verify(all);
    ASSERT_TRUE(check) << check.error().message();
    EXPECT_EQ(*check, (AuditCheck{9, 1, 9, all.entries.back().hash}));
    EXPECT_EQ(*verify(trail(4, 9)), (AuditCheck{6, 4, 9, trail(4, 9).ends.head.hash}));
    EXPECT_EQ(*verify(trail(1, 0)), AuditCheck{});
}

void refused(const Trail& trail, uint64_t sequence) {
    const auto check = verify(trail);
    ASSERT_FALSE(check);
    EXPECT_EQ(check.error().code(), Errc::io);
    EXPECT_THAT(check.error().message(), HasSubstr(fmt::format("at sequence {}:", sequence)));
}

TEST(ChainTest, NamesTheFirstThatDoesNotFit) {
    auto changed = trail(1, 9);
    changed.entries[3].entry.reason = "another";
    refused(changed, 4);
    auto missing = trail(1, 9);
    missing.entries.erase(missing.entries.begin() + 3);
    refused(missing, 4);
    auto doubled = trail(1, 9);
    doubled.entries.insert(doubled.entries.begin() + 3, doubled.entries[2]);
    refused(doubled, 4);
    auto reordered = trail(1, 9);
    std::swap(reordered.entries[3], reordered.entries[5]);
    refused(reordered, 4);
    auto renumbered = reordered;
    std::swap(renumbered.entries[3].entry.sequence, renumbered.entries[5].entry.sequence);
    refused(renumbered, 4);
    auto rehashed = trail(1, 9);
    rehashed.entries[3].entry.reason = "another";
    rehashed.entries[3].hash = chained(rehashed.entries[2].hash, rehashed.entries[3].entry);
    refused(rehashed, 5);
}

TEST(ChainTest, NoticesAnotherEnd) {
    auto shorter = trail(1, 9);
    shorter.entries.pop_back();
    refused(shorter, 9);
    shorter.ends.head = {8, shorter.entries.back().hash};
    refused(shorter, 9);
    auto longer = trail(1, 9);
    longer.ends.next_sequence = 9;
    refused(longer, 9);
    auto rewritten = trail(1, 9);
    rewritten.ends.head.hash[0] ^= 1;
    refused(rewritten, 9);
    auto beginning = trail(1, 9);
    beginning.entries.erase(beginning.entries.begin());
    refused(beginning, 1);
}

} // namespace
} // namespace lanepool::store
