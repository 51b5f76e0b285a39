# SPDX-License-Identifier: Apache-2.0
"""The block systems that are compared: each boots a guest, attaches one disk over the same file, and gives its name.

All disks are hot-added to the same guest, and all processes of a system share the same cores: the guest's processor has the first for
itself, everything else the others.
"""
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/guest"))
from guest_exec import GuestError, GuestExec  # noqa: E402
from guest_vm import Guest, Qmp, cache_dir, guest_argv  # noqa: E402


class Unavailable(Exception):
    """A system that cannot be measured on this machine; the text says why."""


@dataclasses.dataclass
class Setup:
    """What all systems of a comparison share."""
    file: pathlib.Path
    size_bytes: int
    cpus: list
    polled: bool = False

    @property
    def vcpu_cpus(self):
        return self.cpus[:1]

    @property
    def other_cpus(self):
        return self.cpus[1:] or self.cpus

    def prepare(self, guest_exec):
        """Before a disk is added: the driver takes its number of polled queues when it meets a controller."""
        guest_exec.check(f"echo {int(self.polled)} > /sys/module/nvme/parameters/poll_queues")


class Running:
    """A system that is up: a guest's exec channel, its disk, and the processes that work for it."""

    def __init__(self, guest_exec, device, pids):
        self.exec, self.device, self.pids = guest_exec, device, pids

    def cpu_s(self):
        """Processor seconds that its processes have taken so far, on the host."""
        ticks = 0
        for pid in self.pids:
            with contextlib.suppress(FileNotFoundError):
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def pin_threads(pid, qmp, vcpu_cpus, other_cpus):
    """Fixes a guest's processors to their cores, and QEMU's other threads, now and later, to the others."""
    vcpus = {cpu["thread-id"] for cpu in qmp.execute("query-cpus-fast")}
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), vcpu_cpus if int(thread) in vcpus else other_cpus)


@contextlib.contextmanager
def booted(setup, name="bench", append="", **options):
    """A guest with its threads pinned."""
    with Guest(name=name, append=append, **options) as guest:
        pin_threads(guest.process.pid, guest.qmp, setup.vcpu_cpus, setup.other_cpus)
        setup.prepare(guest.exec)
        yield guest


@contextlib.contextmanager
def daemon(argv, cpus, socket_path, timeout_s=10):
    """A server process on the given cores that makes a Unix socket; it is ended afterwards."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        try:
            deadline = time.monotonic() + timeout_s
            while not socket_path.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise Unavailable(f"{pathlib.Path(argv[0]).name} made no socket: {log.read().decode(errors='replace')[-500:]}")
                time.sleep(0.01)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def disks(guest_exec):
    return set(guest_exec.check("ls /sys/block | grep -E '^(nvme[0-9]+n[0-9]+|vd[a-z]+)$' || true").split())


def wait_disk(guest_exec, before, size_bytes, timeout_s=15):
    """The path of the disk that has appeared since."""
    deadline = time.monotonic() + timeout_s
    while True:
        new = disks(guest_exec) - before
        if new:
            device = "/dev/" + new.pop()
            size = int(guest_exec.check(f"blockdev --getsize64 {device}"))
            if size != size_bytes:
                raise GuestError(f"{device} has {size} bytes instead of {size_bytes}")
            return device
        if time.monotonic() > deadline:
            raise GuestError(f"no disk appeared within {timeout_s} s: {guest_exec.run('dmesg | tail -n 5').text}")
        time.sleep(0.05)


class System:
    """One way of giving a guest the file as a disk. attach() is a context that yields a Running."""
    name = ""
    can_poll = False  # whether its driver can poll for completions

    def attach(self, setup):
        raise NotImplementedError


class QemuNvme(System):
    """QEMU's own NVMe controller."""
    can_poll = True

    def __init__(self, aio):
        self.aio, self.name = aio, f"qemu-nvme-{aio}"

    @contextlib.contextmanager
    def attach(self, setup):
        with booted(setup) as guest:
            cache = {"direct": self.aio == "native", "no-flush": False}
            try:
                guest.qmp.execute("blockdev-add", driver="file", filename=str(setup.file), aio=self.aio, cache=cache,
                                  **{"node-name": "file"})
            except GuestError as error:
                raise Unavailable(str(error)) from None
            before = disks(guest.exec)
            guest.plug("nvme", "disk", "rp0", serial="bench", drive="file")
            yield Running(guest.exec, wait_disk(guest.exec, before, setup.size_bytes), [guest.process.pid])


