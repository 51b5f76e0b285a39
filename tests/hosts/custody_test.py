#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Devices are taken from their host's drivers and given back, inside whole hosts with both kernels.

What is tested is in custody_host_test.cc; LANEPOOL_CUSTODY_HOST_TEST names another program than
build/tests/hosts/custody_host_test, GTEST_FILTER some of its tests. Needs script/bootstrap and script/build.
"""
import os
import pathlib
import unittest

from both_kernels import on_each_kernel
from whole_host import ROOT, Device, WholeHost, edu, gpu, igb, nvme, nvme_with_functions

PROGRAM = pathlib.Path(os.environ.get("LANEPOOL_CUSTODY_HOST_TEST") or ROOT / "build/tests/hosts/custody_host_test")
# What the program calls each device.
NAMES = {"nvme0": "NVME", "edu0": "EDU", "gpu0": "GPU", "igb0": "IGB", "nvme1": "NVME_PARENT", "pair": "PAIR"}


class CustodyTest(unittest.TestCase):
    def run_on(self, kernel):
        devices = [
            nvme("nvme0"), edu("edu0"), gpu("gpu0"), igb("igb0", "user", "52:54:00:00:00:10"), nvme_with_functions("nvme1"),
            # After a reset of the bus the kernel waits for the link of a faster port, and QEMU never says that it is up.
            Device("pair", "edu", port=",x-speed=2_5", multifunction="on", addr="0.0",
                   behind=["-device", "nvme,bus=rp-pair,addr=0.1,serial=second,drive=second",
                           "-drive", "id=second,driver=null-co,size=1M,if=none"]),
        ]
        with WholeHost(f"custody-{kernel}", kernel=kernel, devices=devices, programs=[PROGRAM]) as host:
            where = " ".join(f"{variable}={host.address(name)}" for name, variable in NAMES.items())
            host.check("modprobe loop; modprobe dm_mod; modprobe raid1; modprobe ext4")
            result = host.run(f"{where} custody_host_test --gtest_brief=1 --gtest_filter={os.environ.get('GTEST_FILTER', '*')}", timeout_s=180)
            self.assertEqual(result.status, 0, result.text + host.run("dmesg | tail -n 40").text)
            self.assertIn("PASSED", result.text)
            print(f"{kernel}: booted in {host.boot_s:.1f} s; {result.text.strip().splitlines()[-2]}")

    def test_on_each_kernel(self):
        on_each_kernel(self.run_on)


if __name__ == "__main__":
    unittest.main()
