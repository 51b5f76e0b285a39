#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Outside judges of the virtual switch: Linux's own drivers of Switchtec NTB cards, and the kernel's test of them.

Usage: ntb_drivers_test.py [--perf]     --perf: with ntb_perf, the test's last part, which by a race of its own may not end

One whole host for each kernel has both ports of a pair as cards. Drivers and ntb_test.sh are the kernel's own, unchanged;
'script/bootstrap ntb-drivers' builds them. docs/linux-ntb-drivers.md says what passes, what is left out and why.
"""
import concurrent.futures
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from whole_host import KERNELS, PROGRAM, ROOT, GuestError, WholeHost, cache_dir

# The driver keeps the first one for itself, and a test of a window takes it half a second.
LUT_ENTRIES = 4
# BAR 2 behind its small windows, and BAR 4.
DIRECT_WINDOWS = 2
PARTS = {"port": 2, "link": 2, "db": 2, "spad": 2, "mw": 2 * (DIRECT_WINDOWS + LUT_ENTRIES - 1), "ping pong": 1,
         "MSI interrupt": 2}
# What the kernel says when something is wrong. A zero after "configuring mw" is no refusal: the driver frees each window
# twice at the same time when it is unloaded, and takes the other one's lock for an error.
TROUBLE = re.compile(r"BUG:|WARNING:|Oops|Call Trace|DMAR:.*fault|switchtec\d: .*([Tt]imed out|failed)|"
                     r"configuring mw \d+: (?!00000000)")
DATA_BYTES = 256 << 10


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


class Fabric:
    """The virtual switch with its ports in pairs."""

    def __init__(self, ports):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lanepool-ntb."))
        self.log = self.folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "fabric", "--dir", self.folder, "--ports", str(ports), "--pairs",
                 "--lut-entries", str(LUT_ENTRIES), "--bar2", "1MiB", "--bar4", "1MiB"], stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while not (self.folder / "admin.sock").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                text = self.log.read_text()
                self.close()
                raise AssertionError(f"the switch did not start: {text}")
            time.sleep(0.01)

    def port(self, index):
        return self.folder / f"port{index}.sock"

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class NtbHost(WholeHost):
    """A whole host with NTB cards, and the drivers and programs of the layer behind its file system."""

    def __init__(self, kernel, ports):
        extra = []
        for index, port in enumerate(ports):
            card = {"driver": "vfio-user-pci", "id": f"ntb{index}", "bus": f"rp-ntb{index}",
                    # The test writes through one card and looks at once for what the other one's memory holds. A card
                    # takes less than a microsecond for that; the switch is a process, which may have to wait for a core.
                    "x-no-posted-writes": True, "socket": {"type": "unix", "path": str(port)}}
            extra += self._root_port(index, f"ntb{index}", "") + ["-device", json.dumps(card)]
        super().__init__(f"linux-{kernel}", kernel, programs=(), extra_args=extra)

    def boot(self):
        layer = cache_dir() / "ntb-drivers" / self.kernel
        expect((layer / "release").read_text() == (self.image / "release").read_text(),
               f"{layer} is not for the kernel of {self.image}")
        both = self.folder / "initramfs-with-drivers.img"
        with open(both, "wb") as file:
            for archive in (self.initramfs, layer / "layer.img"):
                file.write(archive.read_bytes())
                file.write(b"\0" * (-file.tell() % 512))
        self.initramfs = both
        super().boot()

    def load(self):
        """Loads the card's driver as udev does, by what the card says it is; that loads the NTB driver. The NTB devices."""
        self.check("depmod -a; mount | grep -q debugfs || mount -t debugfs debugfs /sys/kernel/debug; "
                   "for card in /sys/bus/pci/devices/*; do [ $(cat $card/vendor) != 0x11f8 ] || "
                   "modprobe $(cat $card/modalias); done")
        self.check("for i in $(seq 100); do [ $(ls /sys/bus/ntb/devices 2>/dev/null | wc -l) = 2 ] && exit; sleep 0.1; "
                   "done; dmesg | tail -n 20; exit 1", 30)
        return self.check("ls /sys/bus/ntb/devices").split()

    def unload(self):
        self.check("rmmod ntb_netdev ntb_transport 2>/dev/null; rmmod ntb_hw_switchtec switchtec ntb", 30)


def check_binding(host, first_partition):
    """Both cards have Linux's driver, and it read from them what they are."""
    devices = host.load()
    expect(len(devices) == 2, devices)
    for index, device in enumerate(devices):
        expect(host.driver(device) == "switchtec", f"{device} has the driver '{host.driver(device)}'")
        told = host.check(f"cd /sys/class/switchtec/switchtec{index} && cat partition partition_count").split()
        expect(told == [str(first_partition + index), str(2 * len(KERNELS))], told)
    return devices


