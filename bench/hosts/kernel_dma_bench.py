#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a host's own kernel gets of a drive in each DMA mode of the bridge module: of another whole host's drive over the fabric beside the
same drive with its own host's driver; of lanepool's model over the fabric beside the same model attached to the borrower; and of a drive
of its own through the module alone beside the same without it. Whole hosts are QEMU guests: docs/benchmarks.md tells what of these figures is
theirs. Needs 'script/bootstrap bridge'."""
import argparse
import json
import os
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/hosts"))
sys.path.insert(0, str(ROOT / "bench/guest"))
import fio  # noqa: E402
from host_cluster import HostCluster, site_for_drives  # noqa: E402
from whole_host import KERNELS, PROGRAM, Device, nvme  # noqa: E402

MODULE_DRIVE = ROOT / "build/lanepool-module-drive"
MODES = ("bounce", "iommu", "direct")
CASES = (fio.CASES["randread-4k-qd1"], fio.CASES["randwrite-4k-qd1"], fio.Case("read-128k-qd1", "read", 128, 1),
         fio.Case("write-128k-qd1", "write", 128, 1))
MODEL_BYTES = 64 << 20
# QEMU's drive moves 128 KiB through a trapped window in one go of a second, in which its host is taken for lost.
TRAPPED_KIB = 4
# What is measured beside what.
SYSTEMS = {"lender's own driver": [f"fabric, {mode}" for mode in MODES], "model attached here": [f"model over the fabric, {mode}" for mode in MODES],
           "own driver": [f"module alone, {mode}" for mode in MODES]}
SITE = site_for_drives("sanitize = false", 'dma = ["bounce", "iommu", "direct"]')


class AttachedModel(Device):
    """lanepool's model of a drive as a device of a host itself."""

    def __init__(self, name, socket):
        super().__init__(name, "vfio-user-pci")
        self.socket = socket

    def argv(self, bus, _):
        return ["-device", json.dumps({"driver": self.driver, "id": self.name, "bus": bus, "socket": {"type": "unix", "path": str(self.socket)}})]


def start_model(cluster, name):
    """Its socket. All of its blocks are written."""
    file, socket = cluster.folder / f"{name}.img", cluster.folder / f"{name}.sock"
    file.write_bytes(os.urandom(MODEL_BYTES))
    cluster.spawn(name, "model", "nvme", "--socket", socket, "--file", file, "--serial", name)
    cluster.wait_until(f"{name} serves", socket.exists, 10)
    return socket


def fill(machine, disk):
    """A block that was never written costs a drive nothing to read."""
    machine.check(f"dd if=/dev/urandom of={disk} bs=1M count=32 oflag=direct 2>/dev/null", 120)


def run(machine, case, disk, runtime_s):
    """One request at a time, each timed from the call to its end: what mapping memory costs is in it, too."""
    return fio.parse(machine.check(f"fio --name={case.name} --filename={disk} --rw={case.rw} --bs={case.block_kib}k --ioengine=psync --direct=1 "
                                   f"--norandommap --randrepeat=0 --time_based --runtime={runtime_s} --ramp_time=0.3 --output-format=json",
                                   runtime_s * 4 + 30))


