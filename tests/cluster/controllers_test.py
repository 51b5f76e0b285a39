#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Three controllers, three members of etcd, people who borrow and return without a pause, and everything that can break:
the leader is killed, or stopped and woken up; each network link is cut; etcd's leader dies; both leaders die together.

After each fault: what was acknowledged is in the records, no device had two borrowers (by the trail and by the lender's own
log), the trail verifies. The time to the next accepted decision is compared with the time in which etcd itself elects.
Usage: controllers_test.py [--json FILE]"""
import base64
import json
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import links
from cluster import PROGRAM, CheckFailed, Cluster, check

LOAD = PROGRAM.parent / "lanepool-controllers-load"
NUMBERS = range(3)
GOAL = 1.5


class Processes:
    """Those that this test has started, by name; they end with it."""

    def __init__(self, folder):
        self.folder, self.running, self.commands = folder, {}, {}

    def start(self, name, command=None, **options):
        self.commands[name] = command or self.commands[name]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.running[name] = subprocess.Popen(self.commands[name], stderr=log, **({"stdout": log} | options))
        return self.running[name]

    def pid(self, name):
        return self.running[name].pid

    def signal(self, name, number):
        self.running[name].send_signal(number)

    def kill(self, name):
        self.running[name].kill()
        self.running[name].wait()

    def end(self):
        for process in self.running.values():
            process.kill()
            process.wait()


class Etcd:
    """Three members, each reached by the others through a proxy that knows who comes."""

    def __init__(self, processes, loop):
        self.processes = processes
        ports = links.free_ports(9)
        self.clients, self.peers, fronts = ports[:3], ports[3:6], ports[6:]
        names = {f"etcd{i}": f"http://127.0.0.1:{fronts[i]}" for i in NUMBERS}
        for i in NUMBERS:
            client = f"http://127.0.0.1:{self.clients[i]}"
            processes.start(f"etcd{i}", [
                "etcd", "--name", f"etcd{i}", "--data-dir", str(processes.folder / f"etcd{i}"),
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", f"http://127.0.0.1:{self.peers[i]}", "--initial-advertise-peer-urls", names[f"etcd{i}"],
                "--initial-cluster", ",".join(f"{name}={url}" for name, url in names.items())])
        self.proxies = [links.Proxy(loop, fronts[i], self.peers[i], self.source_of) for i in NUMBERS]

    def source_of(self, port):
        return links.owner_of_port(port, {f"etcd{i}": self.processes.pid(f"etcd{i}") for i in NUMBERS})

    def call(self, number, method, body, timeout_s):
        """One call of etcd's API, as JSON; None where it fails."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.clients[number]}/v3/{method}", json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return json.load(answer)
        except OSError:
            return None

    def leader(self):
        """The number of the member that leads."""
        def leads(number):
            status = self.call(number, "maintenance/status", {}, 0.5)
            return status and status["leader"] == status["header"]["member_id"]
        return wait_until("etcd has a leader", lambda: [i for i in NUMBERS if leads(i)])[0]

    def wait_for_write(self, numbers, since):
        """Seconds from then until one of these members takes a write. Many are on their way: one of them is lost with a
        leader whose death is not noticed yet."""
        done = threading.Event()
        body = {"key": base64.b64encode(b"probe").decode(), "value": ""}

        def write(number):
            if self.call(number, "kv/put", body, 5) is not None:
                done.set()
        while not done.is_set() and time.monotonic() < since + 20:
            for number in numbers:
                threading.Thread(target=write, args=(number,), daemon=True).start()
            done.wait(0.05)
        return time.monotonic() - since

    def cut(self, one, other, state):
        self.proxies[one].set(state, f"etcd{other}")
        self.proxies[other].set(state, f"etcd{one}")


