#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole hosts by themselves, before anything is lent: kernels, devices with their own drivers, SR-IOV, IOMMU groups, a crash."""
import re
import sys

from both_kernels import examine_both
from host_cluster import check

DRIVERS = {"nvme0": "nvme", "nvme1": "nvme", "nic0": "igb", "edu0": "", "gpu0": "virtio-pci", "adapter": ""}


def group_members(host, address):
    return host.check(f"ls /sys/bus/pci/devices/{address}/iommu_group/devices").split()


def create_functions(host, address):
    """Two VFs; their addresses. Nobody's driver takes them."""
    host.check(f"cd /sys/bus/pci/devices/{address} && echo 0 >sriov_drivers_autoprobe && echo 2 >sriov_numvfs")
    return [host.check(f"basename $(readlink /sys/bus/pci/devices/{address}/virtfn{i})").strip() for i in range(2)]


def examine(host):
    release = host.check("uname -r").strip()
    check(f"{host.name}: {release} boots in {host.boot_s:.1f} s", release.startswith(host.kernel + "."))
    found = {name: host.driver(host.address(name)) for name in DRIVERS}
    check(f"{host.name}: each device has its own driver", found == DRIVERS, found)
    for name in DRIVERS:
        address = host.address(name)
        check(f"{host.name}: {name} is alone in its IOMMU group", group_members(host, address) == [address])
    # What the firmware or Linux could not place would be an empty range.
    resources = host.check(f"cat /sys/bus/pci/devices/{host.address('adapter')}/resource").splitlines()
    placed = [int(start, 16) for start in (resources[bar].split()[0] for bar in (0, 2, 4))]
    check(f"{host.name}: the adapter's BARs have addresses", all(placed), resources)
    check(f"{host.name}: this machine's program runs there", re.match(r"lanepool \d", host.check("lanepool --version")))

    nic = create_functions(host, host.address("nic0"))
    drive = create_functions(host, host.address("nvme1"))
    for function in nic + drive:
        check(f"{host.name}: VF {function} is alone in its IOMMU group", group_members(host, function) == [function])
    parent = host.check(f"ls /sys/bus/pci/devices/{host.address('nvme1')}/nvme").strip()
    host.check(f"nvme virt-mgmt /dev/{parent} -c 1 -r 0 -n 3 -a 8 && nvme virt-mgmt /dev/{parent} -c 1 -r 1 -n 2 -a 8 && "
               f"nvme virt-mgmt /dev/{parent} -c 1 -a 9 && nvme attach-ns /dev/{parent} -n 2 -c 1 && "
               f"echo nvme >/sys/bus/pci/devices/{drive[0]}/driver_override && echo {drive[0]} >/sys/bus/pci/drivers/nvme/bind")
    # A controller is enabled behind the back of who binds its driver.
    namespaces = host.check(f"cd /sys/bus/pci/devices/{drive[0]}; for i in $(seq 100); do grep -qs live nvme/*/state && break; sleep 0.05; done; "
                            "nvme list-ns /dev/$(ls nvme)")
    check(f"{host.name}: a VF of the drive has namespace 2, and no other", re.findall(r":0x(\w+)", namespaces) == ["2"], namespaces)

    host.check("echo written before the crash >/var/lib/lanepool/note && sync && "
               "printf remembered | dd of=/dev/nvme0n1 bs=512 conv=sync oflag=direct 2>/dev/null")
    host.kill()
    host.boot()
    check(f"{host.name}: what was synced outlives the host",
          host.check("cat /var/lib/lanepool/note; dd if=/dev/nvme0n1 bs=512 count=1 2>/dev/null | head -c 10") ==
          "written before the crash\nremembered")
    faults = host.run("dmesg | grep -i 'DMAR.*fault'").text
    check(f"{host.name}: nothing ran into the IOMMU", faults == "", faults)


if __name__ == "__main__":
    sys.exit(examine_both(examine))
