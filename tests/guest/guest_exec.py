# SPDX-License-Identifier: Apache-2.0
"""Client of the exec channel: runs shell commands in a guest over its virtio-serial socket (docs/guest.md)."""
import base64
import itertools
import socket
import sys
import threading
import time


class GuestError(Exception):
    """The guest refused a request, went away, or did not answer in time."""


class Result:
    """What a command ended with: status as a shell has it, output (stdout and stderr together), note."""

    def __init__(self, status, note, output):
        self.status, self.note, self.output = status, note, output

    @property
    def text(self):
        return self.output.decode(errors="replace")


class GuestExec:
    """One connection to a guest. Threads may call it at the same time; the commands run concurrently."""

    # What the guest needs to answer beyond the command's own time-out.
    GRACE_S = 20

    def __init__(self, path, timeout_s=60):
        """Connects to the Unix socket at path and waits until the guest answers."""
        self._path = path
        self._ids = itertools.count(1)
        self._lock = threading.Condition()
        self._answers = {}
        self._gone = None
        self._send_lock = threading.Lock()
        deadline = time.monotonic() + timeout_s
        self._socket = self._connect(deadline)
        threading.Thread(target=self._receive, daemon=True).start()
        # The guest may not have opened its port yet, and QEMU drops what arrives before that: ask until it answers.
        while True:
            hello = self._start("hello", [])
            try:
                self.boot_id = self._wait(hello, 0.5)[0]
                return
            except GuestError as error:
                if self._gone or time.monotonic() > deadline:
                    self.close()
                    raise GuestError(f"the guest at {path} did not answer within {timeout_s} s: {error}") from None

    def _connect(self, deadline):
        while True:
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                s.connect(self._path)
                return s
            except (FileNotFoundError, ConnectionRefusedError):
                s.close()
                if time.monotonic() > deadline:
                    raise GuestError(f"nothing listens at {self._path}") from None
                time.sleep(0.02)

    def _start(self, verb, words):
        request_id = f"c{next(self._ids)}"
        with self._lock:
            self._answers[request_id] = None
        # The leading newline ends what an earlier client may have left unfinished.
        line = "\n" * (verb == "hello") + " ".join([verb, request_id, *words]) + "\n"
        with self._send_lock:
            try:
                self._socket.sendall(line.encode())
            except OSError as error:
                raise GuestError(f"the connection to the guest is gone: {error}") from None
        return request_id

    def _receive(self):
        reason = "the connection was closed"
        try:
            with self._socket.makefile("rb") as stream:
                for line in stream:
                    self._line(line.decode(errors="replace").split())
        except (OSError, ValueError) as error:
            reason = str(error)
        with self._lock:
            self._gone = reason
            self._lock.notify_all()

    def _line(self, words):
        if len(words) < 2 or words[0] not in ("ready", "pong", "done", "error"):
            return
        with self._lock:
            if words[1] in self._answers:  # others were asked by somebody before us
                self._answers[words[1]] = (words[0], words[2:])
                self._lock.notify_all()

    def _wait(self, request_id, timeout_s):
        with self._lock:
            self._lock.wait_for(lambda: self._answers[request_id] or self._gone, timeout_s)
            answer = self._answers.pop(request_id)
        if not answer:
            raise GuestError(self._gone or f"no answer in {timeout_s} s")
        if answer[0] == "error":
            raise GuestError("refused by the guest: " + base64.b64decode(answer[1][0]).decode())
        return answer[1]

    def ping(self, timeout_s=10):
        """Seconds until the guest answered."""
        start = time.monotonic()
        self._wait(self._start("ping", []), timeout_s)
        return time.monotonic() - start

    def start(self, command, timeout_s=60):
        """Starts a command; finish() gets its result. Others may run meanwhile."""
        encoded = base64.b64encode(command.encode()).decode()
        return self._start("exec", [str(int(timeout_s * 1000)), encoded]), timeout_s + self.GRACE_S

    def finish(self, started):
        status, note, output = self._wait(*started)
        return Result(int(status), note, b"" if output == "-" else base64.b64decode(output))

    def kill(self, started):
        """Kills a started command; finish() then tells status 137."""
        line = f"kill {started[0]}\n".encode()
        with self._send_lock:
            self._socket.sendall(line)

    def run(self, command, timeout_s=60):
        """Runs a command and returns its Result, whatever its status."""
        return self.finish(self.start(command, timeout_s))

    def check(self, command, timeout_s=60):
        """Runs a command that must succeed, and returns its output as text."""
        result = self.run(command, timeout_s)
        if result.status != 0 or result.note != "ok":
            raise GuestError(f"'{command}' ended with {result.status} ({result.note}): {result.text.strip()}")
        return result.text

    def close(self):
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} SOCKET COMMAND")
    outcome = GuestExec(sys.argv[1]).run(sys.argv[2], timeout_s=3600)
    sys.stdout.buffer.write(outcome.output)
    sys.exit(outcome.status)
