#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares ways of giving a guest a disk: all systems in turn, some rounds, on fixed cores, over the same file.

Absolute figures drift on shared machines, so systems are compared within a round: a ratio is formed for each round, and its median,
least and greatest are reported. Beside each system the ruler is read (ruler.cc); a round in which it changed by more
than 2x, or in which other processes took more than 15 % of the cores, is discarded, and another is run in its place, up to as
many again as were asked for.

Needs script/bootstrap to have run; "local" and "lent" need the lanepool binary.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import fio
import systems
from systems import GuestError, Setup, Unavailable

RULER_TOLERANCE = 2.0
# A median ruler does not see that others take the cores away: how much of them may, while a case is measured.
FOREIGN_TOLERANCE = 0.15


@dataclasses.dataclass
class Row:
    """One figure. goal is a pair ('<=' or '>=', bound), or None; status is held, missed, measured or not measured."""
    name: str
    value: float | None
    unit: str
    goal: tuple | None = None
    least: float | None = None
    greatest: float | None = None
    note: str = ""

    @property
    def status(self):
        if self.value is None:
            return "not measured"
        if self.goal is None:
            return "measured"
        return "held" if (self.value <= self.goal[1] if self.goal[0] == "<=" else self.value >= self.goal[1]) else "missed"

    def goal_text(self):
        return f"{self.goal[0]} {self.goal[1]:g}" if self.goal else ""

    def as_json(self):
        return {"name": self.name, "value": self.value, "unit": self.unit, "goal": self.goal_text() or None,
                "status": self.status, "min": self.least, "max": self.greatest, "note": self.note}

    def as_text(self):
        number = "-" if self.value is None else f"{self.value:.3g}" if self.unit in ("x", "cores") else f"{self.value:.0f}"
        spread = "" if self.least is None else f"[{self.least:.3g} .. {self.greatest:.3g}]"
        return f"{self.name:52} {number:>8} {self.unit:5} {self.goal_text():8} {self.status:12} {spread} {self.note}".rstrip()


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A comparison of two systems in a case by one figure of fio. 'qemu-nvme' stands for its best aio mode."""
    over: str
    under: str
    case: str
    figure: str
    goal: tuple | None


def wanted_ratios():
    ratios = []
    for case in fio.CASES:
        for figure, goal in (("iops", (">=", 0.95)), ("mean_us", ("<=", 1.05))):
            ratios.append(Ratio("lent", "local", case, figure, goal))
    against_qemu = {"randread-4k-qd1": 1.0, "randwrite-4k-qd1": 1.0, "randread-4k-qd32": 1.2, "randwrite-4k-qd32": 1.2}
    for over, has_goal in (("lent", True), ("local", False)):
        for case, bound in against_qemu.items():
            ratios.append(Ratio(over, "qemu-nvme", case, "iops", (">=", bound) if has_goal else None))
        # Polled, against QEMU's own nvme as it is used: by interrupts.
        ratios.append(Ratio(over, "qemu-nvme", "randread-4k-qd1-polled", "iops", (">=", 5.0) if has_goal else None))
        for case in ("randread-4k-qd1", "randwrite-4k-qd1"):
            ratios.append(Ratio(over, "nvme-tcp", case, "iops", (">=", 2.5) if has_goal else None))
        for case in ("randread-4k-qd1", "randread-4k-qd32"):
            ratios.append(Ratio(over, "vhost-user-blk", case, "iops", None))
    # The most that the polled comparison above can come to in this guest.
    ratios.append(Ratio("null-blk", "qemu-nvme", "randread-4k-qd1-polled", "iops", None))
    return ratios


class Ruler:
    """Compiles ruler.cc and reads it on two cores."""

    def __init__(self, folder, cpus):
        self._binary = folder / "ruler"
        self._cpus = cpus
        source = pathlib.Path(__file__).with_name("ruler.cc")
        subprocess.run(["g++", "-std=c++20", "-O2", "-pthread", "-o", self._binary, source], check=True)

    def read_ns(self):
        if len(self._cpus) < 2:
            return 1.0  # nothing to compare by
        out = subprocess.run([self._binary, str(self._cpus[0]), str(self._cpus[1])], check=True, capture_output=True, text=True)
        return float(out.stdout)


def busy_s(cpus):
    """Processor seconds that these cores have not been idle so far, by whatever, the hypervisor's other guests among it."""
    ticks = 0
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] in {f"cpu{cpu}" for cpu in cpus}:
            user, nice, system, _, _, irq, softirq, steal = map(int, words[1:9])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


