#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The SISCI API against processes of a cluster: each function, with each error that its comment names. The program is
tests/sisci; this starts the cluster for it, and tells it where the agents listen."""
import os
import pathlib
import subprocess
import sys

from cluster import PROGRAM, Cluster, check

CONFORMANCE = PROGRAM.parent / "tests/sisci/sisci_conformance"


def main():
    with Cluster(hosts="a,b", drives=1, no_guests=True) as cluster:
        agent = {host: str(pathlib.Path(cluster.folder) / f"application-{host}.sock") for host in ("a", "b")}
        environment = dict(os.environ, LANEPOOL_AGENT=agent["a"], LANEPOOL_PEER_AGENT=agent["b"])
        result = subprocess.run([CONFORMANCE, "--gtest_brief=1", *sys.argv[1:]], env=environment, timeout=300)
        check("the SISCI API does what its header says", result.returncode == 0, result.returncode)
    return 0


if __name__ == "__main__":
    sys.exit(main())
