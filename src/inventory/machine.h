// SPDX-License-Identifier: Apache-2.0
//
// What a Linux machine has on its PCI buses, as its kernel shows it. Plain data: read by reader.h from sysfs
// and procfs (of this machine, or a saved tree of another one's), judged by src/qualify, printed by the CLI.
// What could not be read is absent, never guessed; `notes` say why.
#pragma once

#include "pci/types.h"

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lanepool::inventory {

struct Bar {
    uint64_t address = 0; // on the bus; 0: not assigned
    uint64_t size_bytes = 0;
    bool io = false;
    bool is_64_bit = false;
    bool prefetchable = false;
    bool operator==(const Bar&) const = default;
};

struct Link {
    double speed_gt_per_s = 0; // 0: down, or not known
    unsigned width = 0;
    bool operator==(const Link&) const = default;
};

struct Driver {
    std::string name;           // "nvme"
    std::string module;         // empty: built in
    std::string version;        // of the module, as far as it says
    std::string source_version; // srcversion of the module
    bool operator==(const Driver&) const = default;
};

struct Sriov {
    unsigned total = 0;   // VFs that it could have
    unsigned enabled = 0; // that it has
    std::vector<pci::Address> functions;
    bool operator==(const Sriov&) const = default;
};

// The buses below a bridge.
struct BridgeBuses {
    uint8_t secondary = 0, subordinate = 0;
    bool operator==(const BridgeBuses&) const = default;
};

// Access Control Services (PCI Express Base Specification 7.7.11), capability and control bits as registers.
struct Acs {
    uint16_t capabilities = 0;
    uint16_t control = 0;
    bool operator==(const Acs&) const = default;
};

// Advanced Error Reporting: totals since boot; absent where the kernel shows none.
struct AerCounters {
    uint64_t correctable = 0;
    uint64_t nonfatal = 0;
    uint64_t fatal = 0;
    bool operator==(const AerCounters&) const = default;
};

enum class FunctionType {
    endpoint,
    legacy_endpoint,
    root_port,
    upstream_port,
    downstream_port,
    pcie_to_pci_bridge,
    root_complex_endpoint,
    conventional,
    other
};

struct Function {
    pci::Address address;
    uint16_t vendor_id = 0, device_id = 0, subsystem_vendor_id = 0, subsystem_device_id = 0;
    uint32_t class_code = 0; // 24 bits
    uint8_t revision = 0;
    std::string vendor_name, device_name, class_name; // from pci.ids; empty: not there
    FunctionType type = FunctionType::other;
    bool bridge = false;                  // header type 1
    std::optional<BridgeBuses> buses;     // of a bridge
    bool multi_function = false;          // there are others of its device, virtual functions not counted
    std::optional<pci::Address> upstream; // the bridge above; absent on a root bus
    std::optional<unsigned> slot;         // physical slot number
    std::string model, serial,
        firmware; // from class attributes (nvme, net, drm) or VPD/DSN; empty: not known
    std::optional<Driver> driver;
    std::string driver_override;
    std::array<Bar, pci::bar_count> bars;
    std::optional<Link> link, best_link;               // absent: no PCI Express link
    std::optional<int> numa_node;                      // absent: -1 or none
    std::vector<std::string> reset_methods;            // as the kernel would try them; empty: none
    std::optional<bool> has_flr;                       // Device Capabilities bit 28, or AF FLR
    std::optional<Sriov> sriov;                        // of a parent
    std::optional<pci::Address> parent;                // of a VF (physfn)
    std::optional<unsigned> msi_vectors, msix_vectors; // that it could have
    bool intx = false;
    std::optional<unsigned> iommu_group; // a number of the moment, no identity
    std::optional<Acs> acs;
    std::optional<AerCounters> aer;
    std::optional<unsigned> dma_bits;      // that its kernel driver has asked for; absent: not known
    bool boot_display = false;             // firmware and kernel show their console on it
    std::string power_state;               // "D0", ...; empty: not known
    bool config_complete = false;          // its whole config space could be read (takes CAP_SYS_ADMIN)
    bool answers = true;                   // its configuration space does not read all-ones
    bool config_broken = false;            // and a chain of capabilities in it is not as it should be
    std::vector<std::string> device_nodes; // "/dev/nvme0n1", "/dev/dri/card0", interface names "eth0"
    std::vector<std::string> notes;        // what was odd, or could not be read
};

struct IommuGroup {
    unsigned number = 0;
    std::string type; // "DMA", "DMA-FQ", "identity", ...; empty: not known
    std::vector<pci::Address> members;
    struct Reserved {
        uint64_t first = 0, last = 0;
        std::string type; // "msi", "direct", ...
        bool operator==(const Reserved&) const = default;
    };
    std::vector<Reserved> reserved;
    bool operator==(const IommuGroup&) const = default;
};

// A Switchtec NT endpoint. Window facts take access to its registers (root): absent otherwise.
struct NtbAdapter {
    pci::Address address;
    std::optional<unsigned> partition, partitions, lut_entries, requester_slots;
    std::vector<uint64_t> window_bar_bytes;
    bool operator==(const NtbAdapter&) const = default;
};

enum class IommuMode { none, off, passthrough, translated_lazy, translated_strict, unknown };

struct Host {
    std::string name, os, kernel_release, kernel_version, architecture, cpu_vendor, cpu_model, board;
    unsigned cpu_family = 0;
    unsigned processors = 0, numa_nodes = 0;
    std::map<unsigned, unsigned> node_packages; // NUMA node to the socket (physical package) that it is in
    IommuMode iommu = IommuMode::unknown;
    std::vector<std::string> iommu_units;    // "dmar0", "ivhd0"
    std::optional<bool> interrupt_remapping; // absent: not known
    std::string command_line;                // only the options about IOMMU, PCI and VFIO
    // "vfio_pci", "type1", "iommufd": what this kernel has, or has as modules; absent: not known
    std::optional<std::vector<std::string>> vfio;
    std::string lockdown; // "none", "integrity", "confidentiality"; empty: not known
};

struct Machine {
    Host host;
    std::vector<Function> functions; // by address
    std::vector<IommuGroup> groups;  // by number
    std::vector<NtbAdapter> adapters;
    std::vector<std::string> notes; // about the machine as a whole

    const Function* find(const pci::Address& address) const; // null: not there
};

} // namespace lanepool::inventory
