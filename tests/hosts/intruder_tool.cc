// SPDX-License-Identifier: Apache-2.0
//
// Root of a host that takes part in the pool, and plays by nobody's rules: it uses the host's adapter, and a
// card that the host lends, by their BARs in sysfs, while the host's agent has them. (Linux gives BARs that a
// driver has to nobody else, unless it was told iomem=relaxed: that host's root tells it.)
//
//   intruder_tool CARD windows                             the agent's windows: where each leads to
//   intruder_tool CARD read PARTITION ADDRESS...           the word at each bus address of that host's
//   intruder_tool CARD write PARTITION WORD ADDRESS...     8 bytes there: WORD, and its complement
//   intruder_tool CARD scan PARTITION START END STEP       where in a range something answers
//   intruder_tool CARD random PARTITION SEED COUNT START END WORD
//                                                          the same at random addresses; WORD where nothing
//                                                          answers
//   intruder_tool CARD touch                               all window BARs as they stand, a word a page or
//   entry intruder_tool EDU  copy FROM TO...                     4 KiB by the DMA engine, at addresses as it
//   sees them
//
// CARD and EDU are addresses of functions. Ends with 0, or with 1 and the reason.
#include "base/mapping.h"
#include "ntb/switchtec.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace lanepool {
namespace {

using namespace std::chrono_literals;
namespace switchtec = ntb::switchtec;
namespace gas = switchtec::gas;

constexpr uint64_t page = 4096;
constexpr uint32_t nobody = 0xffff'ffff;

// A part of a BAR, as sysfs hands it out. Each access is one of the processor's.
class Registers {
  public:
    static Result<Registers> create(const std::string& function, unsigned bar, uint64_t offset_bytes,
                                    uint64_t size_bytes) {
        const std::string path = fmt::format("/sys/bus/pci/devices/{}/resource{}", function, bar);
        const UniqueFd file{::open(path.c_str(), O_RDWR | O_CLOEXEC | O_SYNC)};
        if (!file) return fail(Errc::io, "{}: {}", path, std::strerror(errno));
        Registers registers;
        registers.mapping_ = TRY(Mapping::create(file.get(), offset_bytes, size_bytes));
        return registers;
    }
    template <class T>
    T read(uint64_t offset_bytes) const {
        return *reinterpret_cast<const volatile T*>(mapping_.data() + offset_bytes);
    }
    template <class T>
    void write(uint64_t offset_bytes, T value) const {
        *reinterpret_cast<volatile T*>(mapping_.data() + offset_bytes) = value;
    }

  private:
    Mapping mapping_;
};

struct WindowBar {
    unsigned slot = 0;
    unsigned first_entry = 0; // in the LUT
    unsigned entries = 0;
    uint64_t entry_bytes = 0;
};

class Intruder {
  public:
    static Result<std::unique_ptr<Intruder>> create(std::string function) {
        std::unique_ptr<Intruder> made(new Intruder);
        Intruder& intruder = *made;
        intruder.gas_ = TRY(Registers::create(function, 0, 0, gas::size_bytes));
        intruder.function_ = std::move(function);
        const auto own = intruder.gas_.read<uint32_t>(gas::partition_id(switchtec::Generation::gen4));
        if (own >= switchtec::max_partitions)
            return fail(Errc::protocol, "the adapter says that it is partition {:#x}", own);
        intruder.control_ = gas::control(own);
        unsigned next = 0;
        for (unsigned slot = 1; slot < switchtec::bar_slots; ++slot) {
            const auto ctl = intruder.gas_.read<uint32_t>(intruder.control_ +
                                                          offsetof(switchtec::ControlBlock, bar_entry) +
                                                          slot * sizeof(switchtec::BarEntry));
            if (!switchtec::bar_ctl::Valid::get(ctl) || !switchtec::bar_ctl::Lut::get(ctl)) continue;
            const WindowBar bar{slot, next, switchtec::bar_ctl::LutCountMinus1::get(ctl) + 1,
                                uint64_t{1} << switchtec::bar_ctl::LutSizeLog2::get(ctl)};
            next += bar.entries;
            intruder.bars_.push_back(bar);
        }
        if (intruder.bars_.empty())
            return fail(Errc::failed_precondition, "the adapter has no windows: its agent does not run");
        // The last window of the last BAR: the agent takes those with low numbers first.
        const auto& last = intruder.bars_.back();
        if (Lut::get(intruder.lut(last.first_entry + last.entries - 1)))
            return fail(Errc::busy, "the adapter's last window is in use");
        intruder.window_ = TRY(Registers::create(intruder.function_, last.slot,
                                                 (last.entries - 1) * last.entry_bytes, last.entry_bytes));
        intruder.window_bytes_ = last.entry_bytes;
        intruder.window_entry_ = last.first_entry + last.entries - 1;
        return made;
    }
    ~Intruder() {
        if (start_) (void)set_lut(window_entry_, 0);
    }
    Intruder(const Intruder&) = delete;
    Intruder& operator=(const Intruder&) = delete;