class Comparison:
    """Runs the rounds. results[round][(system, case)] is what fio measured."""

    def __init__(self, contestants, cases, setup, runtime_s, ruler, keep_all, log):
        self._contestants, self._cases, self._setup = contestants, cases, setup
        self._runtime_s, self._ruler, self._keep_all, self._log = runtime_s, ruler, keep_all, log
        self.results, self.rulers, self.unavailable, self.discarded = [], [], {}, 0

    def run(self, rounds):
        for attempt in range(2 * rounds):
            if len(self.results) == rounds:
                break
            result, rulers = self._round(attempt)
            foreign = statistics.median([figures["foreign"] for figures in result.values()] or [0.0])
            reason = ""
            if max(rulers) > RULER_TOLERANCE * min(rulers):
                reason = f"the ruler went from {min(rulers):.0f} to {max(rulers):.0f} ns"
            elif foreign > FOREIGN_TOLERANCE:
                reason = f"others took {foreign:.0%} of the cores"
            if reason:
                self._log(f"restless round: {reason}")
            if reason and not self._keep_all:
                self.discarded += 1
            else:
                self.results.append(result)
                self.rulers += rulers

    def _round(self, number):
        result, rulers = {}, []
        # Another one begins each time, so that none always runs on a machine that its predecessor has warmed.
        shift = number % len(self._contestants)
        for polled in (False, True):
            cases = [case for case in self._cases if case.polled == polled]
            for system in self._contestants[shift:] + self._contestants[:shift]:
                if not cases or polled and not system.can_poll or system.name in self.unavailable:
                    continue
                rulers.append(self._ruler.read_ns())
                self._measure(system, cases, dataclasses.replace(self._setup, polled=polled), result)
                rulers.append(self._ruler.read_ns())
        return result, rulers or [1.0]

    def _measure(self, system, cases, setup, result):
        try:
            with system.attach(setup) as running:
                for case in cases:
                    start, own, all_busy = time.monotonic(), running.cpu_s(), busy_s(setup.cpus)
                    figures = fio.run(running.exec, case, running.device, self._runtime_s)
                    elapsed, own, all_busy = time.monotonic() - start, running.cpu_s() - own, busy_s(setup.cpus) - all_busy
                    figures["cpu"] = own / elapsed
                    figures["foreign"] = max(0.0, all_busy - own) / elapsed / len(setup.cpus)
                    result[system.name, case.name] = figures
                    self._log(f"{system.name:20} {case.name:24} {figures['iops']:9.0f} IOPS {figures['mean_us']:9.1f} us "
                              f"p99 {figures['p99_us']:9.1f} us  cpu {figures['cpu']:.2f} "
                              f"others {figures['foreign']:.2f}")
        except Unavailable as error:
            self.unavailable[system.name] = str(error)
            self._log(f"{system.name}: not measured: {error}")
        except (GuestError, ValueError, OSError, subprocess.SubprocessError) as error:
            self.unavailable[system.name] = f"failed: {error}"
            self._log(f"{system.name}: {error}")

    def figures(self, system, case, figure):
        """One figure per round; empty when a round lacks it."""
        values = [result[system, case][figure] for result in self.results if (system, case) in result]
        return values if len(values) == len(self.results) else []

    def best_qemu(self, case):
        """The aio mode of QEMU's nvme that was best in a case, by its median."""
        modes = {name: self.figures(name, case, "iops") for name in {key[0] for r in self.results for key in r}
                 if name.startswith("qemu-nvme-")}
        modes = {name: statistics.median(values) for name, values in modes.items() if values}
        return max(modes, key=modes.get) if modes else None

    def rows(self):
        rows = []
        for case in self._cases:
            for system in self._contestants:
                if case.polled and not system.can_poll:
                    continue
                for figure, unit in (("iops", "IOPS"), ("mean_us", "us"), ("p99_us", "us"), ("cpu", "cores")):
                    rows.append(self._row(f"guest.{case.name}.{system.name}.{figure}", self.figures(system.name, case.name, figure),
                                          unit, None, self.unavailable.get(system.name, "")))
        rows += [self._ratio(ratio) for ratio in wanted_ratios() if ratio.case in {case.name for case in self._cases}]
        rows.append(self._row("guest.ruler", self.rulers, "ns", None, f"{self.discarded} rounds discarded"))
        return rows

    def _ratio(self, ratio):
        under, under_case, note = ratio.under, ratio.case, ""
        if under == "qemu-nvme":
            under_case = under_case.removesuffix("-polled")
            best = self.best_qemu(under_case)
            under = best or under
            note = f"against {under}" + (", by interrupts" if under_case != ratio.case else "")
        elif under == "nvme-tcp":
            note = "its target runs in a second guest, over memory"
        over_values = self.figures(ratio.over, ratio.case, ratio.figure)
        under_values = self.figures(under, under_case, ratio.figure)
        values = [a / b for a, b in zip(over_values, under_values)]
        if not values:
            lacking = ratio.over if not over_values else under
            note = f"{lacking}: {self.unavailable.get(lacking, 'was not among the systems')}"
        return self._row(f"guest.{ratio.case}.{ratio.over}/{ratio.under}.{ratio.figure}", values, "x", ratio.goal, note)

    @staticmethod
    def _row(name, values, unit, goal, note):
        if not values:
            return Row(name, None, unit, goal, note=note)
        return Row(name, statistics.median(values), unit, goal, min(values), max(values), note)


