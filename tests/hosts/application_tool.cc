// SPDX-License-Identifier: Apache-2.0
//
// A program that drives borrowed devices itself, where no window can be mapped: registers and doorbells by
// calls, queues and buffers in memory of its own that is placed for the device, interrupts as eventfds.
//
//   application_tool SOCKET FDID drive KIB   writes so much to an NVMe drive, reads it back and compares
//   application_tool SOCKET FDID edu COUNT   the teaching device computes and moves data, COUNT times
//   application_tool SOCKET FDID map         insists on a mapping of BAR 0; prints why there is none
//
// SOCKET is the agent's of this host; FDID is in hexadecimal. Ends with 0, or with 1 and the reason.
#include "lanepool/device_function.h"
#include "nvme/borrowed/borrowed_memory.h"
#include "nvme/driver.h"
#include "nvme/io_commands.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fmt/format.h>
#include <poll.h>
#include <span>
#include <string_view>

namespace lanepool {
namespace {

using namespace std::chrono_literals;
using pci::Region;

constexpr uint64_t page = 4096;
constexpr auto patience = 10s; // of anything that the device does

Result<> wait_for(const UniqueFd& interrupt) {
    pollfd poller{interrupt.get(), POLLIN, 0};
    if (::poll(&poller, 1, static_cast<int>(std::chrono::milliseconds(patience).count())) != 1)
        return fail(Errc::timeout, "no interrupt in {} s", patience.count());
    drain(interrupt);
    return {};
}

// A pattern that is different in every word.
void fill(std::span<std::byte> bytes, uint32_t seed) {
    for (size_t at = 0; at + sizeof(uint32_t) <= bytes.size(); at += sizeof(uint32_t)) {
        const uint32_t word = static_cast<uint32_t>(at) * 2654435761u + seed;
        std::memcpy(&bytes[at], &word, sizeof word);
    }
}

// ---- an NVMe drive

Result<> execute(nvme::Driver& driver, nvme::QueuePair& queue, const nvme::Command& command,
                 const char* what) {
    std::optional<nvme::Outcome> outcome;
    TRY(queue.submit(command, patience, [&](const nvme::Outcome& answer) { outcome = answer; }));
    TRY(queue.ring());
    // Its interrupt says when to look. One may have come for an earlier command.
    while (!outcome) {
        TRY(wait_for(driver.interrupt(1)));
        TRY(queue.poll());
    }
    TRY(outcome->result(what));
    return {};
}

Result<> drive(Session& session, DeviceFunction& function, uint64_t bytes) {
    auto memory = std::make_shared<nvme::BorrowedMemory>(session, function.device());
    auto driver = TRY(nvme::Driver::create(
        function, io::system_clock(),
        {.io_queues = 1, .interrupt_vectors = 2, .allocator = memory, .shadow_doorbells = false}));
    auto* queue = TRY(driver->create_queue({.depth = 4, .interrupt_vector = uint16_t{1}}));
    if (driver->namespaces().empty()) return fail(Errc::not_found, "the drive has no namespace");
    const auto& ns = driver->namespaces().front();
    const auto buffer = TRY(driver->allocate(page));
    const auto blocks = static_cast<uint32_t>(page / ns.block_bytes);
    std::vector<std::byte> expected(page);
    for (uint64_t at = 0; at < bytes; at += page) {
        fill(buffer.bytes(), static_cast<uint32_t>(at));
        TRY(execute(*driver, *queue, TRY(make_write(ns, at / ns.block_bytes, blocks, {buffer})), "writing"));
    }
    TRY(execute(*driver, *queue, make_flush(ns), "flushing"));
    for (uint64_t at = 0; at < bytes; at += page) {
        std::ranges::fill(buffer.bytes(), std::byte{0xee});
        TRY(execute(*driver, *queue, TRY(make_read(ns, at / ns.block_bytes, blocks, {buffer})), "reading"));
        fill(expected, static_cast<uint32_t>(at));
        if (!std::ranges::equal(expected, buffer.bytes()))
            return fail(Errc::protocol, "what is at {:#x} is not what was written", at);
    }
    fmt::print("{} KiB written, read and compared; doorbells {}\n", bytes >> 10,
               driver->doorbells_mapped() ? "mapped" : "by calls");
    return driver->shut_down();
}

// ---- the teaching device (docs/specs/edu.rst of QEMU)

constexpr uint64_t edu_id = 0x00, edu_factorial = 0x08, edu_status = 0x20, edu_interrupts = 0x24,
                   edu_acknowledge = 0x64, edu_source = 0x80, edu_destination = 0x88, edu_count = 0x90,
                   edu_command = 0x98, edu_buffer = 0x40000;

class Edu {
  public:
    Edu(DeviceFunction& function, Session& session) : function_(function), session_(session) {}

