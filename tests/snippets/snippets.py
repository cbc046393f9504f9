#!/usr/bin/env python3
"""snippets: checks that the programs and links in the documents work.

    snippets.py [options] ROOT         checks README.md, CONTRIBUTING.md and docs/**/*.md below ROOT
    snippets.py [options] --self-test  proves that each check passes what is right and reports what is wrong

Every ```cpp block is a complete program: it must compile without a warning, run, and end with status 0.
A ```text output block right after it is what it must print. Relative links must lead to a file.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

FENCE = re.compile(r"^```(.*)$")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)|<img[^>]*src=\"([^\"]+)\"")
RUN_SECONDS = 30


def documents(root):
    found = [root / "README.md", root / "CONTRIBUTING.md"] + sorted((root / "docs").rglob("*.md"))
    return [path for path in found if path.is_file()]


def blocks(text):
    """Returns (line, kind, body, last line) of each fenced block, and the lines outside."""
    found, outside, body, kind, start = [], [], None, "", 0
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if fence and body is None:
            body, kind, start = [], fence.group(1).strip(), number
        elif fence:
            found.append((start, kind, "\n".join(body) + "\n", number))
            body = None
        elif body is not None:
            body.append(line)
        else:
            outside.append((number, line))
    if body is not None:
        found.append((start, "unclosed", "", start))
    return found, outside


def programs(found):
    """Yields (line, source, expected output or None, whether it needs a busd)."""
    for index, (start, kind, body, end) in enumerate(found):
        if kind not in ("cpp", "cpp busd"):
            continue
        following = found[index + 1] if index + 1 < len(found) else None
        expected = following[2] if following and following[1] == "text output" and following[0] <= end + 3 else None
        yield start, body, expected, kind == "cpp busd"


class Daemon:
    """A busd of the default bus, for as long as the program runs."""

    def __init__(self, program, environment, work):
        self.data = tempfile.mkdtemp(prefix="busd-", dir=work)
        self.process = subprocess.Popen([program, "--data", self.data, "--disk-warn", "1", "--disk-block", "1"],
                                        env=environment, stderr=subprocess.DEVNULL)
        socket = pathlib.Path(environment["BUS_ROOT"]) / f"bus-{os.getuid()}.default" / "busd.sock"
        end = time.monotonic() + RUN_SECONDS
        while not socket.exists() and time.monotonic() < end:
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(RUN_SECONDS)
        shutil.rmtree(self.data, ignore_errors=True)


def check_program(source, expected, needs_busd, tools, work):
    """Returns what is wrong, or an empty string."""
    if not re.search(r"\bint main\(", source):
        return "it is not a complete program"
    code, binary = work / "snippet.cpp", work / "snippet"
    code.write_text(source, encoding="utf-8")
    command = [tools.launcher] if tools.launcher else []
    command += [tools.cxx, "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror"]
    if tools.sanitize:
        command.append(f"-fsanitize={tools.sanitize}")
    command += ["-I", tools.include, str(code), "-o", str(binary), tools.library, "-pthread"]
    command += [f"-l{name}" for name in tools.needs]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if built.returncode != 0:
        return "it does not compile:\n" + built.stderr
    environment = {k: v for k, v in os.environ.items() if k not in ("BUS_URL", "BUS_ROOT")}
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    scratch = tempfile.mkdtemp(prefix="snippet-", dir=shared)
    environment["BUS_ROOT"] = scratch
    if needs_busd and not tools.busd:
        return "it needs a busd, and none was built"
    try:
        with Daemon(tools.busd, environment, work) if needs_busd else contextlib.nullcontext():
            ran = subprocess.run([str(binary)], capture_output=True, text=True, timeout=RUN_SECONDS, env=environment,
                                 check=False)
    except subprocess.TimeoutExpired:
        return f"it does not end within {RUN_SECONDS} s"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if ran.returncode != 0:
        return f"it ends with status {ran.returncode}:\n{ran.stdout}{ran.stderr}"
    if expected is not None and ran.stdout != expected:
        return f"it prints\n{ran.stdout}instead of\n{expected}"
    return ""


def check_links(path, outside):
    for number, line in outside:
        for match in LINK.finditer(line):
            target = match.group(1) or match.group(2)
            if "://" in target or target.startswith("mailto:"):
                continue
            if not (path.parent / target).exists():
                yield number, f"the link to {target} leads nowhere"


def check(root, tools):
    """Returns (number of programs, problems)."""
    count, problems = 0, []
    with tempfile.TemporaryDirectory(prefix="snippets-") as work:
        for path in documents(root):
            name = path.relative_to(root)
            found, outside = blocks(path.read_text(encoding="utf-8"))
            problems += [f"{name}:{start}: a block is not closed" for start, kind, _, _ in found if kind == "unclosed"]
            problems += [f"{name}:{number}: {what}" for number, what in check_links(path, outside)]
            for start, source, expected, needs_busd in programs(found):
                count += 1
                wrong = check_program(source, expected, needs_busd, tools, pathlib.Path(work))
                if wrong:
                    problems.append(f"{name}:{start}: {wrong}")
    return count, problems


GOOD = """#include <bus/bus.hpp>
#include <cstdio>
int main() {
  auto session = bus::open();
  if (!session) return 1;
  std::printf("%s\\n", std::string(session->name()).c_str());
}
"""


def self_test(tools):
    def verdict(text):
        with tempfile.TemporaryDirectory(prefix="snippets-") as scratch:
            root = pathlib.Path(scratch)
            (root / "README.md").write_text(text, encoding="utf-8")
            return check(root, tools)

    def block(source, output=None):
        text = f"words\n\n```cpp\n{source}```\n"
        return text if output is None else text + f"\n```text output\n{output}```\n"

    cases = [
        ("a program that is right", block(GOOD, "default\n"), ""),
        ("another output", block(GOOD, "other\n"), "instead of"),
        ("a mistake of the language", block(GOOD.replace("open()", "opem()")), "does not compile"),
        ("a warning", block(GOOD.replace("auto session", "int unused;\n  auto session")), "does not compile"),
        ("a failing status", block("int main() { return 3; }\n"), "status 3"),
        ("a fragment", block("publisher.publish(1);\n"), "complete program"),
        ("a link that leads nowhere", "[here](nowhere.md)\n", "leads nowhere"),
        ("a link that is right", "[here](README.md#top)\n", ""),
        ("a block that is not closed", "```cpp\nint main() {}\n", "not closed"),
    ]
    failed = 0
    for name, text, expected in cases:
        _, problems = verdict(text)
        fine = not problems if not expected else len(problems) == 1 and expected in problems[0]
        if not fine:
            failed += 1
            print(f"self-test: {name}: {problems}")
    print(f"{len(cases)} cases, {failed} failed")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", nargs="?")
    parser.add_argument("--cxx", required=True)
    parser.add_argument("--include", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--needs", action="append", default=[], help="a library that this one needs")
    parser.add_argument("--busd", default="")
    parser.add_argument("--launcher", default="")
    parser.add_argument("--sanitize", default="")
    parser.add_argument("--self-test", action="store_true")
    tools = parser.parse_args()
    if tools.self_test:
        return self_test(tools)
    if tools.root is None:
        parser.error("ROOT is missing")
    count, problems = check(pathlib.Path(tools.root), tools)
    for problem in problems:
        print(problem)
    print(f"{count} programs, {len(problems)} problems")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
