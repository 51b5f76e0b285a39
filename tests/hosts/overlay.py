# SPDX-License-Identifier: Apache-2.0
"""Adds programs of this machine to a whole host's file system: a second archive behind the first.

The kernel unpacks several archives one after the other, a later one over an earlier one. Programs come with the
libraries they are linked with; those of this machine then also serve the programs of the image, which are at most as new.
"""
import fcntl
import hashlib
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile

# The C library's parts must all be of one build.
C_LIBRARY = ["libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libresolv.so.2"]
LIBRARIES = "lib/x86_64-linux-gnu"
# How many combinations of programs are kept.
KEPT = 6


def libraries_of(program):
    """What a program is linked with: {name: path}, and the loader under its own path."""
    out = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    found = {}
    for line in out.splitlines():
        words = line.split()
        if len(words) >= 3 and words[1] == "=>" and words[2].startswith("/"):
            found[words[0]] = pathlib.Path(words[2])
        elif words and words[0].startswith("/lib64/"):
            found[words[0]] = pathlib.Path(words[0])
    return found


class Archive:
    """A newc archive, as the kernel reads it."""

    def __init__(self, stream):
        self._stream, self._inode, self._folders = stream, 0, set()

    def _entry(self, name, mode, data=b""):
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = [self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0]
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._padded(header + encoded)
        self._padded(data)

    def _padded(self, data):
        self._stream.write(data + b"\0" * (-len(data) % 4))

    def file(self, name, data, mode=0o755):
        name = name.lstrip("/")
        parents = list(pathlib.PurePosixPath(name).parents)[-2::-1]
        for folder in map(str, parents):
            if folder not in self._folders:
                self._folders.add(folder)
                self._entry(folder, stat.S_IFDIR | 0o755)
        self._entry(name, stat.S_IFREG | mode, data)

    def finish(self):
        self._entry("TRAILER!!!", 0)


def write_overlay(stream, programs):
    """The archive: each program in /usr/bin, its libraries in their usual place."""
    archive, needed = Archive(stream), {}
    with tempfile.TemporaryDirectory(prefix="lanepool-overlay.") as scratch:
        for program in programs:
            program = pathlib.Path(program)
            libraries = libraries_of(program)
            needed.update(libraries)
            stripped = pathlib.Path(scratch) / program.name
            # Debug information is most of what the compiler writes, and has to be loaded like the rest.
            subprocess.run(["strip", "-o", stripped, program], check=True)
            archive.file(f"usr/bin/{program.name}", stripped.read_bytes())
        if "libc.so.6" in needed:
            beside = needed["libc.so.6"].parent
            needed.update({name: beside / name for name in C_LIBRARY if (beside / name).exists()})
        for name, path in sorted(needed.items()):
            archive.file(name if name.startswith("/") else f"{LIBRARIES}/{name}", path.read_bytes())
    archive.finish()


def initramfs_with(image, programs, store):
    """The image's initramfs with these programs behind it, made in the folder store when it is not there yet."""
    programs = [pathlib.Path(program).resolve() for program in programs]
    digest = hashlib.sha256(str(pathlib.Path(image).resolve()).encode())
    digest.update(pathlib.Path(__file__).read_bytes())
    for program in programs:
        state = program.stat()
        digest.update(f"{program} {state.st_mtime_ns} {state.st_size}\n".encode())
    store.mkdir(parents=True, exist_ok=True)
    made = store / f"{digest.hexdigest()[:16]}.img"
    with open(store / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists():
            os.utime(made)
            return made
        fresh = made.with_suffix(".new")
        with open(fresh, "wb") as stream:
            with open(image, "rb") as first:
                shutil.copyfileobj(first, stream)
            stream.write(b"\0" * (-stream.tell() % 512))
            write_overlay(stream, programs)
        fresh.rename(made)
        old = sorted(store.glob("*.img"), key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]
        for path in old:
            path.unlink()
    return made
