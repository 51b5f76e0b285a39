#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kernel/lanepool_bridge inside whole hosts with both kernels. Needs 'script/bootstrap bridge' and script/build.

What is tested is in bridge_host_test.cc; LANEPOOL_BRIDGE_HOST_TEST names another program than build/tests/hosts/bridge_host_test,
LANEPOOL_BRIDGE_MODULES another folder with VERSION/lanepool_bridge.ko, LANEPOOL_BRIDGE_FILTER some of the tests;
LANEPOOL_BRIDGE_FUZZ_S is for how long random calls are made, LANEPOOL_BRIDGE_VERBOSE prints how long each test took.
"""
import os
import pathlib
import unittest

from whole_host import KERNELS, ROOT, GuestError, WholeHost, nvme

PROGRAM = pathlib.Path(os.environ.get("LANEPOOL_BRIDGE_HOST_TEST") or ROOT / "build/tests/hosts/bridge_host_test")
FILTER = os.environ.get("LANEPOOL_BRIDGE_FILTER") or "*"
FUZZ_S = os.environ.get("LANEPOOL_BRIDGE_FUZZ_S") or "5"


def run_in_host(kernel, tests=FILTER, fuzz_s=FUZZ_S, prepare=":", finish=":", timeout_s=300, **host_options):
    """Runs tests in a whole host with this kernel, with the module; what they printed. prepare and finish are commands that run
    there before and afterwards; what they print is searched for troubles, too."""
    with WholeHost(f"bridge-{kernel}", kernel=kernel, devices=[nvme("nvme0"), nvme("nvme1", cmb_size_mb=1)], programs=[PROGRAM],
                   append="oops=panic", **host_options) as host:
        host.insmod("lanepool_bridge", "allow_direct=1")
        host.insmod("bridge_driver")
        addresses = [host.address("nvme0"), host.address("nvme1")]
        for address in addresses:
            host.check(f"cd /sys/bus/pci/devices/{address} && echo {address} >driver/unbind && echo vfio-pci >driver_override && "
                       f"echo {address} >/sys/bus/pci/drivers_probe")
        host.check(f"{prepare}; dmesg -c >/dev/null", timeout_s=300)
        try:
            result = host.run(f"FUZZ_S={fuzz_s} NVME={addresses[0]} NVME1={addresses[1]} bridge_host_test --gtest_filter='{tests}'",
                              timeout_s=timeout_s)
        except GuestError as error:
            raise AssertionError(f"{error}\n{host.logs(lines=200)}") from None
        if result.status or "PASSED" not in result.text:
            raise AssertionError(f"{host.run('dmesg').text[-20000:]}\n{result.text}\n{host.logs()}")
        host.rmmod("lanepool_bridge")
        host.rmmod("bridge_driver")
        log = host.check(f"({finish}) >/dev/kmsg; dmesg", timeout_s=300)
        troubles = host.troubles()
        if troubles:
            raise AssertionError("\n".join(troubles) + "\n" + log[-20000:])
        return result.text


class BridgeTest(unittest.TestCase):
    def run_on(self, kernel):
        text = run_in_host(kernel)
        print(f"{kernel}: {text.strip().splitlines()[-1]}")
        if os.environ.get("LANEPOOL_BRIDGE_VERBOSE"):
            print(text)

    def test_6_1(self):
        self.run_on("6.1")

    def test_6_12(self):
        self.run_on("6.12")


assert KERNELS == ("6.1", "6.12")

if __name__ == "__main__":
    unittest.main()
