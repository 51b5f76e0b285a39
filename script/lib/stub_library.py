#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a stand-in for a shared library: usage: stub_library.py LIBRARY OUT PROGRAM...

OUT has LIBRARY's soname and those of its symbols that the PROGRAMs import, with their versions. Calling one ends the
process. It lets a program start without a library of which it will use nothing.
"""
import pathlib
import subprocess
import sys
import tempfile


def symbols(path, which):
    """The dynamic symbols of path: a set of 'name' or 'name@version'."""
    out = subprocess.run(["nm", "--dynamic", which, "--with-symbol-versions", "--format=posix", path],
                         check=True, capture_output=True, text=True).stdout
    return {line.split()[0].replace("@@", "@") for line in out.splitlines() if line.strip()}


def main():
    library, out, programs = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    imported = set().union(*(symbols(program, "--undefined-only") for program in programs))
    wanted = sorted(symbols(library, "--defined-only") & imported)
    if not wanted:
        sys.exit(f"{library.name}: none of its symbols is used by {' '.join(programs)}; drop it from guest/stubs.list")
    versions = {}
    source = ["void abort(void);"]
    for index, symbol in enumerate(wanted):
        name, _, version = symbol.partition("@")
        versions.setdefault(version, []).append(name)
        if version:
            source.append(f"void stub{index}(void) {{ abort(); }}")
            source.append(f'__asm__(".symver stub{index},{name}@@{version}");')
        else:
            source.append(f"void {name}(void) {{ abort(); }}")
    # Symbols without a version need no node; a version script may not mix both kinds.
    script = "".join(f"{version} {{ }};\n" for version in sorted(versions) if version)
    with tempfile.TemporaryDirectory() as folder:
        c_file, map_file = pathlib.Path(folder, "stub.c"), pathlib.Path(folder, "stub.map")
        c_file.write_text("\n".join(source) + "\n")
        map_file.write_text(script)
        command = ["gcc", "-shared", "-fPIC", "-O1", "-w", "-fno-builtin", f"-Wl,-soname,{library.name}", "-o", out, str(c_file)]
        if script:
            command.append(f"-Wl,--version-script={map_file}")
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
