// SPDX-License-Identifier: Apache-2.0
//
// Tries namespaces of an NVMe drive that are not its user's, through the kernel's VFIO: the kernel's own
// driver refuses to send such commands, a borrower's need not.
//
//   drive_tool ADDRESS NSID...     reads and writes the first block of each, and prints what became of it
//
// Ends with 0, whatever the drive answers, or with 1 and the reason.
#include "nvme/driver.h"
#include "nvme/io_commands.h"
#include "pci/address.h"
#include "vfio/open.h"

#include <algorithm>
#include <cstdlib>
#include <fmt/format.h>
#include <span>

namespace lanepool {
namespace {

using namespace std::chrono_literals;

const char* outcome(const nvme::Outcome& answer) {
    if (answer.lost) return "no answer";
    return answer.ok() ? "done" : "refused";
}

Result<> run(std::span<char*> words) {
    if (words.size() < 3) return fail(Errc::invalid_argument, "usage: drive_tool ADDRESS NSID...");
    auto function = TRY(vfio::open(TRY(pci::parse_address(words[1]))));
    auto driver = TRY(nvme::Driver::create(*function, io::system_clock(), {.io_queues = 1}));
    auto* queue = TRY(driver->create_queue({.depth = 2}));
    if (driver->namespaces().empty()) return fail(Errc::not_found, "the drive has no namespace");
    const auto buffer = TRY(driver->allocate(4096));
    nvme::NamespaceInfo ns = driver->namespaces().front();
    fmt::print("own namespace: {}\n", ns.nsid);
    for (char* word : words.subspan(2)) {
        ns.nsid = static_cast<uint32_t>(std::strtoul(word, nullptr, 0));
        std::ranges::fill(buffer.bytes(), std::byte{0});
        const auto read = queue->execute(TRY(make_read(ns, 0, 1, {buffer})), 10s);
        const bool got = std::ranges::any_of(buffer.bytes(), [](std::byte b) { return b != std::byte{0}; });
        std::ranges::fill(buffer.bytes(), std::byte{0xbd});
        const auto write = queue->execute(TRY(make_write(ns, 0, 1, {buffer})), 10s);
        fmt::print("namespace {}: read {}, {}; write {}\n", ns.nsid, outcome(read), got ? "data" : "nothing",
                   outcome(write));
    }
    return driver->shut_down();
}

} // namespace
} // namespace lanepool

int main(int argc, char** argv) {
    const auto result = lanepool::run({argv, static_cast<size_t>(argc)});
    if (!result) fmt::print(stderr, "drive_tool: {}\n", result.error().message());
    return result ? 0 : 1;
}
