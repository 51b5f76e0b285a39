// SPDX-License-Identifier: Apache-2.0
#include "dev/guest_command.h"

#include "dev/cache.h"

namespace lanepool::dev {

Result<std::filesystem::path> guest_cache() {
    return cache_with({"bin/qemu-system-x86_64", "guest/current/vmlinuz", "guest/current/initramfs.img"},
                      "script/bootstrap");
}

Result<std::vector<std::string>> guest_command(const GuestOptions& options) {
    const auto cache = TRY(guest_cache());
    const auto folder = options.folder.string();
    std::vector<std::string> argv{
        cache / "bin/qemu-system-x86_64",
        "-name",
        options.name,
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-machine",
        "q35,memory-backend=ram,kernel-irqchip=split,usb=off,vmport=off",
        "-accel",
        "tcg",
        "-cpu",
        "qemu64,+rdrand",
        "-smp",
        "1,maxcpus=2",
        "-m",
        fmt::format("{}M", options.memory_mib),
        "-object",
        fmt::format("memory-backend-memfd,id=ram,size={}M,share=on", options.memory_mib),
        "-device",
        "intel-iommu,caching-mode=on,intremap=on",
        "-kernel",
        cache / "guest/current/vmlinuz",
        "-initrd",
        cache / "guest/current/initramfs.img",
        "-append",
        fmt::format("console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable clocksource=tsc intel_iommu=on "
                    "iommu=pt "
                    "lanepool.hostname={}",
                    options.name),
        "-chardev",
        fmt::format("file,id=serial,path={}/serial.log", folder),
        "-serial",
        "chardev:serial",
        "-qmp",
        fmt::format("unix:{}/qmp.sock,server=on,wait=off", folder),
        "-qmp",
        fmt::format("unix:{}/agent.qmp.sock,server=on,wait=off", folder),
        "-chardev",
        fmt::format("socket,id=exec,path={}/exec.sock,server=on,wait=off", folder),
        "-device",
        "virtio-serial-pci,id=vser,disable-legacy=on,max_ports=2",
        "-device",
        "virtserialport,bus=vser.0,nr=1,chardev=exec,name=lanepool.exec",
    };
    for (unsigned slot = 0; slot < guest_slots; ++slot) {
        argv.emplace_back("-device");
        argv.push_back(fmt::format(
            "pcie-root-port,id=rp{0},bus=pcie.0,chassis={1},slot={1},pref64-reserve=64M", slot, slot + 1));
    }
    return argv;
}

} // namespace lanepool::dev
