// SPDX-License-Identifier: Apache-2.0
//
// The adapter driver between hosts whose adapters are cards, reached by kernel VFIO. Runs in both hosts at
// once: "ntb_host_test serve" in one, the tests in the other. ntb_test.py starts both and says in the
// environment where the devices are (ntb_hosts.h).
#include "hosts/ntb_hosts.h"

#include "ntb/event_words.h"
#include "pci/config_space.h"

#include <cstdio>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lanepool::hosts {
namespace {

constexpr uint64_t memory_bytes = 1 << 20;

enum Kind : uint16_t { echo, memory, registers, withdraw, events, ring, count, look, stop };

// ---- The one that serves

class Server {
  public:
    Server()
        : host_([this](Partition, uint16_t kind, std::vector<std::byte> body, ntb::ChannelReply reply) {
              reply(serve(kind, body));
          }) {}
    void run() { stop_.get_future().get(); }

  private:
    Result<std::vector<std::byte>> serve(uint16_t kind, const std::vector<std::byte>& body) {
        if (kind == echo) return body;
        return bytes_of(TRY(serve(kind, said(body))));
    }
    Said exported(ntb::Export made) {
        exports_.push_back(std::move(made));
        return {exports_.back().address().value, exports_.back().size_bytes(), exports_.size() - 1};
    }
    Result<Said> serve(uint16_t kind, const Said& asked) {
        auto& adapter = *host_.adapter;
        switch (kind) {
        case memory: // of as many bytes; each word of it is its offset
            memory_ = {share(TRY(create_memory("ntb-test", asked.size_bytes))), 0, asked.size_bytes};
            bytes_ = TRY(Mapping::create(memory_));
            for (uint64_t i = 0; i < asked.size_bytes; i += 8)
                std::memcpy(bytes_.data() + i, &i, 8);
            return exported(TRY(adapter.export_memory(memory_, Access::read_write)));
        case look: // at the word at an offset of it
            std::memcpy(&result_.value, bytes_.data() + asked.address, 8);
            return result_;
        case registers: { // 0: of the teaching device, else the memory of the other one
            auto& device = asked.value == 0 ? edu_ : device_;
            if (!device) device = card(asked.value == 0 ? "EDU" : "MEMORY");
            const auto bar = asked.value == 0 ? Region::bar0 : Region::bar2;
            return exported(TRY(adapter.export_region(*device, bar, 0, device->region(bar).size_bytes)));
        }
        case withdraw:
            TRY(exports_.at(asked.value).withdraw());
            return Said{};
        case events: { // two
            for (auto& eventfd : eventfds_)
                eventfd = TRY(create_eventfd());
            const std::array fds = {eventfds_[0].get(), eventfds_[1].get()};
            return exported(TRY(adapter.export_events(fds)));
        }
        case count: // which of them came
            for (size_t i = 0; i < 2; ++i)
                if (i == asked.value) return Said{0, 0, arrives(eventfds_[i]) ? 1u : 0u};
            return fail(Errc::invalid_argument, "two events");
        case ring: { // the event at an address, as often as asked
            const auto window = TRY(adapter.open_window({Host::peer(), {asked.address}, 4}));
            const auto event = TRY(window.event(0));
            signal(event);
            std::this_thread::sleep_for(5ms); // the window closes afterwards
            return Said{};
        }
        default:
            host_.soon([this] { stop_.set_value(); });
            return Said{};
        }
    }

