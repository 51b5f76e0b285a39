// SPDX-License-Identifier: Apache-2.0
#include "nvme/io_commands.h"
#include "nvme/wipe_methods.h"

#include <algorithm>
#include <cstring>
#include <random>

namespace lanepool::nvme {

namespace {

constexpr io::Duration io_timeout = std::chrono::seconds(30);
constexpr uint64_t sample_bytes = 4096;
constexpr uint64_t edge_bytes = 1024 * 1024; // the first and the last: partition tables, superblocks

bool is_filled_with(std::span<const std::byte> data, std::byte value) {
    return data[0] == value && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0;
}

bool is_empty(std::span<const std::byte> data, const NamespaceInfo& ns) {
    return is_filled_with(data, std::byte{0}) ||
           (ns.deallocated_reads == dlfeat::reads_ones && is_filled_with(data, std::byte{0xff}));
}

// The first blocks of the samples of a namespace, each BLOCKS long.
std::vector<uint64_t> draw_samples(const NamespaceInfo& ns, uint64_t blocks, const WipeOptions& options) {
    std::vector<uint64_t> samples;
    const uint64_t last = ns.blocks - blocks;
    const uint64_t edge = std::min(ns.blocks, std::max(blocks, edge_bytes / ns.block_bytes));
    for (uint64_t block = 0; block < edge; block += blocks) {
        samples.push_back(std::min(block, last));
        samples.push_back(std::max(last, block) - block);
    }
    std::mt19937_64 random(options.seed ^ ns.nsid);
    std::uniform_int_distribution<uint64_t> any(0, last);
    for (uint32_t i = 0; i < options.random_samples; ++i)
        samples.push_back(any(random));
    std::sort(samples.begin(), samples.end());
    samples.erase(std::unique(samples.begin(), samples.end()), samples.end());
    return samples;
}

Result<uint64_t> verify_namespace(WipeContext& wipe, const NamespaceInfo& ns) {
    const uint64_t blocks = std::min(ns.blocks, std::max<uint64_t>(1, sample_bytes / ns.block_bytes));
    const uint64_t bytes = blocks * ns.block_bytes;
    const auto samples = draw_samples(ns, blocks, wipe.options);
    const auto memory = TRY(wipe.driver.allocate(bytes * wipe.queue.depth()));
    Pipeline pipeline(wipe, "reading back");
    for (size_t first = 0; first < samples.size(); first += wipe.queue.depth()) {
        const size_t count = std::min<size_t>(wipe.queue.depth(), samples.size() - first);
        // A drive that answers a read without reading must not pass.
        std::memset(memory.bytes().data(), 0xa5, count * bytes);
        for (size_t i = 0; i < count; ++i)
            TRY(pipeline.add(
                TRY(make_read(ns, samples[first + i], static_cast<uint32_t>(blocks), {memory, i * bytes}))));
        TRY(pipeline.finish());
        for (size_t i = 0; i < count; ++i)
            if (!is_empty(memory.bytes().subspan(i * bytes, bytes), ns))
                return fail(
                    Errc::failed_precondition,
                    "after {} there is still data in blocks {}..{} of namespace {}: do not lend this drive",
                    name(wipe.method), samples[first + i], samples[first + i] + blocks - 1, ns.nsid);
        TRY(wipe.check_deadline());
        wipe.report("verifying", static_cast<double>(first + count) / static_cast<double>(samples.size()));
    }
    return samples.size() * blocks;
}

} // namespace

Result<> Pipeline::add(const Command& command) {
    // Timed-out commands keep their places: a queue may be full of them with nothing to wait for.
    while (wipe_.queue.full() && wipe_.queue.in_flight() > 0)
        TRY(wipe_.queue.poll());
    if (state_->error) return tl::unexpected(*state_->error);
    ++state_->in_flight;
    return wipe_.queue.submit(command, std::min(io_timeout, wipe_.left()),
                              [state = state_](const Outcome& outcome) {
                                  --state->in_flight;
                                  if (auto result = outcome.result(state->what); !result && !state->error)
                                      state->error = result.error();
                              });
}

Result<> Pipeline::finish() {
    while (state_->in_flight > 0 && !state_->error)
        TRY(wipe_.queue.poll());
    if (state_->error) return tl::unexpected(*state_->error);
    return {};
}

Result<uint64_t> verify_empty(WipeContext& wipe) {
    uint64_t verified = 0;
    for (const auto& ns : wipe.driver.namespaces())
        if (ns.blocks > 0) verified += TRY(verify_namespace(wipe, ns));
    if (verified == 0)
        return fail(Errc::failed_precondition,
                    "the drive has no namespace to read back: create one, then wipe it");
    return verified;
}

} // namespace lanepool::nvme
