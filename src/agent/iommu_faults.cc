// SPDX-License-Identifier: Apache-2.0
#include "agent/iommu_faults.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <limits>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <utility>

namespace lanepool::agent {

namespace {

constexpr size_t longest_record = 8192; // CONSOLE_EXT_LOG_MAX of older kernels, PRINTK_MESSAGE_MAX of newer
constexpr size_t longest_reason = 80;
constexpr size_t longest_address = 32;
// Then it is others' turn.
constexpr int records_at_a_time = 64;

// Goes along a text; what does not fit is left.
class Scan {
  public:
    explicit Scan(std::string_view text) : rest_(text) {}
    std::string_view rest() const { return rest_; }

    bool skip(std::string_view literal) {
        if (!rest_.starts_with(literal)) return false;
        rest_.remove_prefix(literal.size());
        return true;
    }
    // Up to END, which is skipped. None where there is no END.
    std::optional<std::string_view> until(std::string_view end) {
        const size_t found = rest_.find(end);
        if (found == std::string_view::npos) return std::nullopt;
        const auto text = rest_.substr(0, found);
        rest_.remove_prefix(found + end.size());
        return text;
    }
    std::optional<uint64_t> number(int base) {
        uint64_t value = 0;
        const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value, base);
        if (error != std::errc()) return std::nullopt;
        rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
        return value;
    }
    std::optional<uint64_t> hex() {
        skip("0x"); // older kernels write none
        return number(16);
    }

  private:
    std::string_view rest_;
};

// Also "0x01:0x00.0", as VT-d's driver wrote it for some releases.
bool set_address(IommuFault& fault, std::string_view text) {
    std::string plain(text.substr(0, longest_address));
    for (size_t at = 0; (at = plain.find("0x", at)) != std::string::npos;)
        plain.erase(at, 2);
    const auto address = pci::parse_address(plain);
    if (!address) return false;
    fault.address = *address;
    fault.domain_known = std::count(text.begin(), text.end(), ':') == 2;
    return true;
}

// drivers/iommu/intel/dmar.c, dmar_fault_do_one(): "[DMA Write NO_PASID] Request device [01:00.0] fault addr
// 0x1000 [fault reason 0x05] PTE Write access is not set", "[DMA Read PASID 0x1] ...", "[INTR-REMAP] Request
// device [01:00.0] fault index 0x7 ..."; before Linux 5.13 "[DMA Write] Request device [01:00.0] PASID
// ffffffff fault addr 1000 [fault reason 05] ...", the reason in decimal.
std::optional<IommuFault> parse_vtd(Scan scan) {
    IommuFault fault;
    const auto kind = scan.until("] Request device [");
    if (!kind) return std::nullopt;
    if (kind->starts_with("DMA Write"))
        fault.access = IommuFault::Access::write;
    else if (*kind == "INTR-REMAP")
        fault.access = IommuFault::Access::interrupt;
    else if (!kind->starts_with("DMA Read"))
        return std::nullopt;
    const auto device = scan.until("] ");
    if (!device || !set_address(fault, *device)) return std::nullopt;
    if (scan.skip("PASID ") && (!scan.hex() || !scan.skip(" "))) return std::nullopt;
    if (!scan.skip("fault addr ") && !scan.skip("fault index ")) return std::nullopt;
    const auto at = scan.hex();
    if (!at) return std::nullopt;
    fault.at = *at;
    scan.skip(" ");
    if (!scan.skip("[fault reason ")) return fault; // which some kernels say in a line of its own
    const auto code = scan.skip("0x") ? scan.number(16) : scan.number(10);
    if (!code || !scan.skip("]")) return fault;
    scan.skip(" ");
    fault.reason = fmt::format("fault reason {:#04x}", *code);
    if (!scan.rest().empty()) fault.reason += fmt::format(", {}", scan.rest().substr(0, longest_reason));
    return fault;
}

// drivers/iommu/amd/iommu.c: "[IO_PAGE_FAULT device=01:00.0 domain=0x000e address=0x1000 flags=0x0030]", the
// device with its domain since Linux 6.0; or the log names it, by DRIVEN, and the event does not.
std::optional<IommuFault> parse_amd(Scan scan, std::string_view driven) {
    constexpr std::array events{"IO_PAGE_FAULT", "ILLEGAL_DEV_TABLE_ENTRY", "INVALID_DEVICE_REQUEST"};
    // Of the flags of an IO_PAGE_FAULT (AMD I/O Virtualization Technology Specification 2.5.3).
    constexpr uint64_t interrupt = 0x008, write = 0x020;
    const auto words = scan.until("]");
    const auto event = words ? words->substr(0, words->find(' ')) : std::string_view();
    if (std::find(events.begin(), events.end(), event) == events.end()) return std::nullopt;
    IommuFault fault;
    bool has_device = !driven.empty() && set_address(fault, driven), has_address = false;
    uint64_t flags = 0;
    for (std::string_view rest = *words; !rest.empty();) {
        const size_t space = rest.find(' ');
        Scan word(rest.substr(0, space));
        rest.remove_prefix(space == std::string_view::npos ? rest.size() : space + 1);
        if (word.skip("device=")) {
            if (has_device || !set_address(fault, word.rest())) return std::nullopt;
            has_device = true;
        } else if (word.skip("address=")) {
            const auto at = word.hex();
            if (!at) return std::nullopt;
            fault.at = *at;
            has_address = true;
        } else if (word.skip("flags=")) {
            flags = word.hex().value_or(0);
        }
    }
    if (!has_device || !has_address) return std::nullopt;
    if (flags & interrupt)
        fault.access = IommuFault::Access::interrupt;
    else if (flags & write)
        fault.access = IommuFault::Access::write;
    fault.reason = fmt::format("{}, flags {:#06x}", event, flags);
    return fault;
}

} // namespace

