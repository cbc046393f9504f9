#!/usr/bin/env python3
"""tidy: rules of the source tree that no compiler checks.

    tidy.py ROOT         prints every violation; exit status 1 when there is one
    tidy.py --self-test  proves on small trees that each check passes what is right and reports what is wrong
"""

import pathlib
import re
import sys
import tempfile

SOURCES = (".hpp", ".cpp", ".h")
ROOMS = {
    "base": set(),
    "layout": {"base"},
    "os": {"base"},
    "sync": {"os", "layout", "base"},
    "ring": {"sync", "layout", "base"},
    "subject": {"sync", "layout", "os", "base"},
    "log": {"layout", "os", "base"},
    "wire": {"os", "base"},
    "group": {"ring", "sync", "os", "layout", "base"},
    "client": {"group", "log", "wire", "subject", "ring", "sync", "layout", "os", "base"},
}
# What the rooms below client may know of the public interface.
PUBLIC_FOR_ALL = {"bus/error.hpp", "bus/stream_config.hpp", "bus/export.hpp"}
MEMORY_ORDER_ROOMS = {"sync", "ring"}
SYSTEM_HEADER_FILES = {"libbus/src/sync/life.cpp", "libbus/src/log/posix_disk.cpp"}
LINE_LIMITS = {"libbus": 120, "daemon": 120, "tests": 120, "bench": 120, "examples": 120, "tools": 160}
WRITTEN_BY_HAND = ("libbus", "daemon", "tools", "tests", "bench", "examples", "cmake", "scripts")
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def files(root, folder, suffixes=SOURCES):
    base = root / folder
    if not base.is_dir():
        return []
    return sorted(p for p in base.rglob("*") if p.is_file() and p.suffix in suffixes and "__pycache__" not in p.parts)


def lines(path):
    return enumerate(path.read_text(encoding="utf-8").splitlines(), 1)


def code_of(line):
    """The line without a trailing comment; strings with // in them are rare enough."""
    return line.split("//", 1)[0]


def where(root, path, number):
    return f"{path.relative_to(root)}:{number}"


def includes(path):
    for number, line in lines(path):
        found = INCLUDE.match(line)
        if found:
            yield number, found.group(1), found.group(2)


def check_rooms(root):
    """Which room of libbus/src may include which."""
    source = root / "libbus/src"
    for path in files(root, "libbus/src"):
        room = path.relative_to(source).parts[0]
        if room not in ROOMS:
            yield f"{path.relative_to(root)}: the room '{room}' is not in the table of rooms"
            continue
        for number, kind, target in includes(path):
            if kind == '"':
                other = target.split("/")[0]
                if "/" not in target or not (source / target).is_file():
                    yield f"{where(root, path, number)}: \"{target}\" is not a path below libbus/src"
                elif other != room and other not in ROOMS[room]:
                    yield f"{where(root, path, number)}: {room} must not include {other} (\"{target}\")"
            elif target.startswith("bus/") and room != "client" and target not in PUBLIC_FOR_ALL:
                yield f"{where(root, path, number)}: {room} must not know <{target}>"


def check_memory_order(root):
    """Orders are chosen in sync/ and ring/ only; the floors of the benchmarks are programs of their own."""
    for path in files(root, "libbus") + files(root, "daemon") + files(root, "tools"):
        relative = path.relative_to(root)
        if relative.parts[:2] == ("libbus", "src") and relative.parts[2] in MEMORY_ORDER_ROOMS:
            continue
        if relative.parts[:3] == ("tools", "bus", "bench") and path.stem == "floor":
            continue
        for number, line in lines(path):
            if "memory_order" in code_of(line):
                yield f"{where(root, path, number)}: memory_order outside sync/ and ring/"


def check_system_headers(root):
    """<sys/...> and <linux/...> behind os/ only."""
    for path in files(root, "libbus"):
        relative = path.relative_to(root)
        if relative.parts[:3] == ("libbus", "src", "os") or str(relative) in SYSTEM_HEADER_FILES:
            continue
        for number, kind, target in includes(path):
            if kind == "<" and target.split("/")[0] in ("sys", "linux", "asm"):
                yield f"{where(root, path, number)}: <{target}> outside os/"


def check_line_length(root):
    for folder, limit in LINE_LIMITS.items():
        for path in files(root, folder, SOURCES + (".py",)):
            for number, line in lines(path):
                if len(line) > limit:
                    yield f"{where(root, path, number)}: {len(line)} columns, at most {limit}"


def check_public_headers(root):
    """A user's compiler sees <bus/...> and the standard library, nothing else."""
    include = root / "libbus/include"
    for path in files(root, "libbus/include"):
        for number, kind, target in includes(path):
            if kind == '"':
                yield f"{where(root, path, number)}: a public header includes \"{target}\""
            elif target.startswith("bus/"):
                if not (include / target).is_file():
                    yield f"{where(root, path, number)}: <{target}> does not exist"
            elif not re.fullmatch(r"[a-z_0-9]+", target):
                yield f"{where(root, path, number)}: <{target}> is not a header of the C++ standard library"


