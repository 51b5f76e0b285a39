// SPDX-License-Identifier: Apache-2.0
//
// One NVMe drive, used by programs on several hosts at the same time. `lanepool nvme share DEVICE` must run.
//
//     shared_drive FDID write BLOCK TEXT     on one host
//     shared_drive FDID read BLOCK           on another: prints the text
//     shared_drive FDID load SECONDS         reads all over the drive as fast as it may, and prints how fast
//     that was
//
//     --agent SOCKET     the agent of this program's host (else $LANEPOOL_AGENT, or the usual place)
//     --node NODE        where the manager runs (else: on the drive's host)
//     --depth N          load: commands under way at a time (32)
//     --bytes N          load: of each command (4096)
//     --own BLOCK        load: writes and reads 256 KiB from that block on, and checks each read; nobody else
//     may
//                        write there
#include "share/shared_drive.h"

#include "lanepool/smartio.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace {

using lanepool::Errc;
using lanepool::fail;
using lanepool::Result;
using lanepool::SharedDrive;
using Clock = std::chrono::steady_clock;

struct Arguments {
    lanepool::SessionOptions session;
    lanepool::SharedDriveOptions drive{.depth = 32};
    uint64_t fdid = 0;
    std::string verb;
    uint64_t number = 0; // block, or seconds
    std::string text;
    uint32_t bytes = 4096;
    std::optional<uint64_t> own;
};

unsigned long long number(uint64_t value) { return value; } // for printf

Result<> write_text(SharedDrive& drive, uint64_t block, const std::string& text) {
    std::vector<std::byte> data(drive.block_bytes());
    if (text.size() >= data.size())
        return fail(Errc::invalid_argument, "a block holds {} bytes", data.size());
    std::memcpy(data.data(), text.data(), text.size());
    TRY(drive.write_blocks(block, data));
    TRY(drive.flush_blocks());
    std::printf("block %llu: written\n", number(block));
    return {};
}

Result<> read_text(SharedDrive& drive, uint64_t block) {
    std::vector<std::byte> data(drive.block_bytes());
    TRY(drive.read_blocks(block, data));
    data.back() = std::byte{0};
    std::printf("block %llu: \"%s\"\n", number(block), reinterpret_cast<const char*>(data.data()));
    return {};
}

// As many commands at a time as the drive was opened for, each with its own piece of one buffer.
class Load {
  public:
    static constexpr uint64_t own_bytes = 256 << 10;

    Load(SharedDrive& drive, const Arguments& arguments)
        : drive_(drive), bytes_(arguments.bytes), depth_(arguments.drive.depth),
          per_piece_(arguments.bytes / drive.block_bytes()), own_(arguments.own),
          pieces_(own_ ? own_bytes / bytes_ : drive.blocks() / per_piece_), versions_(own_ ? pieces_ : 0),
          random_(std::random_device()()) {}

    Result<> run(std::chrono::seconds time) {
        if (per_piece_ == 0 || pieces_ < depth_)
            return fail(Errc::invalid_argument, "pieces of {} bytes", bytes_);
        buffer_ = TRY(drive_.allocate(uint64_t{depth_} * bytes_));
        const auto start = Clock::now();
        uint32_t idle = 0;
        for (uint32_t slot = 0; slot < depth_; ++slot)
            TRY(next(slot));
        while (drive_.outstanding() > 0) {
            idle = TRY(drive_.poll()) > 0 ? 0 : idle + 1;
            if (idle % 256 == 255)
                std::this_thread::yield(); // to the others, where there are more than cores
            over_ = over_ || Clock::now() - start >= time || wrong_ > 0;
        }
        const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
        std::printf("%llu commands in %.3f s, %.0f a second, %llu wrong, joined %llu managers more\n",
                    number(done_), seconds, static_cast<double>(done_) / seconds, number(wrong_),
                    number(drive_.rejoined()));
        if (wrong_ > 0) return fail(Errc::io, "{} commands went wrong: {}", wrong_, why_);
        return {};
    }

  private:
    uint64_t* words(uint32_t slot) {
        return reinterpret_cast<uint64_t*>(&buffer_.bytes()[uint64_t{slot} * bytes_]);
    }

