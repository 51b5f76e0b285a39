#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the first steps of the README as they stand there, one after the other."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

from cluster import PROGRAM, ROOT, check


def main():
    steps = re.search(r"## First steps.*?```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    commands = [line.split("  #")[0].strip() for line in steps.splitlines()]
    folder = tempfile.mkdtemp(prefix="lanepool-test.")
    environment = dict(os.environ, LANEPOOL_DEV_DIR=folder, PATH=f"{PROGRAM.parent}:{os.environ['PATH']}")
    environment.pop("LANEPOOL_CONTROLLER", None)
    try:
        for command in commands:
            result = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, timeout=180)
            check(command, result.returncode == 0, result.stdout + result.stderr)
    finally:
        subprocess.run([PROGRAM, "dev", "down"], env=environment, capture_output=True, timeout=120)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
