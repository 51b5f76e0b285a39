# SPDX-License-Identifier: Apache-2.0
"""The least device that QEMU's vfio-user client takes: one 4 KiB BAR of plain registers, no interrupt.

It exists to see what a guest does to any device of its kind: which DMA maps arrive, and whether hot-plugging works,
without lanepool's own server in the picture.
"""
import array
import json
import os
import pathlib
import socket
import struct
import tempfile
import threading

VERSION, DMA_MAP, DMA_UNMAP, DEVICE_INFO, REGION_INFO = 1, 2, 3, 4, 5
IRQ_INFO, SET_IRQS, REGION_READ, REGION_WRITE, RESET = 7, 8, 9, 10, 13
FLAG_REPLY, FLAG_NO_REPLY, FLAG_ERROR = 1, 0x10, 0x20
REGIONS, IRQS, CONFIG_REGION = 9, 5, 7
BAR_SIZE, CONFIG_SIZE = 4096, 4096
EINVAL = 22


class Probe:
    """Listens on a Unix socket; dma_maps holds (address, size, has a descriptor) of each map in force."""

    VENDOR, DEVICE = 0x1B36, 0x0FFE

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="lanepool-probe.")
        self.path = pathlib.Path(self._folder.name) / "probe.sock"
        self.dma_maps, self.maps_seen, self.connections = [], 0, 0
        self._bar = bytearray(BAR_SIZE)
        self._config = bytearray(CONFIG_SIZE)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(1)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._listener.close()
        self._folder.cleanup()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.dma_maps, self.maps_seen = [], 0
            self._config[:] = bytes(CONFIG_SIZE)
            # Identity; class "other"; BAR0 is 64-bit prefetchable memory.
            struct.pack_into("<HHHHBBBB", self._config, 0, self.VENDOR, self.DEVICE, 0, 0, 0, 0, 0, 0xFF)
            struct.pack_into("<I", self._config, 0x10, 0xC)
            with connection:
                try:
                    while self._message(connection):
                        pass
                except OSError:
                    pass

    def _message(self, connection):
        fds = array.array("i")
        header, ancillary, _, _ = connection.recvmsg(16, socket.CMSG_SPACE(8 * fds.itemsize))
        for _, _, data in ancillary:
            fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
        while 0 < len(header) < 16:
            header += connection.recv(16 - len(header))
        if not header:
            return False
        message_id, command, size, flags, _ = struct.unpack("<HHIII", header)
        body = b""
        while len(body) < size - 16:
            part = connection.recv(size - 16 - len(body))
            if not part:
                return False
            body += part
        reply = self._handle(command, body, len(fds) > 0)
        for fd in fds:
            os.close(fd)
        if not flags & FLAG_NO_REPLY:
            error = EINVAL if reply is None else 0
            flags = FLAG_REPLY | (FLAG_ERROR if error else 0)
            reply = reply or b""
            connection.sendall(struct.pack("<HHIII", message_id, command, 16 + len(reply), flags, error) + reply)
        return True

    def _handle(self, command, body, has_fd):
        if command == VERSION:
            capabilities = {"capabilities": {"max_msg_fds": 8, "max_data_xfer_size": 1 << 20, "pgsizes": 4096}}
            return struct.pack("<HH", 0, 0) + json.dumps(capabilities).encode() + b"\0"
        if command == DEVICE_INFO:
            return struct.pack("<IIII", 16, 3, REGIONS, IRQS)
        if command == REGION_INFO:
            index = struct.unpack_from("<I", body, 8)[0]
            size = {0: BAR_SIZE, CONFIG_REGION: CONFIG_SIZE}.get(index, 0)
            return struct.pack("<IIIIQQ", 32, 3 if size else 0, index, 0, size, 0)
        if command == IRQ_INFO:
            return struct.pack("<IIII", 16, 0, struct.unpack_from("<I", body, 8)[0], 0)
        if command in (SET_IRQS, RESET):
            return b""
        if command == DMA_MAP:
            _, _, _, address, size = struct.unpack_from("<IIQQQ", body)
            self.dma_maps.append((address, size, has_fd))
            self.maps_seen += 1
            return b""
        if command == DMA_UNMAP:
            _, _, address, size = struct.unpack_from("<IIQQ", body)
            self.dma_maps = [m for m in self.dma_maps if not address <= m[0] < address + size]
            return body
        if command in (REGION_READ, REGION_WRITE):
            return self._access(command == REGION_WRITE, body)
        return None

    def _access(self, write, body):
        offset, region, count = struct.unpack_from("<QII", body)
        memory = {0: self._bar, CONFIG_REGION: self._config}.get(region)
        if memory is None or offset + count > len(memory):
            return None
        if not write:
            return body[:16] + bytes(memory[offset:offset + count])
        memory[offset:offset + count] = body[16:16 + count]
        if region == CONFIG_REGION:
            self._keep_read_only()
        return body[:16]

    def _keep_read_only(self):
        # Sizing: the low bits of a BAR read as its type, whatever was written.
        low = struct.unpack_from("<I", self._config, 0x10)[0]
        struct.pack_into("<I", self._config, 0x10, low & ~(BAR_SIZE - 1) & 0xFFFFFFFF | 0xC)
        struct.pack_into("<HH", self._config, 0, self.VENDOR, self.DEVICE)
