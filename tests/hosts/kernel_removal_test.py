#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Drives that whole hosts' own kernels have borrowed go, in every way, under every load: a random sequence of cases on each kernel.

Each of two lanes is a borrowing host (6.1 and 6.12) and a lending one, and works for itself. A case borrows the drive, puts a load on it,
lets something happen, and judges: the kernel that had the drive goes on without trouble, what used the drive ends, nothing of the
loan is left on either host, and the drive is in service again, for the same host or for the other one. What read something reads
what was written, or fails.

LANEPOOL_CASES   how many cases in all, dealt to the lanes in turn (default: 8; then LANEPOOL_SEED is 1)
LANEPOOL_SEED    of their sequence (default: a random one); printed
LANEPOOL_KINDS   only these, separated by commas: as they are called in the output
"""
import concurrent.futures
import contextlib
import json
import os
import random
import socket
import sys
import threading
import time
import traceback

from host_cluster import CheckFailed, HostCluster, check
from whole_host import KERNELS, PROGRAM, ROOT, nvme
from guest_exec import GuestError  # whole_host finds it

TOOL = ROOT / "build/tests/hosts/memory_tool"
CASES = int(os.environ.get("LANEPOOL_CASES") or 8)
SEED = int(os.environ.get("LANEPOOL_SEED") or (random.SystemRandom().randrange(1 << 31) if "LANEPOOL_CASES" in os.environ else 1))
# The driver's own patience, and then the kernel's; a trapped window moves 4 KiB in 36 ms.
DRIVER_TIMEOUT_S, HUNG_TASK_S = 10, 40
CLEAN_S, AVAILABLE_S = 90, 120

# What a load does with the drive {disk}. Each ends by itself when the drive is gone, but for those in ENDLESS.
LOADS = {
    "none": ":",
    # Threads, which the group has; and no asynchronous engine: with those fio judges what was in the buffer before, when a drive that
    # goes reads as one of no bytes.
    "fio": ("fio --name=load --filename={disk} --direct=1 --thread --ioengine=psync --numjobs=2 --offset_increment=256k --rw=randwrite --bs=4k --size=256k "
            "--verify=crc32c --verify_backlog=8 --verify_fatal=1 --time_based --runtime=3000"),
    # Held also between two of them.
    "dd": "exec 3<{disk}; while dd if={disk} of=/dev/null bs=4k count=8 iflag=direct; do :; done",
    # Written, read back from the drive, and compared.
    "file-system": ("mkdir -p /mnt/load && mkfs.ext4 -qF -b 1024 -N 32 -J size=1 -E nodiscard,lazy_itable_init=1,lazy_journal_init=1 {disk} 4096 && "
                    "mount {disk} /mnt/load || exit 1; i=0; while i=$((i+1)); echo \"round $i\" >/tmp/expected && cp /tmp/expected /mnt/load/file && sync /mnt/load/file && "
                    "echo 3 >/proc/sys/vm/drop_caches && got=$(cat /mnt/load/file); do [ \"$got\" = \"round $i\" ] || {{ echo \"verify: '$got' is not round $i\"; exit 1; }}; done"),
    "held": "exec 3<{disk}; sleep 3000",
}
ENDLESS = ("held",)


class Gate:
    """Passed by everybody who asks the controller; closed by who restarts it."""

    def __init__(self):
        self.condition, self.inside, self.closed = threading.Condition(), 0, False

    @contextlib.contextmanager
    def passing(self):
        with self.condition:
            self.condition.wait_for(lambda: not self.closed)
            self.inside += 1
        try:
            yield
        finally:
            with self.condition:
                self.inside -= 1
                self.condition.notify_all()

    @contextlib.contextmanager
    def alone(self):
        with self.condition:
            self.condition.wait_for(lambda: not self.closed)
            self.closed = True
            self.condition.wait_for(lambda: self.inside == 0)
        try:
            yield
        finally:
            with self.condition:
                self.closed = False
                self.condition.notify_all()


class Pool(HostCluster):
    """The cluster, asked by several threads."""

    def __init__(self, **options):
        self.gate = Gate()
        super().__init__(**options)

    def run(self, *words, timeout_s=60):
        with self.gate.passing():
            return super().run(*words, timeout_s=timeout_s)

    def restart_controller(self):
        with self.gate.alone():
            words = self.daemons["controller"].args[1:]
            self.end("controller")
            self.spawn("controller", *words)
            self.wait_until("the controller answers", lambda: super(Pool, self).run("hosts").returncode == 0, 20)

    def link(self, host, up):
        """Takes the link of a host's port down, or up."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(10)
            admin.connect(str(self.folder / "fabric/admin.sock"))
            admin.sendall(json.dumps({"command": "link", "port": self.partitions[host], "up": up}).encode() + b"\n")
            answer = json.loads(admin.makefile().readline())
        if "error" in answer:
            raise CheckFailed(f"link of {host}: {answer}")


