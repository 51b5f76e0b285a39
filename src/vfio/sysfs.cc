// SPDX-License-Identifier: Apache-2.0
#include "vfio/sysfs.h"

#include "pci/address.h"

#include <algorithm>
#include <charconv>

namespace lanepool::vfio {

namespace fs = std::filesystem;

namespace {

fs::path folder_of(const fs::path& sys, const pci::Address& address) {
    return sys / "bus/pci/devices" / pci::to_string(address);
}

// What a link's target is called; empty when there is no such link.
std::string target_name(const fs::path& link) {
    std::error_code error;
    const auto target = fs::read_symlink(link, error);
    return error ? "" : target.filename().string();
}

} // namespace

Result<std::string> driver_of(const fs::path& sys, const pci::Address& address) {
    const auto folder = folder_of(sys, address);
    std::error_code error;
    if (!fs::exists(folder, error))
        return fail(Errc::not_found, "this machine has no PCI function {}", pci::to_string(address));
    return target_name(folder / "driver");
}

bool is_vfio_driver(const std::string& driver) {
    return driver.ends_with("vfio-pci") || driver.ends_with("vfio_pci");
}

Result<uint32_t> iommu_group_of(const fs::path& sys, const pci::Address& address) {
    const auto name = target_name(folder_of(sys, address) / "iommu_group");
    uint32_t group = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), group);
    if (name.empty() || error != std::errc() || end != name.data() + name.size())
        return fail(Errc::failed_precondition,
                    "function {} is in no IOMMU group: turn the IOMMU on in firmware (VT-d, AMD-Vi) and "
                    "kernel (intel_iommu=on)",
                    pci::to_string(address));
    return group;
}

Result<std::vector<pci::Address>> members_of(const fs::path& sys, uint32_t group) {
    const auto folder = sys / "kernel/iommu_groups" / std::to_string(group) / "devices";
    std::vector<pci::Address> members;
    std::error_code error;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
        if (const auto address = pci::parse_address(at->path().filename().string()))
            members.push_back(*address);
    if (error) return fail(Errc::not_found, "IOMMU group {} cannot be listed: {}", group, error.message());
    std::sort(members.begin(), members.end());
    return members;
}

std::string in_use_by_host(const fs::path& sys, uint32_t group) {
    std::string text;
    const auto members = members_of(sys, group);
    if (!members) return text;
    for (const auto& member : *members) {
        const auto driver = driver_of(sys, member);
        // Those manage bridges, or nothing, and leave DMA to others.
        if (!driver || driver->empty() || is_vfio_driver(*driver) || *driver == "pcieport" ||
            *driver == "pci-stub")
            continue;
        text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", pci::to_string(member), *driver);
    }
    return text;
}

} // namespace lanepool::vfio
