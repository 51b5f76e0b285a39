# SPDX-License-Identifier: Apache-2.0
"""An embedded cluster for a test, driven by the same commands that people type."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = pathlib.Path(os.environ.get("LANEPOOL_PROGRAM") or ROOT / "build/lanepool")


class CheckFailed(Exception):
    pass


def check(claim, holds, detail=""):
    """Prints a claim that holds; raises when it does not."""
    if not holds:
        raise CheckFailed(f"{claim}{': ' + str(detail) if detail != '' else ''}")
    print(f"  ok  {claim}", flush=True)


class Cluster:
    """Use it with 'with': it is stopped and its folder removed, whatever happens."""

    def __init__(self, **options):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lanepool-test."))
        several = int(options.get("controllers", 1))
        sockets = [f"controller{i}.sock" for i in range(several)] if several > 1 else ["controller.sock"]
        self.environment = dict(os.environ, LANEPOOL_DEV_DIR=str(self.folder),
                                LANEPOOL_CONTROLLER=",".join(f"unix:{self.folder}/{socket}" for socket in sockets))
        self.options = []
        for key, value in options.items():
            self.options.append(f"--{key.replace('_', '-')}")
            if value is not True:
                self.options.append(str(value))

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.__exit__(*([Exception] * 3))
            raise
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            for log in sorted(self.folder.glob("*.log")):
                print(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]), flush=True)
        subprocess.run([PROGRAM, "dev", "down"], env=self.environment, capture_output=True, timeout=120)
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- commands ----

    def run(self, *words, timeout_s=60):
        """A command's CompletedProcess."""
        return subprocess.run([PROGRAM, *words], env=self.environment, capture_output=True, text=True, timeout=timeout_s)

    def start(self, *words):
        """A command in the background."""
        return subprocess.Popen([PROGRAM, *words], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ok(self, *words, timeout_s=60):
        """What a command prints; raises when it fails."""
        result = self.run(*words, timeout_s=timeout_s)
        if result.returncode != 0:
            raise CheckFailed(f"lanepool {' '.join(words)} ended with {result.returncode}: {result.stderr.strip()}")
        return result.stdout

    def json(self, *words, timeout_s=60):
        return json.loads(self.ok("-o", "json", *words, timeout_s=timeout_s))

    def up(self):
        """Starts what does not run."""
        self.ok("dev", "up", *self.options, timeout_s=180)

    def guest(self, host, command, timeout_s=60):
        """Runs a command in a guest; its output, or CheckFailed when it fails."""
        return self.ok("dev", "exec", "--timeout", str(timeout_s), host, "--", command, timeout_s=timeout_s + 40)

    def guest_status(self, host, command):
        return self.run("dev", "exec", "--timeout", "60", host, "--", command, timeout_s=100).returncode

    # ---- what there is ----

    def device(self, name="store/nvme0"):
        return self.json("show", name)

    def loan(self, number):
        return self.json("show", f"loan:{number}")

    def processes(self):
        return {process["name"]: process for process in self.json("dev", "status")}

    def kill(self, name):
        """SIGKILL to one of the cluster's processes, by its id."""
        process = self.processes()[name]
        if process["running"]:
            os.kill(process["pid"], signal.SIGKILL)
            # Only when it is gone would 'dev up' start it again.
            self.wait_until(f"{name} has gone", lambda: not self.processes()[name]["running"], 10)

    def wait_until(self, claim, condition, timeout_s=30):
        """Waits for condition() to be true and returns what it gave. Errors on the way count as not yet."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                problem = value = condition()
                if value:
                    return value
            except (CheckFailed, subprocess.TimeoutExpired, KeyError) as error:
                problem = error
            if time.monotonic() > deadline:
                raise CheckFailed(f"{claim}: not within {timeout_s} s ({problem})")
            time.sleep(0.05)