class Load:
    """What uses a drive on a host: a group of processes of its own."""

    def __init__(self, host, kind, disk):
        self.host, self.kind, self.disk = host, kind, disk
        if kind == "none":
            return
        host.put("/tmp/load.sh", LOADS[kind].format(disk=disk).encode())
        host.check("rm -f /tmp/load.log /tmp/expected; setsid sh /tmp/load.sh >/tmp/load.log 2>&1 </dev/null & echo $! >/tmp/load.group")
        if kind == "file-system":
            host.wait("grep -q '^round 2' /tmp/expected", "the file system is in use", 40)
        elif kind != "held":
            host.wait(f"[ $(awk '{{ print $3 + $7 }}' /sys/block/{disk[5:]}/stat) -gt 64 ]", "the load has begun", 40)

    # A shell condition: nothing of it is left. Its processes are found by their group, whoever is their parent.
    GONE = "! awk '{ sub(/.*\\) /, \"\"); print $3 }' /proc/[0-9]*/stat 2>/dev/null | grep -qx $(cat /tmp/load.group)"

    def ends(self, timeout_s=CLEAN_S):
        """It ends, by itself if it is one that does; seconds from now."""
        if self.kind == "none":
            return
        if self.kind in ENDLESS:
            self.host.run("kill -KILL -$(cat /tmp/load.group)")
        self.host.wait(self.GONE, f"the end of the load {self.kind}", timeout_s)
        self.host.run("umount -l /mnt/load 2>/dev/null")

    def stop(self):
        """Ends it, while the drive is there."""
        if self.kind == "none":
            return
        self.host.run("kill -KILL -$(cat /tmp/load.group)")
        self.host.wait(self.GONE, f"the end of the load {self.kind}")
        if self.kind == "file-system":
            self.host.check("umount /mnt/load")

    def goes_on(self):
        """It has not failed, and does something."""
        if self.kind == "none":
            return
        check_quietly(f"the load {self.kind} goes on", self.host.run(self.GONE).status != 0, self.log())
        if self.kind not in ENDLESS:
            count = f"awk '{{ print $3 + $7 }}' /sys/block/{self.disk[5:]}/stat"
            self.host.wait(f"now=$({count}); [ $now -gt ${{first:=$now}} ]", f"progress of the load {self.kind}", 30)

    def log(self):
        return self.host.run("tail -c 2000 /tmp/load.log").text if self.kind != "none" else ""

    def honest(self):
        """What it read was what it had written."""
        check_quietly("what was read is what was written", "verify: " not in self.log(), self.log())


def check_quietly(claim, holds, detail=""):
    if not holds:
        raise CheckFailed(f"{claim}: {detail}")


