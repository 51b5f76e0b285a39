#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills each process of the cluster at each step of a loan, in turn.

After it is started again every device must be available, lent as recorded, or quarantined with a reason; and
from each of these it must be possible to lend it again. Usage: crash_test.py [PROCESS...] (default: all of them)"""
import json
import subprocess
import sys
import time

from cluster import CheckFailed, Cluster

PROCESSES = ["controller", "fabric", "agent-store", "agent-a", "nvme0"]
BORROWING = ["reserved", "preparing", "attaching", "active"]
RETURNING = ["quiescing", "detaching", "resetting"]
DEVICE = "store/nvme0"


def latest_loan(cluster):
    return max(cluster.json("loans", "--all"), key=lambda loan: loan["id"], default=None)


def wait_for_loan_state(cluster, state, after):
    """Follows the event stream until the loan enters the state. False: it ended without being seen there."""
    events = cluster.start("-o", "json", "events", "-f", "-n", "0")
    try:
        for line in events.stdout:
            entry = json.loads(line)
            if entry["loan"] <= after or not entry["subject"].startswith("loan:"):
                continue
            if entry["to"] == state:
                return True
            if entry["to"] in ("returned", "failed"):
                return False
        return False
    finally:
        events.kill()
        events.communicate()


def settled(cluster):
    """The device, when it is in a state that may last."""
    device = cluster.device(DEVICE)
    if device["state"] == "available":
        return device
    if device["state"] == "lent":
        return device if cluster.loan(device["loan"])["state"] == "active" else None
    if device["state"] == "quarantined":
        return device if device["reason"] else None
    return None


def make_available(cluster):
    """From wherever it has settled, back into the pool, by the commands an operator has."""
    device = cluster.wait_until("the device settles", lambda: settled(cluster), 90)
    if device["state"] == "quarantined":
        cluster.ok("reset", DEVICE)
    if device["state"] == "lent":
        cluster.ok("reclaim", DEVICE, "--reason", "end of the test")
    cluster.wait_until("the device is available", lambda: cluster.device(DEVICE)["state"] == "available", 30)
    mend_guest(cluster)


def mend_guest(cluster):
    """Where a drive dies while the guest's Linux (seen with 6.1) removes it and still looks for its partitions, the nvme
    driver waits for ever in nvme_remove, for a read that nobody ends, and the guest takes no device any more: start it anew."""
    for _ in range(20):
        if cluster.guest_status("a", "cat /proc/[0-9]*/stack | grep -q nvme_remove") != 0:
            return
        time.sleep(0.5)
    print("      (the guest's nvme driver hangs)", flush=True)
    cluster.kill("guest-a")
    cluster.up()


def revive(cluster):
    """Starts again what does not run. QEMU's vfio-user client aborts or hangs when the other end of a device dies in the
    middle of a message: then the guest is lost, as a crashed host is, and starts again, too."""
    try:
        if cluster.run("dev", "exec", "--timeout", "5", "a", "--", "true", timeout_s=12).returncode != 0:
            raise CheckFailed("the guest does not answer")
    except (CheckFailed, subprocess.TimeoutExpired):
        print("      (the guest is lost)", flush=True)
        cluster.kill("guest-a")
    cluster.up()


def begin_loan(cluster):
    """A loan that is active. A second time where the guest did not live through the case before."""
    if cluster.run("borrow", DEVICE, "--host", "a", timeout_s=90).returncode == 0:
        return
    revive(cluster)
    make_available(cluster)
    cluster.ok("borrow", DEVICE, "--host", "a", timeout_s=90)


def crash(cluster, process, state):
    """One case. What became of the device."""
    before = (latest_loan(cluster) or {"id": 0})["id"]
    if state in RETURNING:
        begin_loan(cluster)
        before = latest_loan(cluster)["id"] - 1
        request = cluster.start("return", DEVICE)
    else:
        request = cluster.start("borrow", DEVICE, "--host", "a")
    seen = wait_for_loan_state(cluster, state, before)
    cluster.kill(process)
    revive(cluster)
    try:
        request.communicate(timeout=90) # a guest that does not take a device is given a minute
    except subprocess.TimeoutExpired:
        request.kill()
        request.communicate()
        raise CheckFailed(f"the command did not end after {process} was killed while the loan was {state}")
    device = cluster.wait_until("the device settles", lambda: settled(cluster), 90)
    loan = latest_loan(cluster)
    if device["state"] == "lent":
        cluster.wait_until("the guest has what the records say",
                           lambda: cluster.guest_status("a", "test -b /dev/nvme0n1") == 0, 10)
    elif loan["state"] not in ("returned", "failed"):
        raise CheckFailed(f"the device is {device['state']} but loan {loan['id']} is {loan['state']}")
    return f"{device['state']}{' (' + device['reason'] + ')' if device['reason'] else ''}, loan {loan['state']}" + \
        (f" ({loan['reason']})" if loan["reason"] else "") + ("" if seen else " [state passed unseen]")


def main():
    failures = 0
    cases = 0
    with Cluster(hosts="a", drives=1, drive_size="1G") as cluster:
        for process in sys.argv[1:] or PROCESSES:
            for state in BORROWING + RETURNING:
                cases += 1
                started = time.monotonic()
                try:
                    outcome = crash(cluster, process, state)
                    make_available(cluster)
                    print(f"  ok  {process} killed while {state}: {outcome} ({time.monotonic() - started:.1f} s)", flush=True)
                except CheckFailed as error:
                    failures += 1
                    print(f"FAIL  {process} killed while {state}: {error}", flush=True)
                    revive(cluster)
                    make_available(cluster)
        cluster.ok("borrow", DEVICE, "--host", "a")
        cluster.wait_until("after all of it the drive can be lent",
                           lambda: cluster.guest_status("a", "test -b /dev/nvme0n1") == 0, 10)
    print(f"{cases - failures} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
