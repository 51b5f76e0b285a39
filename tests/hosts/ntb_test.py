#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The adapter driver between whole hosts whose adapters are cards. Needs script/bootstrap and script/build.

What is tested is in ntb_host_test.cc and ntb_lend_test.cc; LANEPOOL_HOST_PROGRAMS names another folder with them than
build/tests/hosts.
"""
import concurrent.futures
import os
import pathlib
import subprocess
import tempfile
import time
import unittest

from whole_host import PROGRAM as LANEPOOL
from whole_host import ROOT, Device, WholeHost, edu, nvme
from guest_exec import Result  # whole_host finds it

FOLDER = pathlib.Path(os.environ.get("LANEPOOL_HOST_PROGRAMS") or ROOT / "build/tests/hosts")
PROGRAMS = [FOLDER / name for name in ("ntb_host_test", "ntb_lend_test")]


def devices():
    return [
        edu("edu0"),
        nvme("nvme0", disk_mib=1),
        Device("memory", "ivshmem-plain", memdev="shared",
               before=["-object", "memory-backend-memfd,id=shared,size=1M,share=on"]),
    ]


def bind(host):
    """All of its devices to vfio-pci; where they are, as ntb_host_test wants to be told."""
    where = {name: host.address(name) for name in ("adapter", "edu0", "nvme0", "memory")}
    host.bind("vfio-pci", *where.values())
    return f"ADAPTER={where['adapter']} EDU={where['edu0']} DRIVE={where['nvme0']} MEMORY={where['memory']}"


class NtbTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lanepool-ntb-test.")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        with open(self.folder / "fabric.log", "wb") as log:
            fabric = subprocess.Popen([LANEPOOL, "fabric", "--dir", self.folder, "--ports", "3", "--bar4", "4GiB"],
                                      stderr=log)
        self.addCleanup(fabric.wait)
        self.addCleanup(fabric.terminate)
        deadline = time.monotonic() + 10
        while not (self.folder / "port2.sock").exists():
            self.assertLess(time.monotonic(), deadline, "the fabric does not serve")
            time.sleep(0.01)

    def start(self, port, kernel):
        host = WholeHost(f"ntb{port}", kernel=kernel, devices=devices(), programs=PROGRAMS,
                         adapter_socket=self.folder / f"port{port}.sock")
        self.addCleanup(host.close)
        return host

    def play(self, pool, program, tester, server, without="-"):
        """Each of the two is a port and a function that runs a program with its environment."""
        (tester_port, tester_runs), (server_port, server_runs) = tester, server
        serving = pool.submit(server_runs, program, f"PEER={tester_port}", "serve")
        result = tester_runs(program, f"PEER={server_port}", f"--gtest_brief=1 --gtest_filter={without}")
        served = serving.result()
        self.assertEqual((result.status, served.status), (0, 0), result.text + served.text + self.logs())
        self.assertIn("PASSED", result.text)
        print("\n".join(line for line in result.text.splitlines() if "ms" in line or "PASSED" in line))

    def logs(self):
        return "".join(host.logs() for host in self.hosts) + (self.folder / "fabric.log").read_text()

    def test_between_hosts_with_both_kernels_and_a_process(self):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            first, second = self.hosts = list(pool.map(self.start, (0, 1), ("6.1", "6.12")))
            print(f"booted in {first.boot_s:.1f} and {second.boot_s:.1f} s")

            def runs(host, where):
                return lambda program, more, arguments: host.run(f"{where} {more} {program} {arguments} 2>&1", 60)
            old, new = ((port, runs(host, where)) for port, (host, where) in
                        enumerate(zip(self.hosts, pool.map(bind, self.hosts))))
            process = (2, self.run_here)
            # Each once in each role: both kernels lend, and both borrow. A host that is a process has no devices.
            self.play(pool, "ntb_host_test", old, new)
            self.play(pool, "ntb_host_test", new, old)
            self.play(pool, "ntb_host_test", old, process, without="-*OfADeviceThere")
            self.play(pool, "ntb_host_test", process, new, without="-*ADeviceHere*")
            self.play(pool, "ntb_lend_test", old, new)
            self.play(pool, "ntb_lend_test", new, old)
            self.play(pool, "ntb_lend_test", process, new)

    def run_here(self, program, more, arguments):
        done = subprocess.run(f"ADAPTER={self.folder}/port2.sock {more} {FOLDER / program} {arguments} 2>&1", shell=True,
                              stdout=subprocess.PIPE, timeout=60, check=False)
        return Result(done.returncode, "", done.stdout)


if __name__ == "__main__":
    unittest.main()