class Lane:
    """A borrower and a lender. lock: held while something happens to them."""

    def __init__(self, cluster, number, kernel):
        self.cluster, self.number, self.kernel = cluster, number, kernel
        self.borrower_name, self.lender_name = f"host{number}", f"store{number}"
        self.device = f"{self.lender_name}/nvme0"
        self.random = random.Random(SEED * 1000 + number)
        self.lock = threading.Lock()
        self.results = []

    @property
    def borrower(self):
        return self.cluster.hosts[self.borrower_name]

    @property
    def lender(self):
        return self.cluster.hosts[self.lender_name]

    def prepare(self, host):
        """After each boot."""
        host.check(f"echo {HUNG_TASK_S} >/proc/sys/kernel/hung_task_timeout_secs; for which in io admin; do "
                   f"echo {DRIVER_TIMEOUT_S} >/sys/module/nvme_core/parameters/${{which}}_timeout; done 2>/dev/null; true")

    # ---- loans ----

    def borrow(self, host, dma=None):
        """Lends the drive to a host's own kernel; where it is there: its function and its disk."""
        # On a busy machine a stream to the controller may have ended meanwhile.
        self.cluster.wait_joined([host, self.lender_name], AVAILABLE_S)
        self.cluster.ok("borrow", self.device, "--host", host, *(["--dma", dma] if dma else []))
        loan = self.cluster.loan(self.cluster.device(self.device)["loan"])
        return loan["function"], self.cluster.hosts[host].block_device(loan["function"])

    def in_service(self, host):
        """The drive is lent once more, works, and is returned."""
        function, disk = self.borrow(host)
        machine = self.cluster.hosts[host]
        machine.check(f"[ $(dd if={disk} bs=4k count=4 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c) = 0 ] || {{ echo something of an earlier loan is on it; exit 1; }}; "
                      f"yes {self.device} | dd of={disk} bs=4k count=1 iflag=fullblock oflag=direct 2>/dev/null && "
                      f"[ \"$(dd if={disk} bs=4k count=1 iflag=direct 2>/dev/null | head -n 1)\" = {self.device} ]", 60)
        self.cluster.ok("return", self.device)
        machine.wait(f"[ ! -e /sys/bus/pci/devices/{function} ]", "the end of the function")

    def restart_agent(self, host):
        """SIGKILL, and then it is started as often as it takes: what serves units does so, too."""
        host.kill_agent()
        self.cluster.wait_until(f"{host.name} is known to be down", lambda: self.cluster.host(host.name)["state"] != "up", 10)
        deadline = time.monotonic() + AVAILABLE_S
        while True:
            host.start_agent()
            found = self.cluster.wait_until(f"{host.name} joins", lambda: "dead" if not self.alive(host) else
                                            self.cluster.host(host.name)["state"] == "up", AVAILABLE_S)
            if found is True:
                return
            check_quietly(f"{host.name}'s agent starts", time.monotonic() < deadline, host.logs())
            time.sleep(0.2)

    @staticmethod
    def alive(host):
        return host.run("kill -0 $(cat /run/lanepool/agent.pid)").status == 0

    # ---- what happens. Each ends the loan or says so by returning False. ----

    def happen_return(self, load):
        """Nothing uses it any more."""
        load.stop()
        self.cluster.ok("return", self.device)

    def happen_refused_return(self, load):
        result = self.cluster.run("return", self.device)
        if load.kind == "none":
            check_quietly("what nobody uses is returned", result.returncode == 0, result.stderr)
            return True
        check_quietly("what is used is not returned", result.returncode != 0, result.stdout)
        check_quietly("and it says by whom", ("/mnt/load" if load.kind == "file-system" else "process") in result.stderr, result.stderr)
        load.goes_on()
        return False

    def happen_reclaim(self, load):
        self.cluster.ok("reclaim", self.device)

    def happen_sysfs_remove(self, load):
        self.borrower.check(f"echo 1 >/sys/bus/pci/devices/{self.function}/remove", 60)
        load.ends()
        if self.random.random() < 0.5:
            self.cluster.ok("return", self.device)

    def happen_unbind(self, load):
        self.borrower.check(f"echo {self.function} >/sys/bus/pci/devices/{self.function}/driver/unbind", 60)
        load.ends()
        self.cluster.ok("return", self.device)

    def happen_borrower_agent_killed(self, load):
        self.restart_agent(self.borrower)

    def happen_lender_agent_killed(self, load):
        self.restart_agent(self.lender)

    def happen_lender_killed(self, load):
        self.lender.kill()
        self.cluster.wait_until("the device is known to be gone", lambda: self.cluster.device(self.device)["state"] == "offline", 20)
        self.lender.boot()
        self.prepare(self.lender)

    def happen_lender_link(self, load):
        self.link_breaks(self.lender_name)

    def happen_borrower_link(self, load):
        self.link_breaks(self.borrower_name)

    def link_breaks(self, host):
        loan = self.cluster.device(self.device)["loan"]
        self.cluster.link(host, False)
        try:
            self.cluster.wait_until("the loan is lost", lambda: self.cluster.loan(loan)["state"] in ("failed", "returned"), 30)
        finally:
            self.cluster.link(host, True)

    def happen_controller_restarted(self, load):
        self.cluster.restart_controller()
        for host in (self.borrower_name, self.lender_name):
            self.cluster.wait_until(f"{host} joins again", lambda: self.cluster.host(host)["state"] == "up", 20)
        load.goes_on()
        check_quietly("the loan is as it was", self.cluster.device(self.device)["state"] == "lent")
        return False

    KINDS = ("return", "refused_return", "reclaim", "sysfs_remove", "unbind", "borrower_agent_killed", "lender_agent_killed",
             "lender_killed", "lender_link", "borrower_link", "controller_restarted")

    # ---- a case ----

    def case(self, number, kind, other):
        load_kind = self.random.choice(list(LOADS))
        dma = self.random.choice(("bounce", "bounce", "iommu"))
        by_other = self.random.random() < 0.3
        case = f"case {number}, {self.kernel}, {kind.replace('_', ' ')} with load {load_kind}, {dma}"
        with self.lock:
            self.function, disk = self.borrow(self.borrower_name, dma)
            load = Load(self.borrower, load_kind, disk)
            time.sleep(self.random.random() * 0.3)
            start = time.monotonic()
            ended = getattr(self, f"happen_{kind}")(load)
            if ended is False:
                # The loan has outlived it.
                load.stop()
                load.honest()
                start = time.monotonic()
                self.cluster.ok("return", self.device)
            with concurrent.futures.ThreadPoolExecutor() as pool:
                clean = pool.submit(self.borrower_clean, load, start)
                self.cluster.wait_device(self.device, "available", AVAILABLE_S)
                available = time.monotonic() - start
                clean = clean.result()
            load.honest()
            self.nothing_left()
        again = time.monotonic()
        borrower = self.borrower_name
        if by_other and other.lock.acquire(blocking=False):
            try:
                borrower = other.borrower_name
                self.in_service(borrower)
            finally:
                other.lock.release()
        else:
            with self.lock:
                self.in_service(borrower)
        again = time.monotonic() - again
        self.results.append((kind, clean, available, available + again))
        print(f"  ok  {case}: borrower clean after {clean:.1f} s, drive available after {available:.1f} s, "
              f"used by {borrower} and returned in {again:.1f} s", flush=True)

    def borrower_clean(self, load, start):
        """Seconds until nothing of the loan is there any more."""
        load.ends()
        self.borrower.wait(f"[ ! -e /sys/bus/pci/devices/{self.function} ]", f"the end of {self.function}", CLEAN_S)
        return time.monotonic() - start

    def nothing_left(self):
        for host in (self.borrower, self.lender):
            check_quietly(f"{host.name}'s kernel has nothing to complain of", host.troubles() == [], host.troubles())
            host.check("dmesg -c >/dev/null")
            host.wait("! grep -lE '^[0-9]+ \\(.*\\) D ' /proc/[0-9]*/stat 2>/dev/null", f"{host.name} has no process that hangs", 10)
            self.cluster.wait_until(f"{host.name}'s agent knows of no loan", lambda: self.idle(host), 20)
        said = self.borrower.check("memory_tool info")
        check_quietly("the bridge is there for the next one", "state 0" in said, said)
        check_quietly("no loan is left", all(loan["device"] != self.device for loan in self.cluster.json("loans")))

    @staticmethod
    def idle(host):
        status = json.loads(host.check("memory_tool status /run/lanepool/admin.sock"))
        return status["ready"] and status["steps_under_way"] == 0 and not status["loans"] and not status["leftovers"]

    def start_anew(self):
        """Both hosts, after a case that has failed."""
        for host in (self.borrower, self.lender):
            host.kill()
            host.boot()
            self.prepare(host)
        self.cluster.wait_joined([self.borrower_name, self.lender_name])
        self.cluster.link(self.borrower_name, True)
        self.cluster.link(self.lender_name, True)
        if self.cluster.device(self.device)["state"] == "quarantined":
            self.cluster.ok("restore", self.device)
        self.cluster.wait_device(self.device, "available", 120)

    def cases(self, kinds, other):
        """Cases, by number; those that have failed."""
        failed = []
        for number, kind in kinds:
            try:
                self.case(number, kind, other)
            except (CheckFailed, GuestError, OSError) as problem:
                failed.append(number)
                print(f"FAIL  case {number}, {self.kernel}, {kind}: {problem}\n{traceback.format_exc(limit=4)}", flush=True)
                for host in (self.borrower, self.lender):
                    with contextlib.suppress(GuestError, AttributeError):
                        print(host.logs(25) + "\n--- dmesg\n" + host.run("dmesg | tail -n 40", 10).text, flush=True)
                with self.lock:
                    self.start_anew()
        return failed


