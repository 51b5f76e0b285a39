#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole Linux hosts borrow devices of other whole Linux hosts with their own kernels' drivers: an NVMe drive with a file system that
goes on to the next borrower, functions of a NIC, and edu; in each DMA mode. Nothing of a loan is outside of them."""
import concurrent.futures
import sys
import time

from host_cluster import HostCluster, check
from loads import fio_verified, is_empty, join, traffic
from whole_host import edu, igb, nvme

# What lends and what borrows: each kernel to the other.
LENDERS = {"store1": "6.1", "store2": "6.12"}
BORROWERS = {"a": "6.12", "b": "6.1"}
# store1's drive keeps what is on it; and it may be borrowed with all of the borrower's memory in its reach.
SITE = """
[[tenant]]
name = "lab"

[[host]]
name = "store1"

[class.passed_on]
any = [{ device = "store1/nvme0" }]

[class.other]
any = [{ kind = "nvme" }, { kind = "nic" }, { kind = "other" }]

[[rule]]
name = "passed-on"
tenants = "*"
users = "*"
hosts = "*"
classes = ["passed_on"]
sanitize = false
dma = ["bounce", "direct"]

[[rule]]
name = "others"
tenants = "*"
users = "*"
hosts = "*"
classes = ["other"]
"""
# A small one, with few tables: its blocks go through trapped windows.
MAKE_FILE_SYSTEM = "mke2fs -qF -t ext4 -O ^has_journal,^resize_inode -E nodiscard,lazy_itable_init=0 -N 16 {} 2M"


def side_by_side(*jobs):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return [job.result() for job in [pool.submit(*job) for job in jobs]]


def borrow(cluster, device, host, *words):
    """The loan, when its function is there."""
    start = time.monotonic()
    loan = cluster.borrow_kernel(device, host, *words)
    check(f"{host} ({BORROWERS[host]}) has {device} as {loan['function']}, DMA by {loan['dma']} of {loan['dma_bytes'] >> 20} MiB, "
          f"after {time.monotonic() - start:.1f} s", True)
    return loan


def drive(cluster, device, host, *words):
    """The kernel's own driver has it: the loan and the disk."""
    loan, borrower = borrow(cluster, device, host, *words), cluster.hosts[host]
    disk = borrower.block_device(loan["function"])
    # What a file system writes at once, QEMU's drive would fetch through a trapped window in one go.
    borrower.check(f"cd /sys/block/{disk.removeprefix('/dev/')}/queue && echo 4 >max_sectors_kb && echo 4 >nr_requests")
    return loan, disk


def file_system(cluster, device, host):
    """Written by one borrower; the checksum of a file on it."""
    borrower = cluster.hosts[host]
    loan, disk = drive(cluster, device, host)
    check(f"its driver there is nvme, for a drive of QEMU's", borrower.driver(loan["function"]) == "nvme" and loan["driver"] == "nvme" and
          "QEMU NVMe Ctrl" in borrower.check(f"cat /sys/bus/pci/devices/{loan['function']}/nvme/nvme*/model"), loan)
    check("by DMA through a pool, as nobody has asked for more", loan["dma"] == "bounce" and loan["dma_bytes"] > 0, loan)
    start = time.monotonic()
    borrower.check(fio_verified(disk), 120)
    check(f"what fio writes on {host} it reads back, verified, in {time.monotonic() - start:.1f} s", True)
    borrower.check(MAKE_FILE_SYSTEM.format(disk) + f" && mkdir -p /mnt/data && mount -t ext4 {disk} /mnt/data && "
                   "yes of-the-first-borrower | head -c 65536 >/mnt/data/file && sync", 120)
    result = cluster.run("return", device)
    check("it is not given back while it is mounted, and the refusal says where", result.returncode != 0 and "/mnt/data" in result.stderr, result.stderr)
    check("the loan goes on", cluster.device(device)["state"] == "lent" and borrower.run("ls /mnt/data/file && touch /mnt/data/also").status == 0)
    checksum = borrower.check("sha256sum </mnt/data/file && umount /mnt/data")
    cluster.ok("return", device)
    check("unmounted it is", cluster.device(device)["state"] == "available" and
          borrower.run(f"[ -e {disk} ] || [ -e /sys/bus/pci/devices/{loan['function']} ]").status == 1)
    return checksum


def passed_on(cluster, device, host, checksum, *words):
    """By a rule that leaves the data on it, the next borrower has what the first wrote."""
    borrower = cluster.hosts[host]
    loan, disk = drive(cluster, device, host, *words)
    borrower.check(f"e2fsck -fn {disk} && mkdir -p /mnt/data && mount -t ext4 -o ro {disk} /mnt/data", 60)
    check(f"the next borrower, {host}, finds the file system as it was left", borrower.check("sha256sum </mnt/data/file && umount /mnt/data") == checksum)
    borrower.check(fio_verified(disk), 120)
    check(f"and writes it, verified, by DMA of mode {loan['dma']}", list(words[1:]) == [loan["dma"]], loan)
    cluster.ok("return", device)


