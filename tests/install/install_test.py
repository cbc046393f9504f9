#!/usr/bin/env python3
"""Installs the build to a temporary prefix, builds a consumer outside the tree with find_package(bus) and with
pkg-config, and runs each: one message published and received. Then the same with a prefix that was moved.

    install_test.py --cmake CMAKE --build DIR --consumer DIR --cxx COMPILER [--launcher PROGRAM]
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

PATIENCE_S = 300


def run(command, **how):
    """Runs the command; prints its output if it fails."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=PATIENCE_S, **how)
    if done.returncode != 0:
        print(done.stdout)
        raise SystemExit(f"failed with {done.returncode}: {' '.join(str(part) for part in command)}")
    return done.stdout


def expect(condition, what):
    if not condition:
        raise SystemExit(f"wrong: {what}")


def receives(program, root, libraries=None):
    environment = {k: v for k, v in os.environ.items() if k not in ("BUS_URL", "LD_LIBRARY_PATH")}
    environment["BUS_ROOT"] = str(root)
    if libraries:
        environment["LD_LIBRARY_PATH"] = str(libraries)
    output = run([program], env=environment)
    expect(output == "received hello\n", f"{program} said {output!r}")


def only(prefix, pattern):
    found = sorted(prefix.rglob(pattern))
    expect(len(found) == 1, f"{len(found)} files named {pattern} below {prefix}")
    return found[0]


def check_package(options, prefix, work, root):
    """Consumes the package by find_package(bus), shared and static, then by pkg-config."""
    build = work / "by_cmake"
    launcher = [f"-DCMAKE_CXX_COMPILER_LAUNCHER={options.launcher}"] if options.launcher else []
    run([options.cmake, "-S", options.consumer, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}",
         f"-DCMAKE_CXX_COMPILER={options.cxx}", "-DCMAKE_BUILD_TYPE=Release", *launcher])
    run([options.cmake, "--build", build])
    receives(build / "with_shared", root)
    receives(build / "with_static", root)

    environment = dict(os.environ, PKG_CONFIG_PATH=str(only(prefix, "bus.pc").parent))
    version = run(["pkg-config", "--modversion", "bus"], env=environment).strip()
    expect(version.count(".") == 2, f"the version of bus.pc is {version!r}")
    flags = run(["pkg-config", "--cflags", "--libs", "bus"], env=environment).split()
    program = work / "by_pkg_config"
    run([options.cxx, pathlib.Path(options.consumer) / "main.cpp", "-o", program, *flags])
    receives(program, root, only(prefix, "libbus.so").parent)


def check_files(prefix):
    # The library's threads and its exit handler outlive a dlclose().
    expect("NODELETE" in run(["readelf", "-d", only(prefix, "libbus.so")]), "libbus.so may be unloaded (-z nodelete)")
    for name in ("bus.hpp", "session.hpp", "error.hpp"):
        expect((prefix / "include/bus" / name).is_file(), f"include/bus/{name} is not installed")
    headers = {path.name for path in (prefix / "include").rglob("*") if path.is_file()}
    expect(not headers & {"lane.hpp", "lane_reader.hpp", "words.hpp"}, "insides of the library are installed")


def main():
    parser = argparse.ArgumentParser()
    for name in ("cmake", "build", "consumer", "cxx"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--launcher", default="")
    options = parser.parse_args()
    root = pathlib.Path(tempfile.mkdtemp(prefix="bus-test-", dir="/dev/shm"))
    work = pathlib.Path(tempfile.mkdtemp(prefix="bus-install-"))
    try:
        prefix = work / "prefix"
        run([options.cmake, "--install", options.build, "--prefix", prefix])
        check_files(prefix)
        for page in ("bus.1", "bus-dlq.1", "bus-group.1", "bus-top.1"):
            if (prefix / "bin").is_dir():
                expect((prefix / "share/man/man1" / page).is_file(), f"the man page {page} is not installed")
        if (prefix / "bin").is_dir():
            environment = dict(os.environ, BUS_ROOT=str(root))
            expect("bus" in run([prefix / "bin/bus", "--version"], env=environment), "the installed bus does not run")
        check_package(options, prefix, work, root)
        moved = work / "elsewhere"
        prefix.rename(moved)
        shutil.rmtree(work / "by_cmake")
        (work / "by_pkg_config").unlink()
        check_package(options, moved, work, root)
        # The check can fail: a prefix without the library is noticed.
        only(moved, "libbus.a").unlink()
        broken = subprocess.run([options.cmake, "-S", options.consumer, "-B", work / "broken",
                                 f"-DCMAKE_PREFIX_PATH={moved}", f"-DCMAKE_CXX_COMPILER={options.cxx}"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE_S, check=False)
        expect(broken.returncode != 0, "a package without its library was found all the same")
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(root, ignore_errors=True)
    print("installed, consumed by find_package (shared, static) and by pkg-config, also from a moved prefix")
    return 0


if __name__ == "__main__":
    sys.exit(main())