def deal(count):
    """Kinds for so many cases: all of them, in random order, over and over."""
    wanted = os.environ.get("LANEPOOL_KINDS")
    kinds = [kind for kind in Lane.KINDS if not wanted or kind in wanted.split(",")]
    dealer, deck = random.Random(SEED), []
    while len(deck) < count:
        dealer.shuffle(kinds)
        deck += kinds
    return list(enumerate(deck[:count], 1))


def summary(lanes):
    print(f"{'what happened':24} cases  borrower clean   available        in service again (median, longest; s)")
    for kind in Lane.KINDS:
        rows = [row[1:] for lane in lanes for row in lane.results if row[0] == kind]
        if rows:
            columns = [sorted(column) for column in zip(*rows)]
            print(f"{kind.replace('_', ' '):24} {len(rows):5}  " + "   ".join(f"{column[len(column) // 2]:6.1f} {column[-1]:6.1f}" for column in columns))


def main():
    print(f"LANEPOOL_SEED={SEED}, {CASES} cases", flush=True)
    begin = time.monotonic()
    with Pool(ports=4) as cluster:
        whole = {f"host{i}": dict(kernel=kernel, borrows=True, programs=[PROGRAM, TOOL]) for i, kernel in enumerate(KERNELS)}
        # Each kernel lends to the other one.
        whole |= {f"store{i}": dict(kernel=kernel, lend=["nvme0"], devices=[nvme("nvme0", 16)], programs=[PROGRAM, TOOL])
                  for i, kernel in enumerate(reversed(KERNELS))}
        cluster.start_hosts(whole=whole)
        cluster.partitions = {name: cluster.host(name)["partition"] for name in whole}
        lanes = [Lane(cluster, i, kernel) for i, kernel in enumerate(KERNELS)]
        for lane in lanes:
            lane.prepare(lane.borrower)
            lane.prepare(lane.lender)
            cluster.ok("restore", lane.device)
        check(f"four whole hosts are up, both drives are the pool's after {time.monotonic() - begin:.1f} s", True)
        kinds = deal(CASES)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            jobs = [pool.submit(lane.cases, kinds[i::2], lanes[1 - i]) for i, lane in enumerate(lanes)]
            failed = sorted(number for job in jobs for number in job.result())
        summary(lanes)
        check(f"all {CASES} cases in {time.monotonic() - begin:.0f} s", not failed, f"LANEPOOL_SEED={SEED}: {failed}")
        for lane in lanes:
            lane.borrower.unload_bridge()
        check("both bridge modules unload", True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
