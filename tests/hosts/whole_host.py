# SPDX-License-Identifier: Apache-2.0
"""Whole Linux hosts: QEMU guests with an IOMMU, devices of QEMU's own and a port of the fabric as an adapter card.

docs/whole-hosts.md says how they are made and why each part of the command line is there.
"""
import base64
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "guest"))
from guest_exec import GuestError, GuestExec  # noqa: E402
from guest_vm import Qmp, cache_dir, machine_argv  # noqa: E402
from overlay import initramfs_with  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = pathlib.Path(os.environ.get("LANEPOOL_PROGRAM") or ROOT / "build/lanepool")
# File systems with programs in them.
STORE = ROOT / "build/host-programs"
KERNELS = ("6.1", "6.12")
# What script/bootstrap bridge builds for them: a folder VERSION with modules.
BUILT_MODULES = pathlib.Path(os.environ.get("LANEPOOL_BRIDGE_MODULES") or cache_dir() / "bridge")
# What a kernel says when something is wrong with itself. Faults of the IOMMU are none of it: a device that is gone by surprise
# goes on with what it was told, and the IOMMU is what stops it from writing to memory that its driver has freed.
TROUBLE = re.compile(r"WARNING|BUG:|KASAN|UBSAN|(?i:oops|call trace|general protection|refcount|use-after-free|hung task|lockup|leak)")
# The machine itself, as a whole host sees it through QEMU's user network.
THIS_MACHINE = "10.0.2.2"
# The first root port's slot; each device has one, in the order of the list.
FIRST_SLOT = 0x10


class Device:
    """One of a host's devices. driver and properties are QEMU's; 'before' and 'behind' stand around it on the command line.

    disk_mib gives it a disk: a sparse file that lives as long as the WholeHost, also over a crash and a new boot. Its path
    is {disk} in 'before' and 'behind'.
    """

    def __init__(self, name, driver, disk_mib=0, before=(), behind=(), port="", **properties):
        self.name, self.driver, self.disk_mib = name, driver, disk_mib
        self.before, self.behind, self.port, self.properties = list(before), list(behind), port, properties

    def argv(self, bus, disk):
        words = [self.driver, f"id={self.name}", f"bus={bus}"]
        words += [f"{key}={value}" for key, value in self.properties.items()]
        argv = [*self.before, "-device", ",".join(words), *self.behind]
        return [word.replace("{disk}", str(disk)) for word in argv]


def nvme(name, disk_mib=64, **properties):
    """QEMU's NVMe drive. Without shadow doorbells: when they are in a borrower's memory, which goes, it reads an end of its queue that is
    none, and its whole machine stands still for ever."""
    return Device(name, "nvme", disk_mib, before=["-drive", f"id=disk-{name},file={{disk}},format=raw,if=none"],
                  drive=f"disk-{name}", serial=name, dbcs="off", **properties)


def nvme_with_functions(name, functions=2, disk_mib=32):
    """An NVMe drive with SR-IOV. Its parent has namespace 1, and each function one of its own, from 2 on, of the same size,
    which is attached to nobody at first: function i (from 1 on) is controller i of the subsystem and gets namespace i + 1.
    Each function gets queues and interrupts from those that are flexible: three and two."""
    queues, vectors = 3 * functions, 2 * functions
    behind = []
    for namespace in range(1, functions + 2):
        # One file for all of them: the disks lie in it one after the other.
        drive = f"disk-{name}-{namespace}"
        behind += ["-drive", f"id={drive},file.filename={{disk}},file.driver=file,file.locking=off,driver=raw,offset={(namespace - 1) * disk_mib << 20},"
                             f"size={disk_mib << 20},if=none",
                   "-device", f"nvme-ns,bus={name},drive={drive},nsid={namespace},"
                              + ("shared=off" if namespace == 1 else "shared=on,detached=on")]
    return Device(name, "nvme", disk_mib * (functions + 1), port=",mem-reserve=8M,pref64-reserve=8M",
                  before=["-device", f"nvme-subsys,id=subsys-{name}"], behind=behind,
                  serial=name, dbcs="off", subsys=f"subsys-{name}", max_ioqpairs=queues + 3, msix_qsize=vectors + 3,
                  sriov_max_vfs=functions, sriov_vq_flexible=queues, sriov_vi_flexible=vectors)


