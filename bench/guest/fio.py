# SPDX-License-Identifier: Apache-2.0
"""Runs fio in a guest, and reads what it says."""
import dataclasses
import json


@dataclasses.dataclass(frozen=True)
class Case:
    """One workload. polled: completions are polled for instead of interrupting (nvme.poll_queues in the guest)."""
    name: str
    rw: str
    block_kib: int
    depth: int
    polled: bool = False


CASES = {case.name: case for case in (
    Case("randread-4k-qd1", "randread", 4, 1),
    Case("randread-4k-qd32", "randread", 4, 32),
    Case("randwrite-4k-qd1", "randwrite", 4, 1),
    Case("randwrite-4k-qd32", "randwrite", 4, 32),
    Case("read-128k-qd8", "read", 128, 8),
    Case("write-128k-qd8", "write", 128, 8),
    Case("randread-4k-qd1-polled", "randread", 4, 1, True),
    Case("randread-4k-qd32-polled", "randread", 4, 32, True),
)}


def command(case, device, runtime_s):
    """The shell command that runs a case on a block device."""
    # io_uring with registered files and buffers is what costs the guest least; direct, since it is the device that is measured.
    return (f"fio --name={case.name} --filename={device} --rw={case.rw} --bs={case.block_kib}k --iodepth={case.depth} "
            f"--ioengine=io_uring --registerfiles=1 --fixedbufs=1 {'--hipri=1 ' if case.polled else ''}--direct=1 --norandommap --randrepeat=0 "
            f"--time_based --runtime={runtime_s} --ramp_time=0.5 --output-format=json")


def parse(text):
    """IOPS, bandwidth in MiB/s and latencies in us out of fio's JSON, which may have warnings before it."""
    job = json.loads(text[text.index("{"):])["jobs"][0]
    if job["error"]:
        raise ValueError(f"fio reports error {job['error']}")
    side = job["read"] if job["read"]["total_ios"] else job["write"]
    percentiles = side["clat_ns"].get("percentile", {})
    return {
        "iops": side["iops"],
        "mib_s": side["bw_bytes"] / (1 << 20),
        "mean_us": side["lat_ns"]["mean"] / 1000,
        "p50_us": percentiles.get("50.000000", 0) / 1000,
        "p99_us": percentiles.get("99.000000", 0) / 1000,
    }


def run(guest_exec, case, device, runtime_s):
    """Runs a case in a guest. guest_exec is anything with check(command, timeout_s)."""
    return parse(guest_exec.check(command(case, device, runtime_s), timeout_s=runtime_s * 4 + 30))
