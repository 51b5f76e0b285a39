#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One drive shared by programs on several hosts: they see each other's blocks, keep to their parts, and outlive the death
of a client and of the manager while they read and write."""
import json
import pathlib
import re
import signal
import subprocess
import sys

from cluster import PROGRAM, Cluster, CheckFailed, check

EXAMPLE = PROGRAM.parent / "examples" / "shared_drive"
RULES = """
[[client]]
hosts = "c"
users = "*"
size = "1 MiB"
read_only = true
[[client]]
hosts = "*"
users = "*"
"""


class Shared:
    """The manager of the cluster's drive and programs on its hosts. Use it with 'with'."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.folder = pathlib.Path(cluster.folder)
        self.fdid = str(cluster.device("store/nvme0")["fdid"])
        self.admin = self.folder / "share.sock"
        self.rules = self.folder / "clients.toml"
        self.rules.write_text(RULES)
        self.log = open(self.folder / "share.log", "a")
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.log.close()

    def agent(self, host):
        return str(self.folder / f"application-{host}.sock")

    def manager(self):
        """Starts one and waits until it serves."""
        self.cluster.wait_until("the drive is to be had", lambda: self.cluster.device("store/nvme0")["state"] in ("available", "lent"))
        before = (self.folder / "share.log").read_text().count("is shared")
        process = subprocess.Popen([PROGRAM, "nvme", "share", self.fdid, "--agent", self.agent("store"), "--clients", self.rules,
                                    "--admin", self.admin], stdout=self.log, stderr=self.log)
        self.running.append(process)

        def serving():
            if process.poll() is not None:
                raise CheckFailed((self.folder / "share.log").read_text())
            return (self.folder / "share.log").read_text().count("is shared") > before

        self.cluster.wait_until("the manager serves", serving, 30)
        return process

    def start(self, host, *words):
        process = subprocess.Popen([EXAMPLE, self.fdid, *map(str, words), "--agent", self.agent(host)],
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.running.append(process)
        return process

    def run(self, host, *words):
        """(exit status, output)"""
        process = self.start(host, *words)
        output = process.communicate(timeout=60)[0]
        return process.returncode, output

    def clients(self):
        return json.loads(self.cluster.ok("-o", "json", "nvme", "clients", str(self.admin)))

    def wait_for_clients(self, hosts):
        self.cluster.wait_until(f"the clients are {hosts}",
                                lambda: sorted(client["host"] for client in self.clients()["clients"]) == sorted(hosts), 30)


def two_hosts(shared):
    status, output = shared.run("a", "write", 5, "from a")
    check("a writes a block", status == 0, output)
    status, output = shared.run("b", "read", 5)
    check("b reads what a has written", status == 0 and '"from a"' in output, output)
    status, output = shared.run("c", "read", 5)
    check("c may read it too, in its part", status == 0 and '"from a"' in output, output)
    status, output = shared.run("c", "write", 5, "no")
    check("c may not write", status == 1 and "read-only" in output, output)
    status, output = shared.run("c", "read", 2048)
    check("c sees 1 MiB and no more", status == 1 and "outside" in output, output)


def deaths(shared, manager):
    # In blocks of 512 bytes; each checks every block that it reads.
    a = shared.start("a", "load", 6, "--own", 0)
    b = shared.start("b", "load", 6, "--own", 10000)
    victim = shared.start("b", "load", 60, "--own", 20000)
    shared.wait_for_clients(["a", "b", "b"])
    victim.send_signal(signal.SIGKILL)
    shared.wait_for_clients(["a", "b"])
    check("the manager notices a client's death", shared.clients()["died"] == 1, shared.clients())
    manager.send_signal(signal.SIGKILL)
    manager.wait()
    check("the clients outlive their manager", a.poll() is None and b.poll() is None)
    manager = shared.manager()
    shared.wait_for_clients(["a", "b"])
    for name, process in (("a", a), ("b", b)):
        output = process.communicate(timeout=60)[0]
        done = re.search(r"(\d+) commands .* 0 wrong, joined 1 managers more", output)
        check(f"{name} has joined the new one, and lost nothing: {output.strip().splitlines()[-1]}",
              process.returncode == 0 and done and int(done.group(1)) > 100, output)
    return manager


def end(shared, manager):
    a = shared.start("a", "load", 60)
    shared.wait_for_clients(["a"])
    manager.terminate()
    check("a manager ends in order", manager.wait(timeout=30) == 0)
    output = a.communicate(timeout=30)[0]
    check("and its clients are told", a.returncode == 1 and "manager has ended" in output, output)
    shared.cluster.wait_until("the drive comes back to the pool", lambda: shared.cluster.device("store/nvme0")["state"] == "available", 60)


def reclaim(shared):
    shared.manager()
    a = shared.start("a", "load", 60)
    shared.wait_for_clients(["a"])
    shared.cluster.ok("reclaim", "store/nvme0", "--reason", "test")
    output = a.communicate(timeout=60)[0]
    check("who loses the drive is told why", a.returncode == 1 and "shared_drive:" in output, output)


def main():
    with Cluster(hosts="a,b,c", drives=1, drive_size="64M", no_guests=True) as cluster, Shared(cluster) as shared:
        manager = shared.manager()
        two_hosts(shared)
        manager = deaths(shared, manager)
        end(shared, manager)
        reclaim(shared)
    return 0


if __name__ == "__main__":
    sys.exit(main())
