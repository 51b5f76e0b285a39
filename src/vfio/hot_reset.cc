// SPDX-License-Identifier: Apache-2.0
#include "vfio/hot_reset.h"

#include "pci/address.h"
#include "vfio/info.h"

#include <algorithm>
#include <cerrno>
#include <linux/vfio.h>

namespace lanepool::vfio {

// More functions than a bus has are not believed; a slot with ARI has 256.
constexpr uint32_t max_affected = 4096;

Result<std::vector<AffectedFunction>> parse_affected(std::span<const std::byte> answer) {
    vfio_pci_hot_reset_info info;
    TRY(copy_part(answer, 0, info));
    std::vector<AffectedFunction> affected;
    size_t offset = sizeof info;
    for (uint32_t i = 0; i < info.count; ++i, offset += sizeof(vfio_pci_dependent_device)) {
        const auto device = TRY(part_of<vfio_pci_dependent_device>(answer, offset));
        affected.push_back({device.group_id,
                            {device.segment, device.bus, static_cast<uint8_t>(device.devfn >> 3),
                             static_cast<uint8_t>(device.devfn & 7)}});
    }
    return affected;
}

Result<std::vector<AffectedFunction>> affected_by_hot_reset(Kernel& kernel, int device) {
    // Unlike others this question does not tell by argsz how much room it wants, but by the count.
    uint32_t count = 0;
    while (true) {
        vfio_pci_hot_reset_info head;
        std::vector<std::byte> answer(sizeof head + count * sizeof(vfio_pci_dependent_device));
        head.argsz = static_cast<uint32_t>(answer.size());
        head.flags = head.count = 0;
        std::memcpy(answer.data(), &head, sizeof head);
        const int error = kernel.ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, answer.data());
        if (error == 0) return parse_affected(answer);
        if (error == -ENODEV) return fail(Errc::not_supported, "its bus or slot cannot be reset either");
        TRY(copy_part(answer, 0, head));
        if (error != -ENOSPC || head.count <= count || head.count > max_affected)
            return fail_errno(error, "asking what a reset of the bus would reset");
        count = head.count;
    }
}

Result<std::vector<int>> groups_to_reset(const Groups& groups, const pci::Address& address,
                                         const std::vector<AffectedFunction>& affected) {
    std::vector<int> descriptors;
    for (const auto& function : affected) {
        const int descriptor = groups.descriptor(function.group);
        if (descriptor < 0)
            return fail(Errc::busy, "that would reset {} as well, of IOMMU group {}, which is not taken",
                        pci::to_string(function.address), function.group);
        if (function.address != address && groups.is_open(function.address))
            return fail(Errc::busy, "that would reset {} as well, which is in use",
                        pci::to_string(function.address));
        if (std::find(descriptors.begin(), descriptors.end(), descriptor) == descriptors.end())
            descriptors.push_back(descriptor);
    }
    return descriptors;
}

Result<> hot_reset(Kernel& kernel, int device, const Groups& groups, const pci::Address& address) {
    const auto affected = TRY(affected_by_hot_reset(kernel, device));
    const auto descriptors = TRY(groups_to_reset(groups, address, affected));
    vfio_pci_hot_reset head{};
    const auto fds = std::as_bytes(std::span(descriptors));
    std::vector<std::byte> request(sizeof head + fds.size());
    head.argsz = static_cast<uint32_t>(request.size());
    head.count = static_cast<uint32_t>(descriptors.size());
    std::memcpy(request.data(), &head, sizeof head);
    std::copy(fds.begin(), fds.end(), request.begin() + sizeof head);
    const int error = kernel.ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, request.data());
    if (error == -ENOTTY) // what the kernel makes of a link that does not come up again
        return fail(Errc::io, "resetting its bus or slot: the kernel found nobody there afterwards");
    return error < 0 ? fail_errno(error, "resetting its bus or slot") : Result<>{};
}

} // namespace lanepool::vfio
