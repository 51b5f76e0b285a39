#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kernel/lanepool_bridge in a whole host whose kernel checks itself: KASAN, UBSAN, lockdep, debugging of the DMA API and of objects,
leaks, allocations that fail. No part of script/test; run it by hand after 'script/bootstrap kasan' and script/build.

Builds the module for that kernel, runs what bridge_test.py runs, and random calls for as long as asked.
"""
import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

import whole_host
from bridge_test import ROOT, run_in_host
from whole_host import cache_dir

KERNEL = "kasan"
whole_host.KERNELS = (*whole_host.KERNELS, KERNEL)
SOURCES = (ROOT / "kernel/lanepool_bridge", ROOT / "tests/hosts/bridge_driver")
# In a reset, the kernel's nvme driver freezes its queues in one task and thaws them in another. Lockdep complains of that and says
# nothing any more. Its debugging of the DMA API takes a dma_map_resource() that failed for one that was never undone.
TESTS = "*-*ResetsWhenTheDriverAsks*:*HasNoDmaToRegistersOfOthers*"
# Allocations of tasks that ask for it fail, also those that may sleep; the tests ask (/proc/thread-self/fail-nth).
PREPARE = """mount -t debugfs debugfs /sys/kernel/debug
for what in failslab fail_page_alloc; do
    echo N >/sys/kernel/debug/$what/ignore-gfp-wait 2>/dev/null
    echo 0 >/sys/kernel/debug/$what/verbose
done
echo 0 >/sys/kernel/debug/fail_page_alloc/min-order
echo scan >/sys/kernel/debug/kmemleak; echo clear >/sys/kernel/debug/kmemleak"""
# What was freed a moment ago may still be found; the second scan tells.
FINISH = "sleep 6; echo scan >/sys/kernel/debug/kmemleak; sleep 6; echo scan >/sys/kernel/debug/kmemleak; cat /sys/kernel/debug/kmemleak"


def build(folder):
    """Builds the modules as folder/kasan/*.ko."""
    compiler = shutil.which("gcc-12") or "gcc"
    (folder / KERNEL).mkdir()
    for source in SOURCES:
        work = folder / source.name
        work.mkdir()
        for file in [*source.glob("*.[ch]"), source / "Kbuild"]:
            shutil.copy(file, work)
        subprocess.run(["make", "-s", "-C", str(cache_dir() / "hosts" / KERNEL / "headers"), f"M={work}", f"CC={compiler}", "W=1",
                        "KCFLAGS=-Werror", "modules"], check=True, stdin=subprocess.DEVNULL)
        shutil.move(work / f"{source.name}.ko", folder / KERNEL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzz-s", type=int, default=600, help="for how long random calls are made (default: 600)")
    parser.add_argument("--tests", default=TESTS, help=f"a filter of GoogleTest's for the tests (default: {TESTS})")
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args()
    if not (cache_dir() / "hosts" / KERNEL).exists():
        sys.exit("no kernel that checks itself: run 'script/bootstrap kasan'")
    with tempfile.TemporaryDirectory(prefix="lanepool-bridge-kasan.") as folder:
        build(pathlib.Path(folder))
        whole_host.BUILT_MODULES = pathlib.Path(folder)
        print(run_in_host(KERNEL, options.tests, options.fuzz_s, PREPARE, FINISH,
                          timeout_s=1200 + options.fuzz_s, memory_mib=2048, boot_timeout_s=300,
                          extra_args=["-smp", f"{options.cpus}"]))


if __name__ == "__main__":
    main()
