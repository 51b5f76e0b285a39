#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A device is tried on its own host, and lent by a rule that wants it qualified from then on; one that fails is not."""
import json
import os
import signal
import subprocess
import sys

from cluster import PROGRAM, CheckFailed, Cluster, check
from qualification import checks, site

READ_BLOCKS = PROGRAM.parent / "examples/sisci_read_blocks"
DRIVE = "store/nvme0"
PASSED = {"assign_release": "pass", "pool_reset": "pass", "rebind": "skipped", "load": "pass", "isolation": "pass", "recovery": "pass",
          "left_as_found": "pass"}


def results(text):
    return {name: entry["result"] for name, entry in checks(text).items()}


class QualifyTest:
    def __init__(self, cluster):
        self.cluster = cluster
        self.stored = cluster.folder / "agent-store/qualifications/nvme0.json"
        self.words = ["-o", "json", "qualify", DRIVE, "--active", "--agent", str(cluster.folder / "application-store.sock"),
                      "--agent-admin", str(cluster.folder / "agent-store.admin.sock")]

    def wait_available(self):
        self.cluster.wait_until("the drive is available", lambda: self.cluster.device(DRIVE)["state"] == "available")

    def borrow(self):
        """A program on host a borrows the drive, uses it and gives it back."""
        return subprocess.run([READ_BLOCKS, self.cluster.device(DRIVE)["fdid"], "3", "hello"], capture_output=True, text=True, timeout=60,
                              env=dict(os.environ, LANEPOOL_AGENT=str(self.cluster.folder / "application-a.sock")))

    def unasked(self):
        result = self.cluster.run(*self.words)
        check("without --yes nothing is tried, and it is said what would be lost", result.returncode == 2 and "erases" in result.stderr,
              result.stderr)
        elsewhere = [word.replace("-store.", "-a.") for word in self.words]
        result = self.cluster.run(*elsewhere, "--yes")
        check("another host does not try it", result.returncode == 3 and "own host" in result.stderr, result.stderr)
        check("nobody has borrowed it", self.cluster.device(DRIVE)["epoch"] == self.epoch)

    def given_up(self):
        process = self.cluster.start(*self.words, "--yes", "--cycles", "100")
        self.cluster.wait_until("it is being tried", lambda: self.cluster.device(DRIVE)["epoch"] > self.epoch + 1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        check("Ctrl-C ends it, and the drive is available", process.returncode == 1 and "as it was found" in errors, errors)
        check("no loan is left", self.cluster.device(DRIVE)["state"] == "available" and not self.stored.exists())

    def fit(self):
        file = self.cluster.folder / "site.toml"
        file.write_text(site(lender="store", borrower="a"))
        self.cluster.ok("site", "apply", str(file))
        refused = self.borrow()
        check("a rule that wants it qualified refuses it", refused.returncode != 0, refused.stdout)
        result = self.cluster.run(*self.words, "--yes", "--cycles", "3", "--store", str(self.cluster.folder / "agent-store"))
        check("it passes", result.returncode == 0 and results(result.stdout) == PASSED, result.stdout + result.stderr)
        for name, entry in checks(result.stdout).items():
            print(f"      {name}: {entry.get('evidence', '')}")
        check("the evidence is kept", json.loads(self.stored.read_text())["qualification"]["result"] == "fit", self.stored.read_text())
        self.cluster.wait_until("the rule lets it be borrowed", lambda: self.borrow().returncode == 0, 10)
        check("the rule lets it be borrowed", True)
        self.wait_available()

    def unfit(self):
        epoch = self.cluster.device(DRIVE)["epoch"]
        process = self.cluster.start(*self.words, "--yes", "--cycles", "100", "--deadline", "2s",
                                     "--store", str(self.cluster.folder / "agent-store"))
        self.cluster.wait_until("it is being tried", lambda: self.cluster.device(DRIVE)["epoch"] > epoch + 1)
        self.cluster.kill("nvme0")
        output, errors = process.communicate(timeout=30)
        check("a drive that dies fails", process.returncode == 1, errors)
        found = results(output)
        check("what failed is said, and what did not come to pass", found["assign_release"] == "fail" and found["load"] == "not_tested", found)
        check("it is not qualified any more", json.loads(self.stored.read_text())["qualification"]["result"] == "not_fit")

    def run(self):
        self.wait_available()
        self.epoch = self.cluster.device(DRIVE)["epoch"]
        self.unasked()
        self.given_up()
        self.fit()
        self.unfit()


def main():
    with Cluster(no_guests=True, hosts="a", drives=1, drive_size="64M", map_registers=True) as cluster:
        QualifyTest(cluster).run()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CheckFailed as error:
        sys.exit(f"FAILED: {error}")
