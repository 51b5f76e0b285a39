#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs what programs need, and builds one that knows nothing of this tree. Usage: outside.py BUILD COMPILER"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def main():
    build, compiler = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        prefix = pathlib.Path(folder, "prefix")
        run("cmake", "--install", build, "--prefix", prefix)
        program = shutil.copy(pathlib.Path(__file__).with_name("program.cc"), folder)
        environment = os.environ | {"PKG_CONFIG_PATH": str(prefix / "lib64/pkgconfig")}
        flags = run("pkg-config", "--cflags", "--libs", "lanepool-smartio", env=environment).split()
        warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wold-style-cast", "-Werror"]
        run(compiler, "-std=c++20", *warnings, program, "-o", "program", *flags, cwd=folder)
        print(run("./program", cwd=folder, env=environment | {"LANEPOOL_AGENT": f"{folder}/nobody.sock"}))
        library = prefix / "lib64"
        program = shutil.copy(pathlib.Path(__file__).with_name("sisci_program.c"), folder)
        c_compiler = compiler.replace("clang++", "clang").replace("c++", "cc").replace("g++", "gcc")
        run(c_compiler, "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", program, "-o", "sisci_program",
            f"-I{prefix / 'include'}", f"-L{library}", f"-Wl,-rpath,{library}", "-lsisci", cwd=folder)
        print(run("./sisci_program", cwd=folder, env=environment | {"LANEPOOL_AGENT": f"{folder}/nobody.sock"}))
        # Whoever has files of the same names must not get ours, or we his.
        for header in prefix.rglob("lanepool/**/*.h"):
            quoted = [line for line in header.read_text().splitlines() if line.startswith('#include "')]
            if quoted:
                sys.exit(f"{header} includes {quoted}")


if __name__ == "__main__":
    main()