def contestants(arguments):
    """The systems that were asked for."""
    known = [systems.QemuNvme(aio) for aio in ("threads", "native", "io_uring")]
    known += [systems.VhostUserBlk(), systems.NvmeTcp(), systems.NullBlk()]
    known.append(systems.VfioUser("local", lambda setup: systems.model_server(arguments.binary, setup)))
    known.append(systems.Lent(arguments.binary))
    for given in arguments.vfio_user:
        name, _, path = given.partition("=")
        known.append(systems.VfioUser(name, lambda setup, path=path: systems.given_socket(path)))
    names = [system.name for system in known]
    wanted = arguments.systems.split(",") if arguments.systems else names
    for name in wanted:
        if name not in names:
            sys.exit(f"compare.py: no system '{name}'; there are: {', '.join(names)}")
    return [system for system in known if system.name in wanted]


def chosen_cases(text):
    for name in text.split(",") if text else []:
        if name not in fio.CASES:
            sys.exit(f"compare.py: no case '{name}'; there are: {', '.join(fio.CASES)}")
    return [case for case in fio.CASES.values() if not text or case.name in text.split(",")]


def fill(path, size_bytes):
    """A file whose every block is there and holds something."""
    with open(path, "wb") as file:
        block = os.urandom(1 << 20)
        for _ in range(size_bytes >> 20):
            file.write(block)


def parse_arguments():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runtime", type=float, default=2.0, help="seconds that each case is measured")
    parser.add_argument("--size-mib", type=int, default=1024, help="size of the file")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/dev/shm"), help="where the file lies")
    parser.add_argument("--systems", help="comma-separated; default all")
    parser.add_argument("--cases", help=f"comma-separated, of: {', '.join(fio.CASES)}; default all")
    parser.add_argument("--cpus", help="comma-separated cores; default the first four that may be used")
    parser.add_argument("--binary", type=pathlib.Path, default=root / "build/lanepool")
    parser.add_argument("--vfio-user", action="append", default=[], metavar="NAME=SOCKET",
                        help="one more system: an NVMe device of the same size that is served there")
    parser.add_argument("--keep-all", action="store_true", help="discard no round, however restless the machine was")
    parser.add_argument("--json", type=pathlib.Path, help="write the rows there, too")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.runtime <= 0 or arguments.size_mib < 16:
        parser.error("rounds, runtime and size must be positive (16 MiB at least)")
    return arguments


def main():
    arguments = parse_arguments()
    cpus = [int(cpu) for cpu in arguments.cpus.split(",")] if arguments.cpus else sorted(os.sched_getaffinity(0))[:4]
    with tempfile.TemporaryDirectory(prefix="lanepool-bench.", dir=arguments.folder) as folder:
        file = pathlib.Path(folder) / "disk"
        fill(file, arguments.size_mib << 20)
        ruler = Ruler(pathlib.Path(folder), cpus)
        comparison = Comparison(contestants(arguments), chosen_cases(arguments.cases), Setup(file, arguments.size_mib << 20, cpus),
                                arguments.runtime, ruler, arguments.keep_all, lambda text: print(f"# {text}", flush=True))
        comparison.run(arguments.rounds)
    rows = comparison.rows()
    for row in rows:
        print(row.as_text())
    if arguments.json:
        arguments.json.write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
    if not comparison.results:
        sys.exit("compare.py: every round was discarded: the machine is too restless to compare anything (--keep-all does it all the same)")


if __name__ == "__main__":
    main()
