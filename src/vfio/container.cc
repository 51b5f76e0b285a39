// SPDX-License-Identifier: Apache-2.0
#include "vfio/container.h"

#include "vfio/info.h"

#include <cerrno>
#include <linux/vfio.h>
#include <string>
#include <sys/resource.h>

namespace lanepool::vfio {

namespace {

void* number(unsigned long value) { return reinterpret_cast<void*>(value); } // for ioctls that take one

std::string locked_memory_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "unlimited";
    return fmt::format("{} KiB", limit.rlim_cur >> 10);
}

} // namespace

Result<std::unique_ptr<Container>> Container::create(Kernel& kernel, const std::filesystem::path& dev) {
    auto fd = kernel.open(dev / "vfio/vfio");
    // The one that iommufd can offer in its place answers as well, but maps no registers of other functions.
    const auto remedy = "load the module vfio_iommu_type1 (iommufd alone is not supported)";
    if (!fd && fd.error().code() == Errc::not_found)
        return fail(Errc::not_supported, "this kernel has no VFIO container: {}; {}", fd.error().message(),
                    remedy);
    if (!fd) return tl::unexpected<Error>(fd.error());
    if (const int version = kernel.ioctl(fd->get(), VFIO_GET_API_VERSION, nullptr);
        version != VFIO_API_VERSION)
        return fail(Errc::not_supported, "the kernel's VFIO has version {}, supported is {}", version,
                    VFIO_API_VERSION);
    if (kernel.ioctl(fd->get(), VFIO_CHECK_EXTENSION, number(VFIO_TYPE1v2_IOMMU)) <= 0)
        return fail(Errc::not_supported, "the kernel's VFIO has no type1 container: {}", remedy);
    return std::unique_ptr<Container>(new Container(kernel, std::move(*fd)));
}

Container::~Container() {
    // Nothing is left, but for what the kernel did not want to unmap; and a descriptor of the function that
    // somebody else still has would keep it mapped.
    while (!entries_.empty()) {
        [[maybe_unused]] const auto ignored = unmap_in_kernel(entries_.begin()->second.range);
        entries_.erase(entries_.begin());
    }
}

Result<> Container::attach(int group) {
    int fd = fd_->get();
    if (const int error = kernel_.ioctl(group, VFIO_GROUP_SET_CONTAINER, &fd); error < 0)
        return fail_errno(error, "putting the IOMMU group into a container");
    if (const int error = kernel_.ioctl(fd_->get(), VFIO_SET_IOMMU, number(VFIO_TYPE1v2_IOMMU));
        error == -EPERM)
        return fail(Errc::permission_denied,
                    "the kernel refuses the IOMMU: this machine does not remap interrupts, so a function "
                    "could send any; turn interrupt remapping on in firmware or kernel");
    else if (error < 0)
        return fail_errno(error, "setting up the IOMMU (VFIO_SET_IOMMU)");
    vfio_iommu_type1_info request{};
    const auto answer =
        TRY(ask(kernel_, fd_->get(), VFIO_IOMMU_GET_INFO, bytes_of(request), "asking what the IOMMU can do"));
    iommu_ = TRY(parse_iommu(answer));
    return {};
}

Result<> Container::map(Range<Iova> range, const MemoryRef& memory, Access access) {
    if (!memory.fd || memory.size_bytes < range.size_bytes())
        return fail(Errc::invalid_argument, "{} bytes are to be mapped, the memory has {}",
                    range.size_bytes(), memory.size_bytes);
    TRY(iommu_.check(range));
    if (memory.offset_bytes % iommu_.page_bytes != 0)
        return fail(Errc::invalid_argument,
                    "memory at offset {:#x} does not begin with a page of the IOMMU, of {} bytes",
                    memory.offset_bytes, iommu_.page_bytes);
    const std::lock_guard lock(mutex_);
    if (const auto after = entries_.upper_bound(range.last().value); after != entries_.begin())
        if (const auto& before = std::prev(after)->second.range; before.overlaps(range))
            return fail(Errc::already_exists, "{} bytes at {:#x} overlap {} that are mapped at {:#x}",
                        range.size_bytes(), range.start().value, before.size_bytes(), before.start().value);
    Entry entry{range, TRY(kernel_.map({memory.fd, memory.offset_bytes, range.size_bytes()}, access))};
    vfio_iommu_type1_dma_map request{};
    request.argsz = sizeof request;
    request.flags = VFIO_DMA_MAP_FLAG_READ | (access == Access::read_write ? VFIO_DMA_MAP_FLAG_WRITE : 0u);
    request.vaddr = reinterpret_cast<uintptr_t>(entry.memory.data());
    request.iova = range.start().value;
    request.size = range.size_bytes();
    if (const int error = kernel_.ioctl(fd_->get(), VFIO_IOMMU_MAP_DMA, &request); error < 0)
        return explain(error, range);
    entries_.emplace(range.start().value, std::move(entry));
    return {};
}

tl::unexpected<Error> Container::explain(int error, Range<Iova> range) const {
    const auto what = fmt::format("mapping {} bytes at {:#x}", range.size_bytes(), range.start().value);
    switch (error) {
    case -ENOSPC:
        return fail(Errc::no_space,
                    "{}: the IOMMU group has all {} mappings that it may have (parameter dma_entry_limit of "
                    "the module vfio_iommu_type1)",
                    what, iommu_.mappings.value_or(static_cast<uint32_t>(entries_.size())));
    case -ENOMEM:
        return fail(Errc::no_space,
                    "{}: the kernel has no memory for it, or this process may not lock more (RLIMIT_MEMLOCK "
                    "is {}; a service sets LimitMEMLOCK=infinity)",
                    what, locked_memory_limit());
    case -EFAULT:
        return fail(Errc::failed_precondition,
                    "{}: the kernel finds no memory there; registers of another function are there only "
                    "while its memory space is on",
                    what);
    default:
        return fail_errno(error, what);
    }
}

Result<> Container::unmap(Range<Iova> range) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(range.start().value);
    if (found == entries_.end() || found->second.range != range)
        return fail(Errc::not_found, "{} bytes at {:#x} are not what was mapped", range.size_bytes(),
                    range.start().value);
    TRY(unmap_in_kernel(range));
    entries_.erase(found);
    return {};
}

Result<> Container::unmap_in_kernel(Range<Iova> range) {
    vfio_iommu_type1_dma_unmap request{};
    request.argsz = sizeof request;
    request.iova = range.start().value;
    request.size = range.size_bytes();
    const int error = kernel_.ioctl(fd_->get(), VFIO_IOMMU_UNMAP_DMA, &request);
    if (error < 0)
        return fail_errno(
            error, fmt::format("unmapping {} bytes at {:#x}", range.size_bytes(), range.start().value));
    if (request.size != range.size_bytes())
        return fail(Errc::io, "of {} mapped bytes at {:#x} the kernel unmapped {}", range.size_bytes(),
                    range.start().value, uint64_t{request.size});
    return {};
}

size_t Container::mappings() const {
    const std::lock_guard lock(mutex_);
    return entries_.size();
}

} // namespace lanepool::vfio
