#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of docs/identity.md as they stand there, and then what must not work."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import links
from cluster import PROGRAM, ROOT, CheckFailed, check


class Site:
    """A folder in which the document's commands have been run, with the controller that they start."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lanepool-test."))
        self.address = f"127.0.0.1:{links.free_ports(1)[0]}"
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("LANEPOOL_")}
        self.environment["PATH"] = f"{PROGRAM.parent}:{os.environ['PATH']}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The group of the shell is that of the controller, which it started in the background.
        os.killpg(self.shell.pid, signal.SIGKILL)
        self.shell.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run_document(self):
        text = re.search(r"## Setting it up.*?```\n(.*?)```", (ROOT / "docs/identity.md").read_text(), re.DOTALL).group(1)
        script = text.replace("127.0.0.1:7420", self.address)
        self.shell = subprocess.Popen(["bash", "-e", "-c", f"trap 'echo it ended' EXIT\n{script}\necho all was done\nwait\n"], cwd=self.folder,
                                      env=self.environment, stdout=subprocess.PIPE, stderr=open(self.folder / "log", "w"),
                                      text=True, start_new_session=True)
        output = ""
        for line in self.shell.stdout:
            output += line
            if line == "all was done\n":
                return
            if line == "it ended\n": # what it has started has its output open
                break
        raise AssertionError(output + (self.folder / "log").read_text())

    def run(self, who, *words):
        environment = dict(self.environment, LANEPOOL_CONTROLLER=self.address, LANEPOOL_TLS_CA="ca/ca.pem",
                           LANEPOOL_TLS_CERT=f"issued/{who}.pem", LANEPOOL_TLS_KEY=f"issued/{who}.key")
        return subprocess.run([PROGRAM, *words], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60)

    @contextlib.contextmanager
    def agent(self, who, host):
        """The agent of a host without devices, on a fabric of its own, with somebody's certificate; gives its log."""
        name = f"agent-{who}-{host}"
        tls = ["--tls-ca", "ca/ca.pem", "--tls-cert", f"issued/{who}.pem", "--tls-key", f"issued/{who}.key"]
        commands = [["fabric", "--dir", f"fabric-{name}", "--ports", "2"],
                    ["--controller", self.address, *tls, "agent", "--host", host, "--adapter", f"fabric-{name}/port0.sock",
                     "--state", name, "--admin", f"{name}.sock"]]
        log = self.folder / f"{name}.log"
        with open(log, "w") as output:
            processes = [subprocess.Popen([PROGRAM, *words], cwd=self.folder, env=self.environment, stderr=output) for words in commands]
        try:
            yield log
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(timeout=20)

    def refused(self, claim, words, result):
        check(claim, result.returncode != 0 and words in result.stderr, result.stdout + result.stderr)


def wait_until(claim, condition):
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            raise CheckFailed(claim)
        time.sleep(0.1)
    check(claim, True)


def agents(site):
    """Each speaks for its own host, over TLS."""
    def state(host):
        listed = json.loads(site.run("ada", "-o", "json", "hosts").stdout)
        return next((entry["state"] for entry in listed if entry["name"] == host), "unknown")

    with site.agent("store1", "store1"):
        wait_until("an agent joins by its certificate", lambda: state("store1") == "up")
    wrong = "store1 is not the agent of host store2"
    with site.agent("store1", "store2") as log:
        wait_until("one that speaks for another host is refused", lambda: wrong in log.read_text())
        time.sleep(2)
        check("it does not try again and again", log.read_text().count(wrong) == 1, log.read_text())
        check("and that host is not there", state("store2") == "unknown")
    with site.agent("ada", "store1") as log:
        wait_until("a person's certificate is no agent's", lambda: "ada is not the agent of host store1" in log.read_text())
        check("and the host stays down", state("store1") == "down")


def main():
    with Site() as site:
        site.run_document()
        check("the document's commands work", True)
        site.refused("without certificates an address is refused", "--tls-cert",
                     subprocess.run([PROGRAM, "--controller", site.address, "hosts"], env=site.environment,
                                    capture_output=True, text=True, timeout=60))
        check("a user's certificate is issued", site.run("ada", "pki", "issue", "eve", "--role", "user", "--dir", "ca")
              .returncode == 0)
        shutil.copytree(site.folder / "ca/issued", site.folder / "issued") # to whom they belong
        site.refused("an agent's certificate asks for nothing", "does not ask for anything here",
                     site.run("store1", "loans"))
        check("but it looks at what there is", site.run("store1", "hosts").returncode == 0)
        agents(site)
        check("a user looks", site.run("eve", "hosts").returncode == 0)
        site.refused("a user does not change the site", "the certificate is a user's",
                     site.run("eve", "site", "apply", "site.toml"))
        key = site.folder / "issued/eve.key"
        key.chmod(0o644)
        site.refused("a key that others can read is refused", "chmod 600", site.run("eve", "hosts"))
        key.chmod(0o600)
        check("a user's certificate is revoked", site.run("ada", "pki", "revoke", "eve", "--dir", "ca").returncode == 0)
        time.sleep(2.5)
        site.refused("who is revoked is refused", "has been revoked", site.run("eve", "hosts"))
        check("others are not", site.run("ada", "hosts").returncode == 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
