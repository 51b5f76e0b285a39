#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs lanepool-bench-smartio on a cluster of its own: 36 hosts without guests, two drives for one host each, and one
that is shared. Usage: run.py [--json FILE] [--rounds N]. Needs script/build to have run."""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/cluster"))
from cluster import PROGRAM, Cluster  # noqa: E402

BENCH = PROGRAM.parent / "lanepool-bench-smartio"
HOSTS = [f"h{number}" for number in range(32)]
WEIGHTS = {"w1": 1, "w2": 2, "w5": 5}
CLIENT_CORE, SERVER_CORE = 0, 1


def pin(pid, cores):
    """All threads that a process has now."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cores)


def write_rules(path):
    weights = {**WEIGHTS, "*": 1}
    path.write_text("\n".join(f'[[client]]\nhosts = "{host}"\nusers = "*"\nweight = {weight}\n' for host, weight in weights.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", default="")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    # On tmpfs: what is measured is the way to the drive.
    if os.path.isdir("/dev/shm"):
        tempfile.tempdir = "/dev/shm"
    with Cluster(no_guests=True, hosts=",".join([*HOSTS, *WEIGHTS]), drives=3, drive_size="256M", map_registers=True) as cluster:
        fdids = {}
        for number in range(3):
            name = f"store/nvme{number}"
            cluster.wait_until(f"{name} is available", lambda: cluster.device(name)["state"] == "available", 60)
            fdids[number] = cluster.device(name)["fdid"]
        processes = cluster.processes()
        others = set(range(os.cpu_count())) - {CLIENT_CORE, SERVER_CORE} or {CLIENT_CORE}
        for name, process in processes.items():
            pin(process["pid"], {SERVER_CORE} if name.startswith("nvme") else others)
        rules = cluster.folder / "clients.toml"
        write_rules(rules)
        manager = subprocess.Popen([PROGRAM, "nvme", "share", "store/nvme2", "--agent", cluster.folder / "application-store.sock",
                                    "--clients", rules], stdout=open(cluster.folder / "share.log", "wb"), stderr=subprocess.STDOUT)
        try:
            os.sched_setaffinity(manager.pid, others)
            socket = lambda host: str(cluster.folder / f"application-{host}.sock")  # noqa: E731
            cluster.wait_until("the drive is shared", lambda: "is shared" in (cluster.folder / "share.log").read_text(), 20)
            return subprocess.run(
                [BENCH, "--agents", f"{socket('h0')},{socket('h1')}", "--lender", socket("store"),
                 "--drives", ",".join(f"{fdids[i]}={cluster.folder}/nvme{i}.img" for i in range(2)),
                 "--shared", fdids[2], "--hosts", ",".join(socket(host) for host in HOSTS),
                 "--weighted", ",".join(f"{weight}={socket(host)}" for host, weight in WEIGHTS.items()),
                 "--cores", f"{CLIENT_CORE},{SERVER_CORE}", "--rounds", str(arguments.rounds),
                 *(["--json", arguments.json] if arguments.json else [])]).returncode
        finally:
            manager.terminate()
            manager.wait(20)


if __name__ == "__main__":
    sys.exit(main())
