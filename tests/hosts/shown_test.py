#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""src/bridge inside whole hosts with both kernels: the module takes what it makes of devices, and drivers bind to that.
Needs 'script/bootstrap bridge' and script/build.

What is tested is in shown_host_test.cc; LANEPOOL_SHOWN_HOST_TEST names another program than build/tests/hosts/shown_host_test.
"""
import concurrent.futures
import os
import pathlib
import unittest

from whole_host import KERNELS, ROOT, WholeHost, edu, gpu, igb, nvme, nvme_with_functions

PROGRAM = pathlib.Path(os.environ.get("LANEPOOL_SHOWN_HOST_TEST") or ROOT / "build/tests/hosts/shown_host_test")


def devices():
    return [nvme("nvme0"), nvme_with_functions("nvme1"), igb("nic0", "user", "52:54:00:00:00:01"), edu("edu0"), gpu("gpu0")]


class ShownTest(unittest.TestCase):
    def run_on(self, kernel):
        with WholeHost(f"shown-{kernel}", kernel=kernel, devices=devices(), programs=[PROGRAM]) as host:
            where = {name: host.address(device) for name, device in (("NVME", "nvme0"), ("EDU", "edu0"), ("GPU", "gpu0"))}
            for name, parent in (("DRIVE_VF", "nvme1"), ("NIC_VF", "nic0")):
                where[name] = host.check(f"cd /sys/bus/pci/devices/{host.address(parent)} && echo 0 >sriov_drivers_autoprobe && "
                                         "echo 1 >sriov_numvfs && basename $(readlink virtfn0)").strip()
            for module in ("lanepool_bridge", "edu"):
                host.insmod(module)
            host.check("modprobe igbvf; for a in " + " ".join(where.values()) + "; do cd /sys/bus/pci/devices/$a; "
                       "[ ! -e driver ] || echo $a >driver/unbind; echo vfio-pci >driver_override; "
                       "echo $a >/sys/bus/pci/drivers_probe; done; dmesg -c >/dev/null")
            settings = " ".join(f"{name}={address}" for name, address in where.items())
            result = host.run(f"{settings} shown_host_test", timeout_s=120)
            log = host.run("dmesg").text
            self.assertEqual(result.status, 0, f"{log[-6000:]}\n{result.text}\n{host.logs()}")
            self.assertIn("PASSED", result.text)
            troubles = host.troubles()
            self.assertFalse(troubles, "\n".join(troubles) + "\n" + log[-6000:])
            host.rmmod("lanepool_bridge")
            print(f"{kernel}: booted in {host.boot_s:.1f} s; {result.text.strip().splitlines()[-1]}")

    def test_on_each_kernel(self):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for job in [pool.submit(self.run_on, kernel) for kernel in KERNELS]:
                job.result()


if __name__ == "__main__":
    unittest.main()
