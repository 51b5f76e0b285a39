// SPDX-License-Identifier: Apache-2.0
#include "nvme/io_commands.h"
#include "nvme/wipe_methods.h"

#include <algorithm>

namespace lanepool::nvme {

namespace {

// What the drive estimates, if it does (Base Specification 2.0, figure "Sanitize Status Log Page").
std::optional<io::Duration> estimate(const SanitizeStatusLog& log, SanitizeAction action) {
    uint32_t seconds = log.block_erase_estimate_s;
    if (action == SanitizeAction::crypto_erase) seconds = log.crypto_erase_estimate_s;
    if (action == SanitizeAction::overwrite) seconds = log.overwrite_estimate_s;
    if (seconds == 0xffffffff) return std::nullopt;
    return std::chrono::seconds(seconds);
}

Result<SanitizeStatusLog> wait_until_idle(WipeContext& wipe, std::string_view step) {
    Backoff backoff(std::chrono::milliseconds(50));
    for (;;) {
        const auto log = TRY(wipe.driver.admin().sanitize_status());
        if ((log.status & sanitize_status::outcome_mask) != sanitize_status::in_progress) return log;
        wipe.report(step, log.progress / 65536.0);
        TRY(wipe.check_deadline());
        backoff.pause();
    }
}

} // namespace

Result<> wait_for_sanitize(WipeContext& wipe) {
    if (wipe.driver.info().sanicap == 0) return {};
    TRY(wait_until_idle(wipe, "waiting for an earlier sanitize"));
    return {};
}

Result<> sanitize(WipeContext& wipe, SanitizeAction action) {
    const auto before = TRY(wipe.driver.admin().sanitize_status());
    const auto expected = estimate(before, action);
    if (expected && *expected > wipe.left())
        return fail(Errc::not_supported, "it would take {} s, longer than is left",
                    std::chrono::duration_cast<std::chrono::seconds>(*expected).count());
    wipe.report("erasing", 0);
    TRY(wipe.driver.admin().start_sanitize(action));
    const auto log = TRY(wait_until_idle(wipe, "erasing"));
    const auto outcome = log.status & sanitize_status::outcome_mask;
    // A log that speaks of another command than ours says nothing about ours.
    const auto started = sanitize_command::sanact.get(log.command_dword10);
    if ((outcome != sanitize_status::completed && outcome != sanitize_status::completed_no_deallocate) ||
        started != static_cast<uint32_t>(action))
        return fail(Errc::failed_precondition,
                    "the drive's sanitize operation did not complete (status {:#06x}, command {:#x})",
                    static_cast<uint16_t>(log.status), static_cast<uint32_t>(log.command_dword10));
    wipe.report("erasing", 1);
    return {};
}

Result<> format_all(WipeContext& wipe, bool cryptographic) {
    const uint32_t erase = cryptographic ? format_command::ses_cryptographic : format_command::ses_user_data;
    const auto namespaces = wipe.driver.namespaces();
    const io::Duration limit = std::chrono::hours(24); // of one command, when there is no deadline
    wipe.report("erasing", 0);
    for (size_t i = 0; i < namespaces.size(); ++i) {
        TRY(wipe.check_deadline());
        const auto& ns = namespaces[i];
        const auto format = static_cast<uint8_t>(ns.format & 0xf);
        TRY(wipe.driver.admin().format(ns.nsid, format, erase, std::min(limit, wipe.left())));
        wipe.report("erasing", static_cast<double>(i + 1) / static_cast<double>(namespaces.size()));
    }
    return {};
}

namespace {

Result<> zero_namespace(WipeContext& wipe, const NamespaceInfo& ns, const DmaMemory& zeroes,
                        bool by_command) {
    const auto& info = wipe.driver.info();
    uint64_t most = by_command ? max_blocks_per_command : zeroes.size_bytes() / ns.block_bytes;
    if (by_command && info.write_zeroes_limit_bytes != 0)
        most = std::min(most, info.write_zeroes_limit_bytes / ns.block_bytes);
    if (most == 0) return fail(Errc::not_supported, "a block is longer than one command may zero");
    // A drive may keep deallocated blocks' old content where it does not say what they read as.
    const bool deallocate = ns.deallocated_reads == dlfeat::reads_zeroes && ns.write_zeroes_deallocates;
    Pipeline pipeline(wipe, "zeroing");
    for (uint64_t next = 0; next < ns.blocks;) {
        const auto blocks = static_cast<uint32_t>(std::min(most, ns.blocks - next));
        TRY(pipeline.add(TRY(by_command ? make_write_zeroes(ns, next, blocks, deallocate)
                                        : make_write(ns, next, blocks, {zeroes}))));
        next += blocks;
        wipe.report("zeroing", static_cast<double>(next) / static_cast<double>(ns.blocks));
        TRY(wipe.check_deadline());
    }
    TRY(pipeline.finish());
    TRY(pipeline.add(make_flush(ns)));
    return pipeline.finish();
}

} // namespace

Result<> zero_all(WipeContext& wipe, bool by_command) {
    const auto zeroes =
        TRY(wipe.driver.allocate(std::min<uint64_t>(256 * 1024, wipe.driver.info().max_transfer_bytes)));
    for (const auto& ns : wipe.driver.namespaces())
        TRY(zero_namespace(wipe, ns, zeroes, by_command));
    return {};
}

} // namespace lanepool::nvme
