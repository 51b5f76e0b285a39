// SPDX-License-Identifier: Apache-2.0
#include "nvme/wipe.h"

#include "nvme/wipe_methods.h"
#include "pci/config_space.h"

namespace lanepool::nvme {

std::string_view name(WipeMethod method) {
    switch (method) {
    case WipeMethod::sanitize_block_erase:
        return "sanitize_block_erase";
    case WipeMethod::sanitize_crypto_erase:
        return "sanitize_crypto_erase";
    case WipeMethod::sanitize_overwrite:
        return "sanitize_overwrite";
    case WipeMethod::format_crypto_erase:
        return "format_crypto_erase";
    case WipeMethod::format_user_data_erase:
        return "format_user_data_erase";
    case WipeMethod::write_zeroes:
        return "write_zeroes";
    case WipeMethod::overwrite:
        return "overwrite";
    }
    return "unknown";
}

Result<> WipeContext::check_deadline() const {
    if (clock.now() < options.deadline) return {};
    return fail(Errc::timeout, "wiping by {} was not done in time", name(method));
}

void WipeContext::report(std::string_view step, double done) const {
    if (options.on_progress) options.on_progress({method, step, done});
}

namespace {

constexpr uint16_t wipe_depth = 16;
constexpr size_t max_namespaces = 1024;

std::vector<WipeMethod> supported_methods(const DriveInfo& info) {
    std::vector<WipeMethod> methods;
    if (info.sanicap & sanicap::block_erase) methods.push_back(WipeMethod::sanitize_block_erase);
    if (info.sanicap & sanicap::crypto_erase) methods.push_back(WipeMethod::sanitize_crypto_erase);
    if (info.sanicap & sanicap::overwrite) methods.push_back(WipeMethod::sanitize_overwrite);
    if (info.oacs & oacs::format) {
        if (info.fna & fna::crypto_erase) methods.push_back(WipeMethod::format_crypto_erase);
        methods.push_back(WipeMethod::format_user_data_erase);
    }
    if (info.oncs & oncs::write_zeroes) methods.push_back(WipeMethod::write_zeroes);
    methods.push_back(WipeMethod::overwrite);
    return methods;
}

Result<> erase(WipeContext& wipe) {
    switch (wipe.method) {
    case WipeMethod::sanitize_block_erase:
        return sanitize(wipe, SanitizeAction::block_erase);
    case WipeMethod::sanitize_crypto_erase:
        return sanitize(wipe, SanitizeAction::crypto_erase);
    case WipeMethod::sanitize_overwrite:
        return sanitize(wipe, SanitizeAction::overwrite);
    case WipeMethod::format_crypto_erase:
        return format_all(wipe, true);
    case WipeMethod::format_user_data_erase:
        return format_all(wipe, false);
    case WipeMethod::write_zeroes:
        return zero_all(wipe, true);
    case WipeMethod::overwrite:
        return zero_all(wipe, false);
    }
    return fail(Errc::internal, "an unknown way to wipe");
}

// Where the key is thrown away, what lies under it reads as noise unless the drive says otherwise; noise
// cannot be verified, so such a drive is zeroed as well.
bool leaves_noise(const WipeContext& wipe) {
    if (wipe.method != WipeMethod::sanitize_crypto_erase && wipe.method != WipeMethod::format_crypto_erase)
        return false;
    for (const auto& ns : wipe.driver.namespaces())
        if (ns.deallocated_reads != dlfeat::reads_zeroes && ns.deallocated_reads != dlfeat::reads_ones)
            return true;
    return false;
}

Result<> erase_by_best_method(WipeContext& wipe, std::vector<std::string>& passed_over) {
    for (const auto method : supported_methods(wipe.driver.info())) {
        wipe.method = method;
        TRY(wipe.check_deadline());
        auto erased = erase(wipe);
        // Refused or not possible: try the next one. All else means that the drive cannot be trusted to
        // answer.
        if (!erased && (erased.error().code() == Errc::io || erased.error().code() == Errc::not_supported)) {
            passed_over.push_back(fmt::format("{}: {}", name(method), erased.error().message()));
            continue;
        }
        TRY(std::move(erased));
        TRY(wipe.driver.refresh_namespaces());
        return leaves_noise(wipe) ? zero_all(wipe, (wipe.driver.info().oncs & oncs::write_zeroes) != 0)
                                  : Result<>{};
    }
    return fail(Errc::failed_precondition, "the drive refused every way to wipe it, the last one with {}",
                passed_over.empty() ? "nothing" : passed_over.back());
}

} // namespace

Result<WipeReport> wipe(pci::Function& function, const io::Clock& clock, const WipeOptions& options) {
    DriverOptions driver_options;
    driver_options.io_queues = 1;
    driver_options.deadline = options.deadline;
    driver_options.command_timeout =
        std::min<io::Duration>(Admin::default_timeout, options.deadline - clock.now());
    driver_options.max_namespaces = max_namespaces;
    auto driver = TRY(Driver::create(function, clock, driver_options));
    Driver::QueueOptions queue_options;
    queue_options.depth = wipe_depth;
    auto& queue = *TRY(driver->create_queue(queue_options));
    WipeContext wipe{*driver, queue, clock, options};
    if (driver->namespaces().size() >= max_namespaces)
        return fail(Errc::not_supported, "the drive has {} namespaces or more: too many to wipe",
                    max_namespaces);

    WipeReport report{};
    report.seed = options.seed;
    const auto start = clock.now();
    TRY(wait_for_sanitize(wipe));
    TRY(erase_by_best_method(wipe, report.passed_over));
    report.method = wipe.method;
    const auto erased = clock.now();
    report.erase_time = erased - start;
    report.blocks_verified = TRY(verify_empty(wipe));
    report.verify_time = clock.now() - erased;
    TRY(driver->shut_down());
    return report;
}

Result<DriveIdentity> identify(pci::Function& function, const io::Clock& clock) {
    DriverOptions options;
    options.io_queues = 1;
    auto driver = TRY(Driver::create(function, clock, options));
    const auto& info = driver->info();
    DriveIdentity identity{info.model, info.serial, info.firmware, info.vendor_id, info.capacity_bytes, {}};
    for (const auto& ns : driver->namespaces())
        identity.namespaces.push_back({ns.nsid, ns.size_bytes(), ns.block_bytes});
    TRY(driver->stop());
    return identity;
}

Result<> verify_reset(pci::Function& function, const io::Clock& clock) {
    using pci::Region;
    const uint32_t id = TRY(pci::read32(function, Region::config, pci::config::vendor_id));
    if (id == 0xffffffff)
        return fail(Errc::disconnected, "the function is gone: its config space is all-ones");
    const uint32_t type = TRY(pci::read32(function, Region::config, pci::config::revision)) >> 8;
    if (type != class_code)
        return fail(Errc::failed_precondition,
                    "function {:#010x} has class code {:#08x}: not an NVMe controller", id, type);
    const uint16_t command = TRY(pci::read16(function, Region::config, pci::config::command));
    if (command & pci::command::bus_master)
        return fail(Errc::failed_precondition,
                    "the function is still bus master (command {:#06x}): not reset", command);
    ControllerRegisters registers(function, clock);
    // Registers answer only while memory space is on, which a reset turns off; bus mastering stays off.
    TRY(registers.set_bus_master(false));
    const auto capabilities = TRY(registers.capabilities());
    const uint32_t configuration = TRY(registers.configuration());
    if (cc::en.get(configuration))
        return fail(Errc::failed_precondition, "the controller is still enabled (CC {:#x}): not reset",
                    configuration);
    TRY(registers.disable(clock.now() + ControllerRegisters::ready_timeout(capabilities)));
    const uint32_t status = TRY(registers.status());
    if (csts::cfs.get(status))
        return fail(Errc::io, "the controller reports a fatal status after its reset (CSTS {:#x})", status);
    return {};
}

} // namespace lanepool::nvme
