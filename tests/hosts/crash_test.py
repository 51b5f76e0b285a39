#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Machines die in the middle of I/O: SIGKILL to the QEMU of a borrower, and to that of a whole lending host. The device is
fenced, reset and back in service, and the times are printed."""
import sys
import time

from host_cluster import HostCluster, check
from whole_host import nvme

DEVICE = "store1/nvme0"
IO = ("fio --name=io --filename=/dev/nvme0n1 --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=2 --time_based "
      "--runtime=120 >/tmp/fio.log 2>&1")


def borrow_with_io(cluster, host):
    """A loan in the middle of I/O."""
    cluster.ok("borrow", DEVICE, "--host", host)
    guest = cluster.hosts[host]
    cluster.wait_until(f"{host}'s guest sees the drive", lambda: guest.run("test -b /dev/nvme0n1").status == 0, 20)
    guest.check(f"setsid sh -c '{IO}' >/dev/null 2>&1 </dev/null &")
    written = "awk '{ print $7 }' /sys/block/nvme0n1/stat"
    cluster.wait_until("I/O has begun", lambda: int(guest.check(written)) > 64, 30)
    return max(loan["id"] for loan in cluster.json("loans"))


def in_service(cluster, host):
    """The device is lent once more, and works."""
    cluster.ok("borrow", DEVICE, "--host", host)
    guest = cluster.hosts[host]
    cluster.wait_until(f"{host}'s guest sees the drive", lambda: guest.run("test -b /dev/nvme0n1").status == 0, 20)
    check("nothing of the dead is on it",
          guest.run("dd if=/dev/nvme0n1 bs=64k count=8 iflag=direct 2>/dev/null | tr -d '\\0' | head -c 1 | grep -q .").status == 1)
    guest.check("printf x | dd of=/dev/nvme0n1 bs=4k conv=sync oflag=direct 2>/dev/null")
    cluster.ok("return", DEVICE)
    check(f"it is in service again, for {host}", cluster.device(DEVICE)["state"] == "available")


def guest_dies(cluster):
    loan = borrow_with_io(cluster, "a")
    start = time.monotonic()
    cluster.hosts["a"].guest.process.kill()
    cluster.wait_until("the loan ends", lambda: cluster.loan(loan)["state"] == "failed", 30)
    fenced = time.monotonic() - start
    cluster.wait_device(DEVICE, "available")
    check(f"the borrower's guest was killed: loan over after {fenced:.1f} s, device reset, wiped and available after "
          f"{time.monotonic() - start:.1f} s", True)
    in_service(cluster, "b")
    cluster.hosts.pop("a").close()
    cluster.end("agent-a")


def borrower_dies(cluster):
    """Guest and agent at once: nobody is left who could say that the loan is lost."""
    loan = borrow_with_io(cluster, "b")
    start = time.monotonic()
    cluster.hosts["b"].kill()
    cluster.wait_until("the loan ends", lambda: cluster.loan(loan)["state"] == "failed", 30)
    fenced = time.monotonic() - start
    cluster.wait_device(DEVICE, "available")
    check(f"the borrowing host was killed: loan over after {fenced:.1f} s, device reset, wiped and available after "
          f"{time.monotonic() - start:.1f} s", True)
    cluster.hosts.pop("b").close()
    cluster.start_hosts(process={"b2": {}})
    in_service(cluster, "b2")


def lender_dies(cluster):
    loan = borrow_with_io(cluster, "b2")
    store, guest = cluster.hosts["store1"], cluster.hosts["b2"]
    start = time.monotonic()
    store.kill()
    cluster.wait_until("the device is known to be gone", lambda: cluster.device(DEVICE)["state"] == "offline", 20)
    offline = time.monotonic() - start
    cluster.wait_until("the loan ends", lambda: cluster.loan(loan)["state"] == "failed", 40)
    over = time.monotonic() - start
    check("the borrower's QEMU lives on", guest.guest.process.poll() is None and guest.run("true", 20).status == 0)
    cluster.wait_until("its guest has let the drive go", lambda: guest.run("test -e /sys/class/nvme/nvme0", 20).status != 0, 60)
    let_go = time.monotonic() - start
    start = time.monotonic()
    store.boot()
    cluster.wait_device(DEVICE, "available")
    check(f"the lending host was killed: device offline after {offline:.1f} s, loan over after {over:.1f} s, gone from the guest "
          f"after {let_go:.1f} s; from its new start to available {time.monotonic() - start:.1f} s, of which {store.boot_s:.1f} s to boot", True)
    check("the rebooted host's own driver does not have it", store.driver(store.address("nvme0")) == "vfio-pci")
    in_service(cluster, "b2")


def main():
    with HostCluster() as cluster:
        cluster.start_hosts(whole={"store1": dict(kernel="6.1", lend=["nvme0"], devices=[nvme("nvme0", 32)])}, process={"a": {}, "b": {}})
        cluster.ok("restore", DEVICE)
        guest_dies(cluster)
        borrower_dies(cluster)
        lender_dies(cluster)
    return 0


if __name__ == "__main__":
    sys.exit(main())
