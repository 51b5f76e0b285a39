// SPDX-License-Identifier: Apache-2.0
//
// The engine through the calls that vfio_user::Server makes and through its mapped BAR, on one thread.
#include "dma_model/function.h"

#include "dma_model/crc32c.h"

#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

namespace lanepool::dma_model {
namespace {

constexpr Iova memory_base{0x100000};
constexpr uint64_t memory_bytes = 4 << 20;
constexpr uint32_t entries = 16;

class FakeClient final : public vfio_user::Client {
  public:
    void dma_read(Iova, size_t, std::function<void(Result<std::vector<std::byte>>)>) override {}
    void dma_write(Iova, std::span<const std::byte>, std::function<void(Result<>)>) override {}
    bool speaks_lanepool() const override { return lanepool; }
    bool lanepool = true;
};

class DmaEngine : public ::testing::Test {
  protected:
    void SetUp() override {
        function_->connected(client_);
        fd_ = share(*create_memory("host", memory_bytes));
        memory_ = *Mapping::create(fd_->get(), 0, memory_bytes);
        map(memory_base, memory_bytes, 0);
        map_bar();
        master();
    }
    void map_bar() {
        const auto extents = function_->memory(pci::Region::bar0, 0, bar0_bytes).value();
        ASSERT_EQ(extents.at(0).memory.size_bytes, bar0_bytes);
        bar_ = *Mapping::create(extents[0].memory);
    }
    void map(Iova at, uint64_t size, uint64_t offset, Access access = Access::read_write) {
        Result<> outcome = fail(Errc::internal, "no answer");
        function_->map_dma({*Range<Iova>::create(at, size), access, MemoryRef{fd_, offset, size}, {}},
                           {[&](Result<> answer) { outcome = std::move(answer); }});
        ASSERT_TRUE(outcome) << outcome.error().message();
    }
    bool unmap(Iova at, uint64_t size) {
        bool done = false;
        function_->unmap_dma(*Range<Iova>::create(at, size),
                             {[&](Result<> answer) { done = answer.has_value(); }});
        return done;
    }
    void reset() {
        bool done = false;
        function_->reset({[&](Result<> answer) { done = answer.has_value(); }});
        ASSERT_TRUE(done);
    }
    void master() {
        const uint16_t command = pci::command::memory_space | pci::command::bus_master;
        function_->write(pci::Region::config, pci::config::command, std::as_bytes(std::span(&command, 1)),
                         {[](Result<>) {}});
    }
    uint32_t by_message(uint64_t offset) {
        uint32_t value = 0;
        function_->read(pci::Region::bar0, offset, 4, {[&](Result<std::vector<std::byte>> answer) {
                            std::memcpy(&value, answer->data(), 4);
                        }});
        return value;
    }
    uint32_t load(uint64_t offset) { return device_model::load_word(bar_.data() + offset); }
    void store(uint64_t offset, uint32_t value) { device_model::store_word(bar_.data() + offset, value); }
    void poll(int rounds = 4) {
        for (int i = 0; i < rounds; ++i)
            function_->poll();
        function_->tick();
    }

    void enable(Iova ring = memory_base, uint32_t count = entries) {
        store(reg::ring_base_low, static_cast<uint32_t>(ring.value));
        store(reg::ring_base_high, static_cast<uint32_t>(ring.value >> 32));
        store(reg::ring_entries, count);
        store(reg::control, control::enable(1));
        poll();
        tail_ = 0;
    }
    Descriptor& slot(uint32_t index) {
        return *reinterpret_cast<Descriptor*>(memory_.data() + index * sizeof(Descriptor));
    }
    void push(Opcode opcode, uint64_t source, uint64_t destination, uint32_t length, uint64_t operand = 0,
              uint16_t flags = 0) {
        Descriptor& d = slot(tail_);
        d = {};
        d.opcode = static_cast<uint16_t>(opcode);
        d.flags = flags;
        d.source = source;
        d.destination = destination;
        d.length = length;
        d.operand = operand;
        d.user = 77;
        tail_ = (tail_ + 1) % entries;
    }
    void ring() { store(reg::tail, tail_); }
    // Of the descriptor that was pushed last.
    Outcome run() {
        const uint32_t index = (tail_ + entries - 1) % entries;
        ring();
        for (int i = 0; i < 100 && slot(index).outcome == 0; ++i)
            poll();
        return static_cast<Outcome>(uint32_t{slot(index).outcome});
    }
    Outcome run(Opcode opcode, uint64_t source, uint64_t destination, uint32_t length, uint64_t operand = 0) {
        push(opcode, source, destination, length, operand);
        return run();
    }
    // Offsets in the memory: behind the ring.
    static constexpr uint64_t a = 0x10000, b = 0x90000, c = 0x110000;
    static uint64_t iova(uint64_t offset) { return memory_base.value + offset; }
    std::byte* at(uint64_t offset) { return memory_.data() + offset; }
    void randomise(uint64_t offset, uint64_t size) {
        for (uint64_t i = 0; i < size; ++i)
            *at(offset + i) = static_cast<std::byte>(random_());
    }

