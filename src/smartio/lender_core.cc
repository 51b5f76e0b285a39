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

// ---- The loans

Result<> LenderCore::prepare(uint64_t loan, uint64_t epoch, ntb::Partition borrower, bool shared) {
    const uint64_t highest = TRY(epochs_.highest());
    if (epoch <= highest)
        return fail(Errc::stale_epoch, "epoch {} is not newer than {}, which this device has seen", epoch,
                    highest);
    description_ = TRY(describe());
    TRY(check_revocable(description_));
    TRY(epochs_.raise(epoch));
    TRY(open_ways(loan, borrower));
    epoch_ = epoch;
    shared_ = shared;
    return {};
}

Result<> LenderCore::join(uint64_t loan, uint64_t epoch, ntb::Partition borrower) {
    if (loans_.empty() || !shared_ || epoch != epoch_)
        return fail(Errc::failed_precondition, "the device is not lent shared in epoch {} any more", epoch);
    if (loans_.contains(loan)) return {};
    return open_ways(loan, borrower);
}

Result<> LenderCore::open_ways(uint64_t number, ntb::Partition borrower) {
    auto& loan =
        loans_.try_emplace(number, description_, adapter_, device_, borrower, limits_, iovas_).first->second;
    const auto open = [&]() -> Result<> {
        if (requester_) TRY(loan.ways.let_pass(*requester_));
        return export_bars(loan);
    };
    auto result = open();
    if (!result) loans_.erase(number);
    return result;
}

Result<> LenderCore::export_bars(Loan& loan) {
    // The kernel maps registers of a card for another one only while they answer, and before a reset the
    // guest may have turned them off.
    if (!adapter_.function().hands_out_memory())
        TRY(change_command(device_, pci::command::memory_space, pci::command::memory_space));
    return loan.ways.export_bars(loan.opened);
}

Result<> LenderCore::expel(uint64_t number) {
    const auto found = loans_.find(number);
    if (found == loans_.end()) return {};
    auto& loan = found->second;
    Result<> result;
    keep_first(result, loan.ways.withdraw_bars(), "withdrawing its registers");
    loan.command = 0;
    keep_first(result, apply_commands(), "turning bus master off unless others have it on");
    keep_first(result, loan.ways.release_memory(), "unmapping its memory");
    keep_first(result, segments_.release(number), "withdrawing its device segments");
    loans_.erase(found);
    return result;
}

size_t LenderCore::memory_maps() const {
    size_t maps = 0;
    for (const auto& [number, loan] : loans_)
        maps += loan.ways.memory_maps();
    return maps;
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
    opened.memory_survives_reset = flr_control_offset(opened.config) != 0 || registers_stay();
    // A borrower would refuse what cannot be shadowed or sent: say so before anything is opened.
    TRY(ConfigShadow::create(
        {opened.config, bar_sizes(opened), opened.vectors[0], opened.vectors[1], opened.vectors[2]}));
    TRY(encode(opened));
    return opened;
}

// Whether the device's own reset, too, leaves a card's ways to its registers as they are.
bool LenderCore::registers_stay() const {
    return !adapter_.function().hands_out_memory() && !device_.fresh_memory_on_reset();
}

Result<> LenderCore::check_revocable(const Opened& opened) const {
    // Behind a card nobody is given descriptors: what leads to the registers leads nowhere once it is closed.
    if (device_.fresh_memory_on_reset() || !adapter_.function().hands_out_memory()) return {};
    for (size_t i = 0; i < opened.bars.size(); ++i)
        if (!opened.bars[i].mappable.empty())
            return fail(
                Errc::not_supported,
                "BAR {} can be mapped and a reset does not put fresh memory behind it: by an adapter that "
                "hands out descriptors a borrower could keep the mapping after the loan; lend a card by an "
                "adapter that is one, serve a model with fresh memory on reset or without mappable areas",
                i);
    return {};
}

// ---- Their requests

