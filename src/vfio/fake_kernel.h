// SPDX-License-Identifier: Apache-2.0
//
// For tests: a kernel with VFIO and one PCI function, 0000:03:00.0 in IOMMU group 7 with a sibling
// 0000:03:00.1, that fails as it is told to.
#pragma once

#include "base/temporary_folder.h"
#include "pci/config_space.h"
#include "vfio/kernel.h"
#include "vfio/open.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <linux/vfio.h>
#include <map>
#include <string>
#include <sys/eventfd.h>
#include <vector>

namespace lanepool::vfio {

class FakeKernel final : public Kernel {
  public:
    static constexpr pci::Address address{0, 3, 0, 0}, sibling{0, 3, 0, 1};
    static constexpr uint32_t group = 7;
    static constexpr uint64_t bar_bytes = 16384;
    // Requests of a container have the numbers of others of a device.
    static constexpr unsigned long of_container = 1ul << 40;
    static constexpr uint64_t config_base = uint64_t{7} << 40;

    FakeKernel() {
        add_function("0000:03:00.0", "vfio-pci");
        add_function("0000:03:00.1", "");
        pci::set16(config, pci::config::status, pci::status::capabilities_list);
        pci::set16(config, pci::config::command, pci::command::memory_space);
    }
    Paths paths() const { return {folder / "sys", "/dev"}; }
    void add_function(const std::string& name, const std::string& driver) {
        namespace fs = std::filesystem;
        const auto device = folder / "sys/bus/pci/devices" / name;
        const auto of_group = folder / "sys/kernel/iommu_groups/7";
        fs::create_directories(device);
        fs::create_directories(of_group / "devices");
        fs::remove(device / "driver");
        if (!driver.empty()) fs::create_symlink("../../../../bus/pci/drivers/" + driver, device / "driver");
        if (!fs::is_symlink(device / "iommu_group")) fs::create_symlink(of_group, device / "iommu_group");
        if (!fs::is_symlink(of_group / "devices" / name))
            fs::create_symlink(device, of_group / "devices" / name);
    }

    Result<UniqueFd> open(const std::filesystem::path& path) override {
        opened.push_back(path.string());
        if (const auto found = open_errors.find(path.string()); found != open_errors.end())
            return fail_errno(found->second, path.string());
        const int fd = descriptor();
        if (path.filename() == "vfio") container = fd;
        return UniqueFd(fd);
    }
    ssize_t pread(int, std::span<std::byte> data, uint64_t offset) override {
        if (offset < config_base && io_error != 0) return -io_error;
        const auto bytes = at(offset).first(std::min(data.size(), most_at_a_time));
        std::copy(bytes.begin(), bytes.end(), data.begin());
        return std::ssize(bytes);
    }
    ssize_t pwrite(int, std::span<const std::byte> data, uint64_t offset) override {
        if (offset < config_base && io_error != 0) return -io_error;
        const auto part = data.first(std::min(data.size(), most_at_a_time));
        std::copy(part.begin(), part.end(), at(offset).begin());
        return std::ssize(part);
    }
    Result<Mapping> map(const MemoryRef& memory, Access access) override {
        return Mapping::create(memory, access);
    }
    int ioctl(int fd, unsigned long request, void* argument) override {
        if (fd == container) request |= of_container;
        asked.push_back(request);
        if (auto found = errors.find(request); found != errors.end() && !found->second.empty()) {
            const int error = found->second.front();
            if (found->second.size() > 1) found->second.erase(found->second.begin());
            if (error != 0) return error;
        }
        switch (request) {
        case of_container | VFIO_GET_API_VERSION:
            return VFIO_API_VERSION;
        case of_container | VFIO_CHECK_EXTENSION:
            return type1;
        case VFIO_GROUP_GET_STATUS:
            static_cast<vfio_group_status*>(argument)->flags = viable ? VFIO_GROUP_FLAGS_VIABLE : 0;
            return 0;
        case VFIO_GROUP_GET_DEVICE_FD:
            return descriptor();
        case of_container | VFIO_IOMMU_GET_INFO:
            return iommu_info(static_cast<vfio_iommu_type1_info*>(argument));
        case of_container | VFIO_IOMMU_MAP_DMA:
            maps.push_back(*static_cast<vfio_iommu_type1_dma_map*>(argument));
            return 0;
        case of_container | VFIO_IOMMU_UNMAP_DMA:
            unmaps.push_back(static_cast<vfio_iommu_type1_dma_unmap*>(argument)->iova);
            if (unmaps_nothing) static_cast<vfio_iommu_type1_dma_unmap*>(argument)->size = 0;
            return 0;
        case VFIO_DEVICE_GET_INFO:
            return device_info(static_cast<vfio_device_info*>(argument));
        case VFIO_DEVICE_GET_REGION_INFO:
            return region_info(static_cast<vfio_region_info*>(argument));
        case VFIO_DEVICE_GET_IRQ_INFO:
            return irq_info(static_cast<vfio_irq_info*>(argument));
        case VFIO_DEVICE_SET_IRQS:
            return set_irqs(static_cast<const vfio_irq_set*>(argument));
        case VFIO_DEVICE_RESET:
            return 0;
        case VFIO_DEVICE_GET_PCI_HOT_RESET_INFO:
            return hot_reset_info(static_cast<std::byte*>(argument));
        default: // what needs no answer
            return 0;
        }
    }
    size_t count(unsigned long request) const {
        return static_cast<size_t>(std::count(asked.begin(), asked.end(), request));
    }

