// SPDX-License-Identifier: Apache-2.0
#include "dev/guest_command.h"

#include "dev/cache.h"
#include "dev/emulated_machine.h"

namespace lanepool::dev {

Result<std::filesystem::path> guest_cache() {
    return cache_with({"bin/qemu-system-x86_64", "guest/current/vmlinuz", "guest/current/initramfs.img"},
                      "script/bootstrap");
}

Result<std::vector<std::string>> guest_command(const GuestOptions& options) {
    const auto cache = TRY(guest_cache());
    auto argv = machine_command({.qemu = cache / "bin/qemu-system-x86_64",
                                 .kernel = cache / "guest/current/vmlinuz",
                                 .initramfs = cache / "guest/current/initramfs.img",
                                 .name = options.name,
                                 .folder = options.folder,
                                 .memory_mib = options.memory_mib,
                                 .append = "iommu=pt"});
    // The agent's monitor: it hot-adds what is lent.
    argv.insert(argv.end(), {"-qmp", fmt::format("unix:{}/agent.qmp.sock,server=on,wait=off",
                                                 in_option(options.folder))});
    for (unsigned slot = 0; slot < guest_slots; ++slot) {
        argv.emplace_back("-device");
        argv.push_back(fmt::format(
            "pcie-root-port,id=rp{0},bus=pcie.0,chassis={1},slot={1},pref64-reserve=64M", slot, slot + 1));
    }
    return argv;
}

} // namespace lanepool::dev
