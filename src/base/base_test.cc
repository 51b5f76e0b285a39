// SPDX-License-Identifier: Apache-2.0
#include "base/address.h"
#include "base/endian.h"
#include "base/mapping.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <limits>
#include <sys/mman.h>
#include <unistd.h>

namespace lanepool {
namespace {

Result<int> half(int value) {
    if (value % 2) return fail(Errc::invalid_argument, "{} is odd", value);
    return value / 2;
}
Result<int> quarter(int value) { return TRY(half(TRY(half(value)))); }

TEST(Result, TryReturnsTheValueOrTheFirstError) {
    EXPECT_EQ(*quarter(8), 2);
    EXPECT_EQ(quarter(6).error().message(), "3 is odd");
}

TEST(Result, ErrnoBecomesACodeAndASentence) {
    const Result<> result = fail_errno(ENOSPC, "writing the journal");
    EXPECT_EQ(result.error().code(), Errc::no_space);
    EXPECT_EQ(result.error().message(), "writing the journal: No space left on device");
}

TEST(UniqueFd, ClosesOnDestruction) {
    int number = -1;
    {
        auto fd = create_eventfd();
        number = fd->get();
        EXPECT_EQ(::fcntl(number, F_GETFD), FD_CLOEXEC);
    }
    EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

TEST(UniqueFd, MemoryCannotBeShrunkUnderWhoMapsIt) {
    auto fd = create_memory("test", 4096);
    EXPECT_EQ(::ftruncate(fd->get(), 0), -1);
}

TEST(Mapping, SeesTheSameMemoryAtAnUnalignedOffset) {
    auto fd = create_memory("test", 16384);
    auto whole = Mapping::create(fd->get(), 0, 16384);
    auto part = Mapping::create(fd->get(), 4100, 100);
    part->data()[0] = std::byte{42};
    EXPECT_EQ(whole->data()[4100], std::byte{42});
}

TEST(Mapping, RefusesARangeThatOverflows) {
    auto fd = create_memory("test", 4096);
    EXPECT_EQ(Mapping::create(fd->get(), std::numeric_limits<uint64_t>::max() - 10, 4096).error().code(),
              Errc::invalid_argument);
    EXPECT_EQ(Mapping::create(fd->get(), 0, 0).error().code(), Errc::invalid_argument);
}

TEST(Range, RefusesToWrapButMayReachTheEnd) {
    const uint64_t top = std::numeric_limits<uint64_t>::max();
    EXPECT_TRUE(Range<Iova>::create({top - 4095}, 4096));
    EXPECT_FALSE(Range<Iova>::create({top - 4095}, 4097));
    EXPECT_FALSE(Range<Iova>::create({0}, 0));
}

TEST(Range, KnowsOverlapAndContainment) {
    const auto a = *Range<Iova>::create({0x1000}, 0x1000);
    EXPECT_TRUE(a.overlaps(*Range<Iova>::create({0x1fff}, 1)));
    EXPECT_FALSE(a.overlaps(*Range<Iova>::create({0x2000}, 1)));
    EXPECT_TRUE(a.contains(*Range<Iova>::create({0x1800}, 0x800)));
    EXPECT_FALSE(a.contains(*Range<Iova>::create({0x1800}, 0x801)));
}

TEST(LittleEndian, HasTheBytesOfTheBus) {
    const le32 value = 0x11223344;
    uint8_t bytes[4];
    std::memcpy(bytes, &value, 4);
    EXPECT_EQ(bytes[0], 0x44);
    EXPECT_EQ(uint32_t{value}, 0x11223344u);
}

} // namespace
} // namespace lanepool
