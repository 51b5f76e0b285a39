#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What users of today's systems complain about, where it takes real guests and processes to show that it does not happen here."""
import json
import subprocess
import sys

from cluster import PROGRAM, Cluster, check

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


def no_10_reclaim_harms_nobody_else(cluster):
    """Reclaiming a device in use took the host down that used it."""
    boot = cluster.guest("a", BOOT_ID)
    for host, device in (("a", "store/nvme0"), ("b", "store/nvme1")):
        cluster.ok("borrow", device, "--host", host)
        cluster.wait_until(f"{host} sees its drive", lambda h=host: cluster.guest_status(h, "test -b /dev/nvme0n1") == 0)
    neighbour = cluster.start("dev", "exec", "--timeout", "60", "b", "--",
                              "fio --name=n --filename=/dev/nvme0n1 --direct=1 --ioengine=libaio --rw=randwrite --bs=16k "
                              "--size=32M --iodepth=8 --loops=4 --verify=crc32c --verify_fatal=1")
    user = cluster.start("dev", "exec", "--timeout", "60", "a", "--",
                         "fio --name=u --filename=/dev/nvme0n1 --direct=1 --ioengine=libaio --rw=randwrite --bs=4k "
                         "--iodepth=32 --time_based --runtime=40")
    cluster.wait_until("a uses its drive", lambda: cluster.json("stats")["nvme0"]["commands"]["io"] > 1000)
    cluster.ok("reclaim", "store/nvme0", "--reason", "wanted elsewhere")
    cluster.wait_until("it is back in the pool", lambda: cluster.device("store/nvme0")["state"] == "available")
    check("a drive in use was reclaimed and wiped", True)
    check("its user sees an error, not the end of the world", user.wait(timeout=90) != 0)
    cluster.wait_until("the drive has gone from the guest", lambda: cluster.guest_status("a", "test -b /dev/nvme0n1") != 0, 60)
    check("the guest that used it goes on", cluster.guest("a", BOOT_ID) == boot)
    output, errors = neighbour.communicate(timeout=120)
    check("the neighbour's verified writes went through", neighbour.returncode == 0, output + errors)
    check("and its loan goes on", cluster.device("store/nvme1")["state"] == "lent")
    cluster.ok("borrow", "store/nvme0", "--host", "a")
    cluster.wait_until("a can have it again", lambda: cluster.guest_status("a", "test -b /dev/nvme0n1") == 0)
    for device in ("store/nvme0", "store/nvme1"):
        cluster.ok("return", device)
    check("a got the drive again, and both came back", True)


def no_11_exchanged_drive_is_wiped(cluster):
    """What a drive is trusted with is its own: another one in the same place inherits nothing, and is wiped before it is lent."""
    old = cluster.device("store/nvme0")
    image = cluster.folder / "exchanged.img"
    secret = b"somebody's data" * 300
    with open(image, "wb") as file:
        file.write(secret)
        file.truncate(1 << 30)
    cluster.kill("nvme0")
    drive = subprocess.Popen([PROGRAM, "model", "nvme", "--socket", str(cluster.folder / "nvme0.sock"), "--file", str(image),
                              "--size", "1G", "--serial", "OTHER1", "--admin", str(cluster.folder / "nvme0.admin.sock")],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        new = cluster.wait_until("the drive is known and in the pool", lambda: next(
            (d for d in cluster.json("ls") if d["name"] == "store/nvme0" and d["state"] == "available" and d["fdid"] != old["fdid"]), None))
        trail = cluster.ok("-o", "json", "audit", new["fdid"]).splitlines()
        actions = [json.loads(line)["action"] for line in trail]
        check("an exchanged drive is another device, and was reset and wiped first", "sanitize-done" in actions, actions)
        with open(image, "rb") as file:
            check("nothing is on it any more", file.read(len(secret)) == bytes(len(secret)))
        check("the old one is not lent in its name", cluster.run("borrow", old["fdid"], "--host", "a").returncode != 0)
        cluster.ok("borrow", "store/nvme0", "--host", "a")
        check("the name means the new one", cluster.device(new["fdid"])["state"] == "lent")
        cluster.ok("return", "store/nvme0")
    finally:
        drive.kill()
        drive.wait()
    cluster.up()
    cluster.wait_until("the first drive is back", lambda: cluster.device(old["fdid"])["state"] == "available")
    check("the first one is itself again when it is back", True)


def main():
    with Cluster(hosts="a,b", drives=2, drive_size="1G") as cluster:
        no_10_reclaim_harms_nobody_else(cluster)
        no_11_exchanged_drive_is_wiped(cluster)
    return 0


if __name__ == "__main__":
    sys.exit(main())