class NullBlk(System):
    """No device at all: what fio and the guest's block layer cost by themselves, which no drive can be quicker than."""
    name = "null-blk"
    can_poll = True

    @contextlib.contextmanager
    def attach(self, setup):
        with booted(setup) as guest:
            # queue_mode 2: blk-mq; irqmode 0: complete at once. As large as the others.
            guest.exec.check(f"modprobe null_blk queue_mode=2 irqmode=0 nr_devices=1 poll_queues={int(setup.polled)} "
                             f"gb={setup.size_bytes >> 30 or 1}")
            yield Running(guest.exec, "/dev/nullb0", [guest.process.pid])


class VhostUserBlk(System):
    """qemu-storage-daemon serving vhost-user-blk."""
    name = "vhost-user-blk"

    @contextlib.contextmanager
    def attach(self, setup):
        with tempfile.TemporaryDirectory(prefix="lanepool-bench.") as folder, booted(setup, append="lanepool.modules=virtio_blk") as guest:
            path = pathlib.Path(folder) / "vhost.sock"
            argv = [str(cache_dir() / "bin/qemu-storage-daemon"),
                    "--blockdev", f"driver=file,node-name=file,filename={setup.file},aio=threads",
                    "--export", f"type=vhost-user-blk,id=e,node-name=file,addr.type=unix,addr.path={path},writable=on"]
            with daemon(argv, setup.other_cpus, path) as server:
                before = disks(guest.exec)
                guest.qmp.execute("chardev-add", id="vhost", backend={"type": "socket", "data": {
                    "addr": {"type": "unix", "data": {"path": str(path)}}, "server": False}})
                guest.plug("vhost-user-blk-pci", "disk", "rp0", chardev="vhost", **{"num-queues": 1})
                yield Running(guest.exec, wait_disk(guest.exec, before, setup.size_bytes), [guest.process.pid, server.pid])


class NvmeTcp(System):
    """The kernel's NVMe/TCP, host and target.

    No target can be had from Debian's packages that runs without a kernel module on this machine: it is the kernel's, in a
    second guest. Its store is a block device in that guest's memory, the quickest there is, so that the network and
    the protocol are what is seen.
    """
    name = "nvme-tcp"
    NQN = "nqn.2026-01.test.lanepool:bench"

    @contextlib.contextmanager
    def attach(self, setup):
        with tempfile.TemporaryDirectory(prefix="lanepool-bench.") as folder:
            path = f"{folder}/net.sock"
            # The target gets the cores that a server has in the other systems.
            store = dataclasses.replace(setup, cpus=setup.other_cpus)
            memory_mib = (setup.size_bytes >> 20) + 256
            with booted(store, name="target", memory_mib=memory_mib, extra_args=self._network(path, True, 1)) as target, \
                    booted(setup, extra_args=self._network(path, False, 2)) as guest:
                self._serve(target.exec, setup.size_bytes)
                guest.exec.check("modprobe -a virtio_net nvme_tcp && ip addr add 10.0.0.2/24 dev eth0 && ip link set eth0 up")
                before = disks(guest.exec)
                guest.exec.check(f"for i in $(seq 50); do ping -c 1 -W 1 10.0.0.1 >/dev/null && break; done; "
                                 f"nvme connect -t tcp -a 10.0.0.1 -s 4420 -n {self.NQN} --nr-io-queues=1")
                yield Running(guest.exec, wait_disk(guest.exec, before, setup.size_bytes),
                              [guest.process.pid, target.process.pid])

    @staticmethod
    def _network(path, server, number):
        return ["-netdev", f"stream,id=net,server={'on' if server else 'off'},addr.type=unix,addr.path={path}",
                "-device", f"virtio-net-pci,netdev=net,mac=52:54:00:00:00:{number:02x},romfile=,disable-legacy=on"]

    def _serve(self, target, size_bytes):
        root = "/sys/kernel/config/nvmet"
        target.check(f"""set -e
            modprobe -a virtio_net nvmet_tcp
            modprobe null_blk nr_devices=0
            ip addr add 10.0.0.1/24 dev eth0
            ip link set eth0 up
            mount -t configfs none /sys/kernel/config
            mkdir /sys/kernel/config/nullb/store
            cd /sys/kernel/config/nullb/store
            echo {size_bytes >> 20} > size
            echo 1 > memory_backed
            echo 0 > irqmode
            echo 1 > power
            mkdir -p {root}/subsystems/{self.NQN}
            cd {root}/subsystems/{self.NQN}
            echo 1 > attr_allow_any_host
            mkdir namespaces/1
            echo /dev/$(ls /sys/block | grep -m1 -E 'null|store') > namespaces/1/device_path
            echo 1 > namespaces/1/enable
            mkdir {root}/ports/1
            cd {root}/ports/1
            echo 10.0.0.1 > addr_traddr
            echo tcp > addr_trtype
            echo 4420 > addr_trsvcid
            echo ipv4 > addr_adrfam
            ln -s {root}/subsystems/{self.NQN} subsystems/""")
        # As a file on tmpfs would be: every page is there before it is measured.
        target.check("dd if=/dev/zero of=/dev/$(ls /sys/block | grep -m1 -E 'null|store') bs=1M 2>/dev/null || true", timeout_s=120)


