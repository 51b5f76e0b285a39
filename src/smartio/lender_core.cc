// SPDX-License-Identifier: Apache-2.0
#include "smartio/lender_core.h"

#include "base/endian.h"
#include "pci/config_space.h"
#include "smartio/config_shadow.h"
#include "smartio/device_config.h"

#include <algorithm>

namespace lanepool::smartio {

namespace {

void keep_first(Result<>& first, Result<> next, std::string_view step) {
    if (first && !next) first = tl::unexpected<Error>(next.error().within(step));
}

std::array<uint64_t, pci::bar_count> bar_sizes(const Opened& opened) {
    std::array<uint64_t, pci::bar_count> sizes{};
    for (size_t i = 0; i < sizes.size(); ++i)
        sizes[i] = opened.bars[i].size_bytes;
    return sizes;
}

} // namespace

Result<> LenderCore::prepare(uint64_t epoch, ntb::Partition borrower) {
    const uint64_t highest = TRY(epochs_.highest());
    if (epoch <= highest)
        return fail(Errc::stale_epoch, "epoch {} is not newer than {}, which this device has seen", epoch,
                    highest);
    auto opened = TRY(describe());
    TRY(check_revocable(opened));
    TRY(epochs_.raise(epoch));
    ways_.emplace(adapter_, device_, borrower, limits_);
    const auto open = [&]() -> Result<> {
        if (requester_) TRY(ways_->let_pass(*requester_));
        return ways_->export_bars(opened);
    };
    auto result = open();
    if (result)
        opened_ = std::move(opened);
    else
        ways_.reset();
    return result;
}

// What is lent. Export addresses come later.
Result<Opened> LenderCore::describe() {
    Opened opened;
    opened.config = TRY(read_config(device_));
    for (size_t i = 0; i < opened.bars.size(); ++i) {
        const auto& region = device_.region(static_cast<pci::Region>(i));
        constexpr uint32_t io_space = 1;
        const uint32_t bar = pci::get32(opened.config, pci::config::bar0 + i * 4);
        // I/O ports do not cross the fabric, and no device that is worth lending needs them.
        if (region.size_bytes == 0 || (bar & io_space)) continue;
        opened.bars[i] = {region.size_bytes, {}, region.readable, region.writable, region.mappable};
    }
    for (size_t i = 0; i < opened.vectors.size(); ++i)
        opened.vectors[i] = std::min(device_.irq(static_cast<pci::Irq>(i)).count, max_loan_vectors);
    opened.memory_survives_reset = flr_control_offset(opened.config) != 0;
    // A borrower would refuse what cannot be shadowed or sent: say so before anything is opened.
    TRY(ConfigShadow::create({opened.config, bar_sizes(opened), opened.vectors[0], opened.vectors[1]}));
    TRY(encode(opened));
    return opened;
}

Result<> LenderCore::check_revocable(const Opened& opened) const {
    if (device_.fresh_memory_on_reset()) return {};
    for (size_t i = 0; i < opened.bars.size(); ++i)
        if (!opened.bars[i].mappable.empty())
            return fail(
                Errc::not_supported,
                "BAR {} can be mapped and a reset does not put fresh memory behind it: a borrower could "
                "keep the mapping after the loan; serve the device with fresh memory on reset, or without "
                "mappable areas",
                i);
    return {};
}

Result<std::vector<std::byte>> LenderCore::handle(LoanRequest request, std::span<const std::byte> body) {
    if (!ways_) return fail(Errc::failed_precondition, "the device is not lent");
    const auto empty = std::vector<std::byte>{};
    switch (request) {
    case LoanRequest::open:
        TRY(decode_bare(body));
        return encode(opened_);
    case LoanRequest::map:
        TRY(ways_->map(TRY(decode_map(body))));
        return empty;
    case LoanRequest::unmap:
        TRY(ways_->unmap(TRY(decode_unmap(body))));
        return empty;
    case LoanRequest::set_irqs:
        TRY(ways_->set_irqs(TRY(decode_set_irqs(body))));
        return empty;
    case LoanRequest::mask_irq: {
        const auto mask = TRY(decode_mask_irq(body));
        TRY(device_.mask_irq(mask.index, mask.vector, mask.masked));
        return empty;
    }
    case LoanRequest::config_write:
        TRY(config_write(TRY(decode_config_write(body))));
        return empty;
    case LoanRequest::reset:
        TRY(decode_bare(body));
        return guest_reset();
    case LoanRequest::close:
        TRY(decode_bare(body));
        TRY(guest_close());
        return empty;
    case LoanRequest::config_status:
        TRY(decode_bare(body));
        return config_status();
    }
    return fail(Errc::not_supported, "loan request {:#x}", static_cast<uint16_t>(request));
}

Result<> LenderCore::config_write(const ConfigWriteRequest& request) {
    if (request.offset_bytes != pci::config::command ||
        (request.value & ~ConfigShadow::forwarded_command_bits) != 0)
        return fail(Errc::permission_denied, "a borrower may not write {:#x} to config space at {:#x}",
                    request.value, request.offset_bytes);
    return change_command(device_, ConfigShadow::forwarded_command_bits, request.value);
}

Result<std::vector<std::byte>> LenderCore::config_status() {
    const le16 status = TRY(pci::read16(device_, pci::Region::config, pci::config::status));
    const auto bytes = std::as_bytes(std::span(&status, 1));
    return std::vector<std::byte>(bytes.begin(), bytes.end());
}

// A function-level reset where there is one: the guest's mappings of the registers go on. Otherwise the
// function's own reset, after which there may be other memory behind them, so they are exported anew.
Result<> LenderCore::reset_in_loan() {
    if (const size_t control = flr_control_offset(opened_.config))
        return function_level_reset(device_, control);
    TRY(ways_->withdraw_bars());
    TRY(device_.reset());
    return ways_->export_bars(opened_);
}

Result<std::vector<std::byte>> LenderCore::guest_reset() {
    TRY(reset_in_loan());
    TRY(ways_->restore_irqs()); // a client's eventfds outlive a reset (VFIO_DEVICE_RESET in linux/vfio.h)
    opened_.config = TRY(read_config(device_));
    return encode(opened_);
}

Result<> LenderCore::guest_close() {
    Result<> result;
    keep_first(result, ways_->release_irqs(), "turning interrupts off");
    keep_first(result, change_command(device_, pci::command::bus_master, 0), "turning bus master off");
    keep_first(result, ways_->release_memory(), "unmapping memory");
    if (result) keep_first(result, reset_in_loan(), "resetting");
    return result;
}

Result<> LenderCore::raise(uint64_t epoch) {
    if (epoch <= TRY(epochs_.highest())) return {};
    return epochs_.raise(epoch);
}

Result<> LenderCore::cut(uint64_t epoch) {
    Result<> result;
    keep_first(result, raise(epoch), "recording the epoch");
    if (!ways_) return result;
    // First the borrower's way in, which needs no answer from the device, then the device's way out.
    keep_first(result, ways_->withdraw_bars(), "withdrawing its registers");
    keep_first(result, change_command(device_, pci::command::bus_master, 0), "turning bus master off");
    keep_first(result, ways_->release_irqs(), "turning interrupts off");
    keep_first(result, ways_->release_memory(), "unmapping the borrower's memory");
    ways_.reset();
    keep_first(result, device_.reset(), "resetting");
    return result;
}

Result<> LenderCore::reset() {
    if (!device_.can_reset())
        return fail(Errc::not_supported, "the device offers no reset: it cannot be lent or lent again");
    TRY(device_.reset());
    const auto config = TRY(read_config(device_));
    if (identity_.empty())
        identity_ = config;
    else
        TRY(check_same_device(identity_, config));
    const uint16_t command = pci::get16(config, pci::config::command);
    if (command & pci::command::bus_master)
        return fail(Errc::io, "after its reset the device still has bus master on (command {:#x})", command);
    return class_.verify_reset(device_);
}

Result<> LenderCore::wipe(io::Duration deadline) {
    auto wiped = class_.wipe(device_, deadline);
    auto reset_again = reset();
    return wiped ? reset_again : wiped;
}

} // namespace lanepool::smartio
