// SPDX-License-Identifier: Apache-2.0
#include "lanepool/smartio.h"
#include "share/shared_drive.h"
#include "smartio/roles.h"

#include <array>
#include <cstring>
#include <random>

namespace lanepool::load {

namespace {

constexpr uint64_t own_blocks = 64;

// What a block holds: who wrote it, where and when.
struct Stamp {
    uint64_t block;
    uint64_t number;
    bool operator==(const Stamp&) const = default;
};

std::vector<std::byte> filled(const Stamp& stamp, size_t size_bytes) {
    std::vector<std::byte> data(size_bytes);
    for (size_t at = 0; at + sizeof stamp <= size_bytes; at += sizeof stamp)
        std::memcpy(data.data() + at, &stamp, sizeof stamp);
    return data;
}

} // namespace

Result<> drive(const Options& options, Progress& progress) {
    auto session = TRY(Session::open({.socket = options.agent}));
    auto drive = TRY(SharedDrive::open(session, options.fdid));
    if (drive.blocks() < options.first_block + own_blocks) wrong("the drive is too small");
    // As long as this loan lasts the drive is not wiped, whoever dies.
    std::array<std::optional<Stamp>, own_blocks> written;
    std::minstd_rand random(std::random_device{}());
    std::vector<std::byte> data(drive.block_bytes());
    for (uint64_t number = 1;; ++number) {
        const uint64_t index = random() % own_blocks;
        const uint64_t block = options.first_block + index;
        if (auto& stamp = written[index]) {
            TRY(drive.read_blocks(block, data));
            if (data != filled(*stamp, data.size()))
                wrong(fmt::format("block {} does not hold what was written as number {}", block,
                                  stamp->number));
        }
        const Stamp stamp{block, number};
        written[index].reset(); // until it is known what is there
        TRY(drive.write_blocks(block, filled(stamp, data.size())));
        written[index] = stamp;
        progress.step();
    }
}

} // namespace lanepool::load
