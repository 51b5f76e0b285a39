// SPDX-License-Identifier: Apache-2.0
#include "dev/whole_host.h"

#include "dev/cache.h"
#include "dev/emulated_machine.h"

#include <nlohmann/json.hpp>

namespace lanepool::dev {

namespace {

constexpr unsigned first_slot = 0x10; // 0x1f is the chip set's

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
        {"-drive", fmt::format("id=disk-{},file={},format=raw,if=none,discard=unmap", name, in_option(disk))},
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
    auto argv = machine_command(
        {.qemu = host.image.qemu,
         .kernel = host.image.kernel,
         .initramfs = host.initramfs,
         .name = host.name,
         .folder = host.folder,
         .memory_mib = host.memory_mib,
         .append = "lanepool.modules=vfio_pci,vfio_iommu_type1 lanepool.network lanepool.coldplug",
         .continue_log = true});
    argv.insert(
        argv.end(),
        {"-netdev", "user,id=wan", "-device", "virtio-net-pci,netdev=wan,disable-legacy=on,romfile=",
         // What a host has synced is on the disk when QEMU is killed, whether or not QEMU has synced it.
         "-drive",
         fmt::format("id=state,file={},format=raw,if=none,cache=unsafe", in_option(state_disk(host))),
         "-device", "virtio-blk-pci,drive=state,disable-legacy=on"});
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
