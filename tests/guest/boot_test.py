#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The guest image, its exec channel and hot-plugging, tried with a real kernel. Needs script/bootstrap to have run."""
import base64
import os
import pathlib
import socket
import tempfile
import time
import unittest

from guest_exec import GuestError, GuestExec
from guest_vm import Guest
from vfio_user_probe import Probe

BOOT_LIMIT_S = 60  # a loaded two-core machine; an idle one takes 2.5 s


class GuestTest(unittest.TestCase):
    """One guest serves all tests of a class."""

    @classmethod
    def setUpClass(cls):
        cls.guest = Guest(name="boot-test", boot_timeout_s=BOOT_LIMIT_S)
        cls.addClassCleanup(cls.guest.close)
        print(f"guest ready after {cls.guest.boot_s:.2f} s")

    def reconnect(self):
        """Leaves the guest alone for a moment, and comes back as a new client."""
        self.guest.exec.close()
        self.guest.exec = GuestExec(str(self.guest.folder / "exec.sock"), 20)

    def wait_until(self, command, timeout_s=10):
        """Repeats a command in the guest until it succeeds, and returns its output."""
        deadline = time.monotonic() + timeout_s
        while True:
            result = self.guest.exec.run(command)
            if result.status == 0:
                return result.text.strip()
            if time.monotonic() > deadline:
                self.fail(f"'{command}' did not succeed within {timeout_s} s: {result.text}\n{self.guest.logs()}")
            time.sleep(0.05)


