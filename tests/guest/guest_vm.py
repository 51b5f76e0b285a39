# SPDX-License-Identifier: Apache-2.0
"""Starts guests: the QEMU command line of docs/guest.md, QMP, and a tidy end."""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

from guest_exec import GuestError, GuestExec


def cache_dir():
    """Where script/bootstrap puts QEMU and the guest image."""
    env = os.environ
    return pathlib.Path(env.get("LANEPOOL_CACHE") or
                        pathlib.Path(env.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "lanepool")


def machine_argv(folder, name, memory_mib, kernel, initramfs, append, log_options="", cache=None):
    """What guests and whole hosts have in common, as src/dev/emulated_machine.h has it: processor, memory, IOMMU, kernel, serial
    line, monitor and exec channel, with sockets and log in folder. append: more words for the kernel."""
    return [
        str((cache or cache_dir()) / "bin/qemu-system-x86_64"),
        "-name", name, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", "q35,memory-backend=ram,kernel-irqchip=split,usb=off,vmport=off",
        "-accel", "tcg", "-cpu", "qemu64,+rdrand", "-smp", "1,maxcpus=2",
        "-m", f"{memory_mib}M",
        "-object", f"memory-backend-memfd,id=ram,size={memory_mib}M,share=on",
        "-device", "intel-iommu,caching-mode=on,intremap=on",
        "-kernel", str(kernel), "-initrd", str(initramfs),
        "-append", ("console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable clocksource=tsc intel_iommu=on "
                    f"lanepool.hostname={name} {append}").strip(),
        "-chardev", f"file,id=serial,path={folder}/serial.log{log_options}", "-serial", "chardev:serial",
        "-qmp", f"unix:{folder}/qmp.sock,server=on,wait=off",
        "-chardev", f"socket,id=exec,path={folder}/exec.sock,server=on,wait=off",
        "-device", "virtio-serial-pci,id=vser,disable-legacy=on,max_ports=2",
        "-device", "virtserialport,bus=vser.0,nr=1,chardev=exec,name=lanepool.exec",
    ]


def guest_argv(folder, memory_mib=256, slots=4, name="guest", append="", cache=None, image=None,
               initramfs=None):
    """The command line of one guest whose sockets and log lie in folder. docs/guest.md says why each part is there.

    image: a folder with another kernel and initramfs than those of guests, such as a whole host's. initramfs: another
    file system than that folder's.
    """
    cache = cache or cache_dir()
    image = image or cache / "guest/current"
    kernel = next(path for path in (image / "vmlinux", image / "vmlinuz") if path.exists())
    argv = machine_argv(folder, name, memory_mib, kernel, initramfs or image / "initramfs.img", f"iommu=pt {append}", cache=cache)
    for slot in range(slots):
        argv += ["-device", f"pcie-root-port,id=rp{slot},bus=pcie.0,chassis={slot + 1},slot={slot + 1},pref64-reserve=64M"]
    return argv


class Qmp:
    """A QMP connection. Events that arrive are kept until somebody waits for them."""

    def __init__(self, path, deadline):
        while True:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._socket.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                self._socket.close()
                if time.monotonic() > deadline:
                    raise GuestError(f"no QMP at {path}") from None
                time.sleep(0.01)
        self._stream = self._socket.makefile("rb")
        self._events = []
        self._socket.settimeout(30)
        self._stream.readline()
        self.execute("qmp_capabilities")

    def _message(self):
        line = self._stream.readline()
        if not line:
            raise GuestError("QEMU closed its QMP connection")
        return json.loads(line)

    def execute(self, command, **arguments):
        self._socket.settimeout(30)
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self._message()
            if "event" in message:
                self._events.append(message)
            elif "error" in message:
                raise GuestError(f"QMP {command}: {message['error']['desc']}")
            else:
                return message["return"]

    def wait_event(self, name, timeout_s=10, **data):
        """The first event of that name whose data has these values. It is forgotten afterwards."""
        deadline = time.monotonic() + timeout_s
        while True:
            for event in self._events:
                if event["event"] == name and data.items() <= event.get("data", {}).items():
                    self._events.remove(event)
                    return event
            left = deadline - time.monotonic()
            if left <= 0:
                raise GuestError(f"no QMP event {name} within {timeout_s} s")
            self._socket.settimeout(left)
            try:
                message = self._message()
            except TimeoutError:
                continue
            if "event" in message:
                self._events.append(message)

    def close(self):
        self._stream.close()
        self._socket.close()


class Guest:
    """A running guest; use it with 'with'. Its folder goes when it does."""

    def __init__(self, name="guest", boot_timeout_s=60, extra_args=(), cpus=None, **options):
        """extra_args are appended to the command line; cpus pins QEMU's threads; options go to guest_argv."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lanepool-guest."))
        self.process = self.qmp = self.exec = None
        start = time.monotonic()
        try:
            argv = guest_argv(self.folder, name=name, **options) + list(extra_args)
            pin = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
            with open(self.folder / "qemu.log", "wb") as log:
                self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=pin)
            self.qmp = Qmp(self.folder / "qmp.sock", start + 10)
            self.exec = GuestExec(str(self.folder / "exec.sock"), boot_timeout_s)
            self.boot_s = time.monotonic() - start
        except GuestError as error:
            logs = self.logs()
            self.close()
            raise GuestError(f"{error}\n{logs}") from None
        except BaseException:
            self.close()
            raise

    def logs(self):
        """The last lines of QEMU's messages and of the serial line."""
        parts = []
        for name in ("qemu.log", "serial.log"):
            path = self.folder / name
            if path.exists():
                parts.append(f"--- {name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-20:]))
        return "\n".join(parts)

    def plug(self, driver, device_id, bus, **properties):
        """Hot-adds a device."""
        self.qmp.execute("device_add", driver=driver, id=device_id, bus=bus, **properties)

    def plug_vfio_user(self, device_id, bus, path, **properties):
        self.plug("vfio-user-pci", device_id, bus, socket={"type": "unix", "path": str(path)}, **properties)

    def unplug(self, device_id, timeout_s=10):
        """Asks the guest to give a device up, and waits until it is gone."""
        self.qmp.execute("device_del", id=device_id)
        self.qmp.wait_event("DEVICE_DELETED", timeout_s, device=device_id)

    def power_off(self, timeout_s=20):
        """Lets the guest shut down. Raises when it does not."""
        # Not waited for: the guest is gone before it could answer.
        self.exec.start("sync; poweroff -f")
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise GuestError("the guest did not power off") from None
        if status != 0:
            raise GuestError(f"QEMU ended with {status}\n{self.logs()}")

    def close(self):
        """Ends QEMU, however it stands, and removes the folder."""
        for part in (self.exec, self.qmp):
            if part:
                part.close()
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
