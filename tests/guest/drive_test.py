#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The NVMe model, attached to a guest without a fabric: Linux's driver, nvme-cli and fio must take it for a good drive.

Needs script/bootstrap and script/build to have run; LANEPOOL names another program than build/lanepool.
"""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from guest_vm import Guest

BOOT_LIMIT_S = 60
SIZE = 256 << 20
LANEPOOL = os.environ.get("LANEPOOL") or str(pathlib.Path(__file__).resolve().parents[2] / "build" / "lanepool")


class Model:
    """A `lanepool model nvme` process, its file in memory."""

    def __init__(self, *options):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lanepool-drive-test.", dir="/dev/shm"))
        self.file, self.path = self.folder / "drive", self.folder / "nvme.sock"
        self._options = options
        self.start()

    def start(self):
        self.process = subprocess.Popen([LANEPOOL, "model", "nvme", "--socket", self.path, "--file", self.file,
                                         "--size", str(SIZE), "--serial", "DRIVE1", "--admin", self.folder / "admin",
                                         *self._options], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self.path.exists() or not (self.folder / "admin").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the model did not start")
            time.sleep(0.02)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def ask(self, command, **arguments):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect(str(self.folder / "admin"))
            s.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            answer = json.loads(s.makefile().readline())
        if not answer.pop("ok"):
            raise RuntimeError(answer["error"])
        return answer

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class DriveTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = Model("--no-msix")
        cls.addClassCleanup(cls.model.close)
        cls.guest = Guest(name="drive-test", boot_timeout_s=BOOT_LIMIT_S)
        cls.addClassCleanup(cls.guest.close)

    def setUp(self):
        self.guest.plug_vfio_user("d0", "rp0", self.model.path)
        self.wait_until("test -b /dev/nvme0n1")

    def tearDown(self):
        self.guest.unplug("d0", 30)
        self.wait_until("! test -e /dev/nvme0")

    def run_in_guest(self, command, timeout_s=120):
        return self.guest.exec.check(command, timeout_s)

    def wait_until(self, command, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        while self.guest.exec.run(command).status != 0:
            if time.monotonic() > deadline:
                self.fail(f"'{command}' did not succeed within {timeout_s} s\n{self.guest.logs()}")
            time.sleep(0.05)

    def test_linux_and_nvme_cli_know_it(self):
        identity = json.loads(self.run_in_guest("nvme id-ctrl /dev/nvme0 -o json"))
        self.assertEqual(identity["sn"].strip(), "DRIVE1")
        self.assertEqual(int(self.run_in_guest("blockdev --getsize64 /dev/nvme0n1")), SIZE)
        health = json.loads(self.run_in_guest("nvme smart-log /dev/nvme0 -o json"))
        self.assertEqual((int(health["critical_warning"]), int(health["num_err_log_entries"])), (0, 0))
        for page in ("error-log", "fw-log", "effects-log", "sanitize-log"):
            self.run_in_guest(f"nvme {page} /dev/nvme0")
        self.run_in_guest("nvme get-feature /dev/nvme0 -f 7 && nvme get-feature /dev/nvme0 -f 6")
        trouble = self.guest.exec.run("dmesg | grep -E 'nvme.*(timeout|error|failed)|DMAR.*fault'").text
        self.assertEqual(trouble, "")

    def test_fio_finds_what_it_wrote_without_a_message(self):
        before = self.model.ask("stats")
        self.run_in_guest("fio --name=v --filename=/dev/nvme0n1 --size=64M --bssplit=4k/60:64k/20:512k/20 --rw=randwrite "
                          "--ioengine=libaio --direct=1 --iodepth=32 --verify=crc32c --do_verify=1 --verify_fatal=1", 300)
        after = self.model.ask("stats")
        self.assertEqual(after["messages"], before["messages"])
        self.assertGreater(after["commands"]["io"] - before["commands"]["io"], 1000)
        self.assertEqual(after["commands"]["failed"], before["commands"]["failed"])

    def test_discarded_blocks_go_back_to_the_file_system(self):
        self.run_in_guest("dd if=/dev/urandom of=/dev/nvme0n1 bs=1M count=32 oflag=direct 2>&1")
        self.assertGreaterEqual(self.model.ask("status")["allocated_bytes"], 32 << 20)
        self.run_in_guest("blkdiscard /dev/nvme0n1")
        self.assertEqual(self.model.ask("status")["allocated_bytes"], 0)
        self.run_in_guest("test $(dd if=/dev/nvme0n1 bs=1M count=32 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c) = 0")

    def test_format_and_sanitize_wipe(self):
        for command in ("nvme format /dev/nvme0n1 --lbaf=1 --force", "nvme format /dev/nvme0n1 --lbaf=0 --ses=1 --force",
                        "nvme sanitize /dev/nvme0 -a 2"):
            self.run_in_guest("dd if=/dev/urandom of=/dev/nvme0n1 bs=1M count=8 oflag=direct 2>&1")
            self.run_in_guest(command)
            self.wait_until("nvme sanitize-log /dev/nvme0 | grep -E 'SSTAT.*(0|0x1|0x101)$'")
            self.assertFalse(any(self.model.file.read_bytes()), command)
        self.assertEqual(self.model.ask("status")["block_bytes"], 512)

    def test_resets_under_load_lose_no_data(self):
        self.run_in_guest("dd if=/dev/urandom of=/tmp/x bs=1M count=8 2>&1 && dd if=/tmp/x of=/dev/nvme0n1 bs=1M oflag=direct 2>&1")
        load = self.guest.exec.start("fio --name=l --filename=/dev/nvme0n1 --offset=64M --size=64M --rw=randwrite --bs=4k "
                                     "--ioengine=libaio --direct=1 --iodepth=32 --runtime=4 --time_based", 120)
        for _ in range(3):
            time.sleep(0.7)
            self.run_in_guest("nvme reset /dev/nvme0")
        self.assertEqual(self.guest.exec.finish(load).status, 0)
        self.run_in_guest("dd if=/dev/nvme0n1 bs=1M count=8 iflag=direct 2>/dev/null | cmp - /tmp/x")

    def test_a_function_level_reset_brings_it_back(self):
        self.run_in_guest("echo 1 > /sys/bus/pci/devices/$(basename $(readlink /sys/block/nvme0n1/device/device))/reset")
        self.run_in_guest("dd if=/dev/nvme0n1 of=/dev/null bs=1M count=8 iflag=direct 2>&1")

    def test_idle_it_costs_next_to_nothing(self):
        time.sleep(1)
        before, start = self.model.cpu_s(), time.monotonic()
        time.sleep(5)
        share = (self.model.cpu_s() - before) / (time.monotonic() - start)
        print(f"idle: {share:.3f} of a core")
        self.assertLess(share, 0.04)  # 0.02 is the goal; the clock counts in ticks of 10 ms


class EndTest(unittest.TestCase):
    def test_it_ends_in_order_and_comes_back_with_its_data(self):
        model = Model("--no-msix")
        self.addCleanup(model.close)
        with Guest(name="drive-end-test", boot_timeout_s=BOOT_LIMIT_S) as guest:
            for n in range(2):
                guest.plug_vfio_user("d0", "rp0", model.path)
                deadline = time.monotonic() + 30
                while guest.exec.run("test -b /dev/nvme0n1").status != 0:
                    self.assertLess(time.monotonic(), deadline, guest.logs())
                if n == 0:
                    guest.exec.check("echo remember > /tmp/x; dd if=/tmp/x of=/dev/nvme0n1 bs=4k conv=sync oflag=direct 2>&1")
                else:
                    self.assertIn("remember", guest.exec.check("head -c 512 /dev/nvme0n1 | tr -d '\\0'"))
                guest.unplug("d0", 30)
                self.assertEqual(model.stop(), 0)
                model.start()


if __name__ == "__main__":
    unittest.main(verbosity=2)