    std::promise<void> stop_;
    std::unique_ptr<pci::Function> edu_, device_;
    MemoryRef memory_;
    Mapping bytes_;
    Said result_;
    std::array<UniqueFd, 2> eventfds_;
    Host host_;
    std::vector<ntb::Export> exports_;
};

// ---- The one that tests

class NtbHosts : public testing::Test {
  protected:
    static void SetUpTestSuite() {
        host_ = new Host([](Partition, uint16_t, std::vector<std::byte>, ntb::ChannelReply) {});
        ASSERT_TRUE(host_->wait_for_peer()) << "the other host is not heard of";
    }
    static void TearDownTestSuite() {
        // It may be gone before its answer has arrived.
        if (host_) [[maybe_unused]]
            const auto ignored = host_->try_to_ask(stop, {});
        delete host_;
    }
    static Host& host() { return *host_; }
    static uint64_t word(const ntb::Window& window, uint64_t offset) {
        le64 value;
        EXPECT_TRUE(window.read(offset, std::as_writable_bytes(std::span(&value, 1))));
        return value;
    }
    static void put(const ntb::Window& window, uint64_t offset, uint64_t value) {
        const le64 bytes = value;
        EXPECT_TRUE(window.write(offset, std::as_bytes(std::span(&bytes, 1))));
    }
    static Host* host_;
};
Host* NtbHosts::host_ = nullptr;

TEST_F(NtbHosts, TheChannelCarriesRequestsOfEverySize) {
    const auto start = std::chrono::steady_clock::now();
    int requests = 0;
    for (const size_t size : {0, 1, 7, 8, 100, 4095, 8000})
        for (int i = 0; i < 10; ++i, ++requests) {
            std::vector<std::byte> body(size);
            for (size_t k = 0; k < size; ++k)
                body[k] = static_cast<std::byte>(k * 7 + static_cast<size_t>(i));
            ASSERT_EQ(host().ask(echo, body), body) << size;
        }
    const auto took = std::chrono::steady_clock::now() - start;
    std::printf("a request and its answer: %.2f ms\n",
                std::chrono::duration<double, std::milli>(took).count() / requests);
}

TEST_F(NtbHosts, AWindowReadsAndWritesMemoryOfTheOtherHost) {
    const auto there = host().ask(memory, {0, memory_bytes, 0});
    auto window = host().adapter->open_window(host().target(there)).value();
    for (const uint64_t offset : {uint64_t{0}, uint64_t{0x1008}, memory_bytes - 8})
        EXPECT_EQ(word(window, offset), offset);
    put(window, 0x2000, 0x0123'4567'89ab'cdef);
    EXPECT_EQ(host().ask(look, {0x2000, 0, 0}).value, 0x0123'4567'89ab'cdefu);
    {
        const auto mapped = window.map();
        if (mapped) {
            auto& words = *reinterpret_cast<volatile uint64_t*>(mapped->data() + 0x3000);
            EXPECT_EQ(words, 0x3000u);
            words = 77;
            EXPECT_EQ(host().ask(look, {0x3000, 0, 0}).value, 77u);
        }
    }
    host().ask(withdraw, there);
    EXPECT_EQ(word(window, 0), ~uint64_t{0});
}

TEST_F(NtbHosts, EventsGoThere) {
    const auto there = host().ask(events);
    const auto window = host().adapter->open_window(host().target(there)).value();
    const std::array fds = {window.event(0).value(), window.event(4).value()};
    for (int i = 0; i < 10; ++i) {
        const auto which = static_cast<uint64_t>(i % 2);
        signal(fds[which]);
        ASSERT_EQ(host().ask(count, {0, 0, which}).value, 1u) << i;
    }
}

TEST_F(NtbHosts, EventsComeHere) {
    const std::array mine = {create_eventfd().value(), create_eventfd().value()};
    const std::array fds = {mine[0].get(), mine[1].get()};
    const auto exported = host().adapter->export_events(fds).value();
    for (int i = 0; i < 10; ++i) {
        const auto which = static_cast<size_t>(i % 2);
        host().ask(ring, {exported.address().value + 4 * which, 0, 0});
        ASSERT_TRUE(arrives(mine[which])) << i;
        EXPECT_EQ(drain(mine[1 - which]), 0u);
    }
}

TEST_F(NtbHosts, RegistersOfADeviceThere) {
    const auto there = host().ask(registers, {0, 0, 0});
    const auto window = host().adapter->open_window(host().target(there)).value();
    const auto read = [&](uint64_t offset) {
        le32 value;
        EXPECT_TRUE(window.read(offset, std::as_writable_bytes(std::span(&value, 1))));
        return uint32_t{value};
    };
    EXPECT_EQ(read(0), 0x010000edu);
    for (uint32_t i = 0; i < 20; ++i) {
        const le32 value = 0x1000'0000 + i;
        ASSERT_TRUE(window.write(4, std::as_bytes(std::span(&value, 1))));
        ASSERT_EQ(read(4), ~(0x1000'0000u + i)); // its liveness check
    }
    // Its DMA source takes 8 bytes, or 4 without the rest: halves would be something else.
    put(window, 0x80, 0x1234'5678'9abc'def0);
    EXPECT_EQ(word(window, 0x80), 0x1234'5678'9abc'def0u);
    EXPECT_TRUE(window.memory(0, there.size_bytes).value().empty());
    host().ask(withdraw, there);
    EXPECT_EQ(read(0), 0xffff'ffffu);
}

TEST_F(NtbHosts, MemoryOfADeviceThere) {
    const auto there = host().ask(registers, {0, 0, 1});
    const auto window = host().adapter->open_window(host().target(there)).value();
    for (uint64_t offset = 0; offset < 0x400; offset += 8)
        put(window, offset, ~offset);
    for (uint64_t offset = 0; offset < 0x400; offset += 8)
        ASSERT_EQ(word(window, offset), ~offset);
    std::vector<std::byte> block(page);
    ASSERT_TRUE(window.read(0, block));
    EXPECT_EQ(block[8], std::byte{0xf7});
    host().ask(withdraw, there);
}

// QEMU's teaching device of this host copies between this host's memory and the other's.
TEST_F(NtbHosts, ADeviceHereReachesMemoryThere) {
    const auto there = host().ask(memory, {0, memory_bytes, 0});
    auto window = host().adapter->open_window(host().target(there)).value();
    const auto edu = card("EDU");
    ASSERT_TRUE(pci::write16(*edu, Region::config, pci::config::command,
                             pci::command::memory_space | pci::command::bus_master));
    const Iova iova{0x1'0000'0000};
    auto mapped = window.map_for(*edu, iova, Access::read_write);
    ASSERT_TRUE(mapped) << mapped.error().message();
    // By a mapping: some kernels' VFIO does an access of 8 bytes by call in two halves.
    const auto registers = Mapping::create(edu->memory(Region::bar0, 0, page).value().at(0).memory).value();
    const auto at = [&](uint64_t offset) -> volatile uint64_t& {
        return *reinterpret_cast<volatile uint64_t*>(registers.data() + offset);
    };
    const auto transfer = [&](uint64_t from, uint64_t to, uint64_t size, uint64_t direction) {
        at(0x80) = from;
        at(0x88) = to;
        at(0x90) = size;
        at(0x98) = 1 | direction;
        while (at(0x98) & 1)
            std::this_thread::sleep_for(1ms);
    };
    transfer(iova.value + 0x4000, 0x40000, 256, 0);
    transfer(0x40000, iova.value + 0x8000, 256, 2);
    EXPECT_EQ(host().ask(look, {0x8008, 0, 0}).value, 0x4008u);
    EXPECT_EQ(host().ask(look, {0x8100, 0, 0}).value, 0x8100u);
    for (auto& mapping : *mapped)
        EXPECT_TRUE(mapping.unmap());
}

} // namespace
} // namespace lanepool::hosts

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "serve") == 0) {
        lanepool::hosts::Server().run();
        return 0;
    }
    testing::InitGoogleMock(&argc, argv);
    return RUN_ALL_TESTS();
}
