# SPDX-License-Identifier: Apache-2.0
"""A pool of whole hosts: the fabric and a controller that takes certificates on this machine, hosts as processes with
a guest each, and whole hosts with the agent inside. Commands are those that people type, as in tests/cluster."""
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "cluster"))
sys.path.insert(0, str(TESTS / "guest"))
import links  # noqa: E402
from cluster import PROGRAM, CheckFailed, Cluster, check  # noqa: E402,F401
from guest_exec import GuestError  # noqa: E402
from guest_vm import Guest, cache_dir  # noqa: E402
from overlay import initramfs_with  # noqa: E402
from whole_host import STORE, THIS_MACHINE, WholeHost  # noqa: E402

# So large that a whole host's firmware places the adapter as any other card.
BAR4 = "4GiB"
CA_FILES = ("ca.pem", "agent.pem", "agent.key")
AGENT_LOG = "/run/lanepool/agent.log"


def site_for_drives(*terms):
    """A site file whose only rule gives drives to everybody, on these terms."""
    return "\n".join(('[[tenant]]', 'name = "lab"', '[class.drives]', 'any = [{ kind = "nvme" }]', '[[rule]]', 'name = "drives"', 'tenants = "*"',
                      'users = "*"', 'hosts = "*"', 'classes = ["drives"]', *terms)) + "\n"


class AgentHost(WholeHost):
    """A whole host with the agent inside, which joins the cluster's controller."""

    def __init__(self, cluster, name, port, lend=(), borrows=False, allow_direct=False, insmod=(), append="", **options):
        """lend: the names of those devices that the agent is told of. borrows: its own kernel does, by the bridge module, in
        which allow_direct allows that DMA mode. insmod: more modules that script/bootstrap bridge builds, with their options."""
        self.cluster, self.lend, self.borrows = cluster, list(lend), borrows
        self.insmods = [f"lanepool_bridge allow_direct={int(allow_direct)}"] * borrows + list(insmod)
        if borrows:
            # Nobody loads a driver there when a function comes.
            append += " lanepool.modules=nvme,igbvf"
        super().__init__(name, adapter_socket=cluster.port_socket(port), append=append, **options)

    def boot(self):
        super().boot()
        for module in self.insmods:
            self.insmod(*module.split(" ", 1))
        self.bind("vfio-pci", self.address("adapter"))
        for file, content in self.cluster.certificates(self.name).items():
            self.put(f"/etc/lanepool/{file}", content, "600")
        self.check("mkdir -p /run/lanepool")
        self.start_agent()

    def start_agent(self):
        # One round trip for all of them.
        slots = " ".join(self.slot(name) for name in ["adapter", *self.lend])
        listed = self.check(f"for slot in {slots}; do cd /sys/bus/pci/devices/$slot; ls -d 0000:*.0 | head -n 1; done").split()
        addresses = dict(zip(["adapter", *self.lend], listed, strict=True))
        devices = " ".join(f"--device {name}=pci:{addresses[name]}" for name in self.lend)
        self.check(
            f"setsid lanepool --controller {self.cluster.tcp_endpoint(THIS_MACHINE)} --tls-ca /etc/lanepool/ca.pem "
            "--tls-cert /etc/lanepool/agent.pem --tls-key /etc/lanepool/agent.key "
            f"agent --host {self.name} --adapter pci:{addresses['adapter']} --state /var/lib/lanepool "
            "--admin /run/lanepool/admin.sock --application /run/lanepool/application.sock "
            f"{devices} >>{AGENT_LOG} 2>&1 </dev/null & echo $! >/run/lanepool/agent.pid")

    # ---- what its own kernel has borrowed; addresses are those that a loan says ----

    def block_device(self, function):
        """The disk that the kernel's nvme driver has made of a function, once it is there: /dev/nvme1n1."""
        # Where a drive may have several controllers, its disks are the subsystem's.
        return self.wait(f"for c in /sys/bus/pci/devices/{function}/nvme/nvme*; do for s in $c /sys/class/nvme-subsystem/*; do "
                         "[ $s = $c ] || [ -e $s/${c##*/} ] || continue; for n in $s/nvme*n*; do "
                         "[ -b /dev/${n##*/} ] && echo /dev/${n##*/} && exit 0; done; done; done; false", f"the disk of {function}").strip()

    def interface(self, function):
        """The network interface of a function, once it is there."""
        return self.wait(f"ls /sys/bus/pci/devices/{function}/net 2>/dev/null", f"the interface of {function}").strip()

    def counts(self):
        """What could be left over when nothing is lent or borrowed. What is mapped for a device by the IOMMU is mapped in the
        agent as well. Threads are those of gRPC, too, which come and go."""
        seen = self.check(
            "pid=$(cat /run/lanepool/agent.pid); ls /proc/$pid/fd | wc -l; grep -cE 'vfio|memfd|lanepool_bridge' /proc/$pid/maps; ls /proc/$pid/task | wc -l; "
            "ls /sys/bus/pci/devices | wc -l; cat /sys/bus/pci/devices/*/sriov_numvfs 2>/dev/null | tr '\\n' ' '; echo; "
            "wc -l </proc/iomem; wc -l </proc/interrupts; ls /dev | wc -l; lsmod | awk '$1 ~ /^(vfio|nvme|igbvf|edu|lanepool)/ { print $1 \"=\" $3 }' | sort | tr '\\n' ' '")
        names = ("descriptors", "mappings", "threads", "devices", "functions", "ranges", "interrupts", "nodes", "references")
        found = dict(zip(names, seen.splitlines(), strict=True))
        return {name: value.split() if name in ("functions", "references") else int(value) for name, value in found.items()}

    def memory_kib(self):
        """What its kernel has for itself, and the agent's own. Much is freed a while after it was given back: until twice the same."""
        def kernel():
            return int(self.check("sync; echo 3 >/proc/sys/vm/drop_caches; awk '/^(MemFree|Buffers|Cached|AnonPages):/ { others += $2 } "
                                  "/^MemTotal/ { all = $2 } END { print all - others }' /proc/meminfo"))

        before, now = 0, kernel()
        for _ in range(20):
            if abs(now - before) < 64:
                break
            before, now = now, kernel()
        return now, int(self.check("awk '/^RssAnon/ { print $2 }' /proc/$(cat /run/lanepool/agent.pid)/status"))

    def unload_bridge(self):
        """Takes the agent and then the module away. What is held by nobody goes."""
        self.kill_agent("TERM")
        self.rmmod("lanepool_bridge")

    # ---- its agent ----

    def kill_agent(self, signal="KILL"):
        self.check(f"pid=$(cat /run/lanepool/agent.pid); kill -{signal} $pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done")

    def logs(self, lines=30):
        text = super().logs(lines)
        try:
            text += f"\n--- {self.name}: {AGENT_LOG}\n" + self.run(f"tail -n {lines} {AGENT_LOG}", 10).text
        except (GuestError, AttributeError):
            pass
        return text