def igb(name, network, mac):
    """Intel's 82576 NIC, which has SR-IOV with up to seven functions. network: arguments of -netdev, without the id."""
    return Device(name, "igb", port=",mem-reserve=8M,pref64-reserve=8M", mac=mac, netdev=f"net-{name}",
                  before=["-netdev", f"{network},id=net-{name}"])


def edu(name, dma_mask=(1 << 48) - 1):
    """QEMU's teaching device with a DMA engine. By itself it has 28 address bits, which no address of a window fits in."""
    return Device(name, "edu", dma_mask=hex(dma_mask))


def gpu(name, width=1000, height=500):
    """A GPU-class function whose DMA the IOMMU translates. QEMU copies a picture that lies behind a trapped window 8 bytes at a
    time, and stands still meanwhile: let a borrower's driver show none (drm_kms_helper.fbdev_emulation=0)."""
    return Device(name, "virtio-gpu-pci", iommu_platform="on", xres=width, yres=height, **{"disable-legacy": "on"})


def keep(file, path):
    """Has a file as path, too: a later boot still needs it when the store has thrown it out for others."""
    try:
        os.link(file, path)
    except OSError:  # another file system
        shutil.copyfile(file, path)


class WholeHost:
    """A whole host; use it with 'with'. Its disks live as long as it does: kill() and boot() are a crash and a reboot."""

    def __init__(self, name, kernel="6.1", devices=(), adapter_socket=None, programs=(PROGRAM,), memory_mib=512,
                 state_mib=16, append="", extra_args=(), boot_timeout_s=90, boot=True):
        """adapter_socket: a port of 'lanepool fabric'. programs: executables of this machine, put into /usr/bin there.
        state_mib: a disk of its own at /var/lib/lanepool; the rest of its file system is new at each boot.
        append: more words for the kernel's command line. extra_args: more arguments for QEMU."""
        assert kernel in KERNELS, kernel
        self.name, self.kernel, self.devices = name, kernel, list(devices)
        self.adapter_socket, self.memory_mib = adapter_socket, memory_mib
        self.append, self.extra_args, self.boot_timeout_s = append, list(extra_args), boot_timeout_s
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"lanepool-host-{name}."))
        self.process = self.qmp = self.exec = None
        try:
            self.image = cache_dir() / "hosts" / kernel
            if not self.image.exists():
                raise GuestError(f"{self.image} is missing: run script/bootstrap")
            self.initramfs = self.folder / "initramfs.img"
            keep(initramfs_with(self.image / "initramfs.img", programs, STORE), self.initramfs)
            disks = {device.name: device.disk_mib for device in self.devices if device.disk_mib}
            for disk, size_mib in {**disks, "state": state_mib}.items():
                with open(self.disk(disk), "wb") as file:
                    file.truncate(size_mib << 20)
            if boot:
                self.boot()
        except BaseException:
            self.close()
            raise

    def disk(self, name):
        """The file behind a device's disk."""
        return self.folder / f"{name}.raw"

    def argv(self):
        words = machine_argv(self.folder, self.name, self.memory_mib, self.image / "vmlinux", self.initramfs,
                             f"lanepool.modules=vfio_pci,vfio_iommu_type1 lanepool.network lanepool.coldplug {self.append}",
                             log_options=",append=on")
        words += [
            "-netdev", "user,id=wan", "-device", "virtio-net-pci,netdev=wan,disable-legacy=on,romfile=",
            # What a guest has synced is on the disk when QEMU is killed, whether or not QEMU has synced it.
            "-drive", f"id=state,file={self.disk('state')},format=raw,if=none,cache=unsafe",
            "-device", "virtio-blk-pci,drive=state,disable-legacy=on",
        ]
        for index, device in enumerate(self.devices):
            words += self._root_port(index, device.name, device.port)
            words += device.argv(f"rp-{device.name}", self.disk(device.name))
        if self.adapter_socket:
            words += self._root_port(len(self.devices), "adapter", "")
            words += ["-device", '{"driver":"vfio-user-pci","id":"adapter","bus":"rp-adapter","x-msg-timeout":5000,'
                                 f'"socket":{{"type":"unix","path":"{self.adapter_socket}"}}}}']
        return words + self.extra_args

    @staticmethod
    def _root_port(index, name, more):
        return ["-device", f"pcie-root-port,id=rp-{name},bus=pcie.0,addr={FIRST_SLOT + index:#x},chassis={index + 1},"
                           f"slot={index + 1}{more}"]

    def boot(self):
        """Starts it, and waits until it answers. boot_s says how long that took."""
        start = time.monotonic()
        try:
            with open(self.folder / "qemu.log", "ab") as log:
                self.process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.qmp = Qmp(self.folder / "qmp.sock", start + 10)
            self.exec = GuestExec(str(self.folder / "exec.sock"), self.boot_timeout_s)
            self.boot_s = time.monotonic() - start
            # The kernel makes disks known when it has looked at them, which driver loading does not wait for.
            self.check("for i in $(seq 100); do [ -b /dev/vda ] && break; sleep 0.05; done; mkdir -p /var/lib/lanepool && { mount -t ext4 /dev/vda /var/lib/lanepool 2>/dev/null || "
                       "{ mke2fs -qt ext4 /dev/vda && mount -t ext4 /dev/vda /var/lib/lanepool; }; }")
        except (GuestError, OSError) as error:
            raise GuestError(f"{error}\n{self.logs()}") from None

    # ---- inside ----

    def run(self, command, timeout_s=60):
        """Runs a shell command in it; a Result with status and text."""
        return self.exec.run(command, timeout_s)

    def check(self, command, timeout_s=60):
        """Runs a command that must succeed; its output."""
        return self.exec.check(command, timeout_s)

    def put(self, path, data, mode="644"):
        """Writes a file there."""
        self.check(f"mkdir -p $(dirname {path}) && : >{path} && chmod {mode} {path}")
        for start in range(0, len(data), 48 << 10):
            encoded = base64.b64encode(data[start:start + (48 << 10)]).decode()
            self.check(f"echo {encoded} | base64 -d >>{path}")

    def slot(self, name):
        """The address of the root port of a device, or of "adapter"."""
        names = [device.name for device in self.devices] + ["adapter"]
        return f"0000:00:{FIRST_SLOT + names.index(name):02x}.0"

    def address(self, name):
        """A device's address there, such as 0000:01:00.0; name is as in the list of devices, or "adapter"."""
        return self.check(f"cd /sys/bus/pci/devices/{self.slot(name)} && ls -d 0000:*.0").split()[0]

    def driver(self, address):
        """The driver that a function has there, or ''."""
        return self.check(f"basename $(readlink /sys/bus/pci/devices/{address}/driver || echo /)").strip().strip("/")

    def bind(self, driver, *addresses):
        """Binds functions, whatever has them, to a driver."""
        self.check(f"for a in {' '.join(addresses)}; do cd /sys/bus/pci/devices/$a && echo {driver} >driver_override && "
                   "{ [ ! -e driver ] || echo $a >driver/unbind; } && echo $a >/sys/bus/pci/drivers_probe && "
                   f"[ $(basename $(readlink driver)) = {driver} ] || exit 1; done")

    def insmod(self, name, options=""):
        """Loads a module that script/bootstrap bridge has built for this kernel."""
        file = f"/root/{name}.ko"
        self.put(file, (BUILT_MODULES / self.kernel / f"{name}.ko").read_bytes())
        self.check(f"insmod {file} {options} && rm {file}")

    def rmmod(self, name):
        """Unloads it. What it has begun to remove may still be on its way out."""
        self.check(f"for i in $(seq 300); do rmmod {name} 2>/dev/null && exit; sleep 0.1; done; rmmod {name}")

    def wait(self, condition, what, timeout_s=20):
        """Waits inside of it, which takes one round trip, until a shell condition holds; what that printed."""
        result = self.run(f"for i in $(seq {timeout_s * 20}); do {condition} && exit 0; sleep 0.05; done; exit 1", timeout_s + 20)
        if result.status != 0:
            raise GuestError(f"{self.name}: {what}: not within {timeout_s} s: {result.text}\n{self.logs()}")
        return result.text

    def troubles(self):
        """The lines of the kernel's log that say that something is wrong with the kernel."""
        return [line for line in self.check("dmesg").splitlines() if TROUBLE.search(line)]

    # ---- how it ends ----

    def logs(self, lines=30):
        """The last lines of QEMU's messages and of the serial line."""
        parts = []
        for name in ("qemu.log", "serial.log"):
            path = self.folder / name
            if path.exists():
                parts.append(f"--- {self.name}: {name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:]))
        return "\n".join(parts)

    def kill(self):
        """SIGKILL to QEMU: the host is gone, without a word to anybody. boot() starts it again."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
        for part in (self.exec, self.qmp):
            if part:
                part.close()
        self.process = self.qmp = self.exec = None

    def close(self):
        """Ends it, however it stands, and removes its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
