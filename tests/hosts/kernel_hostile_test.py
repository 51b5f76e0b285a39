#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two whole hosts of which one is hostile: what root of it reaches of the other one, when a drive is lent to the other's own kernel
(by a bounce pool), or by it.

The intruder (intruder_tool.cc) leads windows of its host's adapter wherever it likes, behind the agent's back, and drives a lent
card by hand. What it could do is judged from outside: the other machine's whole memory is searched for what
was written. That the search finds what is there is shown by what the loan does let it reach, and by a loan that lets it reach all.

LANEPOOL_SEED: of the addresses that are tried at random; the test prints which.
"""
import mmap
import os
import random
import re
import sys
import time

from host_cluster import CheckFailed, HostCluster, check
from whole_host import PROGRAM, ROOT, Device, edu, nvme

PROGRAMS = [PROGRAM, *(ROOT / "build/tests/hosts" / name for name in ("intruder_tool", "memory_tool"))]
# Root of a hostile machine starts its kernel as it likes.
RELAXED = "iomem=relaxed"
PAGE, MIB, GIB = 4096, 1 << 20, 1 << 30
# Where adapters give out addresses, one after the other, aligned to a window (src/ntb/exports.cc): event words, and what else
# windows lead to.
WINDOW = 0x10000
EVENT_WORDS = range(0x5000_0000, 0x8000_0000)
SPACES = ((EVENT_WORDS.start, EVENT_WORDS.start + 32 * MIB), (4 * GIB, 4 * GIB + 512 * MIB))
ALL_ADDRESSES = 1 << 47
# QEMU's IOMMU answers reads there, with zeroes.
INTERRUPTS = range(0xfee0_0000, 0xfef0_0000)
# In the format that is remapped, so that it is asked who sends it. The older one, which Linux has blocked, QEMU lets through.
INTERRUPT = INTERRUPTS.start + 0x10
# Where devices see pools from.
POOL_OF_DEVICES = 16 * MIB
DIRECT_ALLOWED = '[[rule]]\nname = "all"\ntenants = "*"\nusers = "*"\nhosts = "*"\nclasses = "*"\ndma = ["bounce", "iommu", "direct"]\n'


def hexes(numbers):
    return " ".join(map(hex, numbers))


def spans(pages):
    """Runs of adjacent pages, as (start, end)."""
    found = []
    for page in sorted(pages):
        if found and found[-1][1] == page:
            found[-1][1] = page + PAGE
        else:
            found.append([page, page + PAGE])
    return [tuple(span) for span in found]


class Victim:
    """A host, and what of it an attack must not reach."""

    def __init__(self, cluster, name):
        self.cluster, self.host = cluster, cluster.hosts[name]
        self.partition = cluster.host(name)["partition"]
        self.word = new_word()
        self.host.check(f"setsid memory_tool pattern {self.word:#x} 16 >/tmp/pattern 2>&1 </dev/null &")
        self.host.wait("[ $(wc -l </tmp/pattern) = 16 ]", "the pages with a pattern")
        self.pattern = [int(line, 16) for line in self.host.check("cat /tmp/pattern").split()]
        self.kernel = int(re.search(r"^\s*([0-9a-f]+)-.*: Kernel code", self.host.check("cat /proc/iomem"), re.MULTILINE)[1], 16)
        self.kernel_page = self.memory(self.kernel, PAGE)

    def all_memory(self):
        """Its memory, as the file that QEMU has it in: to have QEMU save it would stop the machine for longer than others wait for it."""
        folder = f"/proc/{self.host.process.pid}/fd"
        for name in os.listdir(folder):
            file = f"{folder}/{name}"
            if "/memfd:" in os.readlink(file) and os.stat(file).st_size == self.host.memory_mib * MIB:
                with open(file, "rb") as memory:
                    return mmap.mmap(memory.fileno(), 0, access=mmap.ACCESS_READ)
        raise CheckFailed(f"QEMU of {self.host.name} has no memory of {self.host.memory_mib} MiB")

    def memory(self, address, size):
        """A part of its physical memory, or of a card's registers, as QEMU has it."""
        if address + size <= self.host.memory_mib * MIB:
            with self.all_memory() as content:
                return content[address:address + size]
        file = self.cluster.folder / "memory"
        self.host.qmp.execute("pmemsave", val=address, size=size, filename=str(file))
        content = file.read_bytes()
        file.unlink()
        return content

    def agents_pages(self, *names):
        """Physical pages that its agent has of files with such names."""
        pid = self.host.check("cat /run/lanepool/agent.pid").strip()
        return {int(line, 16) for line in self.host.check(f"memory_tool pages {pid} {' '.join(names)}").split()}

    def hit(self, word):
        """The pages of its memory with what the intruder has written: the word and its complement."""
        sought = word.to_bytes(4, "little") + (word ^ 0xffffffff).to_bytes(4, "little")
        with self.all_memory() as content:
            found, at = set(), content.find(sought)
            while at >= 0:
                found.add(at // PAGE * PAGE)
                at = content.find(sought, at + 1)
        return found

    def unharmed(self):
        """Its kernel lives, and its pages are what they were."""
        check(f"{self.host.name}'s kernel goes on without a word of trouble", self.host.troubles() == [], self.host.troubles())
        check("its code and the pages of its program are what they were", self.memory(self.kernel, PAGE) == self.kernel_page and
              all(self.memory(page, PAGE) == self.word.to_bytes(4, "little") * (PAGE // 4) for page in self.pattern))


class Intruder:
    """Root of a host, with its adapter."""

    def __init__(self, host, victim):
        self.host, self.victim = host, victim
        self.card = host.address("adapter")

    def tool(self, *words):
        return self.host.check(f"intruder_tool {self.card} {' '.join(map(str, words))}", 120)

    def read(self, *addresses):
        return [int(word, 16) for word in re.findall(r"is (0x\w+)", self.tool("read", self.victim.partition, hexes(addresses)))]

    def write(self, word, *addresses):
        self.tool("write", self.victim.partition, hex(word), hexes(addresses))

    def scan(self, start, end, step):
        said = self.tool("scan", self.victim.partition, hex(start), hex(end), hex(step))
        return {int(at, 16) for at in re.findall(r"^(0x\w+) is", said, re.MULTILINE)}

    def answering(self):
        """The windows' worth of the victim's bus at whose beginning something answers."""
        return set().union(*(self.scan(*space, WINDOW) for space in SPACES))

    def pages_of(self, places):
        """The pages that answer there and far around."""
        found = set()
        for start, end in spans({place + at for place in places for at in range(0, WINDOW, PAGE)}):
            found |= self.scan(start - 4 * MIB, end + 4 * MIB, PAGE)
        return found

    def is_stopped(self):
        """Its first attempt, while the victim's log is not full of others."""
        at = self.victim.kernel
        self.write(0x0bad0bad, at)
        line = self.victim.host.wait(f"dmesg | grep 'DMAR:.*DMA Write.*fault addr {at:#x} '", "the fault in its log")
        check(f"{self.host.name} writes to where {self.victim.host.name}'s kernel is, whose IOMMU stops it and says so: {line.strip().split('] ', 1)[-1]}",
              self.victim.host.address("adapter")[5:] in line, line)

    def write_everywhere(self, seed, word, near):
        """Writes at random, wherever nothing answers; where something does."""
        answers = set()
        for count, start, end in ((1500, 0, ALL_ADDRESSES), (1500, 0, GIB), (1500, near - 64 * MIB, near + 64 * MIB)):
            said = self.tool("random", self.victim.partition, seed, count, hex(start), hex(end), hex(word))
            answers |= {int(at, 16) for at in re.findall(r"^(0x\w+) is", said, re.MULTILINE)}
        return answers


def new_word():
    """One that is nowhere else."""
    return random.randrange(1 << 28, 1 << 31)


def known(answers, places):
    """What answered is in the mailboxes of hosts that talk to each other, or in these windows' worths."""
    return all(0x4000_0000 <= at < EVENT_WORDS.start or at in INTERRUPTS or at // WINDOW * WINDOW in places for at in answers)


def hostile_lender(cluster, seed):
    borrower, lender = cluster.hosts["borrower"], cluster.hosts["lender"]
    victim = Victim(cluster, "borrower")
    intruder = Intruder(lender, victim)
    intruder.is_stopped()
    before = intruder.answering()
    loan = cluster.borrow_kernel("lender/nvme0", "borrower")
    disk = borrower.block_device(loan["function"])
    borrower.check(f"yes written-by-the-borrower | dd of={disk} bs=4k count=4 iflag=fullblock oflag=direct 2>/dev/null")
    found = intruder.pages_of(intruder.answering() - before)
    check(f"with the loan, {len(spans(found))} new ranges of {victim.host.name}'s bus answer its lender: "
          + ", ".join(f"{(end - start) >> 10} KiB" for start, end in spans(found)), found)
    pool = [span for span in spans(found) if span[1] - span[0] == loan["dma_bytes"]]
    check(f"one is the pool, of {loan['dma_bytes'] >> 20} MiB, to the byte",
          len(pool) == 1 and intruder.read(pool[0][0] - 4, pool[0][1], pool[0][1] + 4) == [0xffffffff] * 3, spans(found))
    start, end = pool[0]
    check("the others are words of event areas, outside of what windows for memory lead to",
          all(at in EVENT_WORDS for at in found if not start <= at < end), spans(found))
    word = new_word()
    targets = [victim.kernel, *victim.pattern]
    pool_pages = victim.agents_pages("lanepool_bridge")
    check("the agent has mapped the pool and nothing else of the kernel's", len(pool_pages) * PAGE == loan["dma_bytes"], len(pool_pages))
    # As if bus addresses were physical ones; or went on behind the pool as physical ones do.
    guesses = targets + [start + target - min(pool_pages) for target in targets]
    guesses = [at for at in guesses if 0 <= at < ALL_ADDRESSES and not start <= at < end]
    check("reading at the borrower's physical addresses, also as the pool's would continue, gives ones",
          set(intruder.read(*guesses)) == {0xffffffff})
    intruder.write(word, *guesses, start - 8, end, INTERRUPT)
    answers = {at for at in intruder.write_everywhere(seed, word, start) if not start <= at < end}
    check("and so do thousands at random, at all of which it writes", known(answers, before | found), sorted(answers)[:5])
    check("of all that nothing is in the borrower's memory", victim.hit(word) == set(), hexes(victim.hit(word)))
    # The driver takes from the start of the pool: its last pages are free.
    free = [end - PAGE * (i + 1) + 8 * i for i in range(4)]
    intruder.write(word, *free)
    hit = victim.hit(word)
    check("but what it writes to the pool is there, in the pool's pages", len(hit) == 4 and hit <= pool_pages, (hexes(hit), hexes(free)))
    victim.unharmed()
    card_by_hand(cluster, intruder)
    check("the loan works on", "written-by-the-borrower" in borrower.check(f"dd if={disk} bs=4k count=1 iflag=direct 2>/dev/null | head -n 1"))
    return victim, intruder


def card_by_hand(cluster, intruder):
    """The lent card's DMA engine, driven by the lender instead of by the borrower."""
    victim, lender = intruder.victim, intruder.host
    places, pages = intruder.answering(), victim.agents_pages("lanepool_bridge")
    loan = cluster.borrow_kernel("lender/edu0", "borrower")
    found = intruder.pages_of(intruder.answering() - places)
    pool = [span for span in spans(found) if span[1] - span[0] == loan["dma_bytes"]][0]
    pages = victim.agents_pages("lanepool_bridge") - pages
    word, card = new_word(), lender.address("edu0")
    intruder.write(word, pool[0])
    lender.check(f"setpci -s {card} COMMAND=6")
    # What the borrower cannot see: its second page, and all else.
    beyond = [POOL_OF_DEVICES + loan["dma_bytes"], victim.kernel, *victim.pattern[:3], pool[0] + PAGE * 3]
    lender.check(f"intruder_tool {card} copy {POOL_OF_DEVICES:#x} {POOL_OF_DEVICES + PAGE:#x} {hexes(beyond)}", 60)
    hit = victim.hit(word)
    check("a lent card's DMA engine, driven by hand, writes to that loan's pool, and nowhere else of what it is told", len(hit) == 2 and hit <= pages, hexes(hit))
    cluster.ok("return", "lender/edu0")


def hostile_borrower(cluster, seed):
    borrower, lender = cluster.hosts["borrower"], cluster.hosts["lender"]
    victim = Victim(cluster, "lender")
    intruder = Intruder(borrower, victim)
    intruder.is_stopped()
    before = intruder.answering()
    loan = cluster.borrow_kernel("lender/nvme0", "borrower")
    disk = borrower.block_device(loan["function"])
    bar = bar_of(lender, "nvme0", 0)
    said = intruder.tool("touch")
    touched = {int(at, 16) for partition, at in re.findall(r"^partition (\d+) at (0x\w+)", said, re.MULTILINE) if int(partition) == victim.partition}
    check(f"all of its windows read, as they are: {said.splitlines()[-1]}", "touched" in said)
    found = intruder.pages_of(intruder.answering() - before)
    registers = {at for at in found if at >= 4 * GIB}
    check(f"with the loan, {len(registers)} pages of the lender's bus answer anew: the drive's BAR",
          len(spans(registers)) == 1 and len(registers) * PAGE == bar[1], spans(found))
    check("which its own windows lead to", registers <= touched, spans(touched))
    start, end = spans(registers)[0]
    capabilities = victim.memory(bar[0], 8)
    check("they are the drive's registers", intruder.read(start, start + 4) == [int.from_bytes(capabilities[:4], "little"), int.from_bytes(capabilities[4:], "little")])

    word = new_word()
    others = [bar_of(lender, name, number)[0] for name, number in (("card0", 2), ("edu0", 0), ("adapter", 0), ("adapter", 2))]
    targets = [victim.kernel, *victim.pattern, *others, bar[0]]
    guesses = targets + [start + target - bar[0] for target in targets[:-1]]
    guesses = [at for at in guesses if 0 <= at < ALL_ADDRESSES and not start <= at < end]
    check("at the lender's physical addresses, of its memory and its cards, are ones", set(intruder.read(*guesses)) == {0xffffffff})
    table = bar[0] + msix_table(lender, "nvme0")
    messages = victim.memory(table, 64)
    intruder.write(word, *guesses, start - 8, end, INTERRUPT, *range(start + table - bar[0], start + table - bar[0] + 64, 8))
    answers = {at for at in intruder.write_everywhere(seed, word, start) if not start <= at < end}
    check("and so they are at thousands more at random, at all of which it writes", known(answers, before | found), sorted(answers)[:5])
    check("the table of the drive's interrupts has not changed, though it has written over it", victim.memory(table, 64) == messages)
    hit, allowed = victim.hit(word), victim.agents_pages("memfd")
    check("what it wrote there is in a page of the lender's agent, and nothing else of all that is in its memory",
          len(hit) == 1 and hit <= allowed, hexes(hit))
    for name, number in (("card0", 2), ("edu0", 0)):
        address, size = bar_of(lender, name, number)
        check(f"nor in {name}", word.to_bytes(4, "little") not in victim.memory(address, min(size, MIB)))
    victim.unharmed()
    check("the loan works on", borrower.run(f"dd if={disk} of=/dev/null bs=4k count=4 iflag=direct").status == 0)
    # The same search finds it when more is lent.
    cluster.borrow_kernel("lender/edu0", "borrower")
    more = {at for at in intruder.pages_of(intruder.answering() - before) if at >= 4 * GIB} - registers
    check(f"with another card lent the same search finds {len(more)} pages more, which are that one's",
          0x010000ed in intruder.read(*(start for start, _ in spans(more))), spans(more))
    cluster.ok("return", "lender/edu0")
    cluster.ok("return", "lender/nvme0")
    left = {at for at in intruder.answering() - before if at >= 4 * GIB}
    check("returned, nothing of them answers any more", not left, hexes(left))


def bar_of(host, name, number):
    """A BAR's physical address and size."""
    start, end, _ = (int(word, 16) for word in host.check(f"head -n {number + 1} /sys/bus/pci/devices/{host.address(name)}/resource | tail -n 1").split())
    return start, end + 1 - start


def msix_table(host, name):
    """Where in BAR 0 the table of interrupts is."""
    return int(re.search(r"Vector table: BAR=0 offset=(\w+)", host.check(f"lspci -vv -s {host.address(name)}"))[1], 16)


def everything_exported(cluster, victim, intruder):
    """A loan that lets the device reach all of the borrower's memory: by the same ways the intruder gets there."""
    cluster.apply_site(DIRECT_ALLOWED)
    cluster.borrow_kernel("lender/nvme0", "borrower", "--dma", "direct")
    # As much as all of its memory lies at a multiple of its size.
    found = intruder.scan(4 * GIB + victim.kernel, 64 * GIB, victim.host.memory_mib * MIB)
    check("with --dma direct all of the borrower's memory answers the same intruder", len(found) == 1, hexes(found))
    base, target = found.pop() - victim.kernel, victim.pattern[0]
    check("it reads the pages of its program", intruder.read(base + target) == [victim.word], hexes([base, target]))
    word = new_word()
    intruder.write(word, base + target)
    check("and writes to them, which the search finds", victim.hit(word) == {target}, hexes(victim.hit(word)))
    cluster.ok("return", "lender/nvme0")


def main():
    seed = int(os.environ.get("LANEPOOL_SEED") or 1)
    random.seed(seed)
    print(f"LANEPOOL_SEED={seed}")
    begin = time.monotonic()
    memory_card = Device("card0", "ivshmem-plain", memdev="shared", before=["-object", "memory-backend-memfd,id=shared,size=1M,share=on"])
    with HostCluster(ports=3) as cluster:
        cluster.start_hosts(whole={
            "lender": dict(kernel="6.12", lend=["nvme0", "edu0"], devices=[nvme("nvme0", 16), edu("edu0"), memory_card], programs=PROGRAMS, append=RELAXED),
            "borrower": dict(kernel="6.1", borrows=True, allow_direct=True, insmod=["edu"], programs=PROGRAMS, append=RELAXED)})
        for name in ("nvme0", "edu0"):
            cluster.ok("restore", f"lender/{name}")
        print(f"two whole hosts after {time.monotonic() - begin:.1f} s", flush=True)
        hostile_borrower(cluster, seed)
        victim, intruder = hostile_lender(cluster, seed)
        cluster.ok("return", "lender/nvme0")
        everything_exported(cluster, victim, intruder)
        print(f"{time.monotonic() - begin:.1f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