class ExecTest(GuestTest):
    def test_status_and_both_outputs_come_back(self):
        result = self.guest.exec.run("echo out; echo err >&2; exit 7")
        self.assertEqual((result.status, result.note, result.text), (7, "ok", "out\nerr\n"))

    def test_no_output_is_empty(self):
        self.assertEqual(self.guest.exec.run("true").output, b"")

    def test_any_byte_survives(self):
        self.assertEqual(self.guest.exec.run(r"printf 'a\0\377 \n\r\nz'").output, b"a\0\xff \n\r\nz")
        self.assertEqual(self.guest.exec.check("""printf '%s' "it's \\"quoted\\" \\$x" """), 'it\'s "quoted" $x')

    def test_a_signal_is_told_as_128_plus_its_number(self):
        self.assertEqual(self.guest.exec.run("kill -TERM $$").status, 143)

    def test_standard_input_is_empty(self):
        self.assertEqual(self.guest.exec.check("cat"), "")

    def test_time_out_kills_the_command_and_its_children(self):
        result = self.guest.exec.run("echo begun; sleep 4321 & sleep 4321", timeout_s=0.5)
        self.assertEqual((result.status, result.note, result.text), (124, "timeout", "begun\n"))
        self.assertEqual(self.guest.exec.run("pidof sleep").status, 1)

    def test_long_output_is_cut_and_says_so(self):
        result = self.guest.exec.run("head -c 3000000 /dev/zero")
        self.assertEqual((result.status, result.note, len(result.output)), (0, "truncated", 1 << 20))

    def test_commands_run_at_the_same_time(self):
        start = time.monotonic()
        slow = [self.guest.exec.start(f"sleep 4; echo {n}") for n in range(8)]
        self.assertEqual(self.guest.exec.check("echo quick"), "quick\n")
        self.assertLess(time.monotonic() - start, 4)
        self.assertEqual([self.guest.exec.finish(s).text for s in slow], [f"{n}\n" for n in range(8)])
        self.assertLess(time.monotonic() - start, 16)  # one after the other would be 32

    def test_fio_runs_while_others_are_answered(self):
        fio = self.guest.exec.start("fio --name=x --filename=/dev/shm/x --size=16M --rw=randrw --bs=4k "
                                    "--time_based --runtime=2 --output-format=json")
        self.assertEqual(self.guest.exec.check("echo between"), "between\n")
        self.assertIn('"job options"', self.guest.exec.finish(fio).text)

    def test_large_answers_do_not_mix(self):
        running = [self.guest.exec.start(f"yes {n} | head -c 200000") for n in range(6)]
        for n, started in enumerate(running):
            self.assertEqual(self.guest.exec.finish(started).output, f"{n}\n".encode() * 100000)

    def test_background_process_does_not_hold_the_answer(self):
        start = time.monotonic()
        self.assertEqual(self.guest.exec.check("sleep 30 & echo done"), "done\n")
        self.assertLess(time.monotonic() - start, 10)
        self.guest.exec.run("killall sleep")

    def test_a_started_command_can_be_killed(self):
        started = self.guest.exec.start("sleep 100")
        self.guest.exec.kill(started)
        self.assertEqual(self.guest.exec.finish(started).status, 137)

    def test_what_cannot_be_done_is_refused_with_the_reason(self):
        with self.assertRaisesRegex(GuestError, "1 to 98304 bytes"):
            self.guest.exec.run("#" * 98305)
        with self.assertRaisesRegex(GuestError, "milliseconds"):
            self.guest.exec.run("true", timeout_s=90000)
        running = [self.guest.exec.start("sleep 3") for _ in range(32)]
        with self.assertRaisesRegex(GuestError, "32 commands"):
            self.guest.exec.run("true")
        for started in running:
            self.guest.exec.kill(started)
            self.guest.exec.finish(started)

    def test_a_lost_client_takes_its_commands_with_it(self):
        self.guest.exec.start("touch /tmp/started; sleep 1234")
        self.guest.exec.start("setsid sleep 5678 >/dev/null &")
        self.wait_until("test -e /tmp/started && ps | grep '[s]leep 5678'")
        self.reconnect()
        self.wait_until("! ps | grep '[s]leep 1234'")
        self.guest.exec.check("ps | grep '[s]leep 5678' && killall sleep")

    def test_clients_come_and_go(self):
        for n in range(20):
            self.guest.exec.start("yes | head -c 1000000")  # whose answer nobody will read
            self.reconnect()
            self.assertEqual(self.guest.exec.check(f"echo {n}"), f"{n}\n")

    def test_garbage_is_answered_and_forgotten(self):
        self.guest.exec.close()
        with socket.socket(socket.AF_UNIX) as raw, raw.makefile("rb") as stream:
            raw.settimeout(20)
            raw.connect(str(self.guest.folder / "exec.sock"))
            raw.sendall(b"\nhello h\n" + b"x" * 300000 + b"\n\xff\xfe nonsense\nexec e 0 !!!\nexec f -1 AA==\n"
                        b"exec g 0\nexec " + b"i" * 65 + b" 0 AA==\nping p\npi")
            seen = []
            while not seen or seen[-1] != b"pong p\n":
                seen.append(stream.readline())
        errors = [base64.b64decode(line.split()[2]).decode() for line in seen if line.startswith(b"error")]
        self.assertEqual(len(errors), 6, seen)
        self.assertIn("line longer", errors[0])
        self.guest.exec = GuestExec(str(self.guest.folder / "exec.sock"), 20)
        self.assertEqual(self.guest.exec.check("echo fine"), "fine\n")


