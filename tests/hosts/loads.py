# SPDX-License-Identifier: Apache-2.0
"""What tests do with lent drives and NICs in the machines that have them: anything with run() and check() for shell commands."""
from host_cluster import check


def fio_verified(disk, size="64k", depth=1):
    """A command that writes at random and reads back, verified. One 4 KiB request at a time by itself: QEMU's drive moves it through a
    trapped window 8 bytes at a time and in one go, in 36 ms, during which nothing else of that machine runs. On a busy machine eight
    of them in a row are longer than hosts wait for one another."""
    engine = f"libaio --iodepth={depth}" if depth > 1 else "psync"
    return (f"fio --name=verify --filename={disk} --direct=1 --ioengine={engine} --rw=randwrite --bs=4k --size={size} "
            "--verify=crc32c --do_verify=1 --verify_fatal=1")


def is_empty(machine, disk, kib=64, at_once_kib=4):
    """Whether a disk begins with nothing but zeros. at_once_kib: more only where no window is trapped."""
    found = machine.check(f"dd if={disk} bs={at_once_kib}k count={kib // at_once_kib} iflag=direct of=/tmp/head 2>/dev/null && "
                          "tr -d '\\0' </tmp/head | wc -c && wc -c </tmp/head && rm /tmp/head")
    return list(map(int, found.split())) == [0, kib << 10]


def join(machines):
    """Gives interfaces, {machine: name}, the addresses 10.9.0.1 and on, and brings them up."""
    for number, (machine, interface) in enumerate(machines.items(), start=1):
        # QEMU's igb cuts what it is to segment wrongly between its own functions, and counts length errors.
        machine.check(f"ethtool -K {interface} tso off gso off tx off rx off && ip addr add 10.9.0.{number}/24 dev {interface} && "
                      f"ip link set {interface} up")


def wait_reachable(machine, address):
    machine.check(f"for i in $(seq 30); do ping -c 1 -W 1 {address} >/dev/null && exit 0; done; exit 1", 60)


def traffic(first, second, who):
    """Between the two machines that join() was given."""
    wait_reachable(first, "10.9.0.2")
    lost = first.check("ping -c 10 -i 0.1 -W 2 10.9.0.2 | grep -o '[0-9]*% packet loss'").strip()
    check(f"{who} reach each other ({lost})", lost == "0% packet loss")
    second.check("yes over-the-nic | head -c 65536 >/tmp/sent && busybox httpd -p 8000 -h /tmp")
    first.check("timeout 30 busybox wget -q -O /tmp/received http://10.9.0.2:8000/sent", 40)
    sums = [machine.check(f"sha256sum </tmp/{file}") for machine, file in ((first, "received"), (second, "sent"))]
    check("and 64 KiB over TCP are what was sent", sums[0] == sums[1], sums)
