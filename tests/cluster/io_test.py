#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The data path: while a guest does I/O on a lent drive, no process of lanepool handles a message for it; data is
verified; and what other hosts do in the meantime changes nothing."""
import json
import sys

from cluster import Cluster, check

FIO = ("fio --name=job --filename=/dev/nvme0n1 --direct=1 --ioengine=libaio --output-format=json "
       "--time_based --group_reporting ")


def fio(cluster, host, options, timeout_s=90):
    output = cluster.guest(host, FIO + options, timeout_s)
    return json.loads(output[output.index("{"):])["jobs"][0]


def messages(cluster):
    return cluster.json("stats")["io_messages"]


def main():
    with Cluster(hosts="a,b", drives=2, drive_size="1G") as cluster:
        cluster.ok("borrow", "store/nvme0", "--host", "a")
        cluster.wait_until("a sees the drive", lambda: cluster.guest_status("a", "test -b /dev/nvme0n1") == 0)

        before = messages(cluster)
        job = fio(cluster, "a", "--rw=randrw --bs=4k --iodepth=32 --runtime=4")
        done = job["read"]["total_ios"] + job["write"]["total_ios"]
        after = messages(cluster)
        check(f"no message was handled for {done} I/O operations at depth 32", done > 1000 and after == before, (before, after))
        job = fio(cluster, "a", "--rw=randread --bs=4k --iodepth=1 --runtime=2")
        check(f"nor for {job['read']['total_ios']} at depth 1", messages(cluster) == before, messages(cluster))

        cluster.guest("a", "fio --name=verify --filename=/dev/nvme0n1 --direct=1 --ioengine=libaio --rw=randwrite --bs=16k "
                           "--size=48M --iodepth=16 --verify=crc32c --do_verify=1 --verify_fatal=1", 120)
        check("what fio wrote at random it reads back, verified", True)

        # The neighbour comes and goes; a's data stays a's.
        checksum = cluster.guest("a", "dd if=/dev/nvme0n1 bs=1M count=48 iflag=direct 2>/dev/null | sha256sum")
        cluster.ok("borrow", "store/nvme1", "--host", "b")
        cluster.wait_until("b sees its drive", lambda: cluster.guest_status("b", "test -b /dev/nvme0n1") == 0)
        cluster.guest("b", "dd if=/dev/urandom of=/dev/nvme0n1 bs=1M count=48 oflag=direct 2>/dev/null")
        cluster.ok("reclaim", "store/nvme1", "--reason", "test")
        check("what b did on its own drive did not change a's",
              cluster.guest("a", "dd if=/dev/nvme0n1 bs=1M count=48 iflag=direct 2>/dev/null | sha256sum") == checksum)

        # Reclaim under load: the fence does not wait for the guest.
        load = cluster.start("dev", "exec", "--timeout", "30", "a", "--", FIO + "--rw=randwrite --bs=4k --iodepth=32 --runtime=20")
        cluster.wait_until("the load has begun", lambda: cluster.json("stats")["nvme0"]["commands"]["io"] > done)
        cluster.ok("reassign", "store/nvme0", "--host", "b", "--force")
        check("a's drive was handed to b under load", cluster.device("store/nvme0")["borrower"] == "b")
        cluster.wait_until("b sees the drive", lambda: cluster.guest_status("b", "test -b /dev/nvme0n1") == 0)
        check("nothing of a's is on it, although a went on writing",
              cluster.guest_status("b", "dd if=/dev/nvme0n1 bs=1M iflag=direct 2>/dev/null | tr -d '\\0' | head -c 1 | grep -q .") == 1)
        load.kill()
        load.communicate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
