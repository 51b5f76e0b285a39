#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Devices of a whole Linux host, which are not ours and have their own drivers there, are lent to guests of other hosts, whose
own drivers use them; they go back to their host's drivers, and are lent again. Nothing is left over after many times.

LANEPOOL_CYCLES: how many (default: 50; script/test asks for 20)."""
import concurrent.futures
import json
import os
import sys
import time

from host_cluster import HostCluster, check
from loads import fio_verified, is_empty
from whole_host import nvme

CYCLES = int(os.environ.get("LANEPOOL_CYCLES") or 50)
KERNELS = {"store1": "6.12", "store2": "6.1"}
# Requests at once: two of them are no problem for one drive at a time.
VERIFIED = fio_verified("/dev/nvme0n1", size="128k", depth=2)


def counts(cluster, host):
    """What the lender could forget to give back, with windows of whoever."""
    return {**host.counts(), "windows": cluster.windows_free()}


def own_driver(host, name):
    return host.driver(host.address(name))


def wait_drive(cluster, host):
    cluster.wait_until(f"the guest of {host} sees the drive", lambda: cluster.hosts[host].run("test -b /dev/nvme0n1").status == 0, 20)


def drive(cluster, store):
    """An NVMe drive, for its own host, for two guests in turn, and for its own host again."""
    device, a = "store1/nvme0", cluster.hosts["a"]
    check("the drive is its own host's at first", cluster.device(device)["state"] == "local" and own_driver(store, "nvme0") == "nvme")
    store.check("printf 'of the host itself' | dd of=/dev/nvme0n1 bs=512 conv=sync oflag=direct 2>/dev/null")
    result = cluster.run("borrow", device, "--host", "a")
    check("and is not lent from there", result.returncode != 0 and "restore" in result.stderr, result.stderr)

    store.check("mkfs.ext4 -q /dev/nvme0n1 && mkdir -p /mnt/data && mount /dev/nvme0n1 /mnt/data")
    result = cluster.run("restore", device)
    check("nor taken while it is mounted, and the refusal says where", result.returncode != 0 and "/mnt/data" in result.stderr,
          result.stderr)
    check("it stays with its driver", own_driver(store, "nvme0") == "nvme" and cluster.device(device)["state"] == "local")
    store.check("umount /mnt/data")

    cluster.ok("restore", device)
    check("then it is taken", own_driver(store, "nvme0") == "vfio-pci" and cluster.device(device)["state"] == "available")
    start = time.monotonic()
    cluster.ok("borrow", device, "--host", "a")
    wait_drive(cluster, "a")
    check(f"a's guest has it after {time.monotonic() - start:.1f} s", True)
    check("there its native driver found a drive of QEMU's", "QEMU NVMe Ctrl" in a.check("cat /sys/class/nvme/nvme0/model"))
    check("which is empty", is_empty(a, "/dev/nvme0n1"))
    start = time.monotonic()
    a.check(VERIFIED, 120)
    check(f"what fio wrote it reads back, verified, in {time.monotonic() - start:.1f} s", True)
    cluster.ok("return", device, "--to-local")
    check("returned, it is its own host's again, on its own driver", own_driver(store, "nvme0") == "nvme", store.logs())
    cluster.wait_until("its own host sees the disk", lambda: store.run("test -b /dev/nvme0n1").status == 0, 10)
    check("with nothing of a's on it", is_empty(store, "/dev/nvme0n1", kib=256, at_once_kib=64))

    cluster.ok("restore", device)
    cluster.ok("borrow", device, "--host", "b")
    wait_drive(cluster, "b")
    cluster.hosts["b"].check(VERIFIED, 120)
    check("lent again, to another host, it works there", True)
    cluster.ok("return", device)


def cycles(cluster):
    """Over and over, the drives of both lenders side by side: descriptors, windows and mappings are what they were."""
    def once(device, borrower):
        start = time.monotonic()
        cluster.ok("borrow", device, "--host", borrower)
        wait_drive(cluster, borrower)
        cluster.ok("return", device, "--to-local")
        cluster.ok("restore", device)
        return time.monotonic() - start

    pairs = [(f"{store}/nvme0", borrower) for store, borrower in zip(KERNELS, ("a", "b"))]

    def side_by_side(times):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            jobs = [pool.submit(lambda pair=pair: [once(*pair) for _ in range(times)]) for pair in pairs]
            return [seconds for job in jobs for seconds in job.result()]

    times = side_by_side(2)  # what is made once is there
    before = {store: counts(cluster, cluster.hosts[store]) for store in KERNELS}
    times = sorted(times + side_by_side(CYCLES // 2 - 2))
    after = {store: counts(cluster, cluster.hosts[store]) for store in KERNELS}
    check(f"{len(times)} times lent, returned to its driver and taken again, {times[len(times) // 2]:.2f} s each, the longest {times[-1]:.2f} s",
          all(cluster.device(device)["state"] == "available" for device, _ in pairs))
    for store, kernel in KERNELS.items():
        threads = [seen[store].pop("threads") for seen in (before, after)]
        check(f"on {kernel} nothing is left over: {json.dumps(after[store])}", after[store] == before[store], before[store])
        check(f"nor threads ({threads[0]}, {threads[1]})", threads[1] <= threads[0] + 4)


def main():
    with HostCluster() as cluster:
        start = time.monotonic()
        cluster.start_hosts(
            whole={store: dict(kernel=kernel, lend=["nvme0"], devices=[nvme("nvme0", 32)]) for store, kernel in KERNELS.items()},
            process={"a": {}, "b": {}})
        check(f"whole hosts with either kernel and two with guests have joined after {time.monotonic() - start:.1f} s", True)
        store = cluster.hosts["store1"]
        drive(cluster, store)
        cluster.ok("restore", "store2/nvme0")
        cycles(cluster)
    return 0


if __name__ == "__main__":
    sys.exit(main())
