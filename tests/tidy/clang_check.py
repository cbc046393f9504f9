#!/usr/bin/env python3
"""clang_check: checks that clang accepts what g++ accepted. Nothing is built: only the front end runs.

    clang_check.py COMPILE_COMMANDS [-j JOBS] [PATH...]

clang++ reads each source of the compile commands (only below the given paths, if there are any)
with the flags of its build. Prints its diagnostics; exit status 1 if any source has an error.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

DROPPED = {"-c", "-MD"}
DROPPED_WITH_VALUE = {"-o", "-MT", "-MF"}


def front_end(program, entry):
    words = shlex.split(entry["command"])
    if "ccache" in pathlib.Path(words[0]).name:
        words = words[1:]
    kept, skip = [], False
    for word in words[1:]:
        if skip:
            skip = False
        elif word in DROPPED_WITH_VALUE:
            skip = True
        elif word not in DROPPED:
            kept.append(word)
    return [program, "-fsyntax-only", "-Wno-unknown-warning-option", *kept]


def check(program, entry):
    done = subprocess.run(front_end(program, entry), cwd=entry["directory"], capture_output=True, text=True)
    return done.returncode, done.stderr


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("commands")
    parser.add_argument("-j", type=int, default=os.cpu_count())
    parser.add_argument("paths", nargs="*")
    options = parser.parse_intermixed_args()
    program = shutil.which("clang++") or shutil.which("clang++-14")
    if program is None:
        print("clang_check: clang++ is not installed (scripts/install-deps)")
        return 1
    entries = {}
    for entry in json.loads(pathlib.Path(options.commands).read_text()):
        path = os.path.realpath(entry["file"])
        if not options.paths or any(path.startswith(os.path.realpath(p) + "/") for p in options.paths):
            entries.setdefault(path, entry)
    if not entries:
        print("clang_check: no sources")
        return 1
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(options.j) as pool:
        for path, (code, text) in zip(entries, pool.map(lambda e: check(program, e), entries.values())):
            if code != 0:
                failed += 1
                print(f"{os.path.relpath(path)}:\n{text[:2000]}")
    print(f"clang_check: {len(entries)} sources, {failed} that clang does not take")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