def wiped(cluster, device, host, *words):
    """By the usual rule it has nothing."""
    borrower = cluster.hosts[host]
    loan, disk = drive(cluster, device, host, *words)
    check(f"the next borrower, {host}, finds nothing of the one before", is_empty(borrower, disk))
    borrower.check(fio_verified(disk), 120)
    check(f"and writes it, verified, by DMA of mode {loan['dma']}", list(words[1:]) == [loan["dma"]], loan)
    cluster.ok("return", device)


def drives(cluster):
    """Each of a kernel that the borrower's is not, at the same time; then each in the other's hands."""
    sums = side_by_side((file_system, cluster, "store1/nvme0", "a"), (file_system, cluster, "store2/nvme0", "b"))
    refused = cluster.run("borrow", "store2/nvme0", "--host", "a", "--dma", "direct")
    check("direct DMA is refused where the module does not allow it", refused.returncode != 0 and "direct" in refused.stderr, refused.stderr)
    side_by_side((passed_on, cluster, "store1/nvme0", "b", sums[0], "--dma", "direct"), (wiped, cluster, "store2/nvme0", "a", "--dma", "iommu"))


def nics(cluster):
    """Two functions of one NIC, in two kernels."""
    loans = side_by_side(*((borrow, cluster, f"store1/nic0.vf{number}", host) for number, host in enumerate(BORROWERS)))
    machines = {}
    for host, loan in zip(BORROWERS, loans):
        machine = cluster.hosts[host]
        machines[machine] = machine.interface(loan["function"])
        check(f"{host}'s own driver is igbvf", machine.driver(loan["function"]) == "igbvf")
    join(machines)
    traffic(*machines, "by two functions of one NIC the borrowers")
    result = cluster.run("return", "store1/nic0.vf0")
    name = machines[cluster.hosts["a"]]
    check("one whose interface is up is not given back, and the refusal says which", result.returncode != 0 and name in result.stderr, result.stderr)
    for machine, interface in machines.items():
        machine.check(f"ip link set {interface} down")
    side_by_side(*((cluster.ok, "return", f"store1/nic0.vf{number}") for number in range(2)))


def cards(cluster):
    """edu, with a driver that tries registers, interrupts and each kind of DMA mapping."""
    def work(device, host):
        loan, borrower = borrow(cluster, device, host), cluster.hosts[host]
        folder = f"/sys/bus/pci/devices/{loan['function']}"
        borrower.wait(f"[ -e {folder}/work ]", f"{host}'s driver has edu")
        borrower.check(f"echo 10 >{folder}/factorial && [ $(cat {folder}/factorial) = 3628800 ] && echo 2 >{folder}/work", 60)
        interrupts = int(borrower.check(f"cat {folder}/interrupts"))
        check(f"edu computes and moves data for {host}'s kernel, with {interrupts} interrupts", interrupts == 15)
        cluster.ok("return", device)

    side_by_side((work, "store1/edu0", "a"), (work, "store2/edu0", "b"))


def main():
    with HostCluster() as cluster:
        start = time.monotonic()
        lenders = {name: dict(kernel=kernel, lend=["nvme0", "edu0"], devices=[nvme("nvme0", 32), edu("edu0", dma_mask=(1 << 28) - 1)])
                   for name, kernel in LENDERS.items()}
        lenders["store1"]["devices"].append(igb("nic0", "user", "52:54:00:00:00:01"))
        lenders["store1"]["lend"].append("nic0")
        cluster.start_hosts(whole=lenders | {name: dict(kernel=kernel, borrows=True, allow_direct=name == "b", insmod=["edu"])
                                             for name, kernel in BORROWERS.items()})
        check(f"two whole hosts that lend and two that borrow have joined after {time.monotonic() - start:.1f} s", True)
        cluster.apply_site(SITE)
        store = cluster.hosts["store1"]
        # The parent resets when it comes up, and its functions with it.
        store.check("ip link set eth1 up")
        cluster.ok("functions", "store1/nic0", "2")
        cluster.wait_device("store1/nic0.vf1", "local")
        side_by_side(*((cluster.ok, "restore", device) for device in
                       ("store1/nvme0", "store2/nvme0", "store1/edu0", "store2/edu0", "store1/nic0.vf0", "store1/nic0.vf1")))
        drives(cluster)
        cards(cluster)
        nics(cluster)
        for name in BORROWERS:
            cluster.hosts[name].unload_bridge()
        for host in cluster.hosts.values():
            check(f"{host.name}: the kernel says nothing of trouble", not host.troubles(), host.troubles())
        check(f"all in {time.monotonic() - start:.1f} s", True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
