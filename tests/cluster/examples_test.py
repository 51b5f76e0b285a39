#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The examples do what they say, between different hosts: devices of one, programs on the others."""
import os
import pathlib
import re
import subprocess
import sys

from cluster import PROGRAM, Cluster, check

EXAMPLES = PROGRAM.parent / "examples"


class Hosts:
    """Programs on the hosts of a cluster."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.node = {}

    def environment(self, host):
        return dict(os.environ, LANEPOOL_AGENT=str(pathlib.Path(self.cluster.folder) / f"application-{host}.sock"))

    def start(self, host, name, *words):
        return subprocess.Popen([EXAMPLES / name, *map(str, words)], env=self.environment(host), text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def drive(self, host, *words):
        """sisci_read_blocks on the drive, once it is to be had: it is wiped between borrowers."""
        self.cluster.wait_until("the drive is to be had", lambda: self.cluster.device("store/nvme0")["state"] == "available")
        return self.run(host, "sisci_read_blocks", self.cluster.device("store/nvme0")["fdid"], *words)

    def engine(self, host, *words):
        self.cluster.wait_until("the engine is to be had", lambda: self.cluster.device("store/dma0")["state"] == "available")
        return self.run(host, "sisci_dma_engine", self.cluster.device("store/dma0")["fdid"], *words)

    def run(self, host, name, *words):
        """What it prints; it must end well."""
        program = self.start(host, name, *words)
        output = program.communicate(timeout=60)[0]
        check(f"{name} {' '.join(map(str, words))} on {host} ends well", program.returncode == 0, output)
        return output


def main():
    with Cluster(hosts="a,b", drives=1, drive_size="64M", dma_engines=1, map_registers=True, no_guests=True) as cluster:
        hosts = Hosts(cluster)
        # The lender is at the first port of the switch, and the hosts come after it.
        a, b = 1, 2

        server = hosts.start("b", "sisci_pingpong", "serve", a)
        output = hosts.run("a", "sisci_pingpong", "play", b, 1000)
        check(f"a and b throw a number to each other: {output.strip()}", output.startswith("1000 round trips"), output)
        check("the server saw the end", server.wait(timeout=30) == 0, server.stdout.read())
        for way in ([], ["--interrupts"]):
            server = hosts.start("b", "segment_pingpong", *way, "serve", a)
            output = hosts.run("a", "segment_pingpong", *way, "play", b, 1000)
            check(f"the same in C++: {output.strip()}", output.startswith("1000 round trips"), output)
            check("the server saw the end", server.wait(timeout=30) == 0, server.stdout.read())

        devices = dict(reversed(re.match(r'(\w+): .*"(.*)"', line).groups()) for line in hosts.run("a", "sisci_list_devices").splitlines())
        check("a sees the lender's devices", {"store/nvme0", "store/dma0"} <= devices.keys(), devices)
        drives = hosts.run("b", "sisci_list_devices", "010802")
        check("b sees the drive among the drives", "store/nvme0" in drives and "store/dma0" not in drives, drives)

        drive, engine = (hosts.cluster.device(name)["fdid"] for name in ("store/nvme0", "store/dma0"))
        listed = hosts.run("a", "list_devices", "--class", "010802")
        check("a sees the drive in C++, too", f"{drive}: lanepool NVMe model" in listed and engine not in listed, listed)
        output = hosts.run("a", "list_devices", "--shared", engine)
        check("a borrows the engine and reads who it is", "class 120000" in output and "BAR 0: 16384 bytes" in output, output)
        output = hosts.drive("a", 8, "a was here")
        check("a writes to the drive and reads it back", "LP000001" in output and 'block 8: "a was here"' in output, output)
        output = hosts.drive("b", 8)
        check("b gets the same drive, and nothing of a's", 'block 8: ""' in output, output)

        output = hosts.engine("a")
        check("the engine adds in a's memory", "0 wrong" in output, output)
        shower = hosts.start("b", "sisci_dma_engine", "show", 77)
        segment = shower.stdout.readline().split()[1]
        output = hosts.engine("a", b, segment)
        check("and in b's, told by a", f"in node {b}'s memory, 0 wrong" in output, output)
        output = shower.communicate(timeout=30)[0]
        check("b finds the sum there", f"the sum of the last elements is {5 * 1023}" in output, output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