def check_tools_headers(root):
    """The tools prove that the public interface is enough."""
    own = {p.name for p in files(root, "tools")}
    rooms = set(ROOMS)
    for path in files(root, "tools"):
        for number, kind, target in includes(path):
            name = target.split("/")
            if kind == '"' and name[-1] not in own:
                yield f"{where(root, path, number)}: \"{target}\" is not a header of the tools"
            elif kind == '"' and len(name) > 1 and name[0] in rooms and not (path.parent / target).is_file():
                yield f"{where(root, path, number)}: \"{target}\" is an inside of the library"
            elif kind == "<" and name[0] == "bus" and not (root / "libbus/include" / target).is_file():
                yield f"{where(root, path, number)}: <{target}> is not a public header"


def check_unfinished(root):
    for folder in WRITTEN_BY_HAND:
        for path in files(root, folder, SOURCES + (".py", ".sh", ".txt", ".cmake", ".in", "")):
            try:
                for number, line in lines(path):
                    found = UNFINISHED.search(line)
                    if found:
                        yield f"{where(root, path, number)}: {found.group(1)}"
            except UnicodeDecodeError:
                continue


def check_failpoints(root):
    """Each named step has a name, in order, and some code reaches it."""
    header = root / "libbus/src/sync/failpoint.hpp"
    names = root / "libbus/src/sync/failpoint.cpp"
    body = re.search(r"enum class failpoint[^{]*\{(.*?)\};", header.read_text(), re.S)
    if not body:
        yield f"{header.relative_to(root)}: no enum class failpoint"
        return
    text = re.sub(r"//.*", "", body.group(1))
    steps = [word for word in re.findall(r"\w+", text) if word != "count"]
    named = re.findall(r'"(\w+)"', names.read_text())
    named = [name for name in named if name != "unknown"]
    for index, step in enumerate(steps):
        if index >= len(named) or named[index] != step:
            found = named[index] if index < len(named) else "nothing"
            yield f"{names.relative_to(root)}: step {index} is {step}, its name is {found}"
    reached = set()
    for path in files(root, "libbus/src"):
        if path not in (header, names):
            reached.update(re.findall(r"failpoint::(\w+)", path.read_text()))
    for step in steps:
        if step not in reached:
            yield f"{header.relative_to(root)}: nothing reaches {step}"


def check_pragma_once(root):
    for path in files(root, "libbus", (".hpp",)) + files(root, "tools", (".hpp",)) + files(root, "tests", (".hpp",)):
        text = path.read_text(encoding="utf-8")
        if not text.startswith("#pragma once\n"):
            yield f"{path.relative_to(root)}: a header starts with #pragma once"


CHECKS = (check_rooms, check_memory_order, check_system_headers, check_line_length, check_public_headers,
          check_tools_headers, check_unfinished, check_failpoints, check_pragma_once)


GOOD = {
    "libbus/include/bus/error.hpp": "#pragma once\n#include <string>\n",
    "libbus/include/bus/session.hpp": "#pragma once\n#include <bus/error.hpp>\n",
    "libbus/src/base/word.hpp": "#pragma once\n#include <atomic>\n",
    "libbus/src/layout/lane.hpp": '#pragma once\n#include "base/word.hpp"\n',
    "libbus/src/os/files.hpp": "#pragma once\n#include <sys/mman.h>\n#include <bus/error.hpp>\n",
    "libbus/src/sync/words.hpp": '#pragma once\n#include "os/files.hpp"\nauto order = std::memory_order_relaxed;\n',
    "libbus/src/sync/life.cpp": "#include <linux/futex.h>\n"
                                "void f() { reach(failpoint::first); step(failpoint::second); }\n",
    "libbus/src/sync/failpoint.hpp": "#pragma once\n"
                                     "enum class failpoint : int {\n  first,  // one\n  second,\n  count\n};\n",
    "libbus/src/sync/failpoint.cpp": 'const char* names[] = {"first", "second"};\nconst char* none = "unknown";\n',
    "libbus/src/ring/pin.hpp": '#pragma once\n#include "layout/lane.hpp"\n#include "sync/words.hpp"\n',
    "libbus/src/subject/table.hpp": '#pragma once\n#include "os/files.hpp"\n',
    "libbus/src/client/core.cpp": '#include <bus/session.hpp>\n#include "ring/pin.hpp"\n// memory_order in words\n',
    "tools/bus/main.cpp": '#include <bus/session.hpp>\n#include "commands.hpp"\n',
    "tools/bus/commands.hpp": "#pragma once\n#include <string>\n",
    "tools/bus/bench/floor.cpp": "auto order = std::memory_order_release;\n",
    "tests/unit/a_test.cpp": "auto order = std::memory_order_release;\n",
}

