#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the first steps of the README, its programs and what it tells of real hosts, and what docs/operating.md shows of several controllers, as they stand there."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

from cluster import PROGRAM, ROOT, check


def run_steps(file, heading):
    """Runs the commands of the first block under a heading, one after the other."""
    print(f"{file}: {heading}", flush=True)
    steps = re.search(rf"## {heading}.*?```\n(.*?)```", (ROOT / file).read_text(), re.DOTALL).group(1)
    commands = [line.split("  #")[0].strip() for line in steps.splitlines()]
    folder = tempfile.mkdtemp(prefix="lanepool-test.")
    environment = dict(os.environ, LANEPOOL_DEV_DIR=folder, PATH=f"{PROGRAM.parent}:{os.environ['PATH']}")
    environment.pop("LANEPOOL_CONTROLLER", None)
    try:
        for command in commands:
            result = subprocess.run(command, shell=True, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=180)
            check(command, result.returncode == 0, result.stdout + result.stderr)
    finally:
        subprocess.run([PROGRAM, "dev", "down"], env=environment, capture_output=True, timeout=120)
        shutil.rmtree(folder, ignore_errors=True)


def main():
    run_steps("README.md", "First steps")
    run_steps("README.md", "Programs")
    run_steps("README.md", "Real hosts")
    run_steps("docs/operating.md", "Several controllers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