class Bench:
    def __init__(self, cluster, runtime_s):
        self.cluster, self.runtime_s = cluster, runtime_s
        self.store, self.borrower = cluster.hosts["store"], cluster.hosts["a"]

    def measure(self, machine, disk, most_kib=1 << 20):
        return {case.name: run(machine, case, disk, self.runtime_s) for case in CASES if case.block_kib <= most_kib}

    def native(self, machine, name):
        """A drive with its own host's own driver, which has it when a round begins and ends."""
        return self.measure(machine, machine.block_device(machine.address(name)))

    def through_module(self, mode):
        """The borrower's own drive, without the fabric."""
        address = self.borrower.address("own")
        self.borrower.bind("vfio-pci", address)
        self.borrower.check(f"lanepool-module-drive {address} {mode} >/tmp/function 2>&1 & echo $! >/tmp/module-drive.pid")
        try:
            function = self.borrower.wait("[ -s /tmp/function ] && cat /tmp/function", "a drive through the module").strip()
            return self.measure(self.borrower, self.borrower.block_device(function))
        finally:
            self.borrower.check("pid=$(cat /tmp/module-drive.pid); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done")
            self.borrower.bind("nvme", address)

    def over_fabric(self, device, mode, most_kib=1 << 20):
        loan = self.cluster.borrow_kernel(device, "a", "--dma", mode)
        figures = self.measure(self.borrower, self.borrower.block_device(loan["function"]), most_kib)
        self.cluster.ok("return", device)
        return figures

    def round(self):
        """{system: {case: figures}}, in turn."""
        found = {"lender's own driver": self.native(self.store, "nvme0")}
        self.cluster.ok("restore", "store/nvme0")
        for mode in MODES:
            found[f"fabric, {mode}"] = self.over_fabric("store/nvme0", mode, TRAPPED_KIB)
        self.cluster.ok("local", "store/nvme0")
        self.cluster.wait_device("store/nvme0", "local")
        found["model attached here"] = self.native(self.borrower, "model")
        for mode in MODES:
            found[f"model over the fabric, {mode}"] = self.over_fabric("models/model", mode)
        found["own driver"] = self.native(self.borrower, "own")
        for mode in MODES:
            found[f"module alone, {mode}"] = self.through_module(mode)
        return found


def row(name, values, unit):
    return {"name": name, "value": statistics.median(values), "least": min(values), "greatest": max(values), "unit": unit, "goal": None,
            "status": "measured"}


def rows_of(rounds):
    """Ratios are formed inside of a round."""
    def values(system, case, figure, against=None):
        return [each[system][case.name][figure] / (each[against][case.name][figure] if against else 1) for each in rounds]

    rows = []
    for against, systems in SYSTEMS.items():
        for case in CASES:
            if case.name not in rounds[0][systems[0]]:
                continue
            rows.append(row(f"{case.name}: {against}, p50", values(against, case, "p50_us"), "us"))
            rows.append(row(f"{case.name}: {against}", values(against, case, "mib_s"), "MiB/s"))
            for system in systems:
                rows.append(row(f"{case.name}: {system}, p50 beside it", values(system, case, "p50_us", against), "ratio"))
                rows.append(row(f"{case.name}: {system}, throughput beside it", values(system, case, "mib_s", against), "ratio"))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runtime", type=float, default=2, help="seconds a case")
    parser.add_argument("--kernel", choices=KERNELS, default=KERNELS[-1], help="of both hosts")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    with HostCluster(ports=3) as cluster:
        lent, attached = (start_model(cluster, name) for name in ("model-lent", "model-attached"))
        cluster.start_hosts(whole={
            "store": dict(kernel=arguments.kernel, devices=[nvme("nvme0")], lend=["nvme0"]),
            "a": dict(kernel=arguments.kernel, devices=[nvme("own"), AttachedModel("model", attached)], borrows=True, allow_direct=True,
                      programs=[PROGRAM, MODULE_DRIVE])})
        cluster.spawn_agent("models", "--device", f"model={lent}")
        cluster.wait_joined(["models"])
        cluster.apply_site(SITE)
        bench = Bench(cluster, arguments.runtime)
        for machine, name in ((bench.store, "nvme0"), (bench.borrower, "own")):
            fill(machine, machine.block_device(machine.address(name)))
        rounds = [bench.round() for _ in range(arguments.rounds)]
        troubles = [line for machine in (bench.store, bench.borrower) for line in machine.troubles()]
    rows = rows_of(rounds)
    for one in rows:
        print(f"{one['name']:66} {one['value']:>9.3f} [{one['least']:.3f} .. {one['greatest']:.3f}] {one['unit']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    if troubles:
        print("a kernel was in trouble:", *troubles, sep="\n")
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
