# SPDX-License-Identifier: Apache-2.0
"""Links that can be broken: proxies between processes, on Unix sockets and on TCP, all in one thread.

A link is open, or
  stalled  nothing gets through, and nobody is told: the cable was pulled
  closed   connections end, new ones are refused
  reset    connections end with a reset, and so does every new one
"""
import asyncio
import os
import pathlib
import socket
import struct
import threading

OPEN, STALLED, CLOSED, RESET = "open", "stalled", "closed", "reset"


class Loop:
    """The thread in which all proxies run."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)


class Connection:
    """One client's connection: bytes are taken from one side and given to the other while its link is open."""

    def __init__(self, proxy, source, client, server):
        self.proxy, self.source = proxy, source
        self.writers = [client[1], server[1]]
        self.flowing = asyncio.Event()
        self.tasks = [asyncio.ensure_future(self.pump(client[0], server[1])),
                      asyncio.ensure_future(self.pump(server[0], client[1]))]

    async def pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                await self.flowing.wait()
                writer.write(data)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        self.end()

    def apply(self, state):
        if state == OPEN:
            self.flowing.set()
        elif state == STALLED:
            self.flowing.clear()
        else:
            self.end(reset=state == RESET)

    def end(self, reset=False):
        self.proxy.connections.discard(self)
        for writer in self.writers:
            if reset and not writer.is_closing():
                abort(writer)
            writer.close()
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()


def abort(writer):
    """The other side gets a reset instead of an end (a Unix socket has no such thing)."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_INET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxy:
    """Listens on one address and forwards to another one: each a path or a port of 127.0.0.1. SOURCE_OF, given the port
    from which a client comes, says who it is: each source can be cut off by itself."""

    def __init__(self, loop, listen, target, source_of=None):
        self.loop, self.listen, self.target, self.source_of = loop, listen, target, source_of
        self.states = {}
        self.connections = set()
        self.server = None
        loop.call(self.start())

    async def start(self):
        if isinstance(self.listen, int):
            self.server = await asyncio.start_server(self.accept, "127.0.0.1", self.listen)
        else:
            pathlib.Path(self.listen).unlink(missing_ok=True)
            self.server = await asyncio.start_unix_server(self.accept, self.listen)

    def state(self, source):
        return self.states.get(source, self.states.get(None, OPEN))

    async def accept(self, reader, writer):
        source = None
        if self.source_of:
            source = await asyncio.to_thread(self.source_of, writer.get_extra_info("peername")[1])
        if self.state(source) in (CLOSED, RESET):
            abort(writer)
            return
        try:
            server = await (asyncio.open_connection("127.0.0.1", self.target) if isinstance(self.target, int)
                            else asyncio.open_unix_connection(self.target))
        except OSError:
            writer.close()
            return
        connection = Connection(self, source, (reader, writer), server)
        self.connections.add(connection)
        connection.apply(self.state(source))

    async def change(self, state, source):
        self.states[source] = state
        # What nobody listens on refuses; with sources there are others who may still come.
        if source is None and state == CLOSED and self.server:
            self.server.close()
            self.server = None
        if source is None and state != CLOSED and not self.server:
            await self.start()
        for connection in list(self.connections):
            if source is None or connection.source == source:
                connection.apply(state)

    def set(self, state, source=None):
        self.loop.call(self.change(state, source))


def sockets_of(pid):
    """The inodes of a process's sockets."""
    inodes = set()
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    except OSError:
        pass
    return inodes


def owner_of_port(port, processes):
    """Which of {name: pid} has the connection that comes from this port of 127.0.0.1."""
    inode = None
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].split(":")[1], 16) == port and words[9] != "0":
            inode = words[9]
    return next((name for name, pid in processes.items() if inode in sockets_of(pid)), None)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