    std::unique_ptr<Function> function_ = Function::create(0x1234).value();
    FakeClient client_;
    SharedFd fd_;
    Mapping memory_, bar_;
    uint32_t tail_ = 0;
    std::mt19937 random_{7};
};

TEST(Crc32c, GivesWhatRfc3720Says) {
    const std::string digits = "123456789";
    EXPECT_EQ(crc32c(0, std::as_bytes(std::span(digits))), 0xe3069283u);
    std::vector<std::byte> zeroes(32);
    EXPECT_EQ(crc32c(0, zeroes), 0x8a9136aau);
    EXPECT_EQ(crc32c(crc32c(0, std::span(zeroes).first(13)), std::span(zeroes).subspan(13)), 0x8a9136aau);
}

TEST_F(DmaEngine, SaysWhatItIs) {
    EXPECT_EQ(load(reg::identity), magic);
    EXPECT_EQ(load(reg::version), current_version);
    EXPECT_EQ(load(reg::opcodes), 0x1fu);
    EXPECT_EQ(by_message(reg::identity), magic);
    std::array<std::byte, 64> config{};
    function_->read(pci::Region::config, 0, config.size(), {[&](Result<std::vector<std::byte>> answer) {
                        std::ranges::copy(*answer, config.begin());
                    }});
    EXPECT_EQ(pci::get32(config, pci::config::revision) >> 8, class_code);
    EXPECT_EQ(pci::get16(config, pci::config::device_id), device_id);
    EXPECT_EQ(function_->irq(pci::Irq::msi).count, 1u);
    EXPECT_EQ(function_->irq(pci::Irq::msix).count, 0u);
}

TEST_F(DmaEngine, CopiesAndFills) {
    enable();
    ASSERT_EQ(load(reg::status), status::running(1));
    for (const uint32_t length : {1u, 7u, 4096u, 300000u}) {
        randomise(a, length);
        std::memset(at(b), 0, length + 1);
        ASSERT_EQ(run(Opcode::copy, iova(a), iova(b), length), Outcome::done);
        EXPECT_EQ(std::memcmp(at(a), at(b), length), 0) << length;
        EXPECT_EQ(*at(b + length), std::byte{0});
        ASSERT_EQ(run(Opcode::fill, 0, iova(b), length, 0x8877665544332211), Outcome::done);
        for (uint32_t i = 0; i < length; ++i)
            ASSERT_EQ(*at(b + i), static_cast<std::byte>(0x11 * (i % 8 + 1))) << i;
        EXPECT_EQ(*at(b + length), std::byte{0});
    }
    EXPECT_EQ(slot(0).user, 77u);
    EXPECT_EQ(load(reg::head), tail_);
    EXPECT_EQ(run(Opcode::nop, 0, 0, 0), Outcome::done);
}

TEST_F(DmaEngine, Computes) {
    enable();
    randomise(a, 400000);
    randomise(b, 400000);
    ASSERT_EQ(run(Opcode::crc32c, iova(a), iova(c), 400000), Outcome::done);
    uint32_t crc;
    std::memcpy(&crc, at(c), 4);
    EXPECT_EQ(crc, crc32c(0, {at(a), 400000}));
    EXPECT_EQ(slot(0).result, crc);
    ASSERT_EQ(run(Opcode::add, iova(a), iova(c), 400000, iova(b)), Outcome::done);
    for (uint64_t i = 0; i < 400000; i += 4) {
        uint32_t x, y, z;
        std::memcpy(&x, at(a + i), 4);
        std::memcpy(&y, at(b + i), 4);
        std::memcpy(&z, at(c + i), 4);
        ASSERT_EQ(x + y, z) << i;
    }
}

TEST_F(DmaEngine, GoesRoundItsRing) {
    enable();
    for (int round = 0; round < 10; ++round) {
        for (uint32_t i = 0; i < entries - 1; ++i)
            push(Opcode::fill, 0, iova(a) + i, 1, static_cast<uint64_t>(round) + i);
        ring();
        poll(entries);
        ASSERT_EQ(load(reg::head), tail_);
        for (uint32_t i = 0; i < entries - 1; ++i)
            ASSERT_EQ(*at(a + i), static_cast<std::byte>(round + static_cast<int>(i)));
    }
    EXPECT_EQ(function_->stats().descriptors, 10 * (entries - 1));
}

TEST_F(DmaEngine, SignalsWhereItIsAskedTo) {
    const auto event = *create_eventfd();
    std::vector<UniqueFd> events;
    events.push_back(*event.duplicate());
    function_->set_irqs(pci::Irq::msi, 0, std::move(events), {[](Result<>) {}});
    enable();
    push(Opcode::nop, 0, 0, 0);
    EXPECT_EQ(run(), Outcome::done);
    EXPECT_EQ(drain(event), 0u);
    push(Opcode::nop, 0, 0, 0, 0, flags::signal);
    EXPECT_EQ(run(), Outcome::done);
    push(Opcode::copy, 0, 0, 1, 0, flags::signal); // also when it fails
    EXPECT_EQ(run(), Outcome::source_unreachable);
    EXPECT_EQ(drain(event), 2u);
}

TEST_F(DmaEngine, BadDescriptorsFailAloneWithTheirReason) {
    enable();
    constexpr uint64_t nowhere = 0x8000000000;
    map({nowhere}, 4096, a, Access::read_only);
    const uint64_t beyond = memory_base.value + memory_bytes;
    EXPECT_EQ(run(static_cast<Opcode>(5), iova(a), iova(b), 8), Outcome::invalid_opcode);
    EXPECT_EQ(run(static_cast<Opcode>(0xffff), iova(a), iova(b), 8), Outcome::invalid_opcode);
    push(Opcode::copy, iova(a), iova(b), 8, 0, 2);
    EXPECT_EQ(run(), Outcome::invalid_flags);
    EXPECT_EQ(run(Opcode::copy, iova(a), iova(b), 0), Outcome::invalid_length);
    EXPECT_EQ(run(Opcode::copy, iova(a), iova(b), max_length_bytes + 1), Outcome::invalid_length);
    EXPECT_EQ(run(Opcode::copy, ~uint64_t{0} - 3, iova(b), 8), Outcome::invalid_length);
    EXPECT_EQ(run(Opcode::add, iova(a), iova(b), 6, iova(c)), Outcome::invalid_length);
    EXPECT_EQ(run(Opcode::add, iova(a), iova(b), 8, iova(c) + 2), Outcome::invalid_alignment);
    EXPECT_EQ(run(Opcode::crc32c, iova(a), iova(b) + 1, 8), Outcome::invalid_alignment);
    EXPECT_EQ(run(Opcode::copy, 0, iova(b), 8), Outcome::source_unreachable);
    EXPECT_EQ(run(Opcode::copy, beyond - 4, iova(b), 8), Outcome::source_unreachable);
    EXPECT_EQ(run(Opcode::copy, iova(a), beyond - 4, 8), Outcome::destination_unreachable);
    EXPECT_EQ(run(Opcode::fill, 0, nowhere, 8), Outcome::destination_unreachable);
    EXPECT_EQ(run(Opcode::crc32c, nowhere, nowhere, 8), Outcome::destination_unreachable);
    EXPECT_EQ(run(Opcode::add, iova(a), iova(b), 8, 4), Outcome::operand_unreachable);
    EXPECT_EQ(run(Opcode::copy, nowhere, iova(b), 8), Outcome::done);
    EXPECT_EQ(load(reg::status), status::running(1));
    EXPECT_EQ(function_->stats().failed, 15u);
}

TEST_F(DmaEngine, RangesMayLieInSeveralMappings) {
    enable();
    randomise(a, 12288);
    // The same pages, in another order.
    map({0x40000000}, 4096, a + 8192);
    map({0x40001000}, 4096, a);
    ASSERT_EQ(run(Opcode::copy, 0x40000000, iova(b), 8192), Outcome::done);
    EXPECT_EQ(std::memcmp(at(b), at(a + 8192), 4096), 0);
    EXPECT_EQ(std::memcmp(at(b + 4096), at(a), 4096), 0);
}

TEST_F(DmaEngine, EachOfItsRangesMayEndElsewhere) {
    enable();
    randomise(a, 16384);
    map({0x40000000}, 4096, a + 8192);
    map({0x40001000}, 4096, a);
    const auto word = [&](uint64_t offset) { return device_model::load_word(at(offset)); };
    // The operand changes mappings after 8 bytes, the source after 4, the destination not at all.
    ASSERT_EQ(run(Opcode::add, 0x40000ffc, iova(b), 16, 0x40000ff8), Outcome::done);
    EXPECT_EQ(word(b), word(a + 8192 + 0xffc) + word(a + 8192 + 0xff8));
    EXPECT_EQ(word(b + 4), word(a) + word(a + 8192 + 0xffc));
    EXPECT_EQ(word(b + 8), word(a + 4) + word(a));
    EXPECT_EQ(word(b + 12), word(a + 8) + word(a + 4));
    ASSERT_EQ(run(Opcode::fill, 0, 0x40000ffd, 16, 0x0706050403020100), Outcome::done);
    for (uint64_t i = 0; i < 16; ++i)
        EXPECT_EQ(*at(i < 3 ? a + 8192 + 0xffd + i : a + i - 3), static_cast<std::byte>(i % 8)) << i;
}

TEST_F(DmaEngine, MemoryMayGoAwayUnderADescriptor) {
    map({0x40000000}, 1 << 20, 1 << 20);
    enable();
    push(Opcode::fill, 0, 0x40000000, 1 << 20, ~uint64_t{0});
    ring();
    function_->poll(); // a part of it
    EXPECT_EQ(slot(0).outcome, 0u);
    ASSERT_TRUE(unmap({0x40000000}, 1 << 20));
    EXPECT_EQ(run(), Outcome::destination_unreachable);
    EXPECT_EQ(*at((2 << 20) - 1), std::byte{0});
    EXPECT_EQ(run(Opcode::nop, 0, 0, 0), Outcome::done);
}

TEST_F(DmaEngine, ARingThatGoesAwayStopsTheEngine) {
    enable();
    ASSERT_TRUE(unmap(memory_base, memory_bytes));
    push(Opcode::nop, 0, 0, 0);
    ring();
    poll();
    EXPECT_EQ(load(reg::status), status::failed(1));
    EXPECT_EQ(load(reg::error), static_cast<uint32_t>(EngineError::ring_unreachable));
    map(memory_base, memory_bytes, 0);
    store(reg::control, 0);
    poll();
    EXPECT_EQ(load(reg::status), 0u);
    enable();
    EXPECT_EQ(run(Opcode::nop, 0, 0, 0), Outcome::done);
}

TEST_F(DmaEngine, BadRingsAreRefused) {
    const auto refused = [&](Iova ring, uint32_t count) {
        enable(ring, count);
        const auto error = static_cast<EngineError>(load(reg::error));
        EXPECT_EQ(load(reg::status), status::failed(1));
        store(reg::control, 0);
        poll();
        return error;
    };
    for (const uint32_t count : {0u, 1u, 3u, 8192u, 0x80000000u})
        EXPECT_EQ(refused(memory_base, count), EngineError::ring_size) << count;
    EXPECT_EQ(refused({memory_base.value + 4}, 2), EngineError::ring_alignment);
    EXPECT_EQ(refused({0}, 2), EngineError::ring_unreachable);
    EXPECT_EQ(refused({~uint64_t{63}}, 4096), EngineError::ring_unreachable);
    EXPECT_EQ(refused({memory_base.value + memory_bytes - 64}, 2), EngineError::ring_unreachable);
    enable();
    store(reg::tail, entries);
    poll();
    EXPECT_EQ(load(reg::error), static_cast<uint32_t>(EngineError::tail_range));
}

TEST_F(DmaEngine, WhatMayNotBeWrittenIsRestored) {
    enable();
    for (const uint64_t offset :
         {reg::identity, reg::version, reg::capabilities, reg::opcodes, reg::status, reg::error, reg::head}) {
        const uint32_t before = load(offset);
        store(offset, 0xa5a5a5a5);
        function_->tick();
        EXPECT_EQ(load(offset), before) << offset;
    }
    store(reg::scratch, 0x12345678);
    EXPECT_EQ(by_message(reg::scratch), 0x12345678u);
    store(reg::control, 0xfffffffd);
    poll();
    EXPECT_EQ(load(reg::control), 1u);
    EXPECT_EQ(run(Opcode::nop, 0, 0, 0), Outcome::done);
}

TEST_F(DmaEngine, ItsOwnResetLeavesNothing) {
    enable();
    store(reg::scratch, 5);
    store(0x3000, 6);
    store(reg::control, control::reset(1));
    poll();
    EXPECT_EQ(load(reg::control), 0u);
    EXPECT_EQ(load(reg::status), 0u);
    for (const uint64_t offset : {reg::scratch, reg::ring_base_low, reg::tail, reg::head, uint64_t{0x3000}})
        EXPECT_EQ(load(offset), 0u) << offset;
    EXPECT_EQ(load(reg::identity), magic);
}

TEST_F(DmaEngine, AFunctionResetPutsFreshMemory) {
    enable();
    store(reg::scratch, 5);
    reset();
    const Mapping old = std::move(bar_);
    map_bar();
    EXPECT_EQ(load(reg::scratch), 0u);
    EXPECT_EQ(load(reg::identity), magic);
    device_model::store_word(old.data() + reg::control, control::enable(0));
    device_model::store_word(old.data() + reg::control, control::enable(1));
    poll();
    EXPECT_EQ(load(reg::status), 0u);
    master();
    enable();
    EXPECT_EQ(run(Opcode::nop, 0, 0, 0), Outcome::done);
    // A client that maps once finds the same memory, cleared.
    client_.lanepool = false;
    reset();
    EXPECT_EQ(load(reg::status), 0u);
    EXPECT_EQ(load(reg::ring_entries), 0u);
}

TEST_F(DmaEngine, DoesNothingWithoutBusMasteringOrAClient) {
    enable();
    const uint16_t off = pci::command::memory_space;
    function_->write(pci::Region::config, pci::config::command, std::as_bytes(std::span(&off, 1)),
                     {[](Result<>) {}});
    push(Opcode::nop, 0, 0, 0);
    ring();
    poll(20);
    EXPECT_EQ(slot(0).outcome, 0u);
    master();
    EXPECT_EQ(run(), Outcome::done);
    function_->disconnected();
    EXPECT_FALSE(function_->needs_polling());
    EXPECT_EQ(function_->dma_regions(), 0u);
}

TEST_F(DmaEngine, RandomBytesDoNoHarm) {
    for (int i = 0; i < 3000; ++i) {
        randomise(0, entries * sizeof(Descriptor));
        for (uint32_t j = 0; j < entries; ++j) {
            slot(j).opcode = static_cast<uint16_t>(random_() % 6);
            if (random_() % 4) slot(j).flags = 0;
            if (random_() % 4) slot(j).source = iova(random_() % memory_bytes);
            if (random_() % 4) slot(j).destination = iova(random_() % memory_bytes);
            if (random_() % 2) slot(j).operand = iova(random_() % memory_bytes) & ~uint64_t{3};
            if (random_() % 4) slot(j).length = static_cast<uint32_t>(random_() % 70000);
        }
        if (i % 3 == 0) enable();
        store(reg::tail, static_cast<uint32_t>(random_() % (entries + 2)));
        if (i % 7 == 0) store((random_() % 16) * 4, static_cast<uint32_t>(random_()));
        poll(8);
        if (i % 5 == 0) store(reg::control, static_cast<uint32_t>(random_() % 4));
        poll(1);
    }
    reset();
    map_bar();
    master();
    enable();
    EXPECT_EQ(run(Opcode::nop, 0, 0, 0), Outcome::done);
}

} // namespace
} // namespace lanepool::dma_model