class ProcessHost:
    """A host that is an agent on this machine, with a guest that borrows."""

    def __init__(self, cluster, name, port, kernel=None, memory_mib=256, modules=(), programs=(), append=""):
        """kernel: None for the guests' own (the cloud kernel), else that of a whole host. programs, append: as a WholeHost's."""
        self.cluster, self.name, self.port = cluster, name, port
        image = cache_dir() / "hosts" / kernel if kernel else cache_dir() / "guest/current"
        initramfs = initramfs_with(image / "initramfs.img", programs, STORE) if programs else None
        if modules:
            append += f" lanepool.modules={','.join(modules)}"
        # The agent hot-adds what it lends by a monitor of its own.
        self.monitor = cluster.folder / f"{name}.qmp.sock"
        self.guest = Guest(name, image=image, initramfs=initramfs, memory_mib=memory_mib, append=append,
                           extra_args=["-qmp", f"unix:{self.monitor},server=on,wait=off"])
        self.start_agent()

    def start_agent(self):
        self.cluster.spawn_agent(self.name, "--guest", f"{self.name}={self.monitor}", port=self.port)

    def run(self, command, timeout_s=60):
        return self.guest.exec.run(command, timeout_s)

    def check(self, command, timeout_s=60):
        return self.guest.exec.check(command, timeout_s)

    def kill(self):
        """SIGKILL to the agent and to the guest's QEMU, before either could say that the other is gone: a crash of the host."""
        self.cluster.end(f"agent-{self.name}")
        self.guest.process.kill()
        self.guest.process.wait()

    def logs(self):
        return self.guest.logs()

    def close(self):
        self.guest.close()


