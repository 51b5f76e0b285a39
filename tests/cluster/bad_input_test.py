#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input and bad luck get a clear error, and nothing is lost by them."""
import sqlite3
import subprocess
import sys
import tempfile

from cluster import PROGRAM, Cluster, check


def refused(cluster, status, words, *command):
    """The command must end with that status and say all of these words."""
    result = cluster.run(*command)
    said = result.stderr.strip()
    check(f"'{' '.join(command)}' is refused: {said}",
          result.returncode == status and all(word in said for word in words), (result.returncode, said))


def requests(cluster):
    refused(cluster, 3, ["nowhere"], "borrow", "store/nvme0", "--host", "nowhere")
    refused(cluster, 3, ["store/nvme7"], "borrow", "store/nvme7", "--host", "a")
    refused(cluster, 3, ["99999"], "show", "99999")
    refused(cluster, 3, ["12"], "return", "loan:12")
    refused(cluster, 2, ["required"], "borrow", "store/nvme0")
    result = cluster.run("borrow", "store/nvme0", "--host", "a", "--guest", "nobody")
    check("an unknown guest is refused, naming it", result.returncode != 0 and "nobody" in result.stderr, result.stderr)
    result = cluster.run("return", "store/nvme0")
    check("what is not lent cannot be returned", result.returncode != 0 and "not lent" in result.stderr, result.stderr)
    check("after all of that the drive is where it was", cluster.device()["state"] == "available")


def unplugged_port(cluster):
    cluster.ok("borrow", "store/nvme0", "--host", "a")
    cluster.ok("dev", "port", "a", "unplug")
    cluster.wait_until("the drive of an unplugged borrower comes back", lambda: cluster.device()["state"] == "available")
    check("a borrower whose adapter was unplugged in mid-loan has lost it, and the drive is back", True)
    cluster.ok("dev", "port", "a", "plug")
    cluster.wait_until("a can borrow again", lambda: cluster.run("borrow", "store/nvme0", "--host", "a").returncode == 0)
    cluster.ok("dev", "port", "a", "down")
    cluster.wait_until("the drive comes back", lambda: cluster.device()["state"] == "available")
    check("so it is when its link goes down", True)
    cluster.ok("dev", "port", "a", "up")


def newer_schema():
    with tempfile.TemporaryDirectory(prefix="lanepool-test.") as folder:
        command = [PROGRAM, "controller", "--listen", f"unix:{folder}/s", "--state", f"{folder}/state"]
        try:
            subprocess.run(command, timeout=2, capture_output=True)
        except subprocess.TimeoutExpired:
            pass
        database = next(path for path in __import__("pathlib").Path(f"{folder}/state").iterdir() if path.suffix in (".db", ".sqlite"))
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA user_version = 9999")
        connection.close()
        before = database.read_bytes()
        result = subprocess.run(command, timeout=20, capture_output=True, text=True)
        check(f"a database of a newer schema is refused: {result.stderr.strip().splitlines()[-1]}",
              result.returncode != 0 and "newer" in result.stderr)
        check("and is left as it was", database.read_bytes() == before)


def main():
    with Cluster(hosts="a", drives=1, drive_size="512M") as cluster:
        requests(cluster)
        unplugged_port(cluster)
    newer_schema()
    return 0


if __name__ == "__main__":
    sys.exit(main())
