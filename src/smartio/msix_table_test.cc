// SPDX-License-Identifier: Apache-2.0
#include "smartio/msix_table.h"

#include "base/endian.h"

#include <gmock/gmock.h>

namespace lanepool::smartio {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t address_word = 0, upper_word = 4, data_word = 8, control_word = 12;

class MsixTableTest : public testing::Test {
  protected:
    std::vector<uint32_t> put(uint32_t vector, uint64_t word, uint32_t value) {
        const le32 bytes = value;
        return table.write_table(vector * 16 + word, std::as_bytes(std::span(&bytes, 1)));
    }
    uint32_t get(uint64_t offset) const {
        le32 value;
        table.read_table(offset, std::as_writable_bytes(std::span(&value, 1)));
        return value;
    }
    uint64_t pending() const {
        le64 value;
        table.read_pending(0, std::as_writable_bytes(std::span(&value, 1)));
        return value;
    }
    void program(uint32_t vector, bool masked = false) {
        put(vector, address_word, 0xfee01000 + (vector << 4));
        put(vector, data_word, 0x40 + vector);
        put(vector, control_word, masked);
    }
    MsixTable table{4};
};

TEST_F(MsixTableTest, BeginsMaskedAndOff) {
    EXPECT_EQ(get(control_word), 1u);
    EXPECT_EQ(get(3 * 16 + control_word), 1u);
    EXPECT_EQ(get(address_word), 0u);
    EXPECT_FALSE(table.enabled());
    program(0);
    EXPECT_EQ(table.signal(0), std::nullopt);
    EXPECT_EQ(pending(), 0u) << "off, nothing is kept";
}

TEST_F(MsixTableTest, KeepsWhatIsWrittenInPiecesOfAnySize) {
    put(1, address_word, 0xfee01237);
    EXPECT_EQ(get(16), 0xfee01234u) << "an address of double words";
    put(1, upper_word, 0x12);
    put(1, control_word, 0xfffffffe);
    EXPECT_EQ(get(16 + control_word), 0u);
    const std::array bytes{std::byte{0xaa}, std::byte{0xbb}};
    table.write_table(16 + data_word + 1, bytes);
    EXPECT_EQ(get(16 + data_word), 0x00bbaa00u);
    const le64 both = 0x1'fee0'2000;
    table.write_table(2 * 16, std::as_bytes(std::span(&both, 1)));
    EXPECT_EQ(get(2 * 16), 0xfee02000u);
    EXPECT_EQ(get(2 * 16 + 4), 1u);
    std::array<std::byte, 16> beyond;
    table.read_table(4 * 16 - 8, beyond);
    EXPECT_EQ(beyond[15], std::byte{0});
    EXPECT_THAT(table.write_table(4 * 16 - 4, beyond), IsEmpty());
    EXPECT_THAT(table.write_table(uint64_t{1} << 40, beyond), IsEmpty());
}

TEST_F(MsixTableTest, SaysWhatToSend) {
    program(2);
    put(2, upper_word, 1);
    table.set_control(true, false);
    EXPECT_EQ(table.signal(2), (MsixMessage{0x1fee01020, 0x42}));
    EXPECT_EQ(table.signal(4), std::nullopt) << "there is none";
}

TEST_F(MsixTableTest, KeepsPendingWhatIsMasked) {
    program(0);
    program(3, true);
    table.set_control(true, false);
    EXPECT_EQ(table.signal(3), std::nullopt);
    EXPECT_EQ(pending(), 8u);
    EXPECT_THAT(put(3, control_word, 0), ElementsAre(3));
    EXPECT_TRUE(table.signal(3));
    EXPECT_EQ(pending(), 0u);
    EXPECT_THAT(put(3, control_word, 0), IsEmpty());
}

TEST_F(MsixTableTest, MasksAllAtOnce) {
    program(0);
    program(1);
    program(2, true);
    table.set_control(true, true);
    for (uint32_t vector = 0; vector < 3; ++vector)
        EXPECT_EQ(table.signal(vector), std::nullopt);
    EXPECT_EQ(pending(), 7u);
    EXPECT_THAT(table.set_control(true, false), ElementsAre(0, 1));
}

TEST_F(MsixTableTest, KnowsHowManyVectorsAreUsed) {
    EXPECT_EQ(table.wanted(), 0u);
    table.set_control(true, true);
    program(0);
    program(2, true);
    EXPECT_EQ(table.wanted(), 0u) << "as long as the driver is at it";
    table.set_control(true, false);
    EXPECT_EQ(table.wanted(), 3u);
    table.reset();
    EXPECT_EQ(table.wanted(), 0u);
    EXPECT_EQ(get(2 * 16), 0u);
}

} // namespace
} // namespace lanepool::smartio
