#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SR-IOV functions of a drive and of a NIC, a GPU-class function and an FPGA-like card of a whole Linux host, lent to guests of two
other hosts, whose native drivers use them; and what a borrower cannot reach with them."""
import concurrent.futures
import json
import re
import subprocess
import sys
import time

from host_cluster import HostCluster, check
from loads import fio_verified, is_empty, join, traffic, wait_reachable
from whole_host import ROOT, edu, gpu, igb, nvme_with_functions

DRIVE_TOOL = ROOT / "build/tests/hosts/drive_tool"
EDU_TOOL = ROOT / "build/tests/hosts/edu_tool"
WINDOW_TOOL = ROOT / "build/tests/hosts/window_tool"
MODULES = ("nvme", "igbvf", "virtio_gpu", "vfio_pci", "vfio_iommu_type1")
LENT = {"nvme1.vf0": "a", "nvme1.vf1": "b", "nic0.vf0": "a", "nic0.vf1": "b", "gpu0": "b"}
PAGE = 4096


def lend_all(cluster):
    """Each to its borrower; the loans of different devices are set up side by side."""
    def lend(device, borrower):
        cluster.ok("restore", f"store1/{device}")
        cluster.ok("borrow", f"store1/{device}", "--host", borrower)

    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for job in [pool.submit(lend, *pair) for pair in LENT.items()]:
            job.result()
    return time.monotonic() - start


def give_back_all(cluster):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for job in [pool.submit(cluster.ok, "return", f"store1/{device}", "--to-local") for device in LENT]:
            job.result()


def make_functions(cluster, count):
    for parent in ("nvme1", "nic0"):
        cluster.ok("functions", f"store1/{parent}", str(count))
    if count:
        cluster.wait_until("all functions are there", lambda: all(cluster.device(f"store1/{name}")["state"] == "local" for name in LENT))


def found(guest, vendor, device):
    """The address of the guest's function with this identity."""
    return guest.check(f"cd /sys/bus/pci/devices; for d in *; do [ $(cat $d/vendor) = {vendor} ] && [ $(cat $d/device) = {device} ] && echo $d; done; true").strip()


def drives(cluster, guests, store):
    """Two functions of one drive, in two guests."""
    for guest in guests.values():
        cluster.wait_until("the namespace is there", lambda: guest.run("ls /dev/nvme0n*").status == 0, 20)
    names = {name: guest.check("ls /dev/nvme0n*").split()[0] for name, guest in guests.items()}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for job in [pool.submit(guest.check, fio_verified(names[name]), 120) for name, guest in guests.items()]:
            job.result()
    check("both functions of the drive are written and read back by native drivers, verified, at the same time", True)
    for name, guest in guests.items():
        guest.check(f"yes of-{name} | dd of={names[name]} bs=4k count=4 iflag=fullblock oflag=direct 2>/dev/null")
    for name, guest in guests.items():
        check(f"{name} reads its own", guest.check(f"dd if={names[name]} bs=4k count=1 iflag=direct 2>/dev/null | head -n 1").strip() == f"of-{name}")
        namespaces = re.findall(r":(0x\w+)", guest.check("nvme list-ns /dev/nvme0"))
        check(f"and {name}'s function has one namespace", len(namespaces) == 1 and namespaces != ["0x1"], namespaces)
    check("of the parent's own namespace nothing has changed",
          is_empty(store, "/dev/nvme0n1", kib=32 << 10, at_once_kib=64))
    foreign_namespaces(guests, store, names)


