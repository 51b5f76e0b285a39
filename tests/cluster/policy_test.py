#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Loans as people need them, on a real cluster: by what a device is, queued, renewed, in groups; drains, quarantine, a site file."""
import subprocess
import sys
import time

from cluster import Cluster, check

SITE = """
[[tenant]]
name = "lab"

[class.drives]
any = [{ kind = "nvme" }]

[[rule]]
name = "short"
tenants = "*"
users = "*"
hosts = "*"
classes = ["drives"]
longest = "8h"
"""


def loan_of(cluster, device):
    return cluster.loan(cluster.device(device)["loan"])


def wait_ended(cluster, loan):
    cluster.wait_until(f"loan {loan} is over", lambda: cluster.loan(loan)["state"] in ("returned", "failed"), 30)


def wishes(cluster):
    dry = cluster.json("borrow", "--kind", "nvme", "--host", "a", "--dry-run")
    check("a dry run says which device it would be", dry["now"] and len(dry["devices"]) == 1, dry)
    check("and borrows nothing", cluster.json("loans") == [])
    got = cluster.json("borrow", "--kind", "nvme", "--least", "512MiB", "--host", "a")
    check("a drive is lent for what it is", got["loan"]["state"] == "active", got)
    refused = cluster.run("borrow", "--kind", "nvme", "--least", "9TB", "--host", "a")
    check("what nobody has is refused", refused.returncode != 0, refused.stderr)
    refused = cluster.run("borrow", "--kind", "nvme", "--count", "2", "--host", "b")
    check("two drives are refused where only one is free: all or none", refused.returncode == 4, refused.stderr)
    check("and none of them was lent", len(cluster.json("loans")) == 1)
    cluster.ok("return", f"loan:{got['loan']['id']}")
    both = cluster.json("borrow", "--kind", "nvme", "--count", "2", "--host", "b")
    check("both are lent where both are free", len(both["loans"]) == 2, both)
    return both["loans"]


def queue(cluster, held):
    waiting = cluster.start("-o", "json", "borrow", "--kind", "nvme", "--host", "a", "--wait")
    cluster.wait_until("the wish is queued", lambda: any(loan["state"] == "queued" for loan in cluster.json("loans")), 10)
    cluster.ok("return", f"loan:{held[0]['id']}")
    output, errors = waiting.communicate(timeout=60)
    check("the queue is served when a drive comes back", waiting.returncode == 0, errors)
    cluster.ok("return", f"loan:{held[1]['id']}")
    short = cluster.run("borrow", "store/nvme9", "--host", "a", "--wait-for", "1s")
    check("a device that does not exist is not waited for", short.returncode == 3, short.stderr)
    device = next(d["name"] for d in cluster.json("ls") if d["state"] == "lent")
    started = time.monotonic()
    late = cluster.run("borrow", device, "--host", "b", "--wait-for", "2s")
    check("who has waited long enough is told so", late.returncode != 0 and time.monotonic() - started < 15, late.stderr)
    cluster.ok("return", device)


def due(cluster):
    got = cluster.json("borrow", "store/nvme0", "--host", "a", "--for", "5s")
    cluster.ok("renew", "store/nvme0", "--for", "12s")
    time.sleep(6)
    check("a loan that was renewed goes on", cluster.loan(got["loan"]["id"])["state"] == "active")
    wait_ended(cluster, got["loan"]["id"])
    check("and ends at its new due time", "due" in cluster.loan(got["loan"]["id"])["reason"])
    cluster.wait_until("the device is available", lambda: cluster.device("store/nvme0")["state"] == "available", 30)


def operators(cluster):
    cluster.ok("drain", "store/nvme0", "--reason", "new firmware")
    refused = cluster.run("borrow", "store/nvme0", "--host", "a")
    check("a drained device is not lent, and says why", refused.returncode != 0 and "new firmware" in refused.stderr, refused.stderr)
    cluster.ok("undrain", "store/nvme0")
    cluster.ok("borrow", "store/nvme0", "--host", "a")
    cluster.ok("quarantine", "store/nvme0", "--reason", "it smells")
    cluster.wait_until("a lent device is quarantined", lambda: cluster.device("store/nvme0")["state"] == "quarantined", 30)
    check("with the reason", "it smells" in cluster.device("store/nvme0")["reason"])
    cluster.ok("restore", "store/nvme0")
    check("and restored", cluster.device("store/nvme0")["state"] == "available")
    cluster.ok("local", "store/nvme0")
    check("a local device is its own host's", cluster.run("borrow", "store/nvme0", "--host", "a").returncode != 0)
    cluster.ok("restore", "store/nvme0")


def site(cluster):
    path = cluster.folder / "site.toml"
    path.write_text(SITE.replace("longest", "langest"))
    wrong = cluster.run("site", "apply", str(path))
    check("a site file with an unknown key is refused, with its line", wrong.returncode == 2 and f"{path}:" in wrong.stderr, wrong.stderr)
    path.write_text(SITE)
    cluster.ok("site", "apply", str(path))
    check("the site file is in force", cluster.ok("site", "show") == SITE)
    cluster.kill("controller")
    cluster.up()
    check("and still is when the controller was killed", cluster.ok("site", "show") == SITE)


def stranger(cluster):
    """Another user of this machine is kept out by the socket's permissions."""
    result = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "test", "-r",
                             str(cluster.folder / "controller.sock.id")], capture_output=True, check=False)
    check("a stranger may not even ask", result.returncode != 0)


def trail(cluster):
    verified = cluster.json("audit", "verify")
    check("the trail verifies", verified["entries"] == verified["last_sequence"] - verified["first_sequence"] + 1, verified)
    check("a filter finds who drained", "drain" in cluster.ok("audit", "--action", "drain"))


def main():
    # Drives with mapped registers are to be policed, and driven by a guest, as all others.
    with Cluster(hosts="a,b", drives=2, drive_size="1G", map_registers=True, dma_engines=1) as cluster:
        engine = cluster.device("store/dma0")
        check("an accelerator is a device of kind fpga", (engine["kind"], engine["state"]) == ("fpga", "available"), engine)
        held = wishes(cluster)
        queue(cluster, held)
        due(cluster)
        operators(cluster)
        site(cluster)
        stranger(cluster)
        trail(cluster)
    return 0


if __name__ == "__main__":
    sys.exit(main())
