#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`lanepool dev up --whole-hosts`: the embedded cluster of whole Linux hosts, as people start and use it."""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cluster"))
from cluster import PROGRAM, Cluster, check  # noqa: E402

HOSTS = ("store", "a", "b")


def states(cluster):
    return {host["name"]: host["state"] for host in cluster.json("hosts")}


def joined(cluster):
    cluster.wait_until("all hosts are up", lambda: states(cluster) == dict.fromkeys(HOSTS, "up"), 20)


def it_is_there(cluster):
    check("all hosts have joined when `dev up` ends", states(cluster) == dict.fromkeys(HOSTS, "up"), states(cluster))
    check("each is a process of its own", set(cluster.processes()) == {"fabric", "controller", *(f"host-{name}" for name in HOSTS)},
          cluster.processes())
    for host, kernel in (("store", "6.12."), ("a", "6.12."), ("b", "6.1.")):
        release = cluster.guest(host, "uname -r").strip()
        check(f"host {host} runs {release}", release.startswith(kernel))
    check("borrowing hosts have the bridge module", all(cluster.guest_status(host, "test -c /dev/lanepool_bridge") == 0 for host in "ab"))
    devices = {device["name"]: device["state"] for device in cluster.json("ls")}
    check("the devices are their host's own", devices == dict.fromkeys(("store/edu0", "store/nic0", "store/nvme0"), "local"), devices)
    stats = cluster.json("stats")
    check("the agents inside tell what they have handled", all("messages" in stats[f"agent-{host}"] for host in HOSTS), stats)


def drive_in(cluster, host):
    """Whether a host's own nvme driver has a drive."""
    return cluster.guest_status(host, "test -b /dev/nvme0n1") == 0


def a_drive_goes_round(cluster):
    """Restored, borrowed by one host's own kernel and written, returned, borrowed by another one with another kernel."""
    cluster.ok("restore", "store/nvme0")
    check("the drive is the pool's", cluster.device()["state"] == "available")
    start = time.monotonic()
    cluster.ok("borrow", "store/nvme0", "--host", "a")
    cluster.wait_until("a's kernel has the drive", lambda: drive_in(cluster, "a"))
    check(f"host a has borrowed it, and its own kernel has a block device after {time.monotonic() - start:.1f} s", True)
    listed = cluster.guest("a", "nvme list")
    check("`nvme list` in a shows it", "QEMU NVMe Ctrl" in listed, listed)
    cluster.guest("a", "yes written by a | dd of=/dev/nvme0n1 bs=4k count=4 conv=fsync iflag=fullblock 2>/dev/null")
    check("what a writes it reads", cluster.guest("a", "dd if=/dev/nvme0n1 bs=4k count=1 iflag=direct 2>/dev/null | head -n 1").strip() == "written by a")
    cluster.guest("a", "(exec 3</dev/nvme0n1; : >/tmp/held; while [ -e /tmp/held ]; do sleep 0.05; done) >/dev/null 2>&1 </dev/null &")
    cluster.wait_until("the drive is held open", lambda: cluster.guest_status("a", "test -e /tmp/held") == 0)
    result = cluster.run("return", "store/nvme0")
    check("who returns it while it is in use is told so", result.returncode != 0 and "nvme0n1" in result.stderr, result.stderr)
    cluster.guest("a", "rm /tmp/held")
    cluster.wait_until("it can be returned", lambda: cluster.run("return", "store/nvme0").returncode == 0)
    check("it is returned, reset and wiped; a has no drive any more", not drive_in(cluster, "a") and cluster.device()["state"] == "available")
    cluster.ok("borrow", "store/nvme0", "--host", "b")
    cluster.wait_until("b's kernel has the drive", lambda: drive_in(cluster, "b"))
    left = cluster.guest("b", "dd if=/dev/nvme0n1 bs=4k count=1 iflag=direct 2>/dev/null | tr -d '\\0'")
    check("then b borrows it, with Linux 6.1, and finds nothing on it", left == "", left)


def refused(cluster):
    for said, words in (("has other hosts than you ask for", ["--drives", "2"]), ("has no meaning", ["--no-guests"]),
                        ("stop it first", ["--controllers", "3"])):
        result = cluster.run("dev", "up", *words)
        check(f"`dev up {' '.join(words)}` is refused", result.returncode != 0 and said.split()[-1] in result.stderr, result.stderr)
    result = cluster.run("dev", "port", "a", "unplug")
    check("an adapter stays where it is", result.returncode != 0 and "take the link down" in result.stderr, result.stderr)


def it_comes_back(cluster):
    before = cluster.processes()
    cluster.kill("host-b")
    check("a host whose QEMU was killed is dead", not cluster.processes()["host-b"]["running"])
    cluster.guest("a", "kill -9 $(cat /run/lanepool/agent.pid)")
    start = time.monotonic()
    cluster.ok("dev", "up", timeout_s=120)
    joined(cluster)
    after = cluster.processes()
    check(f"`dev up` brings it back, and an agent that was killed in another host, in {time.monotonic() - start:.1f} s",
          all(process["running"] for process in after.values()))
    check("and nothing else was started anew",
          {name for name in after if after[name]["pid"] != before[name]["pid"]} == {"host-b"}, (before, after))
    cluster.wait_until("the drive that it had is the pool's again", lambda: cluster.device()["state"] == "available", 40)
    check("the drive that it had is the pool's again", True)
    # The adapters are gone with the switch.
    cluster.kill("fabric")
    cluster.ok("dev", "up", timeout_s=120)
    joined(cluster)
    check("with a new fabric the hosts are started anew, and join", True)


def runs(pid):
    """Whoever was its parent may not have taken note of its end yet."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def it_goes(cluster):
    processes = cluster.processes()
    cluster.ok("dev", "down")
    left = [name for name, process in processes.items() if runs(process["pid"])]
    check("after `dev down` nothing runs, and the folder is gone", not left and not cluster.folder.exists(), left)


def nothing_to_start_from():
    with tempfile.TemporaryDirectory(prefix="lanepool-test.") as folder:
        cluster = pathlib.Path(folder) / "cluster"
        result = subprocess.run([PROGRAM, "dev", "up", "--whole-hosts", "--dir", cluster], capture_output=True, text=True, timeout=30,
                                env=dict(os.environ, LANEPOOL_CACHE=folder))
        check("without images it says what to run", result.returncode == 3 and "run script/bootstrap" in result.stderr, result.stderr)
        check("and leaves nothing behind", not cluster.exists())


def main():
    nothing_to_start_from()
    start = time.monotonic()
    with Cluster(whole_hosts=True, hosts="a,b", drives=1, drive_size="64M", kernel="6.12,b=6.1") as cluster:
        print(f"  `dev up` took {time.monotonic() - start:.1f} s", flush=True)
        it_is_there(cluster)
        a_drive_goes_round(cluster)
        refused(cluster)
        it_comes_back(cluster)
        it_goes(cluster)
    return 0


if __name__ == "__main__":
    sys.exit(main())