def foreign_namespaces(guests, store, names):
    """a's function of the drive is told to change what is the parent's and what is b's."""
    a, b = guests["a"], guests["b"]
    store.check("yes of-the-parent | dd of=/dev/nvme0n1 bs=4k count=4 iflag=fullblock oflag=direct 2>/dev/null")

    def as_they_are():
        data = "dd if={} bs=4k count=4 iflag=direct 2>/dev/null | sha256sum"
        return {"controllers": store.check("nvme list-secondary /dev/nvme0"),
                "namespaces": [machine.check("nvme list-ns /dev/nvme0") for machine in (store, a, b)],
                "data": [store.check(data.format("/dev/nvme0n1")), b.check(data.format(names["b"]))]}

    before = as_they_are()
    parent, sibling = (int(machine.check("cat /sys/class/nvme/nvme0/cntlid")) for machine in (store, b))
    others = [int(re.search(r":(0x\w+)", machine.check("nvme list-ns /dev/nvme0"))[1], 16) for machine in (store, b)]
    attempts = [f"nvme virt-mgmt /dev/nvme0 --cntlid={controller} --rt={kind} --act={action} --nr={count}"
                for controller in (parent, sibling) for action, kind, count in ((1, 0, 1), (7, 0, 0), (8, 0, 0), (8, 1, 0))]
    # Format NVM; Namespace Management to delete. Not Namespace Attachment: QEMU's drive takes that from a function as from the parent.
    attempts += [f"nvme admin-passthru /dev/nvme0 --opcode={opcode} --namespace-id={namespace}"
                 for namespace in others for opcode in ("0x80", "0x0d --cdw10=1")]
    obeyed = [attempt for attempt in attempts if a.run(attempt).status == 0]
    check(f"a's function refuses {len(attempts)} commands to take queues, format or delete what is another's", not obeyed, obeyed)
    # The kernel's driver does not send commands for namespaces that it does not know.
    address = a.check("cat /sys/class/nvme/nvme0/address").strip()
    bind = f"cd /sys/bus/pci/devices/{address} && echo {{}} >driver_override && echo {address} >driver/unbind && echo {address} >/sys/bus/pci/drivers_probe"
    a.check(bind.format("vfio-pci"))
    said = a.check(f"drive_tool {address} {others[0]} {others[1]}")
    a.check(bind.format("nvme"))
    check("nor does it read or write there", all(f"namespace {other}: read refused, nothing; write refused" in said for other in others), said)
    after = as_they_are()
    check("and the parent's and b's controllers, namespaces and data are what they were", after == before, (before, after))
    check("as b's driver sees them, too", b.check(f"dd if={names['b']} bs=4k count=1 iflag=direct 2>/dev/null | head -n 1").strip() == "of-b")


def nics(guests, store):
    """Traffic between two functions of one NIC."""
    interfaces = {}
    for name, guest in guests.items():
        interfaces[name] = guest.check("for i in /sys/class/net/*; do case $(readlink $i/device/driver) in */igbvf) echo ${i##*/};; esac; done").strip()
    a, b = guests["a"], guests["b"]
    join({guests[name]: interface for name, interface in interfaces.items()})
    traffic(a, b, "by two functions of one NIC the guests")

    def of_others():
        """What the parent keeps of itself and of b's function, which is its second."""
        lines = store.check("ip link show eth1").splitlines()
        return [line.strip() for line in lines if "link/ether" in line and " vf " not in line or "vf 1" in line]

    before = of_others()
    attempts = [f"ip link set {interfaces['a']} vf {number} {what}" for number in (0, 1) for what in ("mac 02:00:00:00:00:66", "vlan 7", "spoofchk off")]
    obeyed = [attempt for attempt in attempts if a.run(attempt).status == 0]
    check("a's function of the NIC sets nothing for b's", not obeyed, obeyed)
    a.run(f"ip link set {interfaces['a']} down; ip link set {interfaces['a']} address {before[-1].split()[3].strip(',')}; ip link set {interfaces['a']} address 02:00:00:00:00:67; "
          f"ip link set {interfaces['a']} up")
    after = of_others()
    check("and what it says of its own address changes nothing of b's and the parent's", len(before) == 2 and after == before, (before, after))
    wait_reachable(a, "10.9.0.2")
    check("who still reach each other", True)


