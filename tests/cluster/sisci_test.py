#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The SISCI API against processes of a cluster: each function, with each error that its comment names. The program is
tests/sisci; this starts the cluster for it, and tells it where the agents listen and which devices there are."""
import pathlib
import shlex
import subprocess
import sys

from cluster import PROGRAM, Cluster, check

CONFORMANCE = PROGRAM.parent / "tests/sisci/sisci_conformance"


def fdid(cluster, name):
    return str(cluster.device(name)["fdid"])


def main():
    with Cluster(hosts="a,b", drives=1, drive_size="64M", dma_engines=1, map_registers=True, no_guests=True) as cluster:
        agent = {host: str(pathlib.Path(cluster.folder) / f"application-{host}.sock") for host in ("a", "b")}
        reclaim = shlex.join([str(PROGRAM), "reclaim", "store/dma0", "--reason", "test"]) + " > /dev/null"
        environment = dict(cluster.environment, LANEPOOL_AGENT=agent["a"], LANEPOOL_PEER_AGENT=agent["b"],
                           LANEPOOL_DRIVE=fdid(cluster, "store/nvme0"), LANEPOOL_ENGINE=fdid(cluster, "store/dma0"),
                           LANEPOOL_RECLAIM_ENGINE=reclaim)
        result = subprocess.run([CONFORMANCE, "--gtest_brief=1", *sys.argv[1:]], env=environment, timeout=300)
        check("the SISCI API does what its header says", result.returncode == 0, result.returncode)
    return 0


if __name__ == "__main__":
    sys.exit(main())
