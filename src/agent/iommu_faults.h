// SPDX-License-Identifier: Apache-2.0
//
// What this machine's IOMMU has stopped. Linux says so only in its log, of VT-d as of AMD's IOMMU.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "io/event_loop.h"
#include "pci/address.h"

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

namespace lanepool::agent {

struct IommuFault {
    enum class Access { read, write, interrupt };

    pci::Address address;      // what the access said that it came from
    bool domain_known = false; // VT-d's driver does not name it
    Access access = Access::read;
    uint64_t at = 0;    // as the device sees it; of an interrupt that VT-d has stopped its index
    std::string reason; // in the IOMMU's words, short

    bool operator==(const IommuFault&) const = default;
};
// "DMA write to 0x1000 stopped by the IOMMU: fault reason 0x05, PTE Write access is not set"
std::string to_string(const IommuFault& fault);

// The kernel's own words in a record of /dev/kmsg; none where somebody else wrote it, or it is none.
std::optional<std::string_view> kernel_message(std::string_view record);
// The fault that such a message tells of.
std::optional<IommuFault> parse_iommu_fault(std::string_view message);
// Of how many more it does not tell, because there were too many.
std::optional<uint64_t> parse_left_out_faults(std::string_view message);

// The kernel's log from now on, a record a read, as /dev/kmsg gives it.
struct KernelLog {
    UniqueFd fd;                                  // non-blocking
    std::function<ssize_t(std::span<char>)> read; // as read(2) of it
};
// Errors: what the kernel says; it takes root, or CAP_SYSLOG.
Result<KernelLog> open_kernel_log();

// Watches it, on the loop's thread, for as long as it lives.
class IommuFaultWatch {
  public:
    // LEFT_OUT: how many the kernel has not told of before this one, of whichever device.
    using Seen = std::function<void(const IommuFault& fault, uint64_t left_out)>;
    // SEEN must not destroy it. Errors: what watching the descriptor says.
    static Result<std::unique_ptr<IommuFaultWatch>> create(io::EventLoop& loop, KernelLog log, Seen seen);

  private:
    IommuFaultWatch(KernelLog log, Seen seen);
    void read();
    void take(std::string_view record);

    KernelLog log_;
    const Seen seen_;
    std::vector<char> buffer_;
    uint64_t left_out_ = 0;
    io::EventLoop::Registration watch_;
};

} // namespace lanepool::agent