Result<std::vector<std::byte>> LenderCore::handle(uint64_t number, LoanRequest request,
                                                  std::span<const std::byte> body) {
    const auto found = loans_.find(number);
    if (found == loans_.end())
        return fail(Errc::failed_precondition, "the device is not lent to loan {}", number);
    auto& loan = found->second;
    const auto empty = std::vector<std::byte>{};
    switch (request) {
    case LoanRequest::open:
        TRY(decode_bare(body));
        return encode(loan.opened);
    case LoanRequest::set_irqs: {
        const auto irqs = TRY(decode_set_irqs(body));
        TRY(check_interrupts());
        TRY(loan.ways.set_irqs(irqs));
        return empty;
    }
    case LoanRequest::mask_irq: {
        const auto mask = TRY(decode_mask_irq(body));
        TRY(check_interrupts());
        TRY(device_.mask_irq(mask.index, mask.vector, mask.masked));
        return empty;
    }
    case LoanRequest::config_write:
        TRY(config_write(loan, TRY(decode_config_write(body))));
        return empty;
    case LoanRequest::reset:
        TRY(decode_bare(body));
        TRY(check_alone("reset it"));
        return guest_reset(loan);
    case LoanRequest::close:
        TRY(decode_bare(body));
        TRY(close(number, loan));
        return empty;
    case LoanRequest::config_status:
        TRY(decode_bare(body));
        return config_status();
    default:
        return handle_memory(number, loan, request, body);
    }
}

Result<std::vector<std::byte>> LenderCore::handle_memory(uint64_t number, Loan& loan, LoanRequest request,
                                                         std::span<const std::byte> body) {
    const auto empty = std::vector<std::byte>{};
    switch (request) {
    case LoanRequest::map:
        TRY(loan.ways.map(TRY(decode_map(body))));
        return empty;
    case LoanRequest::place:
        return encode(TRY(loan.ways.place(TRY(decode_place(body)))));
    case LoanRequest::unmap:
        TRY(loan.ways.unmap(TRY(decode_unmap(body))));
        return empty;
    case LoanRequest::create_segment:
        TRY(segments_.create(number, TRY(decode_create_segment(body))));
        return empty;
    case LoanRequest::connect_segment:
        return encode(TRY(segments_.connect(number, TRY(decode_segment(body)))));
    case LoanRequest::remove_segment:
        TRY(segments_.remove(number, TRY(decode_segment(body))));
        return empty;
    default:
        return fail(Errc::not_supported, "loan request {:#x}", static_cast<uint16_t>(request));
    }
}

Result<> LenderCore::check_alone(const char* what) const {
    if (loans_.size() <= 1) return {};
    return fail(Errc::busy, "{} loans share the device: nobody may {} under the others", loans_.size(), what);
}

// A vector has one eventfd, and no borrower could tell whose interrupt it was.
Result<> LenderCore::check_interrupts() const {
    if (!shared_) return {};
    return fail(Errc::not_supported,
                "a loan that shares its device has no interrupts; look at memory instead");
}

Result<> LenderCore::config_write(Loan& loan, const ConfigWriteRequest& request) {
    const size_t power_control = power_control_offset(loan.opened.config);
    if (power_control != 0 && request.offset_bytes == power_control &&
        (request.value == power_d0 || request.value == power_d3hot))
        return change_power_state(loan, request.value);
    if (request.offset_bytes != pci::config::command ||
        (request.value & ~ConfigShadow::forwarded_command_bits) != 0)
        return fail(Errc::permission_denied, "a borrower may not write {:#x} to config space at {:#x}",
                    request.value, request.offset_bytes);
    loan.command = request.value;
    return apply_commands();
}

// On the way back a device may have lost all that was set up in it (No_Soft_Reset clear, PCI Bus Power
// Management Interface Specification 1.2, 3.2.4). VFIO restores config space and its own interrupts, others
// need not.
Result<> LenderCore::change_power_state(Loan& loan, uint16_t state) {
    if (shared_) return fail(Errc::not_supported, "a loan that shares its device cannot put it to sleep");
    if (state == power_d0) {
        const bool slept = asleep_ != 0;
        TRY(wake());
        if (!slept) return {};
        TRY(apply_commands());
        return loan.ways.restore_irqs();
    }
    asleep_ = power_control_offset(loan.opened.config);
    return set_power_state(device_, asleep_, state);
}

// What is done to a device needs its registers.
Result<> LenderCore::wake() {
    if (asleep_ == 0) return {};
    TRY(set_power_state(device_, asleep_, power_d0));
    asleep_ = 0;
    return {};
}

// What one loan wants, the device does; what it turns off, stays on while another one has it on.
Result<> LenderCore::apply_commands() {
    uint16_t command = 0;
    for (const auto& [number, loan] : loans_)
        command |= loan.command;
    return change_command(device_, ConfigShadow::forwarded_command_bits, command);
}

