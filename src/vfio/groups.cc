// SPDX-License-Identifier: Apache-2.0
#include "vfio/groups.h"

#include "pci/address.h"
#include "vfio/sysfs.h"

#include <linux/vfio.h>

namespace lanepool::vfio {

Membership& Membership::operator=(Membership&& other) noexcept {
    if (this == &other) return *this;
    if (groups_) groups_->leave(number_, address_);
    groups_ = std::exchange(other.groups_, nullptr);
    number_ = other.number_;
    address_ = other.address_;
    group_ = std::move(other.group_);
    container_ = other.container_;
    return *this;
}

Membership::~Membership() {
    if (groups_) groups_->leave(number_, address_);
}

Result<Membership> Groups::join(const Paths& paths, const pci::Address& address) {
    const auto driver = TRY(driver_of(paths.sys, address));
    if (!is_vfio_driver(driver))
        return fail(Errc::failed_precondition, "function {} is not bound to vfio-pci, {}",
                    pci::to_string(address), driver.empty() ? "no driver has it" : driver + " has it");
    const uint32_t number = TRY(iommu_group_of(paths.sys, address));
    const std::lock_guard lock(mutex_);
    auto found = groups_.find(number);
    if (found == groups_.end()) {
        auto group = TRY(open(paths, number));
        found = groups_.emplace(number, std::move(group)).first;
    }
    if (!found->second.members.insert(address).second)
        return fail(Errc::busy, "function {} is open in this process already", pci::to_string(address));
    Membership membership;
    membership.groups_ = this;
    membership.number_ = number;
    membership.address_ = address;
    membership.group_ = found->second.fd;
    membership.container_ = found->second.container.get();
    return membership;
}

Result<Groups::Group> Groups::open(const Paths& paths, uint32_t number) {
    Group group;
    group.container = TRY(Container::create(kernel_, paths.dev));
    auto fd = kernel_.open(paths.dev / "vfio" / std::to_string(number));
    if (!fd && fd.error().code() == Errc::busy)
        return fail(Errc::busy,
                    "IOMMU group {} is in use: another process has it, or a mapping of a function of it is "
                    "still there",
                    number);
    if (!fd) return tl::unexpected<Error>(fd.error().within(fmt::format("opening IOMMU group {}", number)));
    group.fd = share(std::move(*fd));
    vfio_group_status status{};
    status.argsz = sizeof status;
    if (const int error = kernel_.ioctl(group.fd->get(), VFIO_GROUP_GET_STATUS, &status); error < 0)
        return fail_errno(error, fmt::format("asking how IOMMU group {} stands", number));
    if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0) {
        const auto users = in_use_by_host(paths.sys, number);
        return fail(Errc::failed_precondition,
                    "IOMMU group {} can be had only as a whole, and this machine uses other functions of it: "
                    "{}; bind them to vfio-pci too, or to no driver",
                    number, users.empty() ? "see its folder in /sys/kernel/iommu_groups" : users);
    }
    TRY(group.container->attach(group.fd->get()));
    return group;
}

void Groups::leave(uint32_t number, const pci::Address& address) {
    const std::lock_guard lock(mutex_);
    const auto found = groups_.find(number);
    found->second.members.erase(address);
    if (found->second.members.empty()) groups_.erase(found);
}

int Groups::descriptor(uint32_t number) const {
    const std::lock_guard lock(mutex_);
    const auto found = groups_.find(number);
    return found == groups_.end() ? -1 : found->second.fd->get();
}

bool Groups::is_open(const pci::Address& address) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, group] : groups_)
        if (group.members.contains(address)) return true;
    return false;
}

} // namespace lanepool::vfio
