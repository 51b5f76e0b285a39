// SPDX-License-Identifier: Apache-2.0
//
// What guests and whole hosts have in common: a machine of QEMU's with an emulated processor and IOMMU.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace lanepool::dev {

struct EmulatedMachine {
    std::filesystem::path qemu, kernel, initramfs;
    std::string name;
    std::filesystem::path folder; // for its sockets and logs
    unsigned memory_mib = 0;
    std::string append;        // to the kernel's command line
    bool continue_log = false; // of the serial line, when it is started again
};

// QEMU's command line for it, to which devices are added: processor, memory (shared, as fabric and agents
// need it), IOMMU, kernel, serial line, monitor and exec channel. docs/guest.md says why each word is there.
std::vector<std::string> machine_command(const EmulatedMachine& machine);

// PATH in QEMU's words for an option, where a comma ends a value.
std::string in_option(const std::filesystem::path& path);

} // namespace lanepool::dev