class HostCluster(Cluster):
    """Use it with 'with'. ports: how many hosts there may be."""

    def __init__(self, ports=8):
        super().__init__()
        self.ports, self.taken = ports, 0
        self.hosts, self.daemons = {}, {}
        self.tcp_port = links.free_ports(1)[0]
        self.environment["LANEPOOL_CONTROLLER"] = self.unix_endpoint()

    def __exit__(self, kind, *_):
        if kind is not None:
            for host in self.hosts.values():
                print(host.logs(), flush=True)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: host.close(), self.hosts.values()))
        for name in list(self.daemons):
            self.end(name)
        super().__exit__(kind)

    def up(self):
        ca = self.folder / "ca"
        self.ok("pki", "init", str(ca))
        self.ok("pki", "issue", "pool1", "--role", "controller", "--ip", THIS_MACHINE, "--ip", "127.0.0.1", "--dir", str(ca))
        self.spawn("fabric", "fabric", "--dir", self.folder / "fabric", "--ports", str(self.ports), "--bar4", BAR4)
        self.spawn("controller", "controller", "--listen", f"{self.unix_endpoint()},{self.tcp_endpoint('127.0.0.1')}",
                   "--state", self.folder / "controller", "--tls-ca", ca / "ca.pem", "--tls-cert", ca / "issued/pool1.pem",
                   "--tls-key", ca / "issued/pool1.key", "--tls-crl", ca / "crl.pem")
        self.wait_until("the fabric serves", lambda: self.port_socket(self.ports - 1).exists(), 10)
        self.wait_until("the controller answers", lambda: self.run("hosts").returncode == 0, 20)

    # ---- where things are ----

    def unix_endpoint(self):
        return f"unix:{self.folder}/controller.sock"

    def tcp_endpoint(self, address):
        return f"{address}:{self.tcp_port}"

    def port_socket(self, port):
        return self.folder / f"fabric/port{port}.sock"

    def certificates(self, host):
        """The files of a host's agent, issued when first asked for."""
        ca = self.folder / "ca"
        if not (ca / f"issued/{host}.pem").exists():
            self.ok("pki", "issue", host, "--role", "agent", "--dir", str(ca))
        files = (ca / "ca.pem", ca / f"issued/{host}.pem", ca / f"issued/{host}.key")
        return dict(zip(CA_FILES, (file.read_bytes() for file in files), strict=True))

    # ---- this machine's processes ----

    def spawn(self, name, *words):
        with open(self.folder / f"{name}.log", "ab") as log:
            environment = {key: value for key, value in os.environ.items() if not key.startswith("LANEPOOL_")}
            self.daemons[name] = subprocess.Popen([PROGRAM, *map(str, words)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                  env=environment)

    def spawn_agent(self, host, *words, port=None):
        """The agent of a host that is a process on this machine. port: by default the next one."""
        if port is None:
            port, self.taken = self.taken, self.taken + 1
        self.spawn(f"agent-{host}", "--controller", self.unix_endpoint(), "agent", "--host", host, "--adapter", self.port_socket(port),
                   "--state", self.folder / f"agent-{host}", "--admin", self.folder / f"agent-{host}.admin.sock",
                   "--application", self.folder / f"application-{host}.sock", *words)

    def end(self, name):
        """SIGKILL to one of them; tests that care for an orderly end do it themselves."""
        process = self.daemons.pop(name)
        process.kill()
        process.wait()

    # ---- hosts ----

    def start_hosts(self, whole=None, process=None):
        """Starts hosts side by side and waits until they have joined. Both: {name: options}."""
        for name in whole or {}:
            self.certificates(name)
        jobs = []
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for kind, wanted in ((AgentHost, whole or {}), (ProcessHost, process or {})):
                for name, options in wanted.items():
                    jobs.append((name, pool.submit(kind, self, name, self.taken, **options)))
                    self.taken += 1
        problems = []
        for name, job in jobs:
            if job.exception():
                problems.append(f"{name}: {job.exception()}")
            else:
                self.hosts[name] = job.result()
        if problems:
            raise CheckFailed("; ".join(problems))
        self.wait_joined([name for name, _ in jobs])

    def wait_joined(self, names, timeout_s=40):
        for name in names:
            self.wait_until(f"{name} joins", lambda: self.host(name)["state"] == "up", timeout_s)

    def host(self, name):
        return {entry["name"]: entry for entry in self.json("hosts")}[name]

    def apply_site(self, text):
        file = self.folder / "site.toml"
        file.write_text(text)
        self.ok("site", "apply", str(file))

    def borrow_kernel(self, device, host, *words):
        """Lends a device to a whole host's own kernel. The loan, whose 'function' is where that kernel has it."""
        self.ok("borrow", device, "--host", host, *words)
        loan = self.loan(self.device(device)["loan"])
        check(f"{device} is lent to {host}'s own kernel", loan["function"] and loan["dma"], loan)
        return loan

    def windows_free(self):
        return {entry["name"]: entry["windows_free"] for entry in self.json("hosts")}

    def wait_device(self, device, state, timeout_s=60):
        """Waits for a device's state; seconds that it took."""
        start = time.monotonic()
        self.wait_until(f"{device} is {state}", lambda: self.device(device)["state"] == state, timeout_s)
        return time.monotonic() - start
