// SPDX-License-Identifier: Apache-2.0
//
// For tests: machines as their kernels show them, in memory or written to a folder. A test adds functions
// with what it cares about; what it does not say is as on a sound server.
#pragma once

#include "inventory/testing/config_builder.h"
#include "inventory/tree.h"
#include "pci/address.h"

#include <fmt/format.h>
#include <map>

namespace lanepool::inventory::testing {

inline constexpr Acs full_acs{0x1f, 0x1d};     // what an IOMMU's driver switches on: SV RR CR UF
inline constexpr Acs acs_left_off{0x1f, 0x00}; // capable, with nothing switched on
inline constexpr Link gen3_x4{8.0, 4}, gen4_x4{16.0, 4}, gen4_x16{16.0, 16}, gen1_x4{2.5, 4};

struct BarSpec {
    uint64_t size_bytes = 0;
    bool io = false;
    bool is_64_bit = true;
    bool prefetchable = false;
};

struct FunctionSpec {
    std::string address{};
    uint16_t vendor = 0x8086, device = 0x1000;
    uint32_t class_code = 0xff0000;
    FunctionType type = FunctionType::endpoint;
    std::string below{}; // the bridge above it
    BridgeBuses buses{}; // of a bridge
    std::string driver{}, module{}, module_version{}, source_version{};
    std::vector<BarSpec> bars{};
    Link link{8.0, 4}, best_link{8.0, 4};
    int numa_node = 0;
    std::string reset_methods = "flr bus"; // empty: none
    bool flr = true;
    unsigned msi_log2 = 0;
    unsigned msix = 16; // 0: it has none
    bool msi = true;
    bool multi_function = false;
    std::optional<unsigned> group{};
    std::optional<Acs> acs{};
    unsigned dma_bits = 64;
    unsigned total_vfs = 0;
    std::vector<std::string> vfs{}; // their addresses
    std::string parent{};           // of a VF
    std::string power_state = "D0";
    uint64_t serial_number = 0;
    unsigned slot = 0;                   // of a port
    size_t config_bytes = 4096;          // that can be read
    std::optional<std::string> config{}; // instead of what would be made
};

inline FunctionSpec root_port(const std::string& address, uint8_t secondary,
                              std::optional<Acs> acs = full_acs) {
    FunctionSpec spec;
    spec.address = address;
    spec.device = 0x347a;
    spec.class_code = 0x060400;
    spec.type = FunctionType::root_port;
    spec.buses = {secondary, secondary};
    spec.driver = "pcieport";
    spec.link = spec.best_link = gen4_x4;
    spec.reset_methods = "";
    spec.flr = false;
    spec.msix = 0;
    spec.acs = acs;
    return spec;
}

inline FunctionSpec nvme_drive(const std::string& address, const std::string& below) {
    FunctionSpec spec;
    spec.address = address;
    spec.below = below;
    spec.vendor = 0x144d;
    spec.device = 0xa80a;
    spec.class_code = 0x010802;
    spec.driver = spec.module = "nvme";
    spec.module_version = "1.0";
    spec.source_version = "0123456789ABCDEF0123456";
    spec.bars = {{16384}};
    spec.link = spec.best_link = gen4_x4;
    spec.msix = 33;
    return spec;
}

class MachineBuilder {
  public:
    MachineBuilder() {
        host("server1", "6.1.0-50-amd64");
        processors("GenuineIntel", 6, "Example Processor 8000", 8, 1);
        tree_.add_file("/etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n");
        tree_.add_file("/proc/sys/kernel/arch", "x86_64\n");
        tree_.add_file("/proc/sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.1\n");
        tree_.add_file("/proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro intel_iommu=on quiet\n");
        tree_.add_file("/sys/class/dmi/id/board_vendor", "Example\n");
        tree_.add_file("/sys/class/dmi/id/board_name", "X1\n");
        tree_.add_file("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
        tree_.add_folder("/sys/bus/pci/devices");
        iommu("DMA-FQ");
    }

    MachineBuilder& host(const std::string& name, const std::string& kernel_release) {
        tree_.add_file("/proc/sys/kernel/hostname", name + "\n");
        tree_.add_file("/proc/sys/kernel/osrelease", kernel_release + "\n");
        tree_.remove("/lib/modules");
        tree_.add_file("/lib/modules/" + kernel_release + "/modules.dep",
                       "kernel/drivers/vfio/pci/vfio-pci.ko: kernel/drivers/vfio/pci/vfio-pci-core.ko\n"
                       "kernel/drivers/vfio/vfio_iommu_type1.ko: kernel/drivers/vfio/vfio.ko\n");
        return *this;
    }
    // NODES sockets, each with one NUMA node.
    MachineBuilder& processors(const std::string& vendor, unsigned family, const std::string& model,
                               unsigned count, unsigned nodes) {
        tree_.add_file("/proc/cpuinfo",
                       fmt::format("processor\t: 0\nvendor_id\t: {}\ncpu family\t: {}\nmodel name\t: {}\n\n",
                                   vendor, family, model));
        tree_.add_file("/sys/devices/system/cpu/online", fmt::format("0-{}\n", count - 1));
        tree_.remove("/sys/devices/system/node");
        for (unsigned node = 0; node < nodes; ++node) {
            const unsigned first = count / nodes * node;
            tree_.add_file(fmt::format("/sys/devices/system/node/node{}/cpulist", node),
                           fmt::format("{}-{}\n", first, first + count / nodes - 1));
            tree_.add_file(fmt::format("/sys/devices/system/cpu/cpu{}/topology/physical_package_id", first),
                           fmt::format("{}\n", node));
        }
        return *this;
    }
    // TYPE of every group that is added from now on ("DMA", "DMA-FQ", "identity"); empty: there is no IOMMU.
    MachineBuilder& iommu(const std::string& type) {
        group_type_ = type;
        tree_.remove("/sys/class/iommu");
        tree_.add_file("/proc/interrupts", "  24:  0  PCI-MSI-0000:00:01.0  0-edge  PCIe PME\n");
        if (type.empty()) return *this;
        tree_.add_link("/sys/class/iommu/dmar0", "../../devices/virtual/iommu/dmar0");
        tree_.add_file("/proc/interrupts", "  24:  0  IR-PCI-MSI-0000:00:01.0  0-edge  PCIe PME\n");
        return *this;
    }
    MachineBuilder& no_iommu() { return iommu(""); }
    MachineBuilder& kernel_options(const std::string& options) {
        tree_.add_file("/proc/cmdline", options + "\n");
        return *this;
    }

    // The host bridge of a root bus, by which platforms are known.
    MachineBuilder& add_host_bridge(const std::string& address, uint16_t vendor, uint16_t device) {
        FunctionSpec spec;
        spec.address = address;
        spec.vendor = vendor;
        spec.device = device;
        spec.class_code = 0x060000;
        spec.type = FunctionType::conventional;
        spec.reset_methods = "";
        spec.flr = spec.msi = false;
        spec.msix = 0;
        spec.config_bytes = 256;
        return add(spec);
    }

    MachineBuilder& add(const FunctionSpec& spec) {
        const std::string folder = folder_of(spec);
        folders_[spec.address] = folder;
        tree_.add_link("/sys/bus/pci/devices/" + spec.address, "../../.." + folder.substr(4));
        put(folder, "vendor", fmt::format("0x{:04x}", spec.vendor));
        put(folder, "device", fmt::format("0x{:04x}", spec.device));
        put(folder, "class", fmt::format("0x{:06x}", spec.class_code));
        put(folder, "subsystem_vendor", fmt::format("0x{:04x}", spec.vendor));
        put(folder, "subsystem_device", "0x0001");
        put(folder, "revision", "0x01");
        put(folder, "numa_node", fmt::format("{}", spec.numa_node));
        put(folder, "dma_mask_bits", fmt::format("{}", spec.dma_bits));
        put(folder, "power_state", spec.power_state);
        put(folder, "enable", "1");
        put(folder, "driver_override", "(null)");
        tree_.add_file(folder + "/config",
                       spec.config ? *spec.config : config_of(spec).text(spec.config_bytes));
        if (!spec.reset_methods.empty()) put(folder, "reset_method", spec.reset_methods);
        put_resources(folder, spec);
        put_link(folder, spec);
        put_driver(folder, spec);
        put_group(folder, spec);
        put_functions(folder, spec);
        return *this;
    }

    // An NVMe controller of the kernel's driver, with one namespace.
    MachineBuilder& add_nvme_class(const std::string& address, unsigned index, const std::string& model,
                                   const std::string& serial, const std::string& firmware) {
        const std::string folder = fmt::format("{}/nvme/nvme{}", folders_.at(address), index);
        put(folder, "model", model + "        ");
        put(folder, "serial", serial + "  ");
        put(folder, "firmware_rev", firmware);
        link_class("nvme", fmt::format("nvme{}", index), folder);
        link_class("block", fmt::format("nvme{}n1", index), fmt::format("{}/nvme{}n1", folder, index));
        return *this;
    }
    // Any entry of a class, in the function's folder.
    MachineBuilder& add_class(const std::string& address, const std::string& which, const std::string& name) {
        link_class(which, name, fmt::format("{}/{}/{}", folders_.at(address), which, name));
        return *this;
    }
    MachineBuilder& errors(const std::string& address, uint64_t correctable, uint64_t nonfatal,
                           uint64_t fatal) {
        const std::string& folder = folders_.at(address);
        put(folder, "aer_dev_correctable", fmt::format("RxErr {0}\nTOTAL_ERR_COR {0}", correctable));
        put(folder, "aer_dev_nonfatal", fmt::format("Undefined 0\nTOTAL_ERR_NONFATAL {}", nonfatal));
        put(folder, "aer_dev_fatal", fmt::format("Undefined 0\nTOTAL_ERR_FATAL {}", fatal));
        return *this;
    }

    const std::string& folder(const std::string& address) const { return folders_.at(address); }
    Tree& tree() { return tree_; }

  private:
    static unsigned port_type(FunctionType type) {
        switch (type) {
        case FunctionType::legacy_endpoint:
            return 1;
        case FunctionType::root_port:
            return 4;
        case FunctionType::upstream_port:
            return 5;
        case FunctionType::downstream_port:
            return 6;
        case FunctionType::pcie_to_pci_bridge:
            return 7;
        case FunctionType::root_complex_endpoint:
            return 9;
        default:
            return 0;
        }
    }

  public:
    static ConfigBuilder config_of(const FunctionSpec& spec) {
        const bool is_vf = !spec.parent.empty();
        ConfigBuilder config(is_vf ? 0xffff : spec.vendor, is_vf ? 0xffff : spec.device, spec.class_code);
        if (spec.buses.secondary != 0) config.bridge(0, spec.buses.secondary, spec.buses.subordinate);
        if (spec.multi_function) config.multi_function();
        if (!is_vf && spec.buses.secondary == 0) config.interrupt_pin();
        if (spec.type != FunctionType::conventional)
            config.express(port_type(spec.type), spec.flr, is_vf ? Link{} : spec.link, spec.best_link,
                           spec.slot);
        else if (spec.flr)
            config.advanced_features_flr();
        if (spec.msi) config.msi(spec.msi_log2);
        if (spec.msix != 0) config.msix(spec.msix);
        if (spec.type == FunctionType::conventional) return config;
        if (spec.serial_number != 0) config.serial_number(spec.serial_number);
        if (spec.acs) config.acs(*spec.acs);
        if (spec.total_vfs != 0) config.sriov(spec.total_vfs, static_cast<unsigned>(spec.vfs.size()));
        return config;
    }

  private:
    std::string folder_of(const FunctionSpec& spec) const {
        const std::string above = spec.below.empty()
                                      ? fmt::format("/sys/devices/pci{}", spec.address.substr(0, 7))
                                      : folders_.at(spec.below);
        return above + "/" + spec.address;
    }
    void put(const std::string& folder, const char* attribute, const std::string& text) {
        tree_.add_file(folder + "/" + attribute, text + "\n");
    }
    void put_resources(const std::string& folder, const FunctionSpec& spec) {
        std::vector<std::string> lines(spec.buses.secondary != 0 ? 13 : 7,
                                       "0x0000000000000000 0x0000000000000000 0x0000000000000000");
        size_t slot = 0;
        for (const auto& bar : spec.bars) {
            if (slot >= pci::bar_count) break;
            next_address_ = (next_address_ + bar.size_bytes - 1) / bar.size_bytes * bar.size_bytes;
            const uint64_t flags =
                bar.io ? 0x40101 : 0x40200 | (bar.is_64_bit ? 0x100004 : 0) | (bar.prefetchable ? 0x2008 : 0);
            lines[slot] = fmt::format("{:#018x} {:#018x} {:#018x}", next_address_,
                                      next_address_ + bar.size_bytes - 1, flags);
            next_address_ += bar.size_bytes;
            slot += !bar.io && bar.is_64_bit ? 2 : 1;
        }
        tree_.add_file(folder + "/resource", fmt::format("{}\n", fmt::join(lines, "\n")));
    }
    void put_link(const std::string& folder, const FunctionSpec& spec) {
        if (spec.type == FunctionType::conventional || spec.type == FunctionType::root_complex_endpoint)
            return;
        const bool is_vf = !spec.parent.empty();
        const auto speed = [](Link link) { return fmt::format("{:.1f} GT/s PCIe", link.speed_gt_per_s); };
        put(folder, "current_link_speed", is_vf ? "Unknown" : speed(spec.link));
        put(folder, "current_link_width", fmt::format("{}", is_vf ? 0 : spec.link.width));
        put(folder, "max_link_speed", speed(spec.best_link));
        put(folder, "max_link_width", fmt::format("{}", spec.best_link.width));
    }
    void put_driver(const std::string& folder, const FunctionSpec& spec) {
        if (spec.driver.empty()) return;
        const std::string driver = "/sys/bus/pci/drivers/" + spec.driver;
        tree_.add_link(folder + "/driver", relative(folder, driver));
        if (spec.module.empty()) return;
        const std::string module = "/sys/module/" + spec.module;
        tree_.add_link(driver + "/module", "../../../../module/" + spec.module);
        if (!spec.module_version.empty()) put(module, "version", spec.module_version);
        if (!spec.source_version.empty()) put(module, "srcversion", spec.source_version);
    }
    void put_group(const std::string& folder, const FunctionSpec& spec) {
        if (!spec.group || group_type_.empty()) return;
        const std::string group = fmt::format("/sys/kernel/iommu_groups/{}", *spec.group);
        tree_.add_link(folder + "/iommu_group", relative(folder, group));
        tree_.add_link(group + "/devices/" + spec.address, "../../../.." + folder.substr(4));
        put(group, "type", group_type_);
        put(group, "reserved_regions", "0x00000000fee00000 0x00000000feefffff msi");
    }
    void put_functions(const std::string& folder, const FunctionSpec& spec) {
        if (!spec.parent.empty()) tree_.add_link(folder + "/physfn", "../" + spec.parent);
        if (spec.total_vfs == 0) return;
        put(folder, "sriov_totalvfs", fmt::format("{}", spec.total_vfs));
        put(folder, "sriov_numvfs", fmt::format("{}", spec.vfs.size()));
        for (size_t i = 0; i < spec.vfs.size(); ++i)
            tree_.add_link(fmt::format("{}/virtfn{}", folder, i), "../" + spec.vfs[i]);
    }
    void link_class(const std::string& which, const std::string& name, const std::string& folder) {
        tree_.add_folder(folder);
        tree_.add_link(fmt::format("/sys/class/{}/{}", which, name), "../.." + folder.substr(4));
    }
    // From FOLDER to TARGET, both below /sys.
    static std::string relative(const std::string& folder, const std::string& target) {
        std::string up;
        for (const char c : folder.substr(5))
            if (c == '/') up += "../";
        return up + "../" + target.substr(5);
    }

    Tree tree_;
    std::string group_type_ = "DMA-FQ";
    std::map<std::string, std::string> folders_;
    uint64_t next_address_ = 0x380000000000;
};

} // namespace lanepool::inventory::testing
