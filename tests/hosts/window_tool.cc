// SPDX-License-Identifier: Apache-2.0
//
// A host that plays by nobody's rules: it has a port of the fabric for itself, opens windows to whatever
// address of another host it likes, and reads or writes there.
//
//   window_tool SOCKET PARTITION scan START END     addresses of this range, one a page, where something
//   answers window_tool SOCKET PARTITION read ADDRESS...    the word at each window_tool SOCKET PARTITION
//   write ADDRESS...   writes 0x0bad0bad there
//
// Ends with 0, or with 1 and the reason.
#include "base/endian.h"
#include "ntb/adapter.h"
#include "vfio_user/client.h"

#include <cstdlib>
#include <fmt/format.h>
#include <span>
#include <string_view>
#include <vector>

namespace lanepool {
namespace {

// What a window leads over at a time; the fabric has windows of this size on BAR4 in any case.
constexpr uint64_t span_bytes = uint64_t{1} << 20;
constexpr uint32_t nobody = 0xffff'ffff;

class Intruder {
  public:
    static Result<Intruder> create(const char* socket, ntb::Partition victim) {
        Intruder intruder;
        intruder.adapter_ = TRY(ntb::Adapter::create(TRY(vfio_user::connect(socket)), {}));
        intruder.victim_ = victim;
        return intruder;
    }

    Result<uint32_t> read(uint64_t address) {
        le32 word;
        TRY(TRY(window(address))->read(address % span_bytes, std::as_writable_bytes(std::span(&word, 1))));
        return word;
    }
    Result<> write(uint64_t address) {
        const le32 word = 0x0bad'0bad;
        TRY(TRY(window(address))->write(address % span_bytes, std::as_bytes(std::span(&word, 1))));
        // The write is posted: a read behind it says that it has arrived, wherever that is.
        return read(address).map([](uint32_t) {});
    }

  private:
    Result<ntb::Window*> window(uint64_t address) {
        const uint64_t start = address - address % span_bytes;
        if (!window_ || start != start_) {
            window_ = {};
            window_ = TRY(adapter_->open_window({victim_, BusAddress{start}, span_bytes}));
            start_ = start;
        }
        return &window_;
    }

    std::unique_ptr<ntb::Adapter> adapter_;
    ntb::Partition victim_;
    uint64_t start_ = 0;
    ntb::Window window_;
};

Result<> run(std::span<char*> words) {
    if (words.size() < 5)
        return fail(Errc::invalid_argument, "usage: window_tool SOCKET PARTITION scan|read|write ADDRESS...");
    const ntb::Partition victim{static_cast<uint8_t>(std::strtoul(words[2], nullptr, 0))};
    auto intruder = TRY(Intruder::create(words[1], victim));
    const std::string_view command = words[3];
    std::vector<uint64_t> addresses;
    for (char* word : words.subspan(4))
        addresses.push_back(std::strtoull(word, nullptr, 0));
    if (command == "scan") {
        if (addresses.size() != 3 || addresses[2] == 0)
            return fail(Errc::invalid_argument, "scan takes a start, an end and a step");
        for (uint64_t at = addresses[0]; at < addresses[1]; at += addresses[2])
            if (const uint32_t word = TRY(intruder.read(at)); word != nobody)
                fmt::print("{:#x} is {:#010x}\n", at, word);
        return {};
    }
    for (const uint64_t address : addresses) {
        if (command == "write") {
            TRY(intruder.write(address));
        } else if (command == "read") {
            fmt::print("{:#x} is {:#010x}\n", address, TRY(intruder.read(address)));
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
    if (!result) fmt::print(stderr, "window_tool: {}\n", result.error().message());
    return result ? 0 : 1;
}