class VfioUser(System):
    """Any vfio-user NVMe device. serve is a context that takes a Setup and yields the socket's path and the server's pids."""
    can_poll = True

    def __init__(self, name, serve):
        self.name, self._serve = name, serve

    @contextlib.contextmanager
    def attach(self, setup):
        with self._serve(setup) as (path, pids), booted(setup) as guest:
            before = disks(guest.exec)
            guest.plug_vfio_user("disk", "rp0", path)
            yield Running(guest.exec, wait_disk(guest.exec, before, setup.size_bytes), [guest.process.pid, *pids])


@contextlib.contextmanager
def model_server(binary, setup):
    """`lanepool model nvme` over the file: what the system "local" attaches."""
    if not os.access(binary, os.X_OK):
        raise Unavailable(f"{binary} is not there; run script/build")
    with tempfile.TemporaryDirectory(prefix="lanepool-bench.") as folder:
        path = pathlib.Path(folder) / "nvme.sock"
        argv = [str(binary), "model", "nvme", "--socket", str(path), "--file", str(setup.file), "--size", str(setup.size_bytes)]
        with daemon(argv, setup.other_cpus, path) as server:
            yield path, [server.pid]


@contextlib.contextmanager
def given_socket(path):
    """A socket that somebody else serves."""
    if not pathlib.Path(path).is_socket():
        raise Unavailable(f"{path} is not a socket")
    yield path, []


class Lent(System):
    """A drive of host "store", lent over the virtual fabric to the guest of host "a": an embedded cluster of its own.

    Its model serves a file on the same tmpfs, since two processes may not serve one file.
    """
    name = "lent"
    can_poll = True

    def __init__(self, binary):
        self._binary = binary

    @contextlib.contextmanager
    def attach(self, setup):
        if not os.access(self._binary, os.X_OK):
            raise Unavailable(f"{self._binary} is not there; run script/build")
        with tempfile.TemporaryDirectory(prefix="lent.", dir=setup.file.parent) as folder:
            try:
                self._lanepool(folder, "dev", "up", "--drives", "1", "--drive-size", str(setup.size_bytes), "--hosts", "a")
                pids = self._pin(folder, setup)
                guest_exec = GuestExec(f"{folder}/guest-a/exec.sock")
                try:
                    setup.prepare(guest_exec)
                    before = disks(guest_exec)
                    self._lanepool(folder, "borrow", "store/nvme0", "--host", "a")
                    device = wait_disk(guest_exec, before, setup.size_bytes)
                    # The file of the others has all its blocks, too.
                    guest_exec.check(f"dd if=/dev/zero of={device} bs=1M count={setup.size_bytes >> 20} oflag=direct 2>&1", 300)
                    yield Running(guest_exec, device, pids)
                finally:
                    guest_exec.close()
            finally:
                self._lanepool(folder, "dev", "down", "--keep", check=False)

    def _lanepool(self, folder, *words, check=True):
        environment = dict(os.environ, LANEPOOL_DEV_DIR=folder, LANEPOOL_CONTROLLER=f"unix:{folder}/controller.sock")
        result = subprocess.run([str(self._binary), *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                                text=True, timeout=120, check=False)
        if check and result.returncode != 0:
            raise GuestError(f"lanepool {' '.join(words)} ended with {result.returncode}: {(result.stdout + result.stderr).strip()}")
        return result.stdout

    def _pin(self, folder, setup):
        """Puts the cluster's processes where a system's belong. Returns their pids."""
        processes = {p["name"]: p["pid"] for p in json.loads(self._lanepool(folder, "-o", "json", "dev", "status"))}
        check_same_guest(processes["guest-a"], f"{folder}/guest-a")
        for name, pid in processes.items():
            if name != "guest-a":
                for thread in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setaffinity(int(thread), setup.other_cpus)
        qmp = Qmp(f"{folder}/guest-a/qmp.sock", time.monotonic() + 10)
        pin_threads(processes["guest-a"], qmp, setup.vcpu_cpus, setup.other_cpus)
        qmp.close()
        return list(processes.values())


def check_same_guest(pid, folder):
    """Figures compare only if the guest is started as all others are."""
    words = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    append = words[words.index("-append") + 1] if "-append" in words else ""
    name = append.rpartition("lanepool.hostname=")[2]
    expected = guest_argv(folder, name=name)
    for option in ("-machine", "-accel", "-cpu", "-smp", "-m", "-append"):
        there = words[words.index(option) + 1] if option in words else None
        if there != expected[expected.index(option) + 1]:
            raise GuestError(f"the lent guest has {option} '{there}' where docs/guest.md has "
                             f"'{expected[expected.index(option) + 1]}': it cannot be compared")
