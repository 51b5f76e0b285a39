#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole Linux hosts borrow a drive of another with their own kernels' driver and give it back, over and over: memory, references,
descriptors and windows of both sides stay what they were, and the module can be unloaded at the end.

LANEPOOL_CYCLES: how often (default: 50; script/test asks for 20)."""
import concurrent.futures
import json
import os
import sys
import time

from host_cluster import HostCluster, check, site_for_drives
from whole_host import nvme

CYCLES = int(os.environ.get("LANEPOOL_CYCLES") or 50)
# Of these before anything is counted: what is made once is there then, and what was needed for starting is not any more.
FIRST = 10
# The lender, its kernel, the borrower, its kernel: each kernel borrows.
PAIRS = (("store1", "6.1", "a", "6.12"), ("store2", "6.12", "b", "6.1"))
# The kernel's caches come and go. A pool that is left over is 8 MiB; QEMU's drive alone has queues of 100 KiB.
GROWTH_KIB = 2048
AGENT_GROWTH_KIB = 1024
SITE = site_for_drives("sanitize = false")


def cycle(cluster, store, borrower):
    """Borrowed, used by the kernel's own driver, given back. Seconds that it took."""
    start = time.monotonic()
    device, host = f"{store}/nvme0", cluster.hosts[borrower]
    cluster.ok("borrow", device, "--host", borrower)
    function = cluster.loan(cluster.device(device)["loan"])["function"]
    disk = host.block_device(function)
    host.check(f"dd if={disk} of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null")
    cluster.ok("return", device)
    return time.monotonic() - start


def side_by_side(cluster, times):
    """The times of that many cycles of each pair."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = [pool.submit(lambda pair=pair: [cycle(cluster, pair[0], pair[2]) for _ in range(times)]) for pair in PAIRS]
        return {pair[2]: job.result() for pair, job in zip(PAIRS, jobs)}


def held(cluster):
    """What each host holds, apart from what comes and goes."""
    return {name: {key: value for key, value in host.counts().items() if key != "threads"} for name, host in cluster.hosts.items()}


def main():
    with HostCluster() as cluster:
        start = time.monotonic()
        cluster.start_hosts(whole={store: dict(kernel=kernel, lend=["nvme0"], devices=[nvme("nvme0", 16)]) for store, kernel, _, _ in PAIRS} |
                            {borrower: dict(kernel=kernel, borrows=True) for _, _, borrower, kernel in PAIRS})
        check(f"two whole hosts that lend and two that borrow have joined after {time.monotonic() - start:.1f} s", True)
        cluster.apply_site(SITE)
        for store, *_ in PAIRS:
            cluster.ok("restore", f"{store}/nvme0")
        first = side_by_side(cluster, FIRST)
        before, memory, windows = held(cluster), {name: host.memory_kib() for name, host in cluster.hosts.items()}, cluster.windows_free()
        rest = side_by_side(cluster, CYCLES - FIRST)
        for _, _, borrower, kernel in PAIRS:
            each = sorted(first[borrower] + rest[borrower])
            check(f"{kernel}: {CYCLES} times borrowed, read and given back, {each[CYCLES // 2]:.2f} s each, the longest {each[-1]:.2f} s", True)
        after = held(cluster)
        for name, host in cluster.hosts.items():
            check(f"{name} ({host.kernel}) holds what it held: {json.dumps(after[name])}", after[name] == before[name], before[name])
            kernel, agent = memory[name]
            cluster.wait_until(f"{name}: what was allocated for loans is free ({kernel} KiB and the agent's {agent} KiB in the beginning)",
                               lambda: host.memory_kib()[0] < kernel + GROWTH_KIB and host.memory_kib()[1] < agent + AGENT_GROWTH_KIB, 15)
            check(f"and its memory has not grown with them: {kernel} and the agent's {agent} KiB, now {host.memory_kib()}", True)
        check("all windows are free that were", cluster.windows_free() == windows, (windows, cluster.windows_free()))
        for _, _, borrower, kernel in PAIRS:
            cluster.hosts[borrower].unload_bridge()
            check(f"{kernel}: the module is unloaded", "lanepool_bridge" not in cluster.hosts[borrower].check("lsmod"))
        for name, host in cluster.hosts.items():
            check(f"{name}: its kernel says nothing of trouble", not host.troubles(), host.troubles())
        check(f"all in {time.monotonic() - start:.1f} s", True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
