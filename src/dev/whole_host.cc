// SPDX-License-Identifier: Apache-2.0
#include "dev/whole_host.h"

#include "dev/cache.h"

#include <nlohmann/json.hpp>

namespace lanepool::dev {

namespace {

constexpr unsigned first_slot = 0x10; // 0x1f is the chip set's

// Of QEMU's words for an option, where a comma ends a value.
std::string quoted(const std::filesystem::path& path) {
    std::string text;
    for (const char c : path.string())
        text.append(c == ',' ? 2 : 1, c);
    return text;
}

void add_root_port(std::vector<std::string>& argv, size_t index, const std::string& name,
                   const std::string& more) {
    argv.insert(argv.end(),
                {"-device", fmt::format("pcie-root-port,id=rp-{},bus=pcie.0,addr={:#x},chassis={},"
                                        "slot={}{}",
                                        name, first_slot + index, index + 1, index + 1, more)});
}

} // namespace

Result<HostImage> host_image(const std::string& kernel) {
    const std::string host = "hosts/" + kernel, module = fmt::format("bridge/{}/lanepool_bridge.ko", kernel);
    const std::string qemu = "bin/qemu-system-x86_64";
    const auto cache =
        TRY(cache_with({qemu, host + "/vmlinux", host + "/initramfs.img"}, "script/bootstrap"));
    TRY(cache_with({module}, "script/bootstrap bridge"));
    return HostImage{cache / qemu, cache / host / "vmlinux", cache / host / "initramfs.img", cache / module};
}

// No shadow doorbells: when they are in a borrower's memory, which goes, QEMU's drive reads an end of its
// queue that is none, and its whole machine stands still for ever.
HostDevice nvme_drive(const std::string& name, const std::filesystem::path& disk) {
    return {
        name,
        {"-drive", fmt::format("id=disk-{},file={},format=raw,if=none,discard=unmap", name, quoted(disk))},
        fmt::format("nvme,drive=disk-{0},serial={0},dbcs=off", name),
        ""};
}

HostDevice network_card(const std::string& name) {
    // The firmware knows nothing of SR-IOV: the root port keeps room for the functions' BARs.
    return {name,
            {"-netdev", fmt::format("user,id=net-{},net=10.0.3.0/24", name)},
            fmt::format("igb,mac=52:54:00:00:00:01,netdev=net-{}", name),
            ",mem-reserve=8M,pref64-reserve=8M"};
}

HostDevice teaching_card(const std::string& name) {
    return {name, {}, "edu,dma_mask=0xffffffffffff", ""}; // by itself it has 28 bits; no window is so low
}

std::filesystem::path state_disk(const WholeHost& host) { return host.folder / "state.raw"; }

std::string root_port_address(size_t index) { return fmt::format("0000:00:{:02x}.0", first_slot + index); }

std::vector<std::string> whole_host_command(const WholeHost& host) {
    const auto folder = quoted(host.folder);
    std::vector<std::string> argv{
        host.image.qemu,
        "-name",
        host.name,
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
        fmt::format("{}M", host.memory_mib),
        "-object",
        fmt::format("memory-backend-memfd,id=ram,size={}M,share=on", host.memory_mib),
        "-device",
        "intel-iommu,caching-mode=on,intremap=on",
        "-kernel",
        host.image.kernel,
        "-initrd",
        host.initramfs,
        "-append",
        fmt::format("console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable clocksource=tsc intel_iommu=on "
                    "lanepool.hostname={} lanepool.modules=vfio_pci,vfio_iommu_type1 lanepool.network "
                    "lanepool.coldplug",
                    host.name),
        "-chardev",
        fmt::format("file,id=serial,path={}/serial.log,append=on", folder),
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
        "-netdev",
        "user,id=wan",
        "-device",
        "virtio-net-pci,netdev=wan,disable-legacy=on,romfile=",
        // What a host has synced is on the disk when QEMU is killed, whether or not QEMU has synced it.
        "-drive",
        fmt::format("id=state,file={},format=raw,if=none,cache=unsafe", quoted(state_disk(host))),
        "-device",
        "virtio-blk-pci,drive=state,disable-legacy=on",
    };
    for (size_t i = 0; i < host.devices.size(); ++i) {
        const auto& device = host.devices[i];
        add_root_port(argv, i, device.name, device.port);
        argv.insert(argv.end(), device.before.begin(), device.before.end());
        argv.insert(argv.end(), {"-device", fmt::format("{0},id={1},bus=rp-{1}", device.words, device.name)});
    }
    add_root_port(argv, host.devices.size(), "adapter", "");
    const nlohmann::json adapter{{"driver", "vfio-user-pci"},
                                 {"id", "adapter"},
                                 {"bus", "rp-adapter"},
                                 {"x-msg-timeout", 5000},
                                 {"socket", {{"type", "unix"}, {"path", host.adapter.string()}}}};
    argv.insert(argv.end(), {"-device", adapter.dump()});
    return argv;
}

} // namespace lanepool::dev