    Result<> next(uint32_t slot) {
        // In one's own part each slot has its own pieces, so that no two commands are at one at the same
        // time.
        const uint64_t piece = own_ ? slot + depth_ * (random_() % (pieces_ / depth_)) : random_() % pieces_;
        const SharedDrive::Extent extent{own_.value_or(0) + piece * per_piece_, per_piece_,
                                         uint64_t{slot} * bytes_};
        if (!own_)
            return drive_.read(extent, buffer_,
                               [this, slot](const Result<>& result) { answered(slot, result); });
        uint64_t* first = words(slot);
        uint64_t* last = first + bytes_ / sizeof *first - 1;
        if (versions_[piece] == 0 || random_() % 2) {
            *first = *last = ++versions_[piece] << 16 | piece;
            return drive_.write(extent, buffer_,
                                [this, slot](const Result<>& result) { answered(slot, result); });
        }
        *first = *last = 0;
        return drive_.read(extent, buffer_, [this, slot, piece, first, last](Result<> result) {
            const uint64_t expected = versions_[piece] << 16 | piece;
            if (result && (*first != expected || *last != expected))
                result =
                    fail(Errc::io, "piece {} has {:#x} and {:#x}, not {:#x}", piece, *first, *last, expected);
            answered(slot, result);
        });
    }
    void answered(uint32_t slot, const Result<>& result) {
        ++done_;
        if (!result && ++wrong_ == 1) why_ = result.error().message();
        if (over_) return;
        if (auto started = next(slot); !started && ++wrong_ == 1) why_ = started.error().message();
    }

    SharedDrive& drive_;
    uint32_t bytes_;
    uint32_t depth_;
    uint32_t per_piece_; // blocks
    std::optional<uint64_t> own_;
    uint64_t pieces_;
    std::vector<uint64_t> versions_; // what each piece of one's own part was last written with
    std::mt19937_64 random_;
    lanepool::DriveBuffer buffer_;
    uint64_t done_ = 0;
    uint64_t wrong_ = 0;
    std::string why_;
    bool over_ = false;
};

Result<> run(const Arguments& arguments) {
    auto session = TRY(lanepool::Session::open(arguments.session));
    auto drive = TRY(SharedDrive::open(session, arguments.fdid, arguments.drive));
    if (arguments.verb == "write") return write_text(drive, arguments.number, arguments.text);
    if (arguments.verb == "read") return read_text(drive, arguments.number);
    std::printf("%llu blocks of %u bytes\n", number(drive.blocks()), drive.block_bytes());
    std::fflush(stdout);
    Load load(drive, arguments);
    auto outcome = load.run(std::chrono::seconds(arguments.number));
    // Before `load`: the drive may use its buffer until then.
    const auto closed = drive.close();
    return outcome ? closed : outcome;
}

std::optional<Arguments> parse(int argc, char** argv) {
    Arguments arguments;
    std::vector<std::string> words;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word.substr(0, 2) != "--") {
            words.push_back(word);
            continue;
        }
        if (++i == argc) return std::nullopt;
        const uint64_t value = std::strtoull(argv[i], nullptr, 10);
        if (word == "--agent")
            arguments.session.socket = argv[i];
        else if (word == "--node")
            arguments.drive.manager_node = static_cast<uint32_t>(value);
        else if (word == "--depth")
            arguments.drive.depth = static_cast<uint16_t>(value);
        else if (word == "--bytes")
            arguments.bytes = static_cast<uint32_t>(value);
        else if (word == "--own")
            arguments.own = value;
        else
            return std::nullopt;
    }
    if (words.size() < 3) return std::nullopt;
    arguments.fdid = std::strtoull(words[0].c_str(), nullptr, 16);
    arguments.verb = words[1];
    arguments.number = std::strtoull(words[2].c_str(), nullptr, 10);
    if (words.size() == 4) arguments.text = words[3];
    const bool known = (arguments.verb == "write" && words.size() == 4) ||
                       ((arguments.verb == "read" || arguments.verb == "load") && words.size() == 3);
    return known ? std::optional(arguments) : std::nullopt;
}

} // namespace

int main(int argc, char** argv) {
    const auto arguments = parse(argc, argv);
    if (!arguments) {
        std::fprintf(stderr,
                     "usage: shared_drive FDID write BLOCK TEXT | read BLOCK | load SECONDS [--agent SOCKET] "
                     "[--node NODE] [--depth N] [--bytes N] [--own BLOCK]\n");
        return 2;
    }
    if (auto outcome = run(*arguments); !outcome) {
        std::fprintf(stderr, "shared_drive: %s\n", outcome.error().message().c_str());
        return 1;
    }
    return 0;
}
