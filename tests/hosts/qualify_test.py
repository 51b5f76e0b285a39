#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A whole host tries its own NVMe drive, through its own agent: it is taken from its driver, borrowed, reset, loaded, told to
reach what it may not, taken from a borrower that is killed, and given back. A rule that wants it qualified lets it be lent then."""
import json
import sys
import time

from host_cluster import HostCluster, check
from qualification import checks, site
from whole_host import THIS_MACHINE, nvme

DEVICE = "store1/nvme0"
TRIED = ["assign_release", "pool_reset", "rebind", "load", "isolation", "recovery", "left_as_found"]


def as_operator(cluster, store):
    """The words before a command that its operator types on store1."""
    ca = cluster.folder / "ca"
    cluster.ok("pki", "issue", "olga", "--role", "operator", "--dir", str(ca))
    for file in ("olga.pem", "olga.key"):
        store.put(f"/etc/lanepool/{file}", (ca / "issued" / file).read_bytes(), "600")
    return (f"lanepool --controller {cluster.tcp_endpoint(THIS_MACHINE)} --tls-ca /etc/lanepool/ca.pem "
            "--tls-cert /etc/lanepool/olga.pem --tls-key /etc/lanepool/olga.key")


def qualify(cluster, store):
    lanepool = as_operator(cluster, store)
    address = store.address("nvme0")
    start = time.monotonic()
    result = store.run(f"{lanepool} -o json qualify {address} --active --yes --cycles 2 --load-bytes 256KiB --store /var/lib/lanepool "
                       "--agent-admin /run/lanepool/admin.sock 2>/tmp/qualify.log", 120)
    said = result.text + store.run("cat /tmp/qualify.log").text
    check(f"it is fit after {time.monotonic() - start:.1f} s", result.status == 0, said)
    found = json.loads(result.text)["qualification"]
    tried = checks(result.text)
    for name in TRIED:
        entry = tried[name]
        check(f"{name}: {entry['reason']} [{entry.get('evidence', '')}]", entry["result"] == "pass", entry)
    check("what can be seen of it is judged as well", found["address"] == address and len(tried) > len(TRIED))
    check("its own driver was named", "driver nvme" in tried["rebind"]["reason"])
    check("and has it again", store.driver(address) == "nvme" and cluster.device(DEVICE)["state"] == "local")


def borrow(cluster):
    """Starts a program on host b that borrows the drive."""
    cluster.spawn("share", "nvme", "share", cluster.device(DEVICE)["fdid"], "--agent", cluster.folder / "application-b.sock")


def lend(cluster, store):
    cluster.ok("restore", DEVICE)
    borrow(cluster)
    cluster.wait_device(DEVICE, "lent", 20)
    check("the rule lets it be lent to a program of another host", cluster.json("loans")[0]["borrower"] == "b")
    cluster.end("share")
    cluster.wait_device(DEVICE, "available", 30)
    # Evidence for another kernel says nothing about this one; an agent that starts with it looks.
    store.kill_agent("TERM")
    cluster.wait_until("store1 is down", lambda: cluster.host("store1")["state"] == "down", 20)
    store.check("cd /var/lib/lanepool/qualifications && sed -i 's/\"kernel_release\": \".*\"/\"kernel_release\": \"0\"/' nvme0.json")
    store.start_agent()
    cluster.wait_joined(["store1"])
    cluster.wait_device(DEVICE, "available", 30)
    borrow(cluster)
    refused = cluster.daemons["share"].wait(20)
    log = (cluster.folder / "share.log").read_text()
    check("with another kernel it is not qualified any more", refused != 0 and "qualified" in log, log)


def main():
    with HostCluster(ports=2) as cluster:
        start = time.monotonic()
        cluster.start_hosts(whole={"store1": dict(kernel="6.12", lend=["nvme0"], devices=[nvme("nvme0", 32)])})
        cluster.spawn_agent("b")
        cluster.wait_joined(["b"])
        cluster.apply_site(site(lender="store1", borrower="b"))
        check(f"a whole host has joined after {time.monotonic() - start:.1f} s", True)
        store = cluster.hosts["store1"]
        qualify(cluster, store)
        lend(cluster, store)
    return 0


if __name__ == "__main__":
    sys.exit(main())