Result<std::vector<std::byte>> LenderCore::config_status() {
    const le16 status = TRY(pci::read16(device_, pci::Region::config, pci::config::status));
    const auto bytes = std::as_bytes(std::span(&status, 1));
    return std::vector<std::byte>(bytes.begin(), bytes.end());
}

// A function-level reset where there is one: the guest's mappings of the registers go on. Otherwise the
// function's own reset, after which there may be other memory behind them, so they are exported anew.
Result<> LenderCore::reset_in_loan(Loan& loan) {
    loan.command = 0;
    TRY(wake());
    if (const size_t control = flr_control_offset(loan.opened.config)) {
        TRY(function_level_reset(device_, control));
        // The kernel saves the command register over the reset and brings it back.
        return change_command(device_, pci::command::bus_master, 0);
    }
    if (registers_stay()) return device_.reset();
    TRY(loan.ways.withdraw_bars());
    TRY(device_.reset());
    return export_bars(loan);
}

Result<std::vector<std::byte>> LenderCore::guest_reset(Loan& loan) {
    TRY(reset_in_loan(loan));
    TRY(loan.ways.restore_irqs()); // a client's eventfds outlive a reset (VFIO_DEVICE_RESET in linux/vfio.h)
    loan.opened.config = TRY(read_config(device_));
    return encode(loan.opened);
}

Result<> LenderCore::close(uint64_t number, Loan& loan) {
    const bool alone = loans_.size() == 1;
    Result<> result;
    keep_first(result, wake(), "waking it up");
    keep_first(result, loan.ways.release_irqs(), "turning interrupts off");
    loan.command = 0;
    keep_first(result, alone ? change_command(device_, pci::command::bus_master, 0) : apply_commands(),
               "turning bus master off");
    keep_first(result, loan.ways.release_memory(), "unmapping memory");
    keep_first(result, alone ? segments_.clear() : segments_.release(number), "withdrawing device segments");
    if (result && alone) keep_first(result, reset_in_loan(loan), "resetting");
    return result;
}

// ---- The device

Result<> LenderCore::raise(uint64_t epoch) {
    if (epoch <= TRY(epochs_.highest())) return {};
    return epochs_.raise(epoch);
}

Result<> LenderCore::cut(uint64_t epoch) {
    Result<> result;
    keep_first(result, raise(epoch), "recording the epoch");
    if (loans_.empty()) return result;
    // First the borrowers' way in, which needs no answer from the device, then the device's way out.
    for (auto& [number, loan] : loans_)
        keep_first(result, loan.ways.withdraw_bars(), "withdrawing its registers");
    keep_first(result, wake(), "waking it up");
    keep_first(result, change_command(device_, pci::command::bus_master, 0), "turning bus master off");
    for (auto& [number, loan] : loans_) {
        keep_first(result, loan.ways.release_irqs(), "turning interrupts off");
        keep_first(result, loan.ways.release_memory(), "unmapping the borrower's memory");
    }
    keep_first(result, segments_.clear(), "withdrawing device segments");
    loans_.clear();
    iovas_.clear();
    keep_first(result, device_.reset(), "resetting");
    return result;
}

Result<> LenderCore::reset() {
    if (!device_.can_reset())
        return fail(Errc::not_supported, "the device offers no reset: it cannot be lent or lent again");
    [[maybe_unused]] const auto woken = wake(); // a reset does that, too: what counts is found afterwards
    TRY(device_.reset());
    asleep_ = 0;
    const auto config = TRY(read_config(device_));
    if (identity_.empty())
        identity_ = config;
    else
        TRY(check_same_device(identity_, config));
    const uint16_t command = pci::get16(config, pci::config::command);
    if (command & pci::command::bus_master)
        return fail(Errc::io, "after its reset the device still has bus master on (command {:#x})", command);
    if (const size_t power = power_control_offset(config);
        power != 0 && power_state(config, power) != power_d0)
        return fail(Errc::io, "after its reset the device still is in power state D{}",
                    power_state(config, power));
    return class_.verify_reset(device_);
}

Result<> LenderCore::wipe(io::Duration deadline) {
    auto wiped = class_.wipe(device_, deadline);
    auto reset_again = reset();
    return wiped ? reset_again : wiped;
}

} // namespace lanepool::smartio