class Controllers:
    """Three, with proxies in front of each for clients and for agents, and between each and each member of etcd."""

    def __init__(self, processes, loop, etcd):
        self.processes, folder = processes, processes.folder
        self.sockets = [folder / f"c{i}.sock" for i in NUMBERS]
        fronts = links.free_ports(9)
        self.to_etcd = [[links.Proxy(loop, fronts[3 * i + j], etcd.clients[j]) for j in NUMBERS] for i in NUMBERS]
        for i in NUMBERS:
            members = ",".join(f"127.0.0.1:{fronts[3 * i + j]}" for j in NUMBERS)
            # What it tells others of itself leads nowhere: who is cut off must not find a way around.
            processes.start(f"c{i}", [PROGRAM, "controller", "--listen", f"unix:{self.sockets[i]}", "--name", f"c{i}",
                                      "--etcd", members, "--advertise", "127.0.0.1:9"])
        self.for_clients = [self.front(loop, "clients", i) for i in NUMBERS]
        self.for_agents = [self.front(loop, "agents", i) for i in NUMBERS]

    def front(self, loop, name, number):
        """Both sockets of a controller: calls, and who calls."""
        path = self.processes.folder / f"{name}{number}.sock"
        return [links.Proxy(loop, str(path) + end, str(self.sockets[number]) + end) for end in ("", ".id")]

    def endpoints(self, name=None):
        return ",".join(f"unix:{self.processes.folder / f'{name}{i}.sock'}" if name else f"unix:{self.sockets[i]}"
                        for i in NUMBERS)

    def standing(self):
        """What each controller says of itself: 'leads', 'stands by' or 'no answer'."""
        done = subprocess.run([PROGRAM, "--controller", self.endpoints(), "-o", "json", "controllers"],
                              capture_output=True, text=True, timeout=20)
        return [entry["state"] for entry in json.loads(done.stdout)]

    def leader(self):
        return wait_until("a controller leads", lambda: [i for i in NUMBERS if self.standing()[i] == "leads"])[0]

    def command(self, *words):
        return subprocess.run([PROGRAM, "--controller", self.endpoints(), *words], capture_output=True, text=True, timeout=60)