class HotPlugTest(GuestTest):
    FIND_NVME = "for d in /sys/block/nvme*; do grep -qw {serial} $d/device/serial && basename $d && exit; done; exit 1"

    def plug_nvme(self, serial, slot):
        start = time.monotonic()
        self.guest.plug("nvme", serial, slot, serial=serial, drive=f"file-{serial}")
        disk = self.wait_until(self.FIND_NVME.format(serial=serial))
        print(f"nvme seen by the guest {time.monotonic() - start:.2f} s after device_add")
        return f"/dev/{disk}"

    def unplug(self, device):
        start = time.monotonic()
        self.guest.unplug(device)
        print(f"{device}: DEVICE_DELETED {time.monotonic() - start:.2f} s after device_del")

    def test_a_drive_comes_and_goes_and_keeps_its_content(self):
        with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="lanepool-boot-test.") as file:
            file.truncate(64 << 20)
            self.guest.qmp.execute("blockdev-add", driver="file", **{"node-name": "file-s1", "filename": file.name})
            disk = self.plug_nvme("s1", "rp0")
            self.guest.exec.check(f"mkfs.ext4 -q {disk} && mount -t ext4 {disk} /mnt")
            self.guest.exec.check("head -c 5000000 /dev/urandom > /mnt/x")
            before = self.guest.exec.check("sha256sum /mnt/x && umount /mnt && sync")
            self.assertIn("LnkSta:", self.guest.exec.check("lspci -vv -d ::0108"))
            self.assertIn("s1", self.guest.exec.check("nvme list"))
            self.unplug("s1")
            self.wait_until(f"! test -e {disk}")
            disk = self.plug_nvme("s1", "rp1")
            self.guest.exec.check(f"mount -t ext4 {disk} /mnt")
            self.assertEqual(self.guest.exec.check("sha256sum /mnt/x && umount /mnt"), before)
            self.unplug("s1")

    def test_a_vfio_user_device_gets_all_guest_memory_in_few_maps(self):
        probe = Probe()
        self.addCleanup(probe.close)
        for _ in range(2):
            self.guest.plug_vfio_user("probe", "rp2", probe.path)
            function = self.wait_until(f"lspci -Dn -d {probe.VENDOR:04x}:{probe.DEVICE:04x} | grep . ").split()[0]
            # The firmware's ROM, below 4 GiB, is mapped too; it is not in the shared memory.
            self.assertTrue(all(has_fd for address, _, has_fd in probe.dma_maps if address < 256 << 20), probe.dma_maps)
            self.assertLess(probe.maps_seen, 16)
            self.assertGreater(sum(size for _, size, _ in probe.dma_maps), 255 << 20)
            print(f"DMA maps of a guest's device: {probe.maps_seen}")
            self.guest.exec.check(f"setpci -s {function} COMMAND=2")
            base = self.guest.exec.check(f"cut -d' ' -f1 /sys/bus/pci/devices/{function}/resource | head -n 1").strip()
            self.guest.exec.check(f"devmem {base} 32 0x12345678")
            self.assertEqual(int(self.guest.exec.check(f"devmem {base} 32"), 16), 0x12345678)
            self.unplug("probe")
            self.wait_until(f"! test -e /sys/bus/pci/devices/{function}")


class EndTest(unittest.TestCase):
    def start(self):
        guest = Guest(name="end-test", boot_timeout_s=BOOT_LIMIT_S)
        self.addCleanup(guest.close)
        return guest

    def assert_gone(self, guest):
        self.assertIsNotNone(guest.process.poll())
        self.assertFalse(pathlib.Path(f"/proc/{guest.process.pid}").exists())
        self.assertFalse(guest.folder.exists())

    def test_power_off_ends_qemu(self):
        guest = self.start()
        guest.power_off()
        guest.close()
        self.assert_gone(guest)

    def test_a_panic_ends_qemu_and_is_in_the_log(self):
        guest = self.start()
        guest.exec.start("echo c > /proc/sysrq-trigger")
        guest.process.wait(20)
        self.assertIn("Kernel panic", (guest.folder / "serial.log").read_text())
        guest.close()
        self.assert_gone(guest)

    def test_the_service_is_started_again_when_it_ends(self):
        guest = self.start()
        guest.exec.start("kill -KILL $PPID")
        time.sleep(0.5)
        guest.exec.close()
        guest.exec = GuestExec(str(guest.folder / "exec.sock"), 20)
        self.assertEqual(guest.exec.check("echo back"), "back\n")

    def test_closing_kills_a_guest_that_hangs(self):
        guest = self.start()
        os.kill(guest.process.pid, 19)  # SIGSTOP
        guest.close()
        self.assert_gone(guest)


if __name__ == "__main__":
    unittest.main(verbosity=2)
