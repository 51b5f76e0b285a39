// SPDX-License-Identifier: Apache-2.0
//
// A whole Linux host as QEMU is told to make it: docs/whole-hosts.md says why each part is there. tests/hosts
// has the same for tests in whole_host.py, with more kinds of devices.
#pragma once

#include "base/result.h"

#include <array>
#include <filesystem>
#include <string>
#include <vector>

namespace lanepool::dev {

// What script/bootstrap brings; the last is the usual one.
inline constexpr std::array<const char*, 2> host_kernels{"6.1", "6.12"};
// This machine, as a whole host sees it through QEMU's user network: its loopback.
inline constexpr const char* this_machine = "10.0.2.2";
// How many devices a host can have, with its adapter: each is behind a root port of its own.
inline constexpr unsigned host_slots = 15;

// The files of KERNEL in the cache folder. Errors: not_found, saying what to run.
struct HostImage {
    std::filesystem::path qemu, kernel, initramfs, bridge_module;
};
Result<HostImage> host_image(const std::string& kernel);

struct HostDevice {
    std::string name;
    std::vector<std::string> before; // words in front of it: what it is connected to
    std::string words;               // of -device, but for id and bus
    std::string port;                // more words for its root port, each after a comma
};

// QEMU's NVMe drive, whose content is the file DISK.
HostDevice nvme_drive(const std::string& name, const std::filesystem::path& disk);
// Intel's 82576 network card, with up to seven SR-IOV functions, on a network 10.0.3.0/24 of its own.
HostDevice network_card(const std::string& name);
// QEMU's device for teaching, with a DMA engine.
HostDevice teaching_card(const std::string& name);

struct WholeHost {
    std::string name;
    std::filesystem::path folder; // for its sockets, logs and disks
    HostImage image;
    std::filesystem::path initramfs; // the image's, or one with more in it
    std::filesystem::path adapter;   // the fabric's socket
    unsigned memory_mib = 512;
    std::vector<HostDevice> devices; // at most host_slots - 1
};

// The file of the disk at /var/lib/lanepool, which has to be there, as those of drives.
std::filesystem::path state_disk(const WholeHost& host);
// Its sockets in its folder: exec.sock, and qmp.sock for whoever runs it.
std::vector<std::string> whole_host_command(const WholeHost& host);
// Where the root port of its device number INDEX is, or with their count that of the adapter:
// "0000:00:10.0".
std::string root_port_address(size_t index);

} // namespace lanepool::dev