    Result<uint32_t> read(uint8_t victim, uint64_t address) {
        TRY(point(victim, address));
        return window_.read<uint32_t>(address % window_bytes_);
    }
    Result<> write(uint8_t victim, uint64_t address, uint32_t word) {
        TRY(point(victim, address));
        window_.write<uint32_t>(address % window_bytes_, word);
        window_.write<uint32_t>(address % window_bytes_ + 4, ~word);
        // Writes are posted: a read behind them says that they have arrived, wherever that is.
        (void)window_.read<uint32_t>(address % window_bytes_);
        return {};
    }

    void print_windows() const {
        for (const auto& bar : bars_)
            for (unsigned i = 0; i < bar.entries; ++i)
                if (const uint64_t entry = lut(bar.first_entry + i); Lut::get(entry))
                    fmt::print("BAR {} window {}: partition {} at {:#x}, {:#x} bytes\n", bar.slot, i,
                               switchtec::lut::TargetPartition::get(entry),
                               entry & switchtec::lut::address_mask, bar.entry_bytes);
    }

    // Each page of the windows that are open, a word of each of those that are not.
    Result<> touch() const {
        uint64_t closed = 0, pages = 0;
        for (const auto& bar : bars_) {
            for (unsigned i = 0; i < bar.entries; ++i) {
                const uint64_t entry = lut(bar.first_entry + i);
                const bool open = Lut::get(entry);
                const auto window = TRY(Registers::create(function_, bar.slot, i * bar.entry_bytes,
                                                          open ? bar.entry_bytes : page));
                for (uint64_t at = 0; at < (open ? bar.entry_bytes : page); at += page) {
                    const auto word = window.read<uint32_t>(at);
                    ++(open ? pages : closed);
                    if (word == nobody) continue;
                    fmt::print("partition {} at {:#x} is {:#010x}\n",
                               open ? switchtec::lut::TargetPartition::get(entry) : nobody,
                               (entry & switchtec::lut::address_mask) + at, word);
                }
            }
        }
        fmt::print("touched {} pages of open windows and {} closed ones\n", pages, closed);
        return {};
    }

  private:
    using Lut = switchtec::lut::Enable;
    Intruder() = default;

    uint64_t lut(unsigned entry) const {
        return gas_.read<uint64_t>(control_ + offsetof(switchtec::ControlBlock, lut_entry) +
                                   entry * sizeof(uint64_t));
    }
    Result<> operate(switchtec::ControlOp op, switchtec::ControlStatus wanted) const {
        // The agent may be at it, too.
        for (int i = 0; i < 1000; ++i) {
            gas_.write<uint32_t>(control_ + offsetof(switchtec::ControlBlock, op), static_cast<uint32_t>(op));
            const auto status = switchtec::ControlStatusField::get(
                gas_.read<uint32_t>(control_ + offsetof(switchtec::ControlBlock, status)));
            if (status == wanted) return {};
            std::this_thread::sleep_for(1ms);
        }
        return fail(Errc::timeout, "the adapter's control block does not obey");
    }
    Result<> set_lut(unsigned entry, uint64_t value) const {
        TRY(operate(switchtec::ControlOp::lock, switchtec::ControlStatus::locked));
        gas_.write<uint64_t>(
            control_ + offsetof(switchtec::ControlBlock, lut_entry) + entry * sizeof(uint64_t), value);
        return operate(switchtec::ControlOp::config, switchtec::ControlStatus::normal);
    }
    Result<> point(uint8_t victim, uint64_t address) {
        const uint64_t start = address - address % window_bytes_;
        if (start_ == start) return {};
        TRY(set_lut(window_entry_, switchtec::lut::entry(victim, start)));
        start_ = start;
        return {};
    }

