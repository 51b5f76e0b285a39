// SPDX-License-Identifier: Apache-2.0
//
// An IOMMU group is what the kernel gives to one process as a whole, and what has one address space: the
// functions of a group that are open in this process share its descriptor and its container.
#pragma once

#include "pci/types.h"
#include "vfio/container.h"
#include "vfio/kernel.h"
#include "vfio/open.h"

#include <map>
#include <memory>
#include <mutex>
#include <set>

namespace lanepool::vfio {

class Groups;

// One function's share of its open group. The group is closed with the last.
class Membership {
  public:
    Membership() = default;
    Membership(Membership&& other) noexcept { *this = std::move(other); }
    Membership& operator=(Membership&& other) noexcept;
    ~Membership();

    const SharedFd& group() const { return group_; } // its descriptor
    uint32_t number() const { return number_; }
    Container& container() const { return *container_; }

  private:
    friend class Groups;
    Groups* groups_ = nullptr;
    uint32_t number_ = 0;
    pci::Address address_;
    SharedFd group_;
    Container* container_ = nullptr;
};

// The groups that are open in this process. Thread-safe; must outlive the memberships.
class Groups {
  public:
    explicit Groups(Kernel& kernel) : kernel_(kernel) {}

    // The function's share of its group, which is opened and put into a container of its own where that has
    // not happened yet. Errors: as open().
    Result<Membership> join(const Paths& paths, const pci::Address& address);

    // The descriptor of a group that is open here, -1 otherwise. Valid while a membership of it is kept.
    int descriptor(uint32_t number) const;
    bool is_open(const pci::Address& address) const;

  private:
    friend class Membership;
    struct Group {
        SharedFd fd;
        std::unique_ptr<Container> container; // goes first
        std::set<pci::Address> members;
    };
    Result<Group> open(const Paths& paths, uint32_t number);
    void leave(uint32_t number, const pci::Address& address);

    Kernel& kernel_;
    mutable std::mutex mutex_;
    std::map<uint32_t, Group> groups_;
};

} // namespace lanepool::vfio
