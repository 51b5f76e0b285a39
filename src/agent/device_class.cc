// SPDX-License-Identifier: Apache-2.0
#include "agent/device_class.h"

#include "nvme/wipe.h"
#include "pci/config_space.h"

#include <array>
#include <random>
#include <spdlog/spdlog.h>

namespace lanepool::agent {

namespace {

// Class codes (PCI Code and ID Assignment Specification, chapter 1), base class in the high byte.
constexpr uint32_t nvme_class = 0x010802;
constexpr uint32_t base_class(uint32_t class_code) { return class_code >> 16; }

class NvmeClass final : public smartio::DeviceClass {
  public:
    Result<smartio::DeviceIdentity> identify(pci::Function& device) override {
        const auto identity = TRY(nvme::identify(device));
        return smartio::DeviceIdentity{identity.model, identity.serial, identity.firmware,
                                       identity.capacity_bytes};
    }
    Result<> verify_reset(pci::Function& device) override { return nvme::verify_reset(device); }
    Result<> wipe(pci::Function& device, io::Duration deadline) override {
        nvme::WipeOptions options;
        options.deadline = io::system_clock().now() + deadline;
        options.seed = std::random_device()();
        const auto report = TRY(nvme::wipe(device, io::system_clock(), options));
        const auto milliseconds = [](io::Duration time) {
            return std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
        };
        spdlog::info("wiped by {} in {} ms; {} blocks read back and found empty in {} ms",
                     nvme::name(report.method), milliseconds(report.erase_time), report.blocks_verified,
                     milliseconds(report.verify_time));
        return {};
    }
};

// A function whose state is in registers only: a verified reset leaves nothing of a borrower's.
class StatelessClass final : public smartio::DeviceClass {
  public:
    Result<smartio::DeviceIdentity> identify(pci::Function&) override { return smartio::DeviceIdentity{}; }
    Result<> verify_reset(pci::Function&) override { return {}; }
    Result<> wipe(pci::Function&, io::Duration) override { return {}; }
};

class CleanedClass final : public smartio::DeviceClass {
  public:
    CleanedClass(std::unique_ptr<smartio::DeviceClass> inner, std::shared_ptr<FunctionSource> source)
        : inner_(std::move(inner)), source_(std::move(source)) {}

    Result<smartio::DeviceIdentity> identify(pci::Function& device) override {
        return inner_->identify(device);
    }
    // Before it is looked at: what its parent does to it may be a reset, too.
    Result<> verify_reset(pci::Function& device) override {
        TRY(source_->host()->clean());
        return inner_->verify_reset(device);
    }
    Result<> wipe(pci::Function& device, io::Duration deadline) override {
        return inner_->wipe(device, deadline);
    }

  private:
    const std::unique_ptr<smartio::DeviceClass> inner_;
    const std::shared_ptr<FunctionSource> source_;
};

} // namespace

const char* kind_of(uint32_t class_code) {
    if (class_code == nvme_class) return "nvme";
    switch (base_class(class_code)) {
    case 0x02:
        return "nic";
    case 0x03:
        return "gpu";
    case 0x12:
        return "fpga"; // processing accelerators
    default:
        return "other";
    }
}

std::unique_ptr<smartio::DeviceClass> cleaned_by_host(std::unique_ptr<smartio::DeviceClass> device_class,
                                                      std::shared_ptr<FunctionSource> source) {
    return std::make_unique<CleanedClass>(std::move(device_class), std::move(source));
}

Result<v1::DeviceIdentity> identify_function(pci::Function& device) {
    std::array<std::byte, 64> config{};
    TRY(device.read(pci::Region::config, 0, config));
    v1::DeviceIdentity identity;
    identity.set_vendor_id(pci::get16(config, pci::config::vendor_id));
    identity.set_device_id(pci::get16(config, pci::config::device_id));
    // All-ones is what a bus answers when nobody is there (PCI Local Bus Specification 3.0, 6.1).
    if (identity.vendor_id() == 0xffff) return fail(Errc::disconnected, "the function answers all-ones");
    identity.set_class_code(pci::get32(config, pci::config::revision) >> 8);
    identity.set_kind(kind_of(identity.class_code()));
    return identity;
}

Result<std::unique_ptr<smartio::DeviceClass>> device_class_for(uint32_t class_code) {
    if (class_code == nvme_class) return std::make_unique<NvmeClass>();
    if (base_class(class_code) == 0x01) // mass storage
        return fail(Errc::not_supported,
                    "class {:06x} is storage that is not NVMe: it could not be wiped between two borrowers",
                    class_code);
    return std::make_unique<StatelessClass>();
}

} // namespace lanepool::agent
