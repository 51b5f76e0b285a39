#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A lent drive that signals by MSI-X only: its guest's driver uses MSI-X, and QEMU, which must not know of it, survives
the removal. Needs script/bootstrap and script/build to have run."""
import os
import pathlib
import subprocess
import time
import unittest

from guest_vm import Guest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("LANEPOOL_LENT_DRIVE") or str(ROOT / "build/tests/guest/lent_drive")


class MsixTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lent = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        cls.addClassCleanup(cls.end)
        cls.socket = cls.lent.stdout.readline().strip()
        assert cls.socket, "the drive could not be lent"
        cls.guest = Guest(name="msix-test")
        cls.addClassCleanup(cls.guest.close)

    @classmethod
    def end(cls):
        cls.lent.stdin.close()
        cls.lent.wait(20)
        cls.lent.stdout.close()

    def drivers(self):
        """How often a driver has taken the function."""
        self.lent.stdin.write("\n")
        self.lent.stdin.flush()
        return int(self.lent.stdout.readline())

    def in_guest(self, command, timeout_s=60):
        return self.guest.exec.check(command, timeout_s)

    def wait_until(self, command, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        while self.guest.exec.run(command).status != 0:
            if time.monotonic() > deadline:
                self.fail(f"'{command}' did not succeed within {timeout_s} s\n{self.guest.logs()}")
            time.sleep(0.05)

    def interrupts(self):
        """Of the drive's vectors, by the guest's count: {name: number}."""
        lines = [line.split() for line in self.in_guest("grep nvme0q /proc/interrupts").splitlines()]
        self.assertTrue(all(any("MSIX" in word or "MSI" in word for word in words) for words in lines), lines)
        return {words[-1]: int(words[1]) for words in lines}

    def test_the_guest_uses_msix_and_qemu_survives_its_removal(self):
        taken = 0
        for _ in range(2):
            self.guest.plug_vfio_user("d0", "rp0", self.socket)
            self.wait_until("test -b /dev/nvme0n1")
            # More than once: Linux's driver begins with one vector and then takes all.
            self.assertGreater(self.drivers(), taken)
            shown = self.in_guest("lspci -vv -d 4c50:")
            self.assertRegex(shown, r"MSI-X: Enable\+")
            self.assertNotIn("MSI:", shown)
            # The kernel has a folder for the vectors of each kind; those of MSI-X say so.
            modes = self.in_guest("cat /sys/bus/pci/devices/$(lspci -D -d 4c50: | cut -d' ' -f1)/msi_irqs/*").split()
            self.assertEqual(set(modes), {"msix"})
            self.assertGreaterEqual(len(modes), 2)
            before = self.interrupts()
            self.in_guest("fio --name=v --filename=/dev/nvme0n1 --size=8M --bs=16k --rw=randwrite --ioengine=libaio --direct=1 "
                          "--iodepth=8 --verify=crc32c --do_verify=1 --verify_fatal=1")
            after = self.interrupts()
            self.assertGreater(sum(after.values()), sum(before.values()) + 100)
            # A reset of the controller gives the vectors up and takes them again.
            self.in_guest("nvme reset /dev/nvme0 && dd if=/dev/nvme0n1 of=/dev/null bs=64k count=16 iflag=direct 2>&1")
            trouble = self.guest.exec.run("dmesg | grep -E 'nvme.*(timeout|polled|error|failed)|DMAR.*fault'").text
            self.assertEqual(trouble, "")
            taken = self.drivers()
            self.guest.unplug("d0", 30)
            self.wait_until("! test -e /dev/nvme0")
            self.assertIsNone(self.guest.process.poll(), self.guest.logs())


if __name__ == "__main__":
    unittest.main(verbosity=2)