def check_network(host):
    """ntb_transport and ntb_netdev: an interface on each card, which reach each other through the switch."""
    # ntb_netdev sends while 10 frames are free in the window, and windows are small here: so frames must be, too.
    host.check("modprobe ntb_transport transport_mtu=9216 && modprobe ntb_netdev")
    host.check("ip netns add far && ip link set eth2 netns far && ip addr add 10.9.0.1/24 dev eth1 && ip link set eth1 up && "
               "ip netns exec far ip addr add 10.9.0.2/24 dev eth2 && ip netns exec far ip link set eth2 up")
    # The transport's own time between two tries to reach the peer is a second.
    host.check("for i in $(seq 30); do ping -c 1 -W 1 10.9.0.2 >/dev/null && exit; done; dmesg | tail -n 20; exit 1", 60)
    text = host.check("ping -c 20 -i 0.05 -s 8000 10.9.0.2")
    expect(" 0% packet loss" in text, text)
    round_trip_ms = float(re.search(r"min/avg/max = [\d.]+/([\d.]+)/", text)[1])
    text = host.check(f"mkdir /tmp/far && head -c {DATA_BYTES} /dev/urandom >/tmp/far/data && "
                      "ip netns exec far httpd -p 10.9.0.2:80 -h /tmp/far && "
                      "wget -qO /tmp/near http://10.9.0.2/data && cmp /tmp/far/data /tmp/near && echo same")
    expect(text.strip() == "same", text)
    stats = host.check("cat /sys/kernel/debug/ntb_transport/*/*/stats")
    received = sum(int(count) for count in re.findall(r"rx_bytes -\s+(\d+)", stats))
    expect(received > DATA_BYTES, f"{received} bytes came through the transport:\n{stats}")
    host.check("killall httpd; ip netns del far")
    return round_trip_ms


def parts_of(text):
    """How often each part of ntb_test.sh says what: {part: {"Passed": 2}}."""
    parts, part = {}, None
    for line in text.splitlines():
        started = re.match(r"Running (.+?)\d* tests? (?:on|with)", line)
        if started:
            part = started[1]
        elif line.strip() in ("Passed", "Unsupported"):
            counts = parts.setdefault(part, {})
            counts[line.strip()] = counts.get(line.strip(), 0) + 1
    return parts


def check_kernel_test(host, devices, with_perf):
    """ntb_test.sh, unchanged: what passed, and what became of ntb_perf."""
    log, perf_starts = "/tmp/ntb_test.log", "Starting ntb_perf"
    # -p: the least that ntb_perf takes, 512 KiB.
    host.check(f"cd /root && (bash ./ntb_test.sh -p 19 {devices[0]} {devices[1]}; echo status $?) </dev/null >{log} 2>&1 &")
    deadline = time.monotonic() + 90
    while True:
        text = host.check(f"cat {log}")
        if "status " in text or time.monotonic() > deadline or (perf_starts in text and not with_perf):
            break
        time.sleep(0.2)
    parts = parts_of(text)
    for part, times in PARTS.items():
        expect(parts.get(part) == {"Passed": times}, f"{part}: {parts.get(part)} instead of {times} passed\n{text}")
    # Linux's driver keeps the cards' messages to itself.
    expect(parts.get("msg") == {"Unsupported": 2}, f"{parts.get('msg')}\n{text}")
    if "status " not in text:
        expect(perf_starts in text, text)
        return "did not end" if with_perf else "left out"
    expect("status 0" in text and parts.get("local perf") == {"Passed": 1} == parts.get("remote perf"), text)
    return "passed"


def judge(kernel, fabric, with_perf):
    """Everything on one kernel; the lines to print."""
    index = KERNELS.index(kernel)
    started = time.monotonic()
    with NtbHost(kernel, [fabric.port(2 * index), fabric.port(2 * index + 1)]) as host:
        try:
            devices = check_binding(host, 2 * index)
            round_trip_ms = check_network(host)
            # The cards must be as good as new for a driver that comes again.
            host.unload()
            expect(check_binding(host, 2 * index) == devices, "other devices after loading again")
            perf = check_kernel_test(host, devices, with_perf)
            kernel_log = host.check("dmesg")
            expect(not TROUBLE.search(kernel_log), "\n".join(filter(TROUBLE.search, kernel_log.splitlines())))
        except (AssertionError, GuestError) as error:
            raise AssertionError(f"Linux {kernel}: {error}\n{host.logs()}") from None
        release = host.check("uname -r").strip()
    return [f"Linux {release}, {time.monotonic() - started:.0f} s:",
            "  switchtec, ntb_hw_switchtec: bound to both cards, also the second time",
            f"  ntb_transport, ntb_netdev: {round_trip_ms:.0f} ms for a ping of 8000 bytes and back; files arrive whole",
            "  ntb_test.sh: " + ", ".join(f"{part} {times}" for part, times in PARTS.items()) + " passed; msg not offered",
            f"  ntb_perf: {perf}"]


def main():
    subprocess.run([ROOT / "script/bootstrap", "ntb-drivers"], check=True)
    started = time.monotonic()
    with Fabric(2 * len(KERNELS)) as fabric, concurrent.futures.ThreadPoolExecutor() as pool:
        for lines in pool.map(lambda kernel: judge(kernel, fabric, sys.argv[1:] == ["--perf"]), KERNELS):
            print("\n".join(lines), flush=True)
    print(f"Linux's NTB drivers on the virtual switch: passed in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
