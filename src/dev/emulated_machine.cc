// SPDX-License-Identifier: Apache-2.0
#include "dev/emulated_machine.h"

#include <fmt/format.h>

namespace lanepool::dev {

std::string in_option(const std::filesystem::path& path) {
    std::string text;
    for (const char c : path.string())
        text.append(c == ',' ? 2 : 1, c);
    return text;
}

std::vector<std::string> machine_command(const EmulatedMachine& machine) {
    const auto folder = in_option(machine.folder);
    return {
        machine.qemu,
        "-name",
        machine.name,
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
        fmt::format("{}M", machine.memory_mib),
        "-object",
        fmt::format("memory-backend-memfd,id=ram,size={}M,share=on", machine.memory_mib),
        "-device",
        "intel-iommu,caching-mode=on,intremap=on",
        "-kernel",
        machine.kernel,
        "-initrd",
        machine.initramfs,
        "-append",
        fmt::format("console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable clocksource=tsc intel_iommu=on "
                    "{} lanepool.hostname={}",
                    machine.append, machine.name),
        "-chardev",
        fmt::format("file,id=serial,path={}/serial.log{}", folder, machine.continue_log ? ",append=on" : ""),
        "-serial",
        "chardev:serial",
        "-qmp",
        fmt::format("unix:{}/qmp.sock,server=on,wait=off", folder),
        "-chardev",
        fmt::format("socket,id=exec,path={}/exec.sock,server=on,wait=off", folder),
        "-device",
        "virtio-serial-pci,id=vser,disable-legacy=on,max_ports=2",
        "-device",
        "virtserialport,bus=vser.0,nr=1,chardev=exec,name=lanepool.exec",
    };
}

} // namespace lanepool::dev
