// SPDX-License-Identifier: Apache-2.0
//
// For tests: a collection of machines, sound and odd ones. Addresses are as the comments say.
#pragma once

#include "inventory/testing/machine_builder.h"

namespace lanepool::inventory::testing {

inline FunctionSpec network_card(const std::string& address, const std::string& below) {
    FunctionSpec spec;
    spec.address = address;
    spec.below = below;
    spec.device = 0x10c9;
    spec.class_code = 0x020000;
    spec.driver = spec.module = "igb";
    spec.bars = {{131072, false, false}, {131072, false, false}};
    spec.msix = 10;
    return spec;
}

inline FunctionSpec graphics_card(const std::string& address, const std::string& below) {
    FunctionSpec spec;
    spec.address = address;
    spec.below = below;
    spec.vendor = 0x10de;
    spec.device = 0x20b5;
    spec.class_code = 0x030200;
    spec.driver = spec.module = "nvidia";
    spec.bars = {
        {16 << 20, false, false}, {uint64_t{64} << 30, false, true, true}, {32 << 20, false, true, true}};
    spec.link = spec.best_link = gen4_x16;
    spec.msix = 6;
    return spec;
}

// A Gen4 NT endpoint: registers of 4 MiB, one window BAR.
inline FunctionSpec ntb_adapter(const std::string& address, const std::string& below,
                                uint64_t window_bytes = uint64_t{16} << 20) {
    FunctionSpec spec;
    spec.address = address;
    spec.below = below;
    spec.vendor = 0x11f8;
    spec.device = 0x4028;
    spec.class_code = 0x068000;
    spec.bars = {{4 << 20, false, true, true}, {window_bytes, false, true, true}};
    spec.link = spec.best_link = gen4_x4;
    spec.msix = 4;
    return spec;
}

inline FunctionSpec with_group(FunctionSpec spec, unsigned group) {
    spec.group = group;
    return spec;
}

inline FunctionSpec switch_port(const std::string& address, const std::string& below, FunctionType type,
                                BridgeBuses buses, std::optional<Acs> acs) {
    FunctionSpec spec = root_port(address, buses.secondary, acs);
    spec.vendor = 0x10b5;
    spec.device = 0x8747;
    spec.below = below;
    spec.type = type;
    spec.buses = buses;
    return spec;
}

// One socket, IOMMU and ACS on every port: 01:00.0 drive, 02:00.0 network, 03:00.0 graphics with 03:00.1
// audio, 04:00.0 adapter.
inline MachineBuilder plain_server() {
    MachineBuilder machine;
    machine.add_host_bridge("0000:00:00.0", 0x8086, 0x09a2);
    for (uint8_t i = 1; i <= 4; ++i) {
        auto port = root_port(fmt::format("0000:00:{:02x}.0", i), i);
        port.group = i;
        port.slot = i + 10u;
        machine.add(port);
    }
    machine.add(with_group(nvme_drive("0000:01:00.0", "0000:00:01.0"), 11));
    machine.add_nvme_class("0000:01:00.0", 0, "Example NVMe 3.84TB", "S1234567", "EX01");
    machine.errors("0000:01:00.0", 3, 0, 0);
    auto network = with_group(network_card("0000:02:00.0", "0000:00:02.0"), 12);
    network.serial_number = 0xb8599fffff123456;
    machine.add(network);
    machine.add_class("0000:02:00.0", "net", "eth0");
    auto graphics = with_group(graphics_card("0000:03:00.0", "0000:00:03.0"), 13);
    graphics.multi_function = true;
    machine.add(graphics);
    machine.add_class("0000:03:00.0", "drm", "card0");
    auto audio = graphics;
    audio.address = "0000:03:00.1";
    audio.device = 0x10f0;
    audio.class_code = 0x040300;
    audio.bars = {{16384, false, false}};
    audio.driver = audio.module = "snd_hda_intel";
    audio.reset_methods = "bus";
    audio.flr = false;
    machine.add(audio);
    machine.add(with_group(ntb_adapter("0000:04:00.0", "0000:00:04.0"), 14));
    return machine;
}

// The same without an IOMMU.
inline MachineBuilder no_iommu_server() {
    MachineBuilder machine;
    machine.add_host_bridge("0000:00:00.0", 0x8086, 0x09a2);
    machine.no_iommu();
    machine.add(root_port("0000:00:01.0", 1, acs_left_off)).add(root_port("0000:00:04.0", 4, acs_left_off));
    machine.add(nvme_drive("0000:01:00.0", "0000:00:01.0"));
    machine.add(ntb_adapter("0000:04:00.0", "0000:00:04.0"));
    return machine;
}

// 01:00.0 drive and 02:00.0 network behind two ports of one device without ACS: one group of four.
inline MachineBuilder shared_groups() {
    MachineBuilder machine;
    machine.add_host_bridge("0000:00:00.0", 0x8086, 0x09a2);
    for (uint8_t i = 0; i < 2; ++i) {
        auto port = root_port(fmt::format("0000:00:1c.{}", i), static_cast<uint8_t>(i + 1), std::nullopt);
        port.multi_function = true;
        machine.add(with_group(port, 5));
    }
    machine.add(with_group(root_port("0000:00:04.0", 4), 6));
    machine.add(with_group(nvme_drive("0000:01:00.0", "0000:00:1c.0"), 5));
    machine.add_nvme_class("0000:01:00.0", 0, "Example NVMe 1TB", "S2", "EX01");
    machine.add(with_group(network_card("0000:02:00.0", "0000:00:1c.1"), 5));
    machine.add(with_group(ntb_adapter("0000:04:00.0", "0000:00:04.0"), 14));
    return machine;
}

// 01:00.0: a graphics card for 16 lanes of Gen4, in a slot that can do it, at 4 lanes of Gen1.
inline MachineBuilder degraded_link() {
    MachineBuilder machine;
    machine.add_host_bridge("0000:00:00.0", 0x8086, 0x09a2);
    auto port = with_group(root_port("0000:00:01.0", 1), 1);
    port.best_link = gen4_x16;
    port.link = gen1_x4;
    machine.add(port);
    machine.add(with_group(root_port("0000:00:04.0", 4), 2));
    auto graphics = with_group(graphics_card("0000:01:00.0", "0000:00:01.0"), 3);
    graphics.link = gen1_x4;
    machine.add(graphics);
    machine.errors("0000:01:00.0", 123456, 2, 0);
    machine.add(with_group(ntb_adapter("0000:04:00.0", "0000:00:04.0", uint64_t{256} << 30), 14));
    return machine;
}

// Drives whose configuration space is broken in a way of its own each: 01 loops, 02 leads into the header,
// 03's extended chain loops, 04 is all-ones, 05 is empty, 06 has 20 bytes, 07 has capabilities that end
// outside; and 08 whose attributes are garbage.
inline MachineBuilder broken_chains() {
    MachineBuilder machine;
    machine.add_host_bridge("0000:00:00.0", 0x8086, 0x09a2);
    for (uint8_t i = 1; i <= 8; ++i) {
        const auto port = fmt::format("0000:00:{:02x}.0", i);
        machine.add(with_group(root_port(port, i), i));
        auto drive = with_group(nvme_drive(fmt::format("0000:{:02x}:00.0", i), port), i + 10u);
        ConfigBuilder config = MachineBuilder::config_of(drive);
        if (i == 1) config.set8(0x41, 0x40);
        if (i == 2) config.set8(0x41, 0x10);
        if (i == 3) config.set32(0x100, 0x00010003 | 0x100u << 20);
        if (i == 7) config.set8(pci::config::capabilities, 0xfc).set8(0xfc, 0x10).set8(0xfd, 0);
        if (i == 7) config.set32(0x100, 0x00010001 | 0xffcu << 20).set32(0xffc, 0x0001000d);
        drive.config = config.text();
        if (i == 4) drive.config = std::string(pci::extended_config_bytes, '\xff');
        if (i == 5) drive.config = "";
        if (i == 6) drive.config = config.text(20);
        machine.add(drive);
    }
    const std::string folder = machine.folder("0000:08:00.0");
    for (const char* attribute : {"resource", "current_link_speed", "max_link_width", "numa_node", "revision",
                                  "dma_mask_bits", "reset_method", "power_state", "vpd", "aer_dev_fatal"})
        machine.tree().add_file(folder + "/" + attribute, std::string("\xff\0 -1 0x \n\n", 10));
    machine.tree().add_file(folder + "/class", "0x1\xc3\xa4");
    machine.tree().add_link(folder + "/iommu_group", "../../../../../../../../etc");
    machine.tree().add_link(folder + "/driver", "driver");
    machine.tree().add_link("/sys/bus/pci/devices/0000:09:00.0", "../../../../../../nowhere");
    machine.tree().add_link("/sys/bus/pci/devices/10000:e1:00.0",
                            "../../../devices/pci10000:e0/10000:e1:00.0");
    machine.tree().add_file("/sys/bus/pci/devices/what", "");
    return machine;
}

// 01:00.0 drive with four functions, 01:00.1 to 4, its own driver on the parent; 02:00.0 network with two of
// eight.
inline MachineBuilder virtual_functions() {
    MachineBuilder machine;
    machine.add_host_bridge("0000:00:00.0", 0x8086, 0x09a2);
    for (uint8_t i : {1, 2, 4})
        machine.add(with_group(root_port(fmt::format("0000:00:{:02x}.0", i), i), i));
    const auto add_with_functions = [&](FunctionSpec parent, unsigned total, unsigned count,
                                        const std::string& driver, unsigned group) {
        parent.total_vfs = total;
        for (unsigned i = 0; i < count; ++i)
            parent.vfs.push_back(fmt::format("{}.{}", parent.address.substr(0, 10), i + 1));
        machine.add(with_group(parent, group));
        for (const auto& address : parent.vfs) {
            FunctionSpec child = parent;
            child.address = address;
            child.parent = parent.address;
            child.driver = child.module = driver;
            child.total_vfs = 0;
            child.vfs.clear();
            child.msix = 3;
            machine.add(with_group(child, ++group));
        }
    };
    add_with_functions(nvme_drive("0000:01:00.0", "0000:00:01.0"), 4, 4, "nvme", 20);
    add_with_functions(network_card("0000:02:00.0", "0000:00:02.0"), 8, 2, "igbvf", 30);
    machine.add(with_group(ntb_adapter("0000:04:00.0", "0000:00:04.0"), 14));
    return machine;
}

// 01:00.0 drive and 04:00.0 adapter at the first socket, 81:00.0 drive at the second.
inline MachineBuilder two_sockets() {
    MachineBuilder machine;
    machine.processors("GenuineIntel", 6, "Example Processor 8000", 32, 2);
    machine.add_host_bridge("0000:00:00.0", 0x8086, 0x09a2).add_host_bridge("0000:80:00.0", 0x8086, 0x09a2);
    machine.add(with_group(root_port("0000:00:01.0", 1), 1)).add(with_group(root_port("0000:00:04.0", 4), 2));
    auto far = root_port("0000:80:01.0", 0x81);
    far.numa_node = 1;
    machine.add(with_group(far, 3));
    machine.add(with_group(nvme_drive("0000:01:00.0", "0000:00:01.0"), 11));
    machine.add(with_group(ntb_adapter("0000:04:00.0", "0000:00:04.0"), 12));
    auto drive = with_group(nvme_drive("0000:81:00.0", "0000:80:01.0"), 13);
    drive.numa_node = 1;
    machine.add(drive);
    return machine;
}

// A switch (02:00.0 up; 03:00.0 to 03:02.0 down) with 04:00.0 drive, 05:00.0 graphics and 06:00.0 adapter
// below it. What is below a port that does not isolate is in one group.
inline MachineBuilder switch_server(std::optional<Acs> acs) {
    MachineBuilder machine;
    machine.add_host_bridge("0000:00:00.0", 0x8086, 0x09a2);
    const bool isolates = acs && acs->control != 0;
    const auto group = [&](unsigned own) { return isolates ? own : 3; };
    auto port = root_port("0000:00:01.0", 2);
    port.buses = {2, 6};
    machine.add(with_group(port, 1));
    machine.add(
        with_group(switch_port("0000:02:00.0", "0000:00:01.0", FunctionType::upstream_port, {3, 6}, {}), 2));
    for (uint8_t i = 0; i < 3; ++i)
        machine.add(with_group(switch_port(fmt::format("0000:03:{:02x}.0", i), "0000:02:00.0",
                                           FunctionType::downstream_port,
                                           {static_cast<uint8_t>(4 + i), static_cast<uint8_t>(4 + i)}, acs),
                               group(10u + i)));
    machine.add(with_group(nvme_drive("0000:04:00.0", "0000:03:00.0"), group(20)));
    machine.add(with_group(graphics_card("0000:05:00.0", "0000:03:01.0"), group(21)));
    machine.add(with_group(ntb_adapter("0000:06:00.0", "0000:03:02.0"), group(22)));
    return machine;
}
inline MachineBuilder switch_without_acs() { return switch_server(std::nullopt); }
inline MachineBuilder switch_with_acs() { return switch_server(full_acs); }

// Adapters of three generations, 01:00.0 to 03:00.0, a management endpoint 04:00.0, and 05:00.0 drive.
inline MachineBuilder adapters() {
    MachineBuilder machine;
    machine.add_host_bridge("0000:00:00.0", 0x8086, 0x09a2);
    for (uint8_t i = 1; i <= 5; ++i)
        machine.add(with_group(root_port(fmt::format("0000:00:{:02x}.0", i), i), i));
    constexpr std::array<uint16_t, 4> devices{0x8536, 0x4028, 0x5028, 0x4000};
    for (uint8_t i = 1; i <= 4; ++i) {
        auto spec = ntb_adapter(fmt::format("0000:{:02x}:00.0", i), fmt::format("0000:00:{:02x}.0", i),
                                uint64_t{1} << (24 + i));
        spec.device = devices[i - 1u];
        if (i == 4) spec.class_code = 0x058000;
        machine.add(with_group(spec, i + 10u));
    }
    machine.add(with_group(nvme_drive("0000:05:00.0", "0000:00:05.0"), 15));
    return machine;
}

// 00:02.0 graphics in the processor, 00:14.0 USB, 00:1c.0 port without ACS with 01:00.0 drive (alone in its
// group, as the kernel knows better), 00:1e.0 bridge to conventional PCI with 02:01.0; locked down, no
// adapter.
inline MachineBuilder laptop() {
    MachineBuilder machine;
    machine.host("laptop", "6.12.9+bpo-amd64");
    machine.tree().add_file("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    FunctionSpec graphics;
    graphics.address = "0000:00:02.0";
    graphics.device = 0x9a49;
    graphics.class_code = 0x030000;
    graphics.type = FunctionType::root_complex_endpoint;
    graphics.driver = graphics.module = "i915";
    graphics.bars = {{16 << 20}, {256 << 20, false, true, true}, {64, true}};
    graphics.msix = 0;
    machine.add(with_group(graphics, 0));
    machine.add_class("0000:00:02.0", "drm", "card0");
    FunctionSpec usb = graphics;
    usb.address = "0000:00:14.0";
    usb.device = 0xa0ed;
    usb.class_code = 0x0c0330;
    usb.driver = usb.module = "xhci_hcd";
    usb.bars = {{65536}};
    usb.reset_methods = "pm";
    usb.flr = false;
    machine.add(with_group(usb, 1));
    machine.add(with_group(root_port("0000:00:1c.0", 1, std::nullopt), 2));
    auto drive = with_group(nvme_drive("0000:01:00.0", "0000:00:1c.0"), 3);
    machine.add(drive);
    auto bridge = root_port("0000:00:1e.0", 2, std::nullopt);
    bridge.type = FunctionType::pcie_to_pci_bridge;
    machine.add(with_group(bridge, 4));
    FunctionSpec card;
    card.address = "0000:02:01.0";
    card.below = "0000:00:1e.0";
    card.class_code = 0x020000;
    card.type = FunctionType::conventional;
    card.driver = card.module = "e1000";
    card.dma_bits = 32;
    card.bars = {{131072, false, false}, {64, true}};
    card.reset_methods = "";
    card.flr = false;
    card.msi = false;
    card.msix = 0;
    machine.add(with_group(card, 4));
    machine.add_class("0000:02:01.0", "net", "eth0");
    return machine;
}

// plain_server() as it is seen without root: 64 bytes of each configuration space.
inline MachineBuilder without_root() {
    MachineBuilder machine;
    machine.add_host_bridge("0000:00:00.0", 0x8086, 0x09a2);
    machine.add(with_group(
        [] {
            auto port = root_port("0000:00:01.0", 1);
            port.config_bytes = 64;
            return port;
        }(),
        1));
    machine.add(with_group(
        [] {
            auto port = root_port("0000:00:04.0", 4);
            port.config_bytes = 64;
            return port;
        }(),
        2));
    auto drive = with_group(nvme_drive("0000:01:00.0", "0000:00:01.0"), 11);
    drive.config_bytes = 64;
    machine.add(drive);
    machine.add_nvme_class("0000:01:00.0", 0, "Example NVMe 3.84TB", "S1234567", "EX01");
    auto adapter = with_group(ntb_adapter("0000:04:00.0", "0000:00:04.0"), 14);
    adapter.config_bytes = 64;
    machine.add(adapter);
    return machine;
}

// An AMD server: 01:00.0 drive, 02:00.0 graphics card for consumers (no FLR, 32-bit window of 256 MiB),
// 04:00.0 adapter.
inline MachineBuilder amd_server() {
    MachineBuilder machine;
    machine.host("amd1", "6.12.38+deb13-amd64");
    machine.processors("AuthenticAMD", 0x19, "Example Processor 9004", 64, 1);
    machine.iommu("DMA");
    machine.add_host_bridge("0000:00:00.0", 0x1022, 0x14a4);
    for (uint8_t i : {1, 2, 4})
        machine.add(with_group(root_port(fmt::format("0000:00:{:02x}.0", i), i), i));
    machine.add(with_group(nvme_drive("0000:01:00.0", "0000:00:01.0"), 11));
    auto graphics = with_group(graphics_card("0000:02:00.0", "0000:00:02.0"), 12);
    graphics.device = 0x1b80;
    graphics.class_code = 0x030000;
    graphics.bars = {{16 << 20, false, false}, {256 << 20, false, true, true}};
    graphics.reset_methods = "bus";
    graphics.flr = false;
    graphics.msix = 0;
    machine.add(graphics);
    machine.add(with_group(ntb_adapter("0000:04:00.0", "0000:00:04.0", uint64_t{4} << 30), 14));
    return machine;
}

// A small virtual machine: 00:01.0 to 00:03.0 are conventional, on the root bus, and nothing isolates them.
inline MachineBuilder small_guest() {
    MachineBuilder machine;
    machine.host("guest", "6.12.38-cloud-amd64").no_iommu();
    machine.tree().remove("/lib/modules");
    for (unsigned i = 1; i <= 3; ++i) {
        FunctionSpec spec;
        spec.address = fmt::format("0000:00:0{}.0", i);
        spec.vendor = 0x1af4;
        spec.device = 0x1042;
        spec.class_code = 0x018000;
        spec.type = FunctionType::conventional;
        spec.driver = "virtio-pci";
        spec.bars = {{524288}};
        spec.numa_node = -1;
        spec.reset_methods = "";
        spec.flr = false;
        spec.msi = false;
        spec.config_bytes = 256;
        machine.add(spec);
    }
    return machine;
}

struct NamedMachine {
    const char* name;
    MachineBuilder (*make)();
};
inline constexpr std::array machines{NamedMachine{"plain", plain_server},
                                     NamedMachine{"no_iommu", no_iommu_server},
                                     NamedMachine{"shared_groups", shared_groups},
                                     NamedMachine{"degraded_link", degraded_link},
                                     NamedMachine{"broken_chains", broken_chains},
                                     NamedMachine{"virtual_functions", virtual_functions},
                                     NamedMachine{"two_sockets", two_sockets},
                                     NamedMachine{"switch_without_acs", switch_without_acs},
                                     NamedMachine{"switch_with_acs", switch_with_acs},
                                     NamedMachine{"adapters", adapters},
                                     NamedMachine{"laptop", laptop},
                                     NamedMachine{"without_root", without_root},
                                     NamedMachine{"amd", amd_server},
                                     NamedMachine{"small_guest", small_guest}};

} // namespace lanepool::inventory::testing
