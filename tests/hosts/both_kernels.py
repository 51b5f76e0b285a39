# SPDX-License-Identifier: Apache-2.0
"""What tests do with both kernels of whole hosts side by side."""
import concurrent.futures
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cluster"))
from cluster import CheckFailed  # noqa: E402
from whole_host import KERNELS, PROGRAM, WholeHost, edu, gpu, igb, nvme, nvme_with_functions  # noqa: E402


def devices():
    return [nvme("nvme0"), nvme_with_functions("nvme1"), igb("nic0", "user", "52:54:00:00:00:01"), edu("edu0"), gpu("gpu0")]


def on_each_kernel(run):
    """Calls run(kernel) for each of them, side by side; the failures of all are told."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = {kernel: pool.submit(run, kernel) for kernel in KERNELS}
    failures = [f"--- {kernel}: {job.exception()}" for kernel, job in jobs.items() if job.exception()]
    if failures:
        raise AssertionError("\n".join(failures))


def examine_both(examine):
    """Boots a host with each kernel, one of each kind of device, and ports of a fabric as their adapters, and calls examine(host)
    for each. Their logs are printed when it fails."""
    def side_by_side(what, hosts):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for job in [pool.submit(what, host) for host in hosts]:
                job.result()

    with tempfile.TemporaryDirectory(prefix="lanepool-test.") as folder:
        fabric = subprocess.Popen([PROGRAM, "fabric", "--dir", folder, "--ports", str(len(KERNELS)), "--bar4", "4GiB"],
                                  stderr=subprocess.DEVNULL)
        hosts = []
        try:
            for port, kernel in enumerate(KERNELS):
                hosts.append(WholeHost(f"host{port}", kernel=kernel, devices=devices(), boot=False,
                                       adapter_socket=pathlib.Path(folder) / f"port{port}.sock"))
            side_by_side(lambda host: host.boot(), hosts)
            side_by_side(examine, hosts)
        except CheckFailed:
            print("\n".join(host.logs() for host in hosts), flush=True)
            raise
        finally:
            for host in hosts:
                host.close()
            fabric.terminate()
            fabric.wait()