# check -> trees that it must object to, each as the files that are added or replaced
BAD = {
    check_rooms: [
        {"libbus/src/ring/bad.hpp": '#pragma once\n#include "client/core.hpp"\n',
         "libbus/src/client/core.hpp": "#pragma once\n"},
        {"libbus/src/ring/bad.hpp": '#pragma once\n#include "os/files.hpp"\n'},
        {"libbus/src/layout/bad.hpp": '#pragma once\n#include "sync/words.hpp"\n'},
        {"libbus/src/base/bad.hpp": '#pragma once\n#include "layout/lane.hpp"\n'},
        {"libbus/src/os/bad.hpp": "#pragma once\n#include <bus/session.hpp>\n"},
        {"libbus/src/os/bad.hpp": '#pragma once\n#include "files.hpp"\n'},
        {"libbus/src/cellar/bad.hpp": "#pragma once\n"},
    ],
    check_memory_order: [
        {"libbus/src/client/bad.cpp": "auto order = std::memory_order_relaxed;\n"},
        {"tools/bus/bad.cpp": "auto order = std::memory_order_relaxed;\n"},
        {"libbus/include/bus/error.hpp": "#pragma once\nusing std::memory_order_acquire;\n"},
    ],
    check_system_headers: [
        {"libbus/src/client/bad.cpp": "#include <sys/random.h>\n"},
        {"libbus/src/sync/bad.cpp": "#include <linux/futex.h>\n"},
    ],
    check_line_length: [
        {"libbus/src/os/bad.cpp": "//" + "x" * 119 + "\n"},
        {"tests/unit/bad.cpp": "//" + "x" * 119 + "\n"},
        {"tools/bus/bad.cpp": "//" + "x" * 159 + "\n"},
    ],
    check_public_headers: [
        {"libbus/include/bus/bad.hpp": '#pragma once\n#include "layout/lane.hpp"\n'},
        {"libbus/include/bus/bad.hpp": "#pragma once\n#include <unistd.h>\n"},
        {"libbus/include/bus/bad.hpp": "#pragma once\n#include <boost/config.hpp>\n"},
        {"libbus/include/bus/bad.hpp": "#pragma once\n#include <bus/nothing.hpp>\n"},
    ],
    check_tools_headers: [
        {"tools/bus/bad.cpp": '#include "layout/lane.hpp"\n'},
        {"tools/bus/bad.cpp": "#include <bus/nothing.hpp>\n"},
    ],
    check_unfinished: [
        {"libbus/src/os/bad.cpp": "// TO" + "DO: more\n"},
        {"tools/bus/bad.cpp": "// FIX" + "ME\n"},
        {"tests/CMakeLists.txt": "# TO" + "DO\n"},
    ],
    check_failpoints: [
        {"libbus/src/sync/failpoint.cpp": 'const char* names[] = {"first"};\n'},
        {"libbus/src/sync/failpoint.cpp": 'const char* names[] = {"second", "first"};\n'},
        {"libbus/src/sync/life.cpp": "void f() { reach(failpoint::first); }\n"},
        {"libbus/src/sync/failpoint.hpp": "#pragma once\n"},
    ],
    check_pragma_once: [
        {"libbus/src/os/bad.hpp": "int x;\n"},
    ],
}


def plant(root, tree):
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def self_test():
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        plant(root, GOOD)
        for check in CHECKS:
            wrong += [f"{check.__name__} objects to what is right: {text}" for text in check(root)]
    for check in CHECKS:
        if check not in BAD:
            wrong.append(f"{check.__name__} has no tree that it must object to")
        for number, extra in enumerate(BAD.get(check, [])):
            with tempfile.TemporaryDirectory() as folder:
                root = pathlib.Path(folder)
                plant(root, GOOD)
                plant(root, extra)
                if not list(check(root)):
                    wrong.append(f"{check.__name__} misses bad tree {number}: {sorted(extra)}")
    for text in wrong:
        print(text)
    count = sum(len(trees) for trees in BAD.values())
    print(f"self-test: {len(CHECKS)} checks, {count} bad trees, {len(wrong)} failures")
    return 1 if wrong else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) != 1 or not (pathlib.Path(arguments[0]) / "libbus").is_dir():
        print(__doc__, file=sys.stderr)
        return 2
    root = pathlib.Path(arguments[0]).resolve()
    total = 0
    for check in CHECKS:
        found = list(check(root))
        total += len(found)
        for text in found:
            print(f"{check.__name__.removeprefix('check_')}: {text}")
    print(f"tidy: {len(CHECKS)} checks, {total} violations")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