    Result<> work(uint32_t rounds) {
        const uint32_t id = TRY(pci::read32(function_, Region::bar0, edu_id));
        if (id != 0x010000ed) return fail(Errc::protocol, "it says {:#x}, which is no edu", id);
        done_ = TRY(create_eventfd());
        const int eventfd = done_.get();
        TRY(function_.set_irqs(pci::Irq::msix, 0, {&eventfd, 1}));
        auto buffer = TRY(Segment::create(session_, {.size_bytes = page, .is_private = true}));
        const auto mapping = TRY(function_.device().map(buffer));
        for (uint32_t round = 0; round < rounds; ++round) {
            uint32_t expected = 1;
            for (uint32_t n = 2; n <= 5 + round; ++n)
                expected *= n;
            const uint32_t computed = TRY(compute(5 + round));
            if (computed != expected)
                return fail(Errc::protocol, "{}! is {}, not {}", 5 + round, expected, computed);
            TRY(move(buffer.bytes(), mapping.address(), round));
        }
        fmt::print("{} rounds: computed, moved and compared\n", rounds);
        return {};
    }

  private:
    Result<uint32_t> compute(uint32_t n) {
        TRY(pci::write32(function_, Region::bar0, edu_status, 0x80)); // with an interrupt
        TRY(pci::write32(function_, Region::bar0, edu_factorial, n));
        TRY(wait());
        return pci::read32(function_, Region::bar0, edu_factorial);
    }

    // To the device and back.
    Result<> move(std::span<std::byte> bytes, uint64_t address, uint32_t seed) {
        fill(bytes, seed);
        const std::vector<std::byte> sent(bytes.begin(), bytes.end());
        TRY(transfer(address, edu_buffer, 0x5));
        std::ranges::fill(bytes, std::byte{0xee});
        TRY(transfer(edu_buffer, address, 0x7));
        if (!std::ranges::equal(sent, bytes))
            return fail(Errc::protocol, "what came back is not what was sent");
        return {};
    }

    Result<> transfer(uint64_t from, uint64_t to, uint32_t command) {
        TRY(pci::write64(function_, Region::bar0, edu_source, from));
        TRY(pci::write64(function_, Region::bar0, edu_destination, to));
        TRY(pci::write64(function_, Region::bar0, edu_count, page));
        TRY(pci::write64(function_, Region::bar0, edu_command, command)); // with an interrupt
        return wait();
    }

    Result<> wait() {
        TRY(wait_for(done_));
        return pci::write32(function_, Region::bar0, edu_acknowledge,
                            TRY(pci::read32(function_, Region::bar0, edu_interrupts)));
    }

    DeviceFunction& function_;
    Session& session_;
    UniqueFd done_;
};

Result<> insist(Device& device) {
    const auto bar = TRY(device.bar(0));
    if (bar.map()) return fail(Errc::failed_precondition, "BAR 0 can be mapped here");
    fmt::print("{}\n", bar.map().error().message());
    return {};
}

Result<> run(std::span<char*> words) {
    if (words.size() < 4)
        return fail(Errc::invalid_argument,
                    "usage: application_tool SOCKET FDID drive KIB | edu COUNT | map");
    const std::string_view command = words[3];
    const uint64_t number = words.size() > 4 ? std::strtoull(words[4], nullptr, 0) : 1;
    auto session = TRY(Session::open({.socket = words[1]}));
    auto function =
        TRY(DeviceFunction::borrow(session, std::strtoull(words[2], nullptr, 16), Sharing::exclusive, 30s));
    if (command == "drive") return drive(session, *function, number << 10);
    if (command == "edu") return Edu(*function, session).work(static_cast<uint32_t>(number));
    if (command == "map") return insist(function->device());
    return fail(Errc::invalid_argument, "there is no command '{}'", command);
}

} // namespace
} // namespace lanepool

int main(int argc, char** argv) {
    const auto result = lanepool::run({argv, static_cast<size_t>(argc)});
    if (!result) fmt::print(stderr, "application_tool: {}\n", result.error().message());
    return result ? 0 : 1;
}