def graphics(guest):
    check("the GPU-class function has its native driver and a DRM node in b's guest",
          guest.run("test -c /dev/dri/card0 && test -c /dev/dri/renderD128").status == 0)
    # The driver asks for it by the control queue, and a picture to be shown there is not (gpu() in whole_host.py).
    modes = guest.check("cd /sys/class/drm/card0-Virtual-1 && echo detect >status && cat modes").split()
    check("which says what its screen is like", "1000x500" in modes, modes)
    errors = guest.run("dmesg | grep -i 'virtio_gpu.*error'").text
    check("without an error", errors == "", errors)


def kernel_code(machine):
    """The physical address of a page that never changes."""
    return int(re.search(r"^\s*([0-9a-f]+)-.*: Kernel code", machine.check("cat /proc/iomem"), re.MULTILINE)[1], 16)


def memory(cluster, qmp, address):
    """A page of a machine's memory, as QEMU has it."""
    file = cluster.folder / "page"
    qmp.execute("pmemsave", val=address, size=PAGE, filename=str(file))
    return file.read_bytes()


def fpga(cluster, guest, store):
    """The card's DMA engine does what its borrower says, and only with what the loan has mapped."""
    guest.check("echo 1234 11e8 >/sys/bus/pci/drivers/vfio-pci/new_id")
    cluster.ok("restore", "store1/edu0")
    borrowing = cluster.start("borrow", "store1/edu0", "--host", "b")
    # No kernel driver takes it: it is in use once the program has it.
    cluster.wait_until("the card is in the guest", lambda: found(guest, "0x1234", "0x11e8"), 20)
    card = found(guest, "0x1234", "0x11e8")
    worked = guest.check(f"edu_tool {card} work 3").strip()
    _, problem = borrowing.communicate(timeout=60)
    check(f"the FPGA-like card, driven through VFIO in b's guest: {worked}", borrowing.returncode == 0, problem)

    machines = {"the lender": (store, store.qmp), "the borrower": (guest, cluster.hosts["b"].guest.qmp)}
    targets = {name: kernel_code(machine) for name, (machine, _) in machines.items()}
    before = {name: memory(cluster, qmp, targets[name]) for name, (_, qmp) in machines.items()}
    # Also what other borrowers' and the lender's own windows and registers are at.
    adapter = int(store.check(f"head -n 3 /sys/bus/pci/devices/{store.address('adapter')}/resource | tail -n 1").split()[0], 16)
    addresses = " ".join(map(hex, [*targets.values(), adapter, 0xfee00000, 0x0]))
    guest.check(f"edu_tool {card} store {addresses}")
    fetched = dict(re.findall(r"(0x\w+) fetched (0x\w+)", guest.check(f"edu_tool {card} fetch {addresses}")))
    for name, (_, qmp) in machines.items():
        check(f"its DMA engine, told to write to the kernel of {name}, changes nothing", memory(cluster, qmp, targets[name]) == before[name])
        word = int.from_bytes(before[name][:4], "little")
        check(f"and reads nothing of it", int(fetched[hex(targets[name])], 16) != word, fetched)
    # Of faults that follow one another quickly the IOMMU records the first.
    log, device = store.check("dmesg"), store.address("edu0")[5:]
    check("the lender's IOMMU has stopped it and says which device it was",
          re.search(rf"DMAR: \[DMA Write.*\[{re.escape(device)}\] fault addr {targets['the lender']:#x}", log), log[-2000:])
    loan = cluster.device("store1/edu0")["loan"]
    reported = cluster.wait_until("the fault is in the trail of the loan", lambda: [
        entry for entry in map(json.loads, cluster.ok("-o", "json", "audit", f"loan:{loan}").splitlines())
        if entry["action"] == "iommu-fault" and f"DMA write to {targets['the lender']:#x} " in entry["reason"]], 20)
    check(f"and the audit trail says of which device and loan: {reported[0]['reason']}",
          reported[0]["fdid"] == cluster.device("store1/edu0")["fdid"] and reported[0]["loan"] == loan and reported[0]["actor"] == "agent:store1", reported)
    check("the loan goes on", "1 rounds" in guest.check(f"edu_tool {card} work 1") and cluster.device("store1/edu0")["state"] == "lent")