    std::string function_;
    Registers gas_, window_;
    uint64_t control_ = 0, window_bytes_ = 0;
    unsigned window_entry_ = 0;
    std::vector<WindowBar> bars_;
    std::optional<uint64_t> start_; // of what the window leads to
};

// QEMU's teaching device (docs/specs/edu.rst there), without a driver.
Result<> copy(const std::string& function, std::span<const uint64_t> addresses) {
    constexpr uint64_t source = 0x80, destination = 0x88, count = 0x90, command = 0x98, buffer = 0x40000;
    const auto card = TRY(Registers::create(function, 0, 0, page));
    const auto transfer = [&](uint64_t from, uint64_t to, uint64_t how) -> Result<> {
        card.write<uint64_t>(source, from);
        card.write<uint64_t>(destination, to);
        card.write<uint64_t>(count, page);
        card.write<uint64_t>(command, how);
        for (int i = 0; i < 1000; ++i) {
            if (!(card.read<uint64_t>(command) & 1)) return {};
            std::this_thread::sleep_for(10ms);
        }
        return fail(Errc::timeout, "the card's DMA engine does not end");
    };
    TRY(transfer(addresses[0], buffer, 0x1));
    for (const uint64_t to : addresses.subspan(1)) {
        TRY(transfer(buffer, to, 0x3));
        fmt::print("{:#x} copied to {:#x}\n", addresses[0], to);
    }
    return {};
}

Result<> run(std::span<char*> words) {
    if (words.size() < 3) return fail(Errc::invalid_argument, "usage: intruder_tool FUNCTION COMMAND ...");
    const std::string_view command = words[2];
    std::vector<uint64_t> numbers;
    for (char* word : words.subspan(3))
        numbers.push_back(std::strtoull(word, nullptr, 0));
    if (command == "copy" && numbers.size() > 1) return copy(words[1], numbers);
    const auto intruder = TRY(Intruder::create(words[1]));
    const auto victim = static_cast<uint8_t>(numbers.empty() ? 0 : numbers[0]);
    const std::span<const uint64_t> rest = std::span(numbers).subspan(numbers.empty() ? 0 : 1);
    if (command == "windows") {
        intruder->print_windows();
        return {};
    }
    if (command == "touch") return intruder->touch();
    if (command == "read") {
        for (const uint64_t address : rest)
            fmt::print("{:#x} is {:#010x}\n", address, TRY(intruder->read(victim, address)));
        return {};
    }
    if (command == "write" && !rest.empty()) {
        for (const uint64_t address : rest.subspan(1))
            TRY(intruder->write(victim, address, static_cast<uint32_t>(rest[0])));
        return {};
    }
    if (command == "scan" && rest.size() == 3 && rest[2] > 0) {
        for (uint64_t at = rest[0]; at < rest[1]; at += rest[2])
            if (const uint32_t word = TRY(intruder->read(victim, at)); word != nobody)
                fmt::print("{:#x} is {:#010x}\n", at, word);
        return {};
    }
    if (command == "random" && rest.size() == 5 && rest[2] < rest[3]) {
        std::mt19937_64 random(rest[0]);
        std::uniform_int_distribution<uint64_t> pages(rest[2] / page, rest[3] / page - 1);
        for (uint64_t i = 0; i < rest[1]; ++i) {
            const uint64_t at = pages(random) * page + random() % (page / 8) * 8;
            if (const uint32_t word = TRY(intruder->read(victim, at)); word != nobody)
                fmt::print("{:#x} is {:#010x}\n", at, word);
            else
                TRY(intruder->write(victim, at, static_cast<uint32_t>(rest[4])));
        }
        return {};
    }
    return fail(Errc::invalid_argument, "there is no command '{}' with {} arguments", command,
                numbers.size());
}

} // namespace
} // namespace lanepool

int main(int argc, char** argv) {
    const auto result = lanepool::run({argv, static_cast<size_t>(argc)});
    if (!result) fmt::print(stderr, "intruder_tool: {}\n", result.error().message());
    return result ? 0 : 1;
}
