// SPDX-License-Identifier: Apache-2.0
//
// What a test has to know of a whole host from inside: physical addresses of memory, and how the bridge
// module and the agent stand.
//
//   memory_tool pattern WORD COUNT     keeps COUNT pages full of this word, prints their physical addresses
//                                      and waits until it is killed
//   memory_tool pages PID NAME...      physical addresses of the pages that a process has of files whose
//   names
//                                      have one of NAME in them
//   memory_tool info                   what /dev/lanepool_bridge says of itself
//   memory_tool status SOCKET          what a daemon's administration socket says of it
//
// Ends with 0, or with 1 and the reason.
#include "admin/server.h"
#include "base/mapping.h"
#include "lanepool_bridge.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace lanepool {
namespace {

constexpr uint64_t page = 4096;

Result<UniqueFd> open_file(const std::string& path, int flags) {
    UniqueFd file{::open(path.c_str(), flags | O_CLOEXEC)};
    if (!file) return fail(Errc::io, "{}: {}", path, std::strerror(errno));
    return file;
}

// Linux's Documentation/admin-guide/mm/pagemap.rst. 0: the page is not there.
Result<uint64_t> physical(const UniqueFd& pagemap, uint64_t address) {
    uint64_t entry = 0;
    if (::pread(pagemap.get(), &entry, sizeof entry, static_cast<off_t>(address / page * sizeof entry)) !=
        sizeof entry)
        return fail(Errc::io, "pagemap has nothing of {:#x}", address);
    constexpr uint64_t present = uint64_t{1} << 63, number = (uint64_t{1} << 55) - 1;
    return entry & present ? (entry & number) * page : 0;
}

Result<> pattern(uint32_t word, size_t count) {
    const size_t bytes = count * page;
    auto* memory = static_cast<uint32_t*>(
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    if (memory == MAP_FAILED || ::mlock(memory, bytes) != 0)
        return fail(Errc::io, "{} pages: {}", count, std::strerror(errno));
    std::fill_n(memory, bytes / sizeof word, word);
    const auto pagemap = TRY(open_file("/proc/self/pagemap", O_RDONLY));
    for (size_t i = 0; i < count; ++i)
        fmt::print("{:#x}\n", TRY(physical(pagemap, reinterpret_cast<uint64_t>(memory) + i * page)));
    std::fflush(stdout);
    for (;;)
        ::pause();
}

Result<> pages(const std::string& pid, std::span<char*> names) {
    std::ifstream maps("/proc/" + pid + "/maps");
    const auto pagemap = TRY(open_file("/proc/" + pid + "/pagemap", O_RDONLY));
    for (std::string line; std::getline(maps, line);) {
        if (std::ranges::none_of(names, [&](const char* name) { return line.find(name) != line.npos; }))
            continue;
        char* rest = nullptr;
        const uint64_t start = std::strtoull(line.c_str(), &rest, 16);
        const uint64_t end = std::strtoull(rest + 1, nullptr, 16);
        for (uint64_t at = start; at < end; at += page)
            if (const uint64_t where = TRY(physical(pagemap, at))) fmt::print("{:#x}\n", where);
    }
    return {};
}

Result<> info() {
    const auto bridge = TRY(open_file("/dev/lanepool_bridge", O_RDWR));
    lanepool_bridge_info info{};
    info.size = sizeof info;
    if (::ioctl(bridge.get(), LANEPOOL_BRIDGE_INFO, &info) != 0)
        return fail(Errc::io, "INFO: {}", std::strerror(errno));
    fmt::print("version {} state {} modes {:#x}\n", info.version, info.state, info.dma_modes);
    return {};
}

Result<> run(std::span<char*> words) {
    const std::string_view command = words.size() > 1 ? words[1] : "";
    if (command == "pattern" && words.size() == 4)
        return pattern(static_cast<uint32_t>(std::strtoul(words[2], nullptr, 0)),
                       std::strtoul(words[3], nullptr, 0));
    if (command == "pages" && words.size() > 3) return pages(words[2], words.subspan(3));
    if (command == "info") return info();
    if (command == "status" && words.size() == 3) {
        fmt::print("{}\n", TRY(admin::call(words[2], {{"command", "status"}})).dump());
        return {};
    }
    return fail(Errc::invalid_argument, "usage: memory_tool pattern|pages|info|status ...");
}

} // namespace
} // namespace lanepool

int main(int argc, char** argv) {
    const auto result = lanepool::run({argv, static_cast<size_t>(argc)});
    if (!result) fmt::print(stderr, "memory_tool: {}\n", result.error().message());
    return result ? 0 : 1;
}