def intruder(cluster, store):
    """Somebody with a port of his own, who opens windows to whatever he likes."""
    victim = cluster.host("store1")["partition"]
    socket = cluster.port_socket(cluster.ports - 1)

    def tool(*words):
        return subprocess.run([WINDOW_TOOL, socket, str(victim), *map(str, words)], check=True, capture_output=True, text=True, timeout=60).stdout

    start = 1 << 32  # where adapters begin to give out addresses, in turn, aligned to the larger windows
    answers = {int(at, 16): word for at, word in re.findall(r"(0x\w+) is (0x\w+)", tool("scan", hex(start), hex(start + (16 << 30)), hex(8 << 20)))}
    registers = [at for at, word in answers.items() if word == "0x010000ed"]
    check("the card's registers are at one place on the lender's bus", len(registers) == 1, answers)
    size = 1 << 20
    past = [registers[0] + size, registers[0] + size + 4, registers[0] + size + PAGE, registers[0] - 4, registers[0] - PAGE]
    words = re.findall(r"is (0x\w+)", tool("read", *map(hex, past)))
    check("past them, on either side, is nothing but ones", words == ["0xffffffff"] * len(past), words)
    code = kernel_code(store)
    before = memory(cluster, store.qmp, code)
    tool("write", hex(code), hex(registers[0] + size))
    words = re.findall(r"is (0x\w+)", tool("read", hex(code)))
    check("the lender's memory is neither read nor written through the fabric",
          words == ["0xffffffff"] and memory(cluster, store.qmp, code) == before, words)


def main():
    with HostCluster() as cluster:
        cluster.start_hosts(
            whole={"store1": dict(kernel="6.12", lend=["nvme1", "nic0", "gpu0", "edu0"],
                                  devices=[nvme_with_functions("nvme1"), igb("nic0", "user", "52:54:00:00:00:01"), gpu("gpu0"), edu("edu0")])},
            process={"a": dict(kernel="6.12", modules=MODULES, programs=[DRIVE_TOOL]), "b": dict(kernel="6.1", modules=MODULES, programs=[EDU_TOOL], append="drm_kms_helper.fbdev_emulation=0")})
        store, guests = cluster.hosts["store1"], {name: cluster.hosts[name] for name in ("a", "b")}
        # The parent resets when it comes up, and its functions with it.
        store.check("ip link set eth1 up")
        make_functions(cluster, 2)
        check("a drive and a NIC have two functions each", cluster.device("store1/nvme1")["functions"] == 2 and cluster.device("store1/nic0")["functions"] == 2)
        result = cluster.run("restore", "store1/nvme1")
        check("whose parents stay with their host", result.returncode != 0 and "function" in result.stderr, result.stderr)
        seconds = lend_all(cluster)
        check(f"the four and a GPU-class function are lent to two hosts after {seconds:.1f} s", True)
        result = cluster.run("functions", "store1/nvme1", "0")
        check("and cannot be removed now", result.returncode != 0, result.stdout)
        drives(cluster, guests, store)
        nics(guests, store)
        graphics(guests["b"])
        fpga(cluster, guests["b"], store)
        intruder(cluster, store)
        cluster.ok("return", "store1/edu0", "--to-local")
        give_back_all(cluster)
        make_functions(cluster, 0)
        states = {device["name"]: device["state"] for device in cluster.json("ls") if device["state"] != "offline"}
        drivers = {name: store.driver(store.address(name)) for name in ("nvme1", "nic0", "gpu0", "edu0")}
        check(f"all are their own host's again: {json.dumps(drivers)}",
              drivers == {"nvme1": "nvme", "nic0": "igb", "gpu0": "virtio-pci", "edu0": ""} and set(states.values()) == {"local"}, states)
        make_functions(cluster, 2)
        lend_all(cluster)
        check("and all can be lent again", all(cluster.device(f"store1/{name}")["state"] == "lent" for name in LENT))
        give_back_all(cluster)
    return 0


if __name__ == "__main__":
    sys.exit(main())
