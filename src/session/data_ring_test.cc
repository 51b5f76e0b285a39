// SPDX-License-Identifier: Apache-2.0
#include "session/data_ring.h"

#include "base/mapping.h"
#include "base/unique_fd.h"

#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <thread>
#include <vector>

namespace lanepool::session {
namespace {

// A ring as both sides see it: mapped twice.
struct Ring {
    UniqueFd memory = *create_memory("ring", data_ring_bytes);
    Mapping sender = *Mapping::create(memory.get(), 0, data_ring_bytes);
    Mapping receiver = *Mapping::create(memory.get(), 0, data_ring_bytes);
    DataRingWriter writer = *DataRingWriter::create(sender.bytes());
    DataRingReader reader = *DataRingReader::create(receiver.bytes());
    DataRing& raw = *reinterpret_cast<DataRing*>(sender.data());
    std::array<std::byte, max_data_bytes> buffer{};

    Result<> send(std::string_view text) { return writer.send(std::as_bytes(std::span(text))); }
    // "-" where there is none.
    std::string take() {
        const auto size = reader.take(buffer);
        if (!size) return std::string(name(size.error().code()));
        return *size ? std::string(reinterpret_cast<const char*>(buffer.data()), **size) : "-";
    }
};

TEST(DataRing, MessagesComeInOrderEachOnce) {
    Ring ring;
    EXPECT_EQ(ring.take(), "-");
    ASSERT_TRUE(ring.send("first"));
    ASSERT_TRUE(ring.send(""));
    ASSERT_TRUE(ring.send("third one"));
    EXPECT_EQ(ring.take(), "first");
    EXPECT_EQ(ring.take(), "");
    EXPECT_EQ(ring.take(), "third one");
    EXPECT_EQ(ring.take(), "-");
}

TEST(DataRing, ManyRoundsKeepEveryByte) {
    Ring ring;
    for (size_t i = 0; i < 2000; ++i) {
        const std::string text(i * 37 % (max_data_bytes + 1), static_cast<char>('a' + i % 26));
        ASSERT_TRUE(ring.send(text));
        ASSERT_EQ(ring.take(), text) << i;
    }
}

TEST(DataRing, OneThatIsFullSaysSoAndLosesNothing) {
    Ring ring;
    size_t sent = 0;
    Result<> result;
    while ((result = ring.send(std::string(max_data_bytes, static_cast<char>('a' + sent)))))
        ++sent;
    EXPECT_EQ(result.error().code(), Errc::no_space);
    EXPECT_EQ(sent, (data_ring_bytes - 4096) / (max_data_bytes + 8));
    EXPECT_EQ(ring.take(), std::string(max_data_bytes, 'a'));
    EXPECT_TRUE(ring.send(std::string(max_data_bytes, 'z')));
    for (size_t i = 1; i < sent; ++i)
        EXPECT_EQ(ring.take(), std::string(max_data_bytes, static_cast<char>('a' + i)));
    EXPECT_EQ(ring.take(), std::string(max_data_bytes, 'z'));
    EXPECT_EQ(ring.take(), "-");
}

TEST(DataRing, LimitsAreChecked) {
    Ring ring;
    EXPECT_EQ(ring.send(std::string(max_data_bytes + 1, 'x')).error().code(), Errc::out_of_range);
    ASSERT_TRUE(ring.send("eight by"));
    EXPECT_EQ(ring.reader.take(std::span(ring.buffer).first(7)).error().code(), Errc::no_space);
    EXPECT_EQ(ring.take(), "eight by"); // it has stayed
    EXPECT_EQ(DataRingReader::create(ring.sender.bytes().first(4096)).error().code(), Errc::invalid_argument);
    EXPECT_EQ(DataRingWriter::create(ring.sender.bytes().subspan(8)).error().code(), Errc::invalid_argument);
}

TEST(DataRing, AfterItsEndNothingMoreComes) {
    Ring ring;
    ASSERT_TRUE(ring.send("one"));
    ASSERT_TRUE(ring.send("two"));
    ring.reader.end();
    ASSERT_TRUE(ring.send("three"));
    EXPECT_EQ(ring.take(), "one");
    EXPECT_EQ(ring.take(), "two");
    EXPECT_EQ(ring.take(), "-");
}

TEST(DataRing, AHostileSenderIsNotBelieved) {
    const auto position = [](uint64_t value) { return [=](Ring& ring) { ring.raw.produced = value; }; };
    const auto size = [](uint64_t value) {
        return [=](Ring& ring) { std::memcpy(ring.raw.data.data(), &value, sizeof value); };
    };
    const std::vector<std::function<void(Ring&)>> attacks = {
        position(4),                          // no message begins or ends there
        position(data_ring_bytes - 4096 + 8), // more than there is room for
        position(UINT64_MAX - 7),             // behind what was read
        size(max_data_bytes + 1),
        size(9), // longer than what was produced
        size(UINT64_MAX),
        size(UINT64_MAX - 7), // its record would wrap to nothing
    };
    for (size_t i = 0; i < attacks.size(); ++i) {
        Ring ring;
        ASSERT_TRUE(ring.send("12345678"));
        attacks[i](ring);
        EXPECT_EQ(ring.take(), "protocol") << i;
        ring.raw.produced = 0; // as if nothing had been
        EXPECT_EQ(ring.take(), "protocol") << i;
    }
}

TEST(DataRing, AHostileReceiverIsNotBelieved) {
    for (const uint64_t consumed : {uint64_t{4}, uint64_t{1} << 20, UINT64_MAX - 7}) {
        Ring ring;
        while (ring.send(std::string(max_data_bytes, 'x'))) {
        }
        ring.raw.consumed = consumed;
        EXPECT_EQ(ring.send(std::string(max_data_bytes, 'y')).error().code(), Errc::protocol) << consumed;
    }
    // Nor may it take back what it has taken.
    Ring ring;
    while (ring.send("x")) {
    }
    ring.raw.consumed = 160;
    while (ring.send("x")) {
    }
    ring.raw.consumed = 16;
    EXPECT_EQ(ring.send("x").error().code(), Errc::protocol);
}

TEST(DataRing, TwoThreadsLoseNothing) {
    Ring ring;
    constexpr uint64_t count = 20'000;
    std::thread sender([&] {
        for (uint64_t i = 0; i < count;) {
            std::vector<uint64_t> words(1 + i % 100, i);
            if (ring.writer.send(std::as_bytes(std::span(words))))
                ++i;
            else
                std::this_thread::yield();
        }
    });
    uint64_t next = 0, wrong = 0;
    while (next < count) {
        const auto size = ring.reader.take(ring.buffer);
        ASSERT_TRUE(size) << size.error().message();
        if (!*size) {
            std::this_thread::yield();
            continue;
        }
        std::vector<uint64_t> words(**size / 8);
        std::memcpy(words.data(), ring.buffer.data(), **size);
        if (words != std::vector<uint64_t>(1 + next % 100, next)) ++wrong;
        ++next;
    }
    sender.join();
    EXPECT_EQ(wrong, 0u);
}

} // namespace
} // namespace lanepool::session
