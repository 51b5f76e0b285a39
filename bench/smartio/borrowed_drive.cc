// SPDX-License-Identifier: Apache-2.0
#include "smartio/borrowed_drive.h"

#include "lanepool/device_function.h"
#include "nvme/borrowed/borrowed_memory.h"
#include "nvme/io_commands.h"

#include <algorithm>

namespace lanepool::bench {

namespace {

constexpr auto borrow_timeout = std::chrono::seconds(30);
constexpr uint64_t fill_bytes = 1 << 20;

// What must outlive the driver, and the driver's function, which is the drive's.
struct Loan {
    Session session;
    std::unique_ptr<DeviceFunction> function;
};

// The system owns the loan; the driver uses the function of it.
class Borrowed final : public System {
  public:
    Borrowed(std::unique_ptr<Loan> loan, std::unique_ptr<System> nvme)
        : loan_(std::move(loan)), nvme_(std::move(nvme)) {}
    const std::string& name() const override { return nvme_->name(); }
    Result<Measured> run(const Workload& workload) override { return nvme_->run(workload); }

  private:
    std::unique_ptr<Loan> loan_;
    std::unique_ptr<System> nvme_;
};

Result<> fill(pci::Function& function, const nvme::DriverOptions& options) {
    auto driver = TRY(nvme::Driver::create(function, io::system_clock(), options));
    auto* queue = TRY(driver->create_queue({}));
    auto buffer = TRY(driver->allocate(fill_bytes));
    const auto& ns = driver->namespaces().at(0);
    const auto blocks = static_cast<uint32_t>(std::min(fill_bytes, ns.max_transfer_bytes) / ns.block_bytes);
    std::ranges::fill(buffer.bytes(), std::byte{0x5a});
    for (uint64_t block = 0; block < ns.blocks; block += blocks) {
        const auto command = TRY(nvme::make_write(
            ns, block, static_cast<uint32_t>(std::min<uint64_t>(blocks, ns.blocks - block)), {buffer, 0}));
        TRY(queue->execute(command, std::chrono::seconds(10)).result("filling the drive"));
    }
    return driver->shut_down();
}

} // namespace

Result<std::unique_ptr<System>> make_borrowed(const std::string& name, const std::string& agent,
                                              uint64_t fdid, const std::string& file) {
    auto loan = std::make_unique<Loan>(Loan{TRY(Session::open({.socket = agent})), nullptr});
    loan->function = TRY(DeviceFunction::borrow(loan->session, fdid, Sharing::exclusive, borrow_timeout));
    nvme::DriverOptions options;
    options.reset = nvme::DriverOptions::Reset::never; // it was reset before it was lent
    options.allocator = std::make_shared<nvme::BorrowedMemory>(loan->session, loan->function->device());
    TRY(fill(*loan->function, options));
    auto nvme = TRY(make_nvme(name, *loan->function, options, file));
    return std::make_unique<Borrowed>(std::move(loan), std::move(nvme));
}

} // namespace lanepool::bench
