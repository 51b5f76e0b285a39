// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/address.h"
#include "base/mapping.h"
#include "vfio/iommu.h"
#include "vfio/kernel.h"

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>

namespace lanepool::vfio {

// A type1 container: one address space of the IOMMU, and what is mapped in it. Thread-safe.
class Container {
  public:
    // From DEV/vfio/vfio, without a group yet. Errors: not_supported where the kernel has no type1 container.
    static Result<std::unique_ptr<Container>> create(Kernel& kernel, const std::filesystem::path& dev);
    ~Container();
    Container(const Container&) = delete;
    Container& operator=(const Container&) = delete;

    // Puts a group into it, and the IOMMU to work. Once.
    Result<> attach(int group);

    // Errors: invalid_argument for what is not whole pages, out_of_range, already_exists, no_space for the
    // kernel's limits (locked memory, number of mappings).
    Result<> map(Range<Iova> range, const MemoryRef& memory, Access access);
    // RANGE is one that was mapped. When the kernel does not confirm it, the memory stays mapped here too.
    Result<> unmap(Range<Iova> range);
    size_t mappings() const;
    const SharedFd& descriptor() const { return fd_; }

  private:
    struct Entry {
        Range<Iova> range;
        Mapping memory;
    };
    Container(Kernel& kernel, UniqueFd fd) : kernel_(kernel), fd_(share(std::move(fd))) {}
    Result<> unmap_in_kernel(Range<Iova> range);
    tl::unexpected<Error> explain(int error, Range<Iova> range) const;

    Kernel& kernel_;
    SharedFd fd_;
    Iommu iommu_;
    mutable std::mutex mutex_;
    std::map<uint64_t, Entry> entries_; // by start
};

} // namespace lanepool::vfio