std::string to_string(const IommuFault& fault) {
    const std::string_view what = fault.access == IommuFault::Access::write       ? "DMA write to"
                                  : fault.access == IommuFault::Access::interrupt ? "interrupt request at"
                                                                                  : "DMA read of";
    return fmt::format("{} {:#x} stopped by the IOMMU{}{}", what, fault.at, fault.reason.empty() ? "" : ": ",
                       fault.reason);
}

// Documentation/ABI/testing/dev-kmsg: "LEVEL,SEQUENCE,TIME,FLAGS[,...];MESSAGE\n", and lines that begin with
// a space. LEVEL has the facility above its lowest three bits: 0 is the kernel, and nobody else can be that.
std::optional<std::string_view> kernel_message(std::string_view record) {
    Scan scan(record);
    const auto level = scan.number(10);
    if (!level || *level >> 3 != 0 || !scan.skip(",") || !scan.until(";")) return std::nullopt;
    return scan.rest().substr(0, scan.rest().find('\n'));
}

// It has to begin as the IOMMU's drivers begin: names of programs and file systems get into messages, too.
std::optional<IommuFault> parse_iommu_fault(std::string_view message) {
    Scan scan(message);
    if (scan.skip("DMAR:")) {
        scan.skip(" ");
        if (!scan.skip("[")) return std::nullopt;
        return parse_vtd(scan);
    }
    constexpr std::string_view amd = "AMD-Vi: Event logged [";
    if (scan.skip(amd)) return parse_amd(scan, {});
    // "vfio-pci 0000:01:00.0: AMD-Vi: ..."
    const auto driver = scan.until(" ");
    const auto address = driver ? scan.until(": ") : std::nullopt;
    if (!address || address->empty() || !scan.skip(amd)) return std::nullopt;
    return parse_amd(scan, *address);
}

std::optional<uint64_t> parse_left_out_faults(std::string_view message) {
    Scan scan(message);
    if (!scan.skip("dmar_fault: ") && !scan.skip("amd_iommu_report_page_fault: ")) return std::nullopt;
    const auto count = scan.number(10);
    if (!count || scan.rest() != " callbacks suppressed") return std::nullopt;
    return count;
}

Result<KernelLog> open_kernel_log() {
    KernelLog log;
    log.fd = UniqueFd(::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (!log.fd) return fail_errno("opening /dev/kmsg");
    if (::lseek(log.fd.get(), 0, SEEK_END) < 0) return fail_errno("going to the end of /dev/kmsg");
    log.read = [fd = log.fd.get()](std::span<char> into) { return ::read(fd, into.data(), into.size()); };
    return log;
}

IommuFaultWatch::IommuFaultWatch(KernelLog log, Seen seen)
    : log_(std::move(log)), seen_(std::move(seen)), buffer_(longest_record) {}

Result<std::unique_ptr<IommuFaultWatch>> IommuFaultWatch::create(io::EventLoop& loop, KernelLog log,
                                                                 Seen seen) {
    std::unique_ptr<IommuFaultWatch> watch(new IommuFaultWatch(std::move(log), std::move(seen)));
    watch->watch_ =
        TRY(loop.watch(watch->log_.fd.get(), EPOLLIN, [watch = watch.get()](uint32_t) { watch->read(); }));
    return watch;
}

void IommuFaultWatch::read() {
    for (int i = 0; i < records_at_a_time; ++i) {
        const ssize_t size = log_.read(buffer_);
        if (size > 0) {
            take({buffer_.data(), static_cast<size_t>(size)});
            continue;
        }
        const int error = size < 0 ? errno : ENODATA;
        if (error == EAGAIN) return;
        // Records were overwritten before they were read, or one was too long: the next read gets the next.
        if (error == EPIPE || error == EINVAL || error == EINTR) continue;
        spdlog::warn("the kernel's log cannot be read any more ({}): what the IOMMU stops is not reported",
                     std::strerror(error));
        return watch_.reset();
    }
}

void IommuFaultWatch::take(std::string_view record) {
    const auto message = kernel_message(record);
    if (!message) return;
    if (const auto count = parse_left_out_faults(*message))
        left_out_ += std::min(*count, std::numeric_limits<uint64_t>::max() - left_out_);
    else if (const auto fault = parse_iommu_fault(*message))
        seen_(*fault, std::exchange(left_out_, 0));
}

} // namespace lanepool::agent
