#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills clients of a shared drive, its manager, and agents, under load and at random moments.

The others must go on, nobody may ever see wrong data, and when the load has ended every agent must have as many
descriptors, windows, segments, interrupts and sessions as before. Usage: smartio_crash_test.py [KILLS] [SEED]"""
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time

from cluster import PROGRAM, CheckFailed, Cluster, check

LOAD = PROGRAM.parent / "lanepool-smartio-load"
HOSTS = ["a", "b", "c", "d"]
DRIVE = "store/nvme0"
PATIENCE_S = 30


class Load:
    """One process of the load, or the manager, that is started again when it was killed."""

    def __init__(self, cluster, name, words, uses):
        self.cluster, self.name, self.words = cluster, name, words
        self.uses = uses  # whose death may stop it for a while
        self.file = cluster.folder / f"progress-{name}"
        self.log = open(cluster.folder / f"load-{name}.log", "ab")
        self.process = None
        self.start()

    def start(self):
        words = [str(word) for word in self.words]
        if words[0] == str(LOAD):
            words += ["--progress", str(self.file)]
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *words], env=self.cluster.environment,
                                        stdout=self.log, stderr=self.log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def go_on(self):
        """Started again if it has gone; raises when it ended because it saw what must not be."""
        if self.process.poll() is None:
            return
        if self.process.returncode == 2:
            raise CheckFailed(f"{self.name}: {(self.cluster.folder / f'load-{self.name}.log').read_text().splitlines()[-1]}")
        self.start()

    def progress(self):
        data = self.file.read_bytes() if self.file.exists() else b""
        return struct.unpack("<Q", data)[0] if len(data) == 8 else 0

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self.log.close()


class Field:
    """The cluster with everything that runs on it."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.fdid = cluster.device(DRIVE)["fdid"]
        self.nodes = {host["name"]: host["partition"] for host in cluster.json("hosts")}
        self.loads = {}
        self.add("manager", [PROGRAM, "nvme", "share", DRIVE, "--agent", self.socket("store")], [])
        for i, host in enumerate(HOSTS):
            self.add(f"drive-{host}", [LOAD, "drive", "--agent", self.socket(host), "--fdid", int(self.fdid, 16), "--first-block", 64 * i],
                     ["manager", "agent-store", f"agent-{host}"])
        for i, (here, there) in enumerate((("a", "b"), ("c", "d"))):
            both = [f"agent-{here}", f"agent-{there}", f"pong-{there}", f"ping-{here}"]
            self.add(f"pong-{there}", [LOAD, "pong", "--agent", self.socket(there), "--id", 16 + 4 * i], both)
            self.add(f"ping-{here}", [LOAD, "ping", "--agent", self.socket(here), "--node", self.nodes[there], "--id", 16 + 4 * i], both)

    def socket(self, host):
        return self.cluster.folder / f"application-{host}.sock"

    def add(self, name, words, uses):
        self.loads[name] = Load(self.cluster, name, words, uses)

    def end(self):
        for load in reversed(self.loads.values()):
            load.end()

    def kill(self, victim):
        if victim.startswith("agent-"):
            self.cluster.kill(victim)
            self.cluster.up()
        else:
            self.loads[victim].kill()

    def wait_for_progress(self, names, why):
        """Each of them does something that it had not done before."""
        before = {name: self.loads[name].progress() for name in names}
        deadline = time.monotonic() + PATIENCE_S
        while waiting := [name for name in names if self.loads[name].progress() == before[name]]:
            for load in self.loads.values():
                load.go_on()
            if time.monotonic() > deadline:
                raise CheckFailed(f"{why}: {', '.join(waiting)} did nothing for {PATIENCE_S} s")
            time.sleep(0.01)

    def unconcerned(self, victim):
        return [name for name, load in self.loads.items() if name not in ("manager", victim) and victim not in load.uses]


def status(cluster, name):
    """What a daemon says at its administration socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(cluster.folder / f"{name}.admin.sock"))
        client.sendall(b'{"command": "status"}\n')
        return json.loads(client.makefile().readline())


def counts(cluster):
    """What could leak, of every agent and of the switch."""
    found = {}
    for name, process in cluster.processes().items():
        if name.startswith("agent-") or name == "fabric":
            found[name, "descriptors"] = len(os.listdir(f"/proc/{process['pid']}/fd"))
    for host in ["store", *HOSTS]:
        name = f"agent-{host}"
        found.update({(name, key): value for key, value in status(cluster, name)["applications"].items()})
    for host in cluster.json("hosts"):
        found[host["name"], "windows free"] = host["windows_free"]
    return found


def settled_counts(cluster):
    """What they are when nothing has changed any more for longer than agents' heartbeats take."""
    before = counts(cluster)
    while True:
        time.sleep(1.5)
        after = counts(cluster)
        if after == before:
            return after
        before = after


def kill_at_random(field, kills, seed):
    """At random moments, mostly without waiting for what the last kill has broken. How often whom."""
    choose = random.Random(seed)
    agents = [f"agent-{host}" for host in ["store", *HOSTS]]
    clients = [name for name in field.loads if name != "manager"]
    killed = {}
    for number in range(kills):
        kind = choose.choices(["client", "manager", "agent"], [6, 2, 2])[0]
        victim = {"client": choose.choice(clients), "manager": "manager", "agent": choose.choice(agents)}[kind]
        time.sleep(choose.uniform(0, 0.25))
        field.kill(victim)
        killed[kind] = killed.get(kind, 0) + 1
        for load in field.loads.values():
            load.go_on()
        if number % 10 == 9:
            field.wait_for_progress([name for name in field.loads if name != "manager"], f"after kill {number + 1}, of {victim}")
            print(f"  {number + 1} killed: {killed}", flush=True)
    return killed


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    print(f"seed {seed}: python3 tests/cluster/smartio_crash_test.py {kills} {seed}", flush=True)
    with Cluster(no_guests=True, hosts=",".join(HOSTS), drives=1, drive_size="64M", map_registers=True) as cluster:
        # The first use makes what stays: connections, the channel's windows.
        field = Field(cluster)
        everybody = [name for name in field.loads if name != "manager"]
        try:
            field.wait_for_progress(everybody, "at first")
            field.end()
            cluster.wait_until("the drive is available again", lambda: cluster.device(DRIVE)["state"] == "available", PATIENCE_S)
            before = settled_counts(cluster)
            field = Field(cluster)
            field.wait_for_progress(everybody, "before anything is killed")
            for victim in ("drive-a", "manager", "agent-d"):
                field.kill(victim)
                field.wait_for_progress(field.unconcerned(victim), f"{victim} was killed")
                check(f"{victim} is killed: those that do not use it go on at once", True)
                field.wait_for_progress(everybody, f"{victim} was killed")
                check("and then all others", True)
            killed = kill_at_random(field, kills, seed)
            field.wait_for_progress(everybody, "after everything")
            check(f"{kills} kills at random moments ({killed}): everybody goes on, and nobody has seen wrong data", True)
        finally:
            field.end()
        cluster.wait_until("the drive is available again", lambda: cluster.device(DRIVE)["state"] == "available", PATIENCE_S)
        after = settled_counts(cluster)
        leaked = {key: (was, after.get(key)) for key, was in before.items() if after.get(key) != was}
        check(f"nothing has leaked: {len(before)} counts are what they were", not leaked, leaked)


if __name__ == "__main__":
    try:
        main()
    except CheckFailed as error:
        sys.exit(f"FAILED: {error}")
