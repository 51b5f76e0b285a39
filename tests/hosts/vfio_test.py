#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kernel VFIO as pci::Function uses it, inside whole hosts with both kernels. Needs script/bootstrap and script/build.

What is tested is in vfio_host_test.cc; LANEPOOL_VFIO_HOST_TEST names another program than build/tests/hosts/vfio_host_test.
"""
import os
import pathlib
import unittest

from both_kernels import on_each_kernel
from whole_host import ROOT, Device, WholeHost, edu, gpu, igb, nvme, nvme_with_functions

PROGRAM = pathlib.Path(os.environ.get("LANEPOOL_VFIO_HOST_TEST") or ROOT / "build/tests/hosts/vfio_host_test")


def devices():
    return [
        edu("edu0"), nvme("nvme0"),
        # A BAR that is memory, for peer-to-peer.
        Device("memory", "ivshmem-plain", memdev="shared",
               before=["-object", "memory-backend-memfd,id=shared,size=1M,share=on"]),
        # Two functions in one slot, so in one IOMMU group. After a reset of the bus the kernel waits for the link of a
        # faster port, and QEMU never says that it is up.
        Device("pair", "edu", port=",x-speed=2_5", multifunction="on", addr="0.0", dma_mask=hex((1 << 48) - 1),
               behind=["-device", "nvme,bus=rp-pair,addr=0.1,serial=second"]),
        gpu("gpu"), igb("nic", "user", "52:54:00:00:00:01"), nvme_with_functions("nvme1"),
    ]


class VfioTest(unittest.TestCase):
    def run_on(self, kernel):
        with WholeHost(f"vfio-{kernel}", kernel=kernel, devices=devices(), programs=[PROGRAM]) as host:
            where = {name: host.address(name) for name in ("edu0", "nvme0", "memory", "pair")}
            parents = {name: host.address(name) for name in ("nic", "nvme1")}
            kinds = [host.address("gpu")]
            for address in parents.values():
                host.check(f"cd /sys/bus/pci/devices/{address} && echo 0 >sriov_drivers_autoprobe && echo 2 >sriov_numvfs")
                kinds += host.check(f"cd /sys/bus/pci/devices/{address} && for f in virtfn*; do basename $(readlink $f); done").split()
            functions = [*where.values(), where["pair"][:-1] + "1", *kinds]
            host.bind("vfio-pci", *functions)
            result = host.run(f"KINDS='{' '.join(kinds)}' EDU={where['edu0']} NVME={where['nvme0']} MEMORY={where['memory']} PAIR={where['pair']} "
                              "vfio_host_test --gtest_brief=1", timeout_s=120)
            self.assertEqual(result.status, 0, result.text + host.logs())
            self.assertIn("PASSED", result.text)
            # The IOMMU stopped what was aimed outside of the mappings, and the kernel says whose it was.
            log = host.check("dmesg")
            self.assertRegex(log, r"DMAR:.*\[DMA Write.*" + where["edu0"][5:] + r"\].*fault addr 0x100001000")
            print(f"{kernel}: booted in {host.boot_s:.1f} s; {result.text.strip().splitlines()[-1]}")

    def test_on_each_kernel(self):
        on_each_kernel(self.run_on)


if __name__ == "__main__":
    unittest.main()
