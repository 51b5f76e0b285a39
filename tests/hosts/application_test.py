#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An application inside a whole borrowing host drives devices of a whole lending host: registers and doorbells by calls (an adapter
that is a card gives nobody a descriptor of its windows), queues and buffers in its own memory, interrupts as eventfds."""
import re
import sys
import time

from host_cluster import HostCluster, check
from whole_host import PROGRAM, ROOT, edu, nvme

EXAMPLE = ROOT / "build/examples/list_devices"
TOOL = ROOT / "build/tests/hosts/application_tool"
SOCKET = "/run/lanepool/application.sock"
# The drive moves a page through a trapped window in 36 ms.
KIB = 128


def fdid_of(cluster, device):
    fdid = cluster.json("show", device)["fdid"]
    return fdid if isinstance(fdid, str) else f"{fdid:x}"


def devices_work(cluster, application):
    """Our driver on the drive, and one for the card; then both again, by another program."""
    for device, command, said in (("nvme0", f"drive {KIB}", f"{KIB} KiB written, read and compared; doorbells by calls"),
                                  ("edu0", "edu 3", "3 rounds: computed, moved and compared")):
        use = f"application_tool {SOCKET} {fdid_of(cluster, f'store1/{device}')}"
        for _ in range(2):
            start = time.monotonic()
            text = application.check(f"{use} {command}", 120).strip()
            check(f"a program on app1 drives {device} itself, in {time.monotonic() - start:.1f} s: {text}", text == said)
            cluster.wait_device(f"store1/{device}", "available")
        text = application.check(f"{use} map")
        check("who insists on a mapping is told what to do", "DeviceBar::read" in text, text)
        cluster.wait_device(f"store1/{device}", "available")


def main():
    with HostCluster() as cluster:
        cluster.start_hosts(whole={
            "store1": dict(kernel="6.1", lend=["nvme0", "edu0"], devices=[nvme("nvme0", 16), edu("edu0")]),
            "app1": dict(kernel="6.12", programs=[PROGRAM, EXAMPLE, TOOL])})
        application = cluster.hosts["app1"]
        for name, begins in (("edu0", "010000ed"), ("nvme0", None)):
            cluster.ok("restore", f"store1/{name}")
            said = application.check(f"list_devices --agent {SOCKET} {fdid_of(cluster, f'store1/{name}')}")
            bar = re.search(r"BAR 0: (\d+) bytes, by calls only, begins with (\w+)", said)
            check(f"a program on app1 has borrowed {name} and read its registers: {bar and bar[2]}",
                  bar and (bar[2] == begins or not begins and bar[2] not in ("ffffffff", "00000000")), said)
            cluster.wait_device(f"store1/{name}", "available")
        devices_work(cluster, application)
        result = application.run(f"list_devices --agent {SOCKET}")
        listed = sorted(re.findall(r", class (\w+), .*, on store1 ", result.text))
        check("a program on app1 lists the pool's devices", result.status == 0 and listed == ["00ff00", "010802"], result.text)
        loans = cluster.json("loans", "--all")
        check("all eight loans were of programs, and are over",
              len(loans) == 8 and {loan["state"] for loan in loans} <= {"returned", "failed"} and {loan["access_model"] for loan in loans} == {"smartio"}, loans)
        host_dies(cluster, application)
    return 0


def host_dies(cluster, application):
    """SIGKILL to the QEMU of the borrowing host while its programs use the device."""
    use = f"list_devices --agent {SOCKET} {fdid_of(cluster, 'store1/edu0')}"
    application.check(f"setsid sh -c 'while :; do {use}; done' >/dev/null 2>&1 </dev/null &")
    cluster.wait_until("the device is lent", lambda: cluster.device("store1/edu0")["state"] == "lent", 20)
    application.kill()
    start = time.monotonic()
    cluster.wait_device("store1/edu0", "available", 40)
    cluster.wait_until("app1 is known to be down", lambda: cluster.host("app1")["state"] == "down", 20)
    check(f"app1 was killed with the device: it is available again after {time.monotonic() - start:.1f} s", True)
    application.boot()
    cluster.wait_joined(["app1"])
    check("and a program of app1, started anew, can use it", "begins with 010000ed" in application.check(use, 60))


if __name__ == "__main__":
    sys.exit(main())
