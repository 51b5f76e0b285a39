// SPDX-License-Identifier: Apache-2.0
#include "qualify/drive_trial.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

namespace lanepool::qualify {

namespace {

// SplitMix64: cheap, and every seed gives another sequence.
uint64_t next_random(uint64_t& state) {
    uint64_t value = state += 0x9e3779b97f4a7c15;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

Check found(Outcome result, std::string reason, std::string evidence = {}) {
    return {"", result, std::move(reason), std::move(evidence), ""};
}

bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

// As what erased blocks read, and what a read that was dropped delivers.
bool blank(std::span<const std::byte> data) {
    const auto first = data.front();
    return (first == std::byte{0} || first == std::byte{0xff}) &&
           std::ranges::all_of(data, [first](std::byte each) { return each == first; });
}

// Goes over BLOCKS in transfers: WORK(first_block, buffer of whole blocks).
template <class Work>
Result<> in_transfers(TrialDrive& drive, uint64_t blocks, Work work) {
    const uint64_t most = std::clamp<uint64_t>(drive.transfer_blocks(), 1, blocks);
    std::vector<std::byte> buffer(most * drive.block_bytes());
    for (uint64_t block = 0; block < blocks; block += most) {
        const auto now = std::min(most, blocks - block);
        TRY(work(block, std::span(buffer).first(now * drive.block_bytes())));
    }
    return {};
}

// The isolation check's steps.
class IsolationTrial {
  public:
    IsolationTrial(TrialDrive& drive, uint64_t seed)
        : drive_(drive), seed_(seed), on_drive_(drive.block_bytes()), secret_(drive.block_bytes()) {}

    Result<Check> run() {
        const auto memory = TRY(drive_.revoked_memory());
        if (memory.size() < secret_.size())
            return fail(Errc::internal, "{} bytes of memory are less than a block", memory.size());
        memory_ = memory.first(secret_.size());
        fill(on_drive_, drive_.block_bytes(), block, seed_);
        fill(secret_, drive_.block_bytes(), block, ~seed_);
        std::ranges::copy(secret_, memory_.begin());
        for (const auto where : {Stray::revoked, Stray::unmapped}) {
            const char* place = where == Stray::revoked ? "memory that was taken from it"
                                                        : "an address where it has no memory";
            TRY(drive_.write(block, on_drive_));
            note("to", where, drive_.read_to(where, block));
            if (!same(memory_, secret_))
                return found(Outcome::fail,
                             fmt::format("the drive, told to read to {}, has changed our memory", place),
                             evidence_);
            note("from", where, drive_.write_from(where, block));
            std::vector<std::byte> now(drive_.block_bytes());
            TRY(drive_.read(block, now));
            if (same(now, secret_))
                return found(Outcome::fail,
                             fmt::format("the drive, told to write from {}, has read our memory", place),
                             evidence_);
            if (!same(now, on_drive_) && !blank(now))
                return found(
                    Outcome::fail,
                    fmt::format("the drive, told to write from {}, has written something from there", place),
                    evidence_);
            if (!same(memory_, secret_))
                return found(Outcome::fail, "our memory was changed without a command to", evidence_);
        }
        return found(Outcome::pass, "commands with addresses that are not the drive's fail or are dropped",
                     evidence_);
    }

  private:
    static constexpr uint64_t block = 0;

    void note(const char* direction, Stray where, const Result<>& result) {
        evidence_ += fmt::format("{}{} {}: {}", evidence_.empty() ? "" : "; ", direction,
                                 where == Stray::revoked ? "revoked memory" : "an unmapped address",
                                 result ? "dropped" : "error " + std::string(name(result.error().code())));
    }

    TrialDrive& drive_;
    const uint64_t seed_;
    std::vector<std::byte> on_drive_, secret_;
    std::span<std::byte> memory_;
    std::string evidence_;
};

} // namespace

void fill(std::span<std::byte> data, uint32_t block_bytes, uint64_t first_block, uint64_t seed) {
    for (uint64_t block = first_block; !data.empty(); ++block) {
        const auto now = data.first(std::min<size_t>(block_bytes, data.size()));
        uint64_t state = seed ^ (block * 0xd1342543de82ef95);
        for (size_t i = 0; i < now.size(); i += sizeof(uint64_t)) {
            const uint64_t value = next_random(state);
            std::memcpy(now.data() + i, &value, std::min(sizeof value, now.size() - i));
        }
        data = data.subspan(now.size());
    }
}

Result<Check> try_load(TrialDrive& drive, uint64_t bytes, uint64_t seed, const OnProgress& progress) {
    const uint64_t blocks =
        std::clamp<uint64_t>(bytes / drive.block_bytes(), 1, std::max<uint64_t>(drive.blocks(), 1));
    const uint64_t total = blocks * drive.block_bytes();
    TRY(in_transfers(drive, blocks, [&](uint64_t block, std::span<std::byte> data) -> Result<> {
        TRY(progress(fmt::format("writing {} of {} KiB", block * drive.block_bytes() / 1024, total / 1024)));
        fill(data, drive.block_bytes(), block, seed);
        return drive.write(block, data);
    }));
    uint64_t wrong = 0, first_wrong = 0;
    std::vector<std::byte> expected;
    TRY(in_transfers(drive, blocks, [&](uint64_t block, std::span<std::byte> data) -> Result<> {
        TRY(progress(
            fmt::format("reading back {} of {} KiB", block * drive.block_bytes() / 1024, total / 1024)));
        TRY(drive.read(block, data));
        expected.resize(data.size());
        fill(expected, drive.block_bytes(), block, seed);
        for (size_t at = 0; at < data.size(); at += drive.block_bytes())
            if (!same(data.subspan(at, drive.block_bytes()),
                      std::span(expected).subspan(at, drive.block_bytes())) &&
                wrong++ == 0)
                first_wrong = block + at / drive.block_bytes();
        return {};
    }));
    const auto evidence = fmt::format("{} bytes in {} blocks of {}", total, blocks, drive.block_bytes());
    if (wrong != 0)
        return found(Outcome::fail,
                     fmt::format("{} blocks read back as something else than was written, the first is {}",
                                 wrong, first_wrong),
                     evidence);
    return found(Outcome::pass, "random data were written, and read back as they were", evidence);
}

Result<Check> try_isolation(TrialDrive& drive, uint64_t seed) { return IsolationTrial(drive, seed).run(); }

Result<Check> try_erased(TrialDrive& drive, uint64_t blocks, uint64_t seed) {
    uint64_t kept = 0, other = 0;
    std::vector<std::byte> written(drive.block_bytes());
    blocks = std::min(blocks, drive.blocks());
    if (blocks == 0) return fail(Errc::internal, "nothing was written");
    TRY(in_transfers(drive, blocks, [&](uint64_t block, std::span<std::byte> data) -> Result<> {
        TRY(drive.read(block, data));
        for (size_t at = 0; at < data.size(); at += drive.block_bytes()) {
            const auto now = data.subspan(at, drive.block_bytes());
            fill(written, drive.block_bytes(), block + at / drive.block_bytes(), seed);
            if (same(now, written))
                ++kept;
            else if (!blank(now))
                ++other;
        }
        return {};
    }));
    if (kept != 0)
        return found(
            Outcome::fail,
            fmt::format("{} of {} blocks still hold what the killed borrower has written", kept, blocks));
    if (other != 0)
        return found(Outcome::limits,
                     fmt::format("{} of {} blocks read as neither zeroes nor ones, nor as what was written: "
                                 "only the drive knows that they are erased",
                                 other, blocks));
    return found(Outcome::pass, fmt::format("{} blocks that were written are erased", blocks));
}

} // namespace lanepool::qualify
