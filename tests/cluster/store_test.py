#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A controller's records go from SQLite to etcd and back: lanepool store copy, verify."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import links
from cluster import PROGRAM, ROOT, check


def run(*words):
    return subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60)


class Etcd:
    def __init__(self, folder):
        client, peer = (f"http://127.0.0.1:{port}" for port in links.free_ports(2))
        self.name = f"etcd:{client.removeprefix('http://')}"
        self.log = open(folder / "etcd.log", "wb")
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "etcd", "--data-dir", folder / "etcd", "--listen-client-urls", client,
             "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
             "--initial-cluster", f"default={peer}"], stdout=self.log, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()


class Controller:
    """Over SQLite, for as long as it is needed."""

    def __init__(self, folder, state):
        self.endpoint = f"unix:{folder}/controller.sock"
        self.process = subprocess.Popen([PROGRAM, "controller", "--listen", self.endpoint, "--state", state],
                                        stderr=subprocess.DEVNULL)

    def __enter__(self):
        end = time.monotonic() + 20
        while run("--controller", self.endpoint, "ls").returncode != 0:
            assert time.monotonic() < end, "the controller does not answer"
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)


def head_of(*words):
    result = run("-o", "json", "store", *words)
    check(f"lanepool store {words[0]} succeeds", result.returncode == 0, result.stderr)
    return json.loads(result.stdout)["head"]


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lanepool-test."))
    state = folder / "state"
    try:
        with Controller(folder, state) as controller:
            applied = run("--controller", controller.endpoint, "site", "apply", str(ROOT / "docs/site.toml"))
            check("a site is in force", applied.returncode == 0, applied.stderr)
            used = run("store", "verify", str(state))
            check("a controller's records are refused while it runs", used.returncode == 4 and "in use" in used.stderr, used.stderr)
        head = head_of("verify", str(state))
        with Etcd(folder) as etcd:
            check("the copy in etcd ends in the same hash", head_of("copy", str(state), etcd.name) == head)
            again = run("store", "copy", str(state), etcd.name)
            check("a store that is not empty is not written over", again.returncode == 1 and "not empty" in again.stderr, again.stderr)
            check("etcd's records verify", head_of("verify", etcd.name) == head)
            check("so does the copy back", head_of("copy", etcd.name, str(folder / "back")) == head)
        with Controller(folder, folder / "back") as controller:
            shown = run("--controller", controller.endpoint, "site", "show")
            check("a controller goes on with it", shown.stdout == (ROOT / "docs/site.toml").read_text(), shown.stderr)
        missing = run("store", "verify", str(folder / "nothing"))
        check("a folder without records is named", missing.returncode == 3 and "nothing" in missing.stderr, missing.stderr)
        check("and not made", not os.path.exists(folder / "nothing"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
