// SPDX-License-Identifier: Apache-2.0
//
// A small driver for QEMU's teaching device (docs/specs/edu.rst there), through the kernel's VFIO: what a
// borrower's guest has for an FPGA-like card that no kernel driver knows.
//
//   edu_tool ADDRESS work COUNT        computes and moves data, with interrupts, and compares
//   edu_tool ADDRESS store IOVA...     lets the DMA engine write 4 KiB at each of these addresses, mapped or
//   not edu_tool ADDRESS fetch IOVA...     lets it read 4 KiB from each; prints the first word of what it got
//   edu_tool ADDRESS read OFFSET...    prints registers
//
// ADDRESS is that of the function here, which vfio-pci has. Ends with 0, or with 1 and the reason.
#include "base/mapping.h"
#include "pci/address.h"
#include "pci/config_space.h"
#include "vfio/open.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fmt/format.h>
#include <poll.h>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool {
namespace {

using pci::Region;

constexpr uint64_t page = 4096;
constexpr Iova buffer_iova{0x10'0000};

class Edu {
  public:
    static Result<Edu> open(const char* text) {
        auto function = TRY(vfio::open(TRY(pci::parse_address(text))));
        const uint32_t id = TRY(pci::read32(*function, Region::bar0, identification));
        if (id != 0x010000ed) return fail(Errc::protocol, "{} says {:#x}, which is no edu", text, id);
        auto memory = TRY(create_memory("edu", page));
        const MemoryRef ref{share(std::move(memory)), 0, page};
        Edu edu;
        edu.buffer_ = TRY(Mapping::create(ref));
        edu.mapped_ =
            TRY(function->map_dma(TRY(Range<Iova>::create(buffer_iova, page)), ref, Access::read_write));
        edu.done_ = TRY(create_eventfd());
        const int eventfd = edu.done_.get();
        TRY(function->set_irqs(pci::Irq::msi, 0, {&eventfd, 1}));
        const auto command = TRY(pci::read16(*function, Region::config, pci::config::command));
        TRY(pci::write16(*function, Region::config, pci::config::command,
                         static_cast<uint16_t>(command | pci::command::bus_master)));
        edu.function_ = std::move(function);
        return edu;
    }

    Result<uint32_t> read(uint64_t offset) { return pci::read32(*function_, Region::bar0, offset); }

    // The factorial of N modulo 2^32, by interrupt.
    Result<uint32_t> compute(uint32_t n) {
        TRY(pci::write32(*function_, Region::bar0, status, 0x80)); // with an interrupt
        TRY(pci::write32(*function_, Region::bar0, factorial, n));
        TRY(wait());
        return read(factorial);
    }

    // From MEMORY to the device's own 4 KiB, or from there.
    Result<> transfer(uint64_t memory, bool from_device) {
        TRY(pci::write64(*function_, Region::bar0, source, from_device ? device_buffer : memory));
        TRY(pci::write64(*function_, Region::bar0, destination, from_device ? memory : device_buffer));
        TRY(pci::write64(*function_, Region::bar0, count, page));
        TRY(pci::write64(*function_, Region::bar0, dma_command,
                         from_device ? 0x7 : 0x5)); // with an interrupt
        return wait();
    }

    std::span<uint32_t> words() {
        return {reinterpret_cast<uint32_t*>(buffer_.data()), page / sizeof(uint32_t)};
    }

  private:
    static constexpr uint64_t identification = 0x00, factorial = 0x08, status = 0x20, interrupts = 0x24,
                              acknowledge = 0x64, source = 0x80, destination = 0x88, count = 0x90,
                              dma_command = 0x98, device_buffer = 0x40000;

    // A transfer takes a tenth of a second, whatever its size.
    Result<> wait() {
        pollfd poller{done_.get(), POLLIN, 0};
        if (::poll(&poller, 1, 10'000) != 1)
            return fail(Errc::timeout, "no interrupt in 10 s; the device says {:#x}", TRY(read(interrupts)));
        drain(done_);
        return pci::write32(*function_, Region::bar0, acknowledge, TRY(read(interrupts)));
    }

    Mapping buffer_;
    UniqueFd done_;
    std::unique_ptr<pci::Function> function_;
    pci::DmaMapping mapped_; // goes before its function
};

Result<> work(Edu& edu, unsigned rounds) {
    for (unsigned round = 0; round < rounds; ++round) {
        uint32_t expected = 1;
        for (uint32_t n = 2; n <= 5 + round; ++n)
            expected *= n;
        const uint32_t computed = TRY(edu.compute(5 + round));
        if (computed != expected)
            return fail(Errc::protocol, "{}! is {}, not {}", 5 + round, expected, computed);

        for (size_t i = 0; i < edu.words().size(); ++i)
            edu.words()[i] = static_cast<uint32_t>(i * 2654435761u + round);
        const std::vector<uint32_t> sent(edu.words().begin(), edu.words().end());
        TRY(edu.transfer(buffer_iova.value, false));
        std::ranges::fill(edu.words(), 0xdead'beef);
        TRY(edu.transfer(buffer_iova.value, true));
        if (!std::ranges::equal(sent, edu.words()))
            return fail(Errc::protocol, "round {}: what came back is not what was sent", round);
    }
    fmt::print("{} rounds: computed, moved and compared\n", rounds);
    return {};
}

Result<> run(std::span<char*> words) {
    if (words.size() < 4) return fail(Errc::invalid_argument, "usage: edu_tool ADDRESS COMMAND ARGUMENT...");
    auto edu = TRY(Edu::open(words[1]));
    const std::string_view command = words[2];
    if (command == "work") return work(edu, static_cast<unsigned>(std::strtoul(words[3], nullptr, 0)));
    for (char* word : words.subspan(3)) {
        const uint64_t number = std::strtoull(word, nullptr, 0);
        if (command == "store") {
            std::ranges::fill(edu.words(), 0x0bad'0bad);
            TRY(edu.transfer(buffer_iova.value, false));
            TRY(edu.transfer(number, true));
            fmt::print("{:#x} stored\n", number);
        } else if (command == "fetch") {
            // What the device has before is not what it could fetch.
            std::ranges::fill(edu.words(), 0x5151'5151);
            TRY(edu.transfer(buffer_iova.value, false));
            TRY(edu.transfer(number, false));
            TRY(edu.transfer(buffer_iova.value, true));
            fmt::print("{:#x} fetched {:#010x}\n", number, edu.words()[0]);
        } else if (command == "read") {
            fmt::print("{:#x} is {:#010x}\n", number, TRY(edu.read(number)));
        } else {
            return fail(Errc::invalid_argument, "there is no command '{}'", command);
        }
    }
    return {};
}

} // namespace
} // namespace lanepool

int main(int argc, char** argv) {
    const auto result = lanepool::run({argv, static_cast<size_t>(argc)});
    if (!result) fmt::print(stderr, "edu_tool: {}\n", result.error().message());
    return result ? 0 : 1;
}
