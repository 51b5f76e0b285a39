// SPDX-License-Identifier: Apache-2.0
#include "smartio/sharing_bench.h"

#include "host/ruler.h"
#include "lanepool/smartio.h"
#include "share/shared_drive.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lanepool::bench {

namespace {

// Commands under way of each client: of those with weights as many as the heaviest needs to use its share.
constexpr uint16_t even_depth = 16;
constexpr uint16_t weighted_depth = 64;
// Before it is measured: until the manager's pace has settled.
constexpr auto warm_up = std::chrono::seconds(1);

// One host's application, which keeps as many reads under way as it may.
class Client {
  public:
    static Result<std::unique_ptr<Client>> create(const std::string& agent, uint64_t fdid, uint64_t seed,
                                                  uint16_t depth) {
        auto session = std::make_unique<Session>(TRY(Session::open({.socket = agent})));
        auto drive = TRY(SharedDrive::open(*session, fdid, {.depth = depth}));
        auto buffer = TRY(drive.allocate(uint64_t{depth} * block_bytes));
        return std::unique_ptr<Client>(
            new Client(std::move(session), std::move(drive), std::move(buffer), seed, depth));
    }

    Result<> start() {
        for (uint32_t slot = 0; slot < depth_; ++slot)
            TRY(read(slot));
        return {};
    }
    Result<> poll() {
        TRY(drive_.poll());
        return error_ ? tl::unexpected(*error_) : Result<>();
    }
    // No new ones; waits for those under way.
    Result<> drain() {
        draining_ = true;
        while (drive_.outstanding() > 0)
            TRY(poll());
        return {};
    }
    uint64_t done() const { return done_; }

  private:
    Client(std::unique_ptr<Session> session, SharedDrive drive, DriveBuffer buffer, uint64_t seed,
           uint16_t depth)
        : session_(std::move(session)), drive_(std::move(drive)), depth_(depth), buffer_(std::move(buffer)),
          positions_(seed, drive_.blocks() * drive_.block_bytes()) {}

    Result<> read(uint32_t slot) {
        const uint32_t blocks = block_bytes / drive_.block_bytes();
        const SharedDrive::Extent extent{positions_.next_block() * blocks, blocks,
                                         uint64_t{slot} * block_bytes};
        return drive_.read(extent, buffer_, [this, slot](Result<> result) {
            ++done_;
            if (result && !draining_) result = read(slot);
            if (!result) error_ = result.error();
        });
    }

