#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The adapter driver between whole hosts whose adapters are cards. Needs script/bootstrap and script/build.

What is tested is in ntb_host_test.cc; LANEPOOL_NTB_HOST_TEST names another program than build/tests/hosts/ntb_host_test.
"""
import concurrent.futures
import os
import pathlib
import subprocess
import tempfile
import time
import unittest

from whole_host import PROGRAM as LANEPOOL
from whole_host import ROOT, Device, WholeHost, edu

PROGRAM = pathlib.Path(os.environ.get("LANEPOOL_NTB_HOST_TEST") or ROOT / "build/tests/hosts/ntb_host_test")


def devices():
    return [
        edu("edu0"),
        Device("memory", "ivshmem-plain", memdev="shared",
               before=["-object", "memory-backend-memfd,id=shared,size=1M,share=on"]),
    ]


def bind(host):
    """All of its devices to vfio-pci; where they are, as ntb_host_test wants to be told."""
    where = {name: host.address(name) for name in ("adapter", "edu0", "memory")}
    host.check("for a in " + " ".join(where.values()) + "; do cd /sys/bus/pci/devices/$a; "
               "[ ! -e driver ] || echo $a >driver/unbind; echo vfio-pci >driver_override; "
               "echo $a >/sys/bus/pci/drivers_probe; done")
    return f"ADAPTER={where['adapter']} EDU={where['edu0']} MEMORY={where['memory']}"


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
        host = WholeHost(f"ntb{port}", kernel=kernel, devices=devices(), programs=[PROGRAM],
                         adapter_socket=self.folder / f"port{port}.sock")
        self.addCleanup(host.close)
        return host

    def judge(self, result, *hosts):
        logs = "".join(host.logs() for host in hosts)
        self.assertEqual(result.status, 0, result.text + logs)
        self.assertIn("PASSED", result.text)
        print("\n".join(line for line in result.text.splitlines() if "ms" in line or "PASSED" in line))

    def test_between_hosts_with_both_kernels(self):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            first, second = pool.map(self.start, (0, 1), ("6.1", "6.12"))
            print(f"booted in {first.boot_s:.1f} and {second.boot_s:.1f} s")
            at_first, at_second = pool.map(bind, (first, second))
            # Each once in each role: both kernels lend, and both borrow.
            for tester, at_tester, server, at_server in ((first, at_first, second, at_second),
                                                         (second, at_second, first, at_first)):
                peer = {first: 1, second: 0}[tester]
                serving = pool.submit(server.run, f"{at_server} PEER={1 - peer} ntb_host_test serve 2>&1", 60)
                result = tester.run(f"{at_tester} PEER={peer} ntb_host_test --gtest_brief=1 2>&1", 60)
                served = serving.result()
                self.judge(result, first, second)
                self.assertEqual(served.status, 0, served.text)


if __name__ == "__main__":
    unittest.main()
