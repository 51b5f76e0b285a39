#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The life of a loan on an embedded cluster: from borrow to the block device in the guest, from return to available, by
steps; and what every daemon costs while nothing happens."""
import argparse
import json
import os
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "tests/cluster"))
from cluster import Cluster  # noqa: E402

IDLE_GOAL_CORES = 0.02
IDLE_S = 10


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def row(name, value, unit, goal=None):
    status = "measured" if goal is None else "held" if value <= goal else "missed"
    return {"name": name, "value": value, "unit": unit, "goal": None if goal is None else f"<= {goal:g}", "status": status}


def spread(name, values, unit="ms"):
    return [row(f"{name}, {what}", value, unit) for what, value in
            (("median", statistics.median(values)), ("least", min(values)), ("greatest", max(values)))]


def loans(cluster, rounds):
    """One loan a round; the block device is looked for in the guest every millisecond."""
    watch = "until test -b /dev/nvme0n1; do :; done"
    times = {"borrow to block device in the guest": [], "return to available": []}
    steps = {}
    for _ in range(rounds):
        started = time.monotonic()
        cluster.ok("borrow", "store/nvme0", "--host", "a")
        cluster.guest("a", watch)
        times["borrow to block device in the guest"].append((time.monotonic() - started) * 1000)
        started = time.monotonic()
        cluster.ok("return", "store/nvme0")
        times["return to available"].append((time.monotonic() - started) * 1000)
        for step in max(cluster.json("loans", "--all"), key=lambda loan: loan["id"])["steps"]:
            steps.setdefault(step["step"], []).append(step["duration_us"] / 1000)
    rows = []
    for name, values in times.items():
        rows += spread(name, values)
    for name, values in steps.items():
        rows += spread(f"step {name}", values)
    return rows


def idle(cluster, what):
    processes = {name: process["pid"] for name, process in cluster.processes().items() if not name.startswith("guest-")}
    before = {name: cpu_s(pid) for name, pid in processes.items()}
    time.sleep(IDLE_S)
    return [row(f"idle CPU of {name}, {what}", (cpu_s(pid) - before[name]) / IDLE_S, "cores", IDLE_GOAL_CORES)
            for name, pid in processes.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    with Cluster(hosts="a", drives=1, drive_size="1G") as cluster:
        rows = loans(cluster, arguments.rounds)
        rows += idle(cluster, "nothing lent")
        cluster.ok("borrow", "store/nvme0", "--host", "a")
        time.sleep(2)
        rows += idle(cluster, "a drive lent and not used")
    for one in rows:
        print(f"{one['name']:52} {one['value']:>10.3f} {one['unit']:5} {one['goal'] or '':9} {one['status']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
