// SPDX-License-Identifier: Apache-2.0
#include "ntb/ring.h"

#include <cstring>
#include <gtest/gtest.h>
#include <random>

namespace lanepool::ntb {
namespace {

constexpr uint64_t session = 42;

uint32_t lower(uint64_t count) { return static_cast<uint32_t>(count); }

// The reader's memory, written as over the fabric.
class Area final : public RemoteMemory {
  public:
    Result<> write(uint64_t offset_bytes, std::span<const std::byte> data) override {
        if (offset_bytes + data.size() > bytes_.size()) return fail(Errc::out_of_range, "outside");
        if (!data.empty()) std::memcpy(bytes_.data() + offset_bytes, data.data(), data.size());
        return {};
    }
    Result<> store32(uint64_t offset_bytes, uint32_t value) override {
        return write(offset_bytes, std::as_bytes(std::span(&value, 1)));
    }
    std::span<std::byte> ring() { return std::span(bytes_).subspan(mailbox::ring_offset); }

  private:
    std::vector<std::byte> bytes_ = std::vector<std::byte>(mailbox::area_bytes);
};

struct Ring {
    Ring() {
        writer.reset(session);
        reader.reset(session);
    }
    Area area;
    RingWriter writer;
    RingReader reader;

    bool write(const std::vector<std::byte>& record) { return writer.write(area, record).value(); }
    std::vector<std::byte> read() { return reader.read(area.ring(), lower(writer.head())).value().value(); }
    Errc refused(uint64_t head) {
        const auto result = reader.read(area.ring(), lower(head));
        return result ? Errc::internal : result.error().code();
    }
    RecordHeader header() {
        RecordHeader header;
        std::memcpy(&header, area.ring().data(), sizeof header);
        return header;
    }
    void put(const RecordHeader& header) { std::memcpy(area.ring().data(), &header, sizeof header); }
};

std::vector<std::byte> record_of(size_t size, unsigned seed) {
    std::vector<std::byte> record(size);
    for (size_t i = 0; i < size; ++i)
        record[i] = static_cast<std::byte>(i * 7 + seed);
    return record;
}

TEST(Ring, CarriesRecordsOfEverySizeAroundTheEnd) {
    Ring ring;
    std::mt19937 random(1);
    for (unsigned i = 0; i < 2000; ++i) {
        const auto record = record_of(i == 0 ? 0 : random() % (max_record_bytes + 1), i);
        ASSERT_TRUE(ring.write(record));
        ASSERT_EQ(ring.read(), record);
        ASSERT_TRUE(ring.writer.consumed(lower(ring.reader.tail())));
    }
    EXPECT_FALSE(ring.reader.read(ring.area.ring(), lower(ring.writer.head())).value());
}

TEST(Ring, IsFullUntilTheReaderSaysWhatItRead) {
    Ring ring;
    const auto record = record_of(max_record_bytes, 0);
    size_t count = 0;
    while (ring.write(record))
        ++count;
    EXPECT_EQ(count, 7u);
    for (size_t i = 0; i < count; ++i)
        EXPECT_EQ(ring.read(), record);
    EXPECT_FALSE(ring.write(record));
    ASSERT_TRUE(ring.writer.consumed(lower(ring.reader.tail())));
    EXPECT_TRUE(ring.write(record));
}

TEST(Ring, GoesOnWhereTheLowerHalvesOfItsCountsWrap) {
    Ring ring;
    unsigned i = 0;
    while (ring.writer.head() < (uint64_t{1} << 32) + 2 * mailbox::ring_bytes) {
        const auto record = record_of(4000 + i % 100, i);
        ++i;
        ASSERT_TRUE(ring.write(record));
        ASSERT_EQ(ring.read(), record);
        ASSERT_TRUE(ring.writer.consumed(lower(ring.reader.tail())));
    }
    EXPECT_EQ(ring.writer.consumed(lower(ring.writer.head() + 8)).error().code(), Errc::protocol);
}

TEST(Ring, RefusesARecordThatIsTooLarge) {
    Ring ring;
    EXPECT_EQ(ring.writer.write(ring.area, record_of(max_record_bytes + 1, 0)).error().code(),
              Errc::invalid_argument);
}

TEST(Ring, TheWriterBelievesNoImpossibleTail) {
    Ring ring;
    ring.write(record_of(8, 0));
    EXPECT_EQ(ring.writer.consumed(lower(ring.writer.head() + 1)).error().code(), Errc::protocol);
    ASSERT_TRUE(ring.writer.consumed(lower(ring.writer.head())));
    EXPECT_EQ(ring.writer.consumed(lower(mailbox::first_count)).error().code(), Errc::protocol);
}

TEST(Ring, TheReaderBelievesNoImpossibleHead) {
    Ring ring;
    ring.write(record_of(8, 0));
    const auto refused_after = [&](uint64_t written) { return ring.refused(mailbox::first_count + written); };
    EXPECT_EQ(refused_after(mailbox::ring_bytes + 8), Errc::protocol);
    EXPECT_EQ(refused_after(uint64_t{0} - 8), Errc::protocol);
    EXPECT_EQ(refused_after(8), Errc::protocol);
    EXPECT_EQ(refused_after(23), Errc::protocol);
    EXPECT_EQ(refused_after(16), Errc::protocol); // the header without its record
    ring.read();
    EXPECT_EQ(refused_after(0), Errc::protocol);
    EXPECT_EQ(ring.refused(0), Errc::protocol);
}

TEST(Ring, TheReaderBelievesNoImpossibleLength) {
    for (const uint32_t size : {9u, 0x1000u, 0x7fff'ffffu, 0xffff'ffffu, 0xffff'fff8u}) {
        Ring ring;
        ring.write(record_of(8, 0));
        auto header = ring.header();
        header.size_bytes = size;
        ring.put(header);
        EXPECT_EQ(ring.refused(ring.writer.head()), Errc::protocol) << size;
    }
}

TEST(Ring, FindsARecordOfAnEarlierRoundOrSession) {
    Ring ring;
    ring.write(record_of(8, 0));
    auto header = ring.header();
    header.position = 8;
    ring.put(header);
    EXPECT_EQ(ring.refused(ring.writer.head()), Errc::protocol);

    Ring other;
    other.write(record_of(8, 0));
    other.reader.reset(session + 1);
    EXPECT_EQ(other.refused(other.writer.head()), Errc::protocol);
}

TEST(Ring, FindsAWriteThatWasLost) {
    for (size_t i = 0; i < 100; i += 9) {
        Ring ring;
        ring.write(record_of(100, 3));
        ring.area.ring()[sizeof(RecordHeader) + i] ^= std::byte{1};
        EXPECT_EQ(ring.refused(ring.writer.head()), Errc::protocol) << i;
    }
}

} // namespace
} // namespace lanepool::ntb