class Load:
    """The program that borrows and returns; it says when requests are accepted, and what is wrong."""

    def __init__(self, processes, controllers):
        self.process = processes.start("load", [LOAD, controllers.endpoints(), controllers.endpoints("clients"),
                                                controllers.endpoints("agents")],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def next_after(self, since, direct=False):
        """Seconds from then to the next accepted decision that is asked for from now on."""
        answer = self.ask(f"{'next-direct' if direct else 'next'} {time.monotonic()}")
        if answer["at"] is None:
            raise CheckFailed(f"nothing was decided any more: {answer['why']}")
        return answer["at"] - since


def wait_until(claim, condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise CheckFailed(f"{claim}: not within {timeout_s} s")
        time.sleep(0.05)
    return value


class Test:
    def __init__(self, folder):
        self.processes = Processes(folder)
        loop = links.Loop()
        self.etcd = Etcd(self.processes, loop)
        self.controllers = Controllers(self.processes, loop, self.etcd)
        self.load = Load(self.processes, self.controllers)
        self.times = {}  # of each kind of fault: to the next decision
        self.elections = []  # of etcd alone

    # ---- what is right at any time

    def consistent(self, claim):
        found = self.load.ask("check")
        check(claim, not found["problems"], found["problems"][:5])
        return found

    def verified(self):
        done = self.controllers.command("-o", "json", "audit", "verify")
        check("the audit trail verifies", done.returncode == 0, done.stderr)

    def settled(self):
        """Decisions are made, by clients through every link."""
        self.load.next_after(time.monotonic())

    def fault(self, kind, act, claim):
        """Breaks something, and waits for the next decision."""
        self.settled()
        start = time.monotonic()
        act()
        took = self.load.next_after(start)
        self.times.setdefault(kind, []).append(took)
        print(f"      {claim}: the next decision after {took:.2f} s", flush=True)
        return took

    # ---- faults

    def etcd_alone(self):
        """How long etcd needs to elect: its own leader is killed, and nothing else."""
        leader = self.etcd.leader()
        self.settled()
        start = time.monotonic()
        self.processes.kill(f"etcd{leader}")
        others = [i for i in NUMBERS if i != leader]
        election = threading.Thread(target=lambda: self.elections.append(self.etcd.wait_for_write(others, start)))
        election.start()
        took = self.load.next_after(start)
        election.join()
        self.times.setdefault("etcd's leader killed", []).append(took)
        print(f"      etcd's leader killed: it takes writes after {self.elections[-1]:.2f} s, the next decision is made after "
              f"{took:.2f} s", flush=True)
        self.processes.start(f"etcd{leader}")

    def leader_killed(self):
        leader = self.controllers.leader()
        self.fault("leader killed", lambda: self.processes.kill(f"c{leader}"), "the leader killed")
        self.processes.start(f"c{leader}")

    def leader_stopped(self):
        """SIGSTOP; when another one leads, SIGCONT: it must not answer as if it still did."""
        leader = self.controllers.leader()
        self.fault("leader stopped", lambda: self.processes.signal(f"c{leader}", signal.SIGSTOP), "the leader stopped")
        self.processes.signal(f"c{leader}", signal.SIGCONT)
        standing = [self.controllers.standing() for _ in range(10)]
        check("who wakes up does not lead", all(each[leader] != "leads" for each in standing), standing)
        if len(self.times["leader stopped"]) > 1:
            return
        alone = subprocess.run([PROGRAM, "--controller", f"unix:{self.controllers.sockets[leader]}", "ls"],
                               capture_output=True, text=True, timeout=60)
        check("and answers nothing but who does", alone.returncode == 5 and "leads, at" in alone.stderr, alone)

    def both_leaders_killed(self):
        controller, member = self.controllers.leader(), self.etcd.leader()

        def act():
            self.processes.kill(f"c{controller}")
            self.processes.kill(f"etcd{member}")
        self.fault("both leaders killed", act, "both leaders killed")
        self.processes.start(f"c{controller}")
        self.processes.start(f"etcd{member}")

    def cut(self, kind, name, act, for_s, direct=False):
        """Cuts a link for a while: ACT is given what becomes of it. Nobody is told of a cable that was pulled: that lasts
        until all have noticed."""
        longest = 0
        for state in (links.STALLED, links.CLOSED, links.RESET):
            self.settled()
            start = time.monotonic()
            act(state)
            end = start + (for_s if state == links.STALLED else 0.1)
            while time.monotonic() < end:
                longest = max(longest, self.load.next_after(time.monotonic(), direct))
            act(links.OPEN)
            self.settled()
        self.times.setdefault(kind, []).append(longest)
        print(f"      {name} cut: decisions paused for at most {longest:.2f} s", flush=True)

    def links_of_etcd(self):
        for one, other in ((0, 1), (0, 2), (1, 2)):
            for_s = 2 if self.etcd.leader() in (one, other) else 0.5
            self.cut("link between members of etcd cut", f"etcd{one}-etcd{other}",
                     lambda state, one=one, other=other: self.etcd.cut(one, other, state), for_s)

    def links_to_etcd(self):
        leader = self.controllers.leader()
        for i in NUMBERS:
            for j in NUMBERS:
                role = "leader" if i == leader else "standby"
                self.cut(f"link of a {role} to etcd cut", f"{role} c{i}-etcd{j}", self.controllers.to_etcd[i][j].set,
                         1.5 if i == leader else 0.3)

    def links_of_clients(self):
        leader = self.controllers.leader()
        for i in NUMBERS:
            for kind, fronts in (("agents", self.controllers.for_agents), ("clients", self.controllers.for_clients)):
                def act(state, proxies=fronts[i]):
                    for proxy in proxies:
                        proxy.set(state)
                self.cut(f"link of {kind} cut", f"{kind}-c{i}", act, 2.5 if i == leader else 0.3, direct=True)

    # ---- all of it

    def run(self):
        self.load.next_after(time.monotonic())
        print("  ok  three controllers decide", flush=True)
        for fault, times, what in ((self.etcd_alone, 5, "etcd's leader was killed"),
                                   (self.leader_killed, 3, "the leader was killed"),
                                   (self.leader_stopped, 2, "the leader was stopped and woken up"),
                                   (self.both_leaders_killed, 2, "both leaders were killed together"),
                                   (self.links_of_etcd, 1, "each link between etcd's members was cut"),
                                   (self.links_to_etcd, 1, "each link of a controller to etcd was cut"),
                                   (self.links_of_clients, 1, "each link of agents and clients was cut")):
            started = time.monotonic()
            for _ in range(times):
                fault()
                self.consistent("nothing that was acknowledged is lost, no device had two borrowers")
            self.verified()
            print(f"  ok  {what} ({time.monotonic() - started:.1f} s)", flush=True)
        found = self.consistent("nor in the end")
        check(f"{found['acknowledged']} requests were acknowledged, {found['steps']} steps done, {found['entries']} entries "
              "written", found["acknowledged"] > 500 and found["steps"] > 500)

    def rows(self):
        """A row a figure, as the benchmarks print them."""
        election = statistics.median(self.elections)
        rows = [row("etcd's own election, after its leader was killed", "s", self.elections)]
        for kind, times in self.times.items():
            # Of the same death where it was the same.
            beside = self.elections if len(times) == len(self.elections) else [election] * len(times)
            judge = max if kind.startswith("link") else statistics.median  # most links matter to nobody
            rows.append(row(f"{kind}: to the next decision", "s", times, judge=judge))
            rows.append(row(f"{kind}: of etcd's election", "x", [took / other for took, other in zip(times, beside)], GOAL, judge))
        return rows

    def end(self):
        self.processes.end()


def row(name, unit, values, goal=None, judge=statistics.median):
    value = judge(values)
    status = "measured" if goal is None else "held" if value <= goal else "missed"
    return {"name": name, "value": value, "unit": unit, "goal": f"<= {goal}" if goal else None, "status": status,
            "min": min(values), "max": max(values), "note": ""}


def print_rows(rows):
    for entry in rows:
        print(f"{entry['name']:58} {entry['value']:6.2f} {entry['unit']:2} {entry['goal'] or '':7} {entry['status']:9} "
              f"[{entry['min']:.2f} .. {entry['max']:.2f}]", flush=True)


def break_everything(arguments):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lanepool-test."))
    test = None
    try:
        test = Test(folder)
        test.run()
        print_rows(test.rows())
        if arguments[:1] == ["--json"]:
            pathlib.Path(arguments[1]).write_text(json.dumps(test.rows(), indent=1))
    except BaseException:
        for log in sorted(folder.glob("*.log")):
            print(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-12:]), flush=True)
        raise
    finally:
        if test:
            test.end()
        shutil.rmtree(folder, ignore_errors=True)