    std::unique_ptr<Session> session_;
    SharedDrive drive_;
    const uint16_t depth_;
    DriveBuffer buffer_;
    Positions positions_;
    uint64_t done_ = 0;
    bool draining_ = false;
    std::optional<Error> error_;
};

Result<> poll_for(const std::vector<std::unique_ptr<Client>>& clients, io::Duration duration) {
    for (const auto end = Recorder::clock_now() + duration; Recorder::clock_now() < end;)
        for (const auto& client : clients)
            TRY(client->poll());
    return {};
}

// Reads a second of each of AGENTS, all at the same time.
Result<std::vector<double>> measure(const std::vector<std::string>& agents, uint16_t depth,
                                    const SharingBenchOptions& options) {
    std::vector<std::unique_ptr<Client>> clients;
    for (const auto& agent : agents)
        clients.push_back(TRY(Client::create(agent, options.fdid, clients.size() + 1, depth)));
    for (const auto& client : clients)
        TRY(client->start());
    TRY(poll_for(clients, warm_up));
    std::vector<uint64_t> before;
    for (const auto& client : clients)
        before.push_back(client->done());
    const auto start = Recorder::clock_now();
    TRY(poll_for(clients, options.duration));
    const double seconds = std::chrono::duration<double>(Recorder::clock_now() - start).count();
    std::vector<double> iops;
    for (size_t i = 0; i < clients.size(); ++i)
        iops.push_back(static_cast<double>(clients[i]->done() - before[i]) / seconds);
    for (const auto& client : clients)
        TRY(client->drain());
    return iops;
}

// Writes all of the drive, so that no block of the file behind it is a hole.
Result<> fill(const SharingBenchOptions& options) {
    constexpr size_t piece_bytes = 1 << 20;
    auto session = TRY(Session::open({.socket = options.agents.front()}));
    auto drive = TRY(SharedDrive::open(session, options.fdid));
    const std::vector<std::byte> piece(piece_bytes, std::byte{0x5a});
    const uint64_t size_bytes = drive.blocks() * drive.block_bytes();
    for (uint64_t at = 0; at < size_bytes; at += piece_bytes)
        TRY(drive.write_blocks(at / drive.block_bytes(),
                               std::span(piece).first(std::min<uint64_t>(piece_bytes, size_bytes - at))));
    return drive.close();
}

double sum(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

// Jain, Chiu and Hawe 1984: 1 when all have the same, 1/n when one has everything.
double jain(const std::vector<double>& values) {
    const double squares = std::inner_product(values.begin(), values.end(), values.begin(), 0.0);
    return sum(values) * sum(values) / (static_cast<double>(values.size()) * squares);
}

// How far the share of any is from that of its weight, as a part of that.
double deviation(const std::vector<double>& iops,
                 const std::vector<std::pair<std::string, double>>& weighted) {
    double weights = 0;
    for (const auto& [agent, weight] : weighted)
        weights += weight;
    double greatest = 0;
    for (size_t i = 0; i < iops.size(); ++i)
        greatest = std::max(greatest, std::abs(iops[i] / sum(iops) / (weighted[i].second / weights) - 1));
    return greatest;
}

} // namespace

Result<std::vector<Row>> bench_sharing(const SharingBenchOptions& options) {
    TRY(pin_to(options.core));
    TRY(fill(options));
    std::vector<size_t> counts;
    for (size_t count = 1; count <= options.agents.size(); count *= 2)
        counts.push_back(count);
    // Flat or rising: what two runs of the same differ by is flat.
    const Goal flat{Goal::Sense::at_least, 0.95};
    std::vector<Row> totals, ratios, evenness;
    for (const size_t count : counts) {
        totals.push_back({fmt::format("smartio.shared-{}-hosts", count), "IOPS", {}});
        ratios.push_back({fmt::format("smartio.shared-{}-hosts/1-host", count), "x", {}, flat});
        evenness.push_back(
            {fmt::format("smartio.shared-{}-hosts.jain", count), "", {}, Goal{Goal::Sense::at_least, 0.98}});
    }
    Row shares{"smartio.shared-by-weight.deviation", "", {}, Goal{Goal::Sense::at_most, 0.05}};
    std::vector<std::string> weighted;
    for (const auto& [agent, weight] : options.weighted)
        weighted.push_back(agent);
    for (int round = 0; round < options.rounds; ++round) {
        double alone = 0;
        for (size_t i = 0; i < counts.size(); ++i) {
            const auto iops =
                TRY(measure({options.agents.begin(), options.agents.begin() + std::ptrdiff_t(counts[i])},
                            even_depth, options));
            if (i == 0) alone = sum(iops);
            totals[i].values.push_back(sum(iops));
            ratios[i].values.push_back(sum(iops) / alone);
            evenness[i].values.push_back(jain(iops));
        }
        if (weighted.empty()) continue;
        const auto iops = TRY(measure(weighted, weighted_depth, options));
        shares.values.push_back(deviation(iops, options.weighted));
        shares.note = "the last round:";
        for (size_t i = 0; i < iops.size(); ++i)
            shares.note += fmt::format(" {:g}:{:.0f}", options.weighted[i].second, iops[i]);
    }
    std::vector<Row> rows = totals;
    rows.insert(rows.end(), ratios.begin() + 1, ratios.end()); // of one host to itself says nothing
    rows.insert(rows.end(), evenness.begin() + 1, evenness.end());
    rows.push_back(std::move(shares));
    return rows;
}

} // namespace lanepool::bench