    // What it answers.
    int type1 = 1;
    bool viable = true;
    bool resets_alone = true;
    bool unmaps_nothing = false;
    bool resizes_msix = false;
    uint32_t most_vectors = 16;
    int io_error = 0; // of accesses to BARs
    size_t most_at_a_time = SIZE_MAX;
    std::map<unsigned long, std::vector<int>> errors; // in this order, the last for ever; 0: none
    std::map<std::string, int> open_errors;
    std::vector<std::byte> config = std::vector<std::byte>(256);
    std::vector<std::byte> bar = std::vector<std::byte>(bar_bytes);

    // What happened.
    std::vector<std::string> opened;
    std::vector<unsigned long> asked;
    std::vector<vfio_iommu_type1_dma_map> maps;
    std::vector<uint64_t> unmaps;
    std::map<uint32_t, std::vector<int>> vectors; // by index, as the kernel has them set up
    int container = -1;                           // its descriptor
    TemporaryFolder folder;

  private:
    int descriptor() {
        const int fd = ::eventfd(0, EFD_CLOEXEC);
        if (fd == container) container = -1; // it had been closed
        return fd;
    }
    std::span<std::byte> at(uint64_t offset) {
        return offset >= config_base ? std::span(config).subspan(offset - config_base)
                                     : std::span(bar).subspan(offset);
    }
    static int iommu_info(vfio_iommu_type1_info* info) {
        struct Answer {
            vfio_iommu_type1_info info;
            vfio_info_cap_header header;
            uint32_t ranges, reserved;
            vfio_iova_range range[2];
        };
        info->flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
        info->iova_pgsizes = 4096 | 2 << 20;
        if (info->argsz < sizeof(Answer)) {
            info->argsz = sizeof(Answer);
            info->cap_offset = 0;
            return 0;
        }
        auto* answer = reinterpret_cast<Answer*>(info);
        answer->info.cap_offset = offsetof(Answer, header);
        answer->header = {VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 1, 0};
        answer->ranges = 2;
        answer->range[0] = {0, 0xfedfffff};
        answer->range[1] = {0xfef00000, 0x7fffffffff};
        return 0;
    }
    int device_info(vfio_device_info* info) const {
        info->flags = VFIO_DEVICE_FLAGS_PCI | (resets_alone ? VFIO_DEVICE_FLAGS_RESET : 0u);
        info->num_regions = VFIO_PCI_NUM_REGIONS;
        info->num_irqs = VFIO_PCI_NUM_IRQS;
        return 0;
    }
    int region_info(vfio_region_info* info) const {
        if (info->index == VFIO_PCI_VGA_REGION_INDEX) return -EINVAL;
        if (info->index == VFIO_PCI_BAR0_REGION_INDEX) {
            info->size = bar.size();
            info->flags =
                VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE | VFIO_REGION_INFO_FLAG_MMAP;
        } else if (info->index == VFIO_PCI_CONFIG_REGION_INDEX) {
            info->size = config.size();
            info->offset = config_base;
            info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
        }
        return 0;
    }
    int irq_info(vfio_irq_info* info) const {
        static constexpr std::array<uint32_t, VFIO_PCI_NUM_IRQS> counts{1, 4, 16, 1, 1};
        info->count = counts.at(info->index);
        info->flags = VFIO_IRQ_INFO_EVENTFD;
        if (info->index == VFIO_PCI_INTX_IRQ_INDEX)
            info->flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
        else if (info->index == VFIO_PCI_MSI_IRQ_INDEX || !resizes_msix)
            info->flags |= VFIO_IRQ_INFO_NORESIZE;
        return 0;
    }
    // As vfio_pci_set_msi_trigger in the kernel.
    int set_irqs(const vfio_irq_set* set) {
        if ((set->flags & VFIO_IRQ_SET_ACTION_TRIGGER) == 0) return 0;
        if (set->index <= VFIO_PCI_MSIX_IRQ_INDEX)
            for (uint32_t other = 0; other <= VFIO_PCI_MSIX_IRQ_INDEX; ++other)
                if (other != set->index && vectors.contains(other)) return -EINVAL;
        if (set->count == 0) {
            vectors.erase(set->index);
            return 0;
        }
        const bool fixed = set->index == VFIO_PCI_MSI_IRQ_INDEX || !resizes_msix;
        const uint32_t end = set->start + set->count;
        if (vectors.contains(set->index) && fixed && end > vectors[set->index].size()) return -EINVAL;
        if (end > most_vectors) return static_cast<int>(most_vectors);
        auto& of_index = vectors[set->index];
        if (of_index.size() < end) of_index.resize(end, -1);
        std::memcpy(of_index.data() + set->start, set->data, set->count * sizeof(int));
        return 0;
    }
    static int hot_reset_info(std::byte* argument) {
        uint32_t argsz = 0;
        std::memcpy(&argsz, argument, sizeof argsz);
        constexpr std::array<vfio_pci_dependent_device, 2> devices{{{group, 0, 3, 0}, {group, 0, 3, 1}}};
        const uint32_t number = devices.size();
        std::memcpy(argument + 8, &number, sizeof number);
        if (argsz < 12 + sizeof devices) return -ENOSPC;
        std::memcpy(argument + 12, devices.data(), sizeof devices);
        return 0;
    }
};

} // namespace lanepool::vfio