def data_path():
    """A guest goes on doing verified I/O on a lent drive while the leader is killed."""
    with Cluster(controllers=3, hosts="a", drives=1, drive_size="512M") as cluster:
        states = [entry["state"] for entry in cluster.json("controllers")]
        check("of three controllers one leads", sorted(states) == ["leads", "stands by", "stands by"], states)
        events = cluster.start("-o", "json", "events", "-f", "-n", "1")
        borrow = cluster.start("borrow", "store/nvme0", "--host", "a")
        cluster.wait_until("the loan is being made", lambda: cluster.json("loans"))
        cluster.kill(f"controller{states.index('leads')}")
        output, errors = borrow.communicate(timeout=60)
        check("a command whose controller dies goes on at the next one", borrow.returncode == 0 and "active" in output,
              output + errors)
        cluster.up()
        states = [entry["state"] for entry in cluster.json("controllers")]
        cluster.wait_until("a sees the drive", lambda: cluster.guest_status("a", "test -b /dev/nvme0n1") == 0)
        before = cluster.json("stats")["io_messages"]
        load = cluster.start("dev", "exec", "--timeout", "60", "a", "--",
                             "fio --name=job --filename=/dev/nvme0n1 --direct=1 --ioengine=libaio --rw=randwrite --bs=16k "
                             "--size=48M --iodepth=16 --verify=crc32c --do_verify=1 --verify_fatal=1 --loops=2")
        cluster.wait_until("the load has begun", lambda: cluster.json("stats")["nvme0"]["commands"]["io"] > 500)
        cluster.kill(f"controller{states.index('leads')}")
        cluster.ok("renew", "store/nvme0", "--for", "8h")
        check("another one leads, and decides", load.poll() is None or load.returncode == 0)
        output, errors = load.communicate(timeout=90)
        check("the guest wrote and verified all the time", load.returncode == 0, output + errors)
        check("and no process of lanepool handled a message for it", cluster.json("stats")["io_messages"] == before)
        check("the loan is as it was", cluster.device()["borrower"] == "a")
        cluster.up()
        check("the killed one is brought back", all(p["running"] for p in cluster.processes().values()))
        cluster.ok("return", "store/nvme0")
        check("the trail verifies", "head" in cluster.json("audit", "verify"))
        time.sleep(0.5)
        events.kill()
        seen = [json.loads(line)["sequence"] for line in events.communicate()[0].splitlines()]
        check("who followed the events has seen each of them once, whoever led",
              len(seen) > 20 and seen == list(range(seen[0], seen[0] + len(seen))), seen)


def main():
    if not LOAD.exists():
        print(f"{LOAD} is not there: build the target lanepool_controllers_load", file=sys.stderr)
        return 2
    started = time.monotonic()
    break_everything(sys.argv[1:])
    data_path()
    print(f"all of it in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
