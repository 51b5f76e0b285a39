#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program that writes outside of its segment, connects to what it may not, asks for more than there is and goes on
using a drive that was taken from it: nobody else notices."""
import os
import subprocess
import sys
import time

from cluster import PROGRAM, CheckFailed, Cluster, check

LOAD = PROGRAM.parent / "lanepool-smartio-load"
READ_BLOCKS = PROGRAM.parent / "examples/sisci_read_blocks"
DRIVE = "store/nvme0"
PONG_ID = 77


def available(cluster):
    return cluster.device(DRIVE)["state"] == "available"


def main():
    with Cluster(no_guests=True, hosts="a,b,c", drives=1, drive_size="64M", map_registers=True) as cluster:
        nodes = {host["name"]: host["partition"] for host in cluster.json("hosts")}
        cluster.wait_until("the drive is available", lambda: available(cluster))
        fdid = cluster.device(DRIVE)["fdid"]

        def load(role, host, *words):
            return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", LOAD, role, "--agent", cluster.folder / f"application-{host}.sock",
                                     "--progress", cluster.folder / f"progress-{role}", *map(str, words)],
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def steps(role):
            path = cluster.folder / f"progress-{role}"
            return int.from_bytes(path.read_bytes(), "little") if path.exists() else 0

        def goes_on(role, claim):
            before = steps(role)
            cluster.wait_until(claim, lambda: steps(role) > before, 10)
            check(claim, True)

        pong = load("pong", "b", "--id", PONG_ID)
        ping = load("ping", "c", "--node", nodes["b"], "--id", PONG_ID)
        goes_on("ping", "b and c play with each other")
        hostile = load("hostile", "a", "--node", nodes["b"], "--id", PONG_ID, "--fdid", int(fdid, 16))
        try:
            for word, claim in (("outside", "behind the end of another's segment there is nothing"),
                                ("anywhere", "what is not shown cannot be connected"),
                                ("too much", "there is a limit to what one program gets"),
                                ("holding", "it has the drive")):
                line = hostile.stdout.readline().strip()
                check(claim, line == word, line or hostile.stderr.read())
            goes_on("hostile", "it writes to all registers of the drive")
            cluster.ok("reclaim", DRIVE, "--reason", "it misbehaves")
            cluster.wait_until("the drive is back", lambda: available(cluster), 30)
            check("the drive is taken away, reset and wiped while it goes on", True)
            for number in range(5):
                result = subprocess.run([READ_BLOCKS, fdid, str(number), f"round {number}"], capture_output=True, text=True, timeout=60,
                                        env=dict(os.environ, LANEPOOL_AGENT=str(cluster.folder / "application-c.sock")))
                check(f"another one uses it, round {number}", result.returncode == 0 and f'"round {number}"' in result.stdout,
                      result.stdout + result.stderr)
                cluster.wait_until("the drive is back", lambda: available(cluster), 30)
            goes_on("hostile", "it still writes to what it kept")
            goes_on("ping", "b and c play on")
        finally:
            for process in (hostile, ping, pong):
                process.kill()
                process.communicate()
        for process, name in ((ping, "ping"), (pong, "pong")):
            check(f"{name} has seen nothing wrong", process.returncode == -9, process.returncode)
        cluster.ok("audit", "verify")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CheckFailed as error:
        sys.exit(f"FAILED: {error}")
