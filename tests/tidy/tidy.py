#!/usr/bin/env python3
"""tidy: rules of the source tree that no compiler checks.

    tidy.py ROOT         prints every violation; exit status 1 when there is one
    tidy.py --self-test  proves on small trees that each check passes what is right and reports what is wrong
"""

import pathlib
import re
import shutil
import subprocess
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
    "config": {"subject", "layout", "base"},
    "registry": {"config", "group", "log", "wire", "subject", "ring", "sync", "layout", "os", "base"},
    "publish": {"registry", "log", "wire", "subject", "ring", "sync", "layout", "os", "base"},
    "subscribe": {"registry", "log", "subject", "ring", "sync", "layout", "os", "base"},
    "events": {"publish", "registry", "os", "base"},
    "consume": {"events", "subscribe", "registry", "config", "group", "subject", "ring", "sync", "layout", "os",
                "base"},
    "inspect": {"registry", "group", "log", "wire", "subject", "ring", "sync", "layout", "os", "base"},
    "client": {"publish", "subscribe", "consume", "inspect", "registry", "config", "wire", "sync", "layout", "os",
               "base"},
}
ROOMS_TABLE = "".join(f"| {room} | . | {', '.join(arrows) or 'nothing'} |\n" for room, arrows in ROOMS.items())
# What each room may know of the public interface. The rooms that are not listed here may know all of it.
PUBLIC_FOR_ALL = {"bus/error.hpp", "bus/stream_config.hpp", "bus/export.hpp"}
KNOWS_LITTLE = {
    "base": set(), "layout": set(), "os": set(), "sync": set(), "ring": set(), "subject": set(), "log": set(),
    "group": set(), "wire": {"bus/statistics.hpp"},
    "config": {"bus/group.hpp", "bus/message.hpp"},
}
MEMORY_ORDER_ROOMS = {"sync", "ring"}
SYSTEM_HEADER_FILES = {"libbus/src/sync/life.cpp", "libbus/src/log/posix_disk.cpp"}
DAEMON_ROOMS = {
    "storage": set(),
    "streams": {"storage"},
    "control": {"streams"},
    "": {"control", "streams", "storage"},  # main and its configuration
}
COLUMNS = {".hpp": 100, ".cpp": 100, ".h": 100, ".py": 120}
FORMATTED = ("libbus", "daemon", "tools", "tests", "bench", "examples")
FILE_LINES = 400
FUNCTION_LINES = 70
# Files and functions that are longer today. A number may fall but never rise. Whatever is short enough now must leave
# the list.
LONG_FILES = {
    "daemon/storage/lane_logger.cpp": 470,
    "daemon/streams/opener.cpp": 528,
    "libbus/src/registry/bus_directory.cpp": 551,
    "libbus/src/consume/group_handle.cpp": 509,
    "libbus/src/publish/lane_port.cpp": 591,
    "libbus/src/publish/publisher_core.cpp": 703,
    "libbus/src/subscribe/source.cpp": 516,
    "libbus/src/subscribe/subscriber_core.cpp": 580,
    "libbus/src/group/claim.hpp": 500,
    "libbus/src/os/files.cpp": 424,
    "tests/daemon/replay_test.cpp": 671,
    "tests/process/group_liveness.cpp": 586,
    "tests/process/kill_at_failpoints.cpp": 600,
    "tests/process/liveness.cpp": 622,
    "tests/process/stage.cpp": 506,
    "tests/robust/damaged_files_test.cpp": 432,
    "tests/robust/scribble_test.cpp": 411,
    "tests/storage/compression_test.cpp": 430,
    "tests/storage/damage_test.cpp": 584,
    "tests/storage/lane_log_test.cpp": 483,
    "tests/storage/log_life.hpp": 468,
    "tests/storage/streams_power_loss_test.cpp": 440,
    "tests/storage/thinning_test.cpp": 516,
    "tests/support/simulated_disk.hpp": 693,
    "tests/unit/client/group_test.cpp": 469,
    "tests/unit/ring/lane_threads_test.cpp": 522,
}
LONG_FUNCTIONS = {
    "bench/instructions/hot_path.cpp": [96],
    "daemon/storage/lane_log_segments.cpp": [71],
    "daemon/storage/lane_log_recovery.cpp": [139, 93],
    "daemon/storage/lane_log_restart.cpp": [77],
    "daemon/streams/opener.cpp": [134],
    "examples/rolling_deploy.cpp": [71],
    "libbus/src/consume/consumer_claiming.cpp": [83],
    "libbus/src/publish/lane_port.cpp": [104],
    "libbus/src/registry/own_process.cpp": [75],
    "libbus/src/publish/publisher_core.cpp": [71],
    "libbus/src/subscribe/source.cpp": [105],
    "libbus/src/inspect/statistics.cpp": [73],
    "libbus/src/log/history.cpp": [87],
    "libbus/src/sync/failpoint.cpp": [102],
    "libbus/src/wire/stream_json.cpp": [76],
    "tests/daemon/busd_kills.cpp": [108, 94],
    "tests/daemon/traffic.cpp": [73],
    "tests/fuzz/make_seeds.cpp": [93],
    "tests/process/group_random_kills.cpp": [88],
    "tests/process/kill_at_failpoints.cpp": [71],
    "tests/process/random_kills.cpp": [97],
    "tests/process/unseen_reader.cpp": [71],
    "tests/robust/damaged_files_test.cpp": [80],
    "tests/robust/group_scribble_test.cpp": [74],
    "tests/robust/scribble_test.cpp": [91],
    "tools/bus-top/main.cpp": [82],
    "tools/bus-top/picture.cpp": [77],
    "tools/bus/bench/beside.cpp": [101],
    "tools/bus/bench/queue.cpp": [80, 77],
    "tools/bus/command_bench.cpp": [117],
    "tools/bus/command_log.cpp": [108],
    "tools/bus/command_pub.cpp": [73],
    "tools/bus/command_stream.cpp": [82],
    "tools/bus/command_sub.cpp": [97],
}
# A tag begins its line, so that readers and grep find it.
TAG_IN_LINE = re.compile(r"^\s*//[/!]?.*[^\s,(/] (REQUIRES: |Errors: |Cost: |(Cost|Format|Lifetime|Threads) {3,})")
# An invariant is defined once in the tree: `///   LOG-3  No byte ...`.
INVARIANT = re.compile(r"^\s*///?\s{2,}([A-Z]+-\d+|[A-Z]\d+)\s+\S")
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
    """The line without a trailing comment; strings that contain // are rare enough."""
    return line.split("//", 1)[0]


def where(root, path, number):
    return f"{path.relative_to(root)}:{number}"


def includes(path):
    for number, line in lines(path):
        found = INCLUDE.match(line)
        if found:
            yield number, found.group(1), found.group(2)


def check_rooms(root):
    """A room of libbus/src includes only the rooms in the table."""
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
            elif target.startswith("bus/") and target not in PUBLIC_FOR_ALL | KNOWS_LITTLE.get(room, {target}):
                yield f"{where(root, path, number)}: {room} must not know <{target}>"


def check_memory_order(root):
    """Only sync/ and ring/ choose memory orders; the floors of the benchmarks are separate programs."""
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
    """Only os/ includes <sys/...> and <linux/...>."""
    for path in files(root, "libbus"):
        relative = path.relative_to(root)
        if relative.parts[:3] == ("libbus", "src", "os") or str(relative) in SYSTEM_HEADER_FILES:
            continue
        for number, kind, target in includes(path):
            if kind == "<" and target.split("/")[0] in ("sys", "linux", "asm"):
                yield f"{where(root, path, number)}: <{target}> outside os/"


def sources(root):
    return [path for folder in FORMATTED for path in files(root, folder)]


def check_line_length(root):
    for folder in FORMATTED:
        for path in files(root, folder, tuple(COLUMNS)):
            limit = COLUMNS[path.suffix]
            for number, line in lines(path):
                if len(line) > limit:
                    yield f"{where(root, path, number)}: {len(line)} columns, at most {limit}"


def check_format(root):
    """clang-format, as in Debian 12, would change nothing."""
    program = shutil.which("clang-format")
    if program is None:
        yield "clang-format is not installed (scripts/install-deps)"
        return
    paths = sources(root)
    style = root / ".clang-format"
    style = f"file:{style}" if style.is_file() else "Google"
    for begin in range(0, len(paths), 64):
        some = [str(path) for path in paths[begin:begin + 64]]
        found = subprocess.run([program, "--dry-run", "-Werror", f"--style={style}", *some],
                               capture_output=True, text=True)
        told = set()
        for line in found.stderr.splitlines():
            place = re.match(r"(.+?):(\d+):\d+: error: ", line)
            if place and place.group(1) not in told:
                told.add(place.group(1))
                path = pathlib.Path(place.group(1))
                yield f"{where(root, path, int(place.group(2)))}: clang-format -i would change it"
        if found.returncode != 0 and not told:
            yield f"clang-format: {found.stderr.strip()[:200]}"


def check_tags(root):
    for path in sources(root):
        for number, line in lines(path):
            found = TAG_IN_LINE.match(line)
            if found:
                yield f"{where(root, path, number)}: '{found.group(1).strip()}' does not begin its line"


def check_invariants(root):
    """No two invariants share an id."""
    defined = {}
    for path in sources(root):
        for number, line in lines(path):
            found = INVARIANT.match(line)
            if found:
                name = found.group(1)
                if name in defined:
                    yield f"{where(root, path, number)}: {name} is defined in {defined[name]}, too"
                else:
                    defined[name] = where(root, path, number)


CONTROL = re.compile(r"^(else\s+)?(if|for|while|switch|do|catch|try|else|namespace|class|struct|enum|union|extern)\b")
TEXT = re.compile(r'R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'|//[^\n]*|/\*.*?\*/'
                  r'|^[ \t]*#(?:\\\n|[^\n])*', re.S | re.M)


def functions(text):
    """(first line, number of lines) of each function; nested definitions belong to the outer one."""
    text = TEXT.sub(lambda m: '""' + "\n" * m.group(0).count("\n"), text)
    stack, statement, start, line, parens = [], "", 1, 1, 0
    for char in text:
        if char == "\n":
            line += 1
        if statement.strip() == "" and not char.isspace():
            start, statement = line, ""
        parens += {"(": 1, ")": -1}.get(char, 0)
        if char == "{":
            words = re.sub(r"\[\[.*?\]\]", " ", statement).strip()
            words = re.sub(r"^(template\s*<[^{}]*>\s*)?(inline |static |typedef )*", "", words)
            outside = re.sub(r"[=!<>]=|operator\S*|\([^()]*(\([^()]*\)[^()]*)*\)", "", words)
            begins = (not any(item[0] for item in stack) and not CONTROL.match(words) and "(" in words
                      and parens == 0 and "=" not in outside)
            stack.append((begins, start, parens))
            parens, statement = 0, ""
        elif char == "}":
            if stack:
                begins, first, parens = stack.pop()
                if begins:
                    yield first, line - first + 1
            statement = ""
        elif char == ";" and parens == 0:
            statement = ""
        else:
            statement += char


def check_lengths(root):
    """A file has one idea, a function fits a screen."""
    files_left, functions_left = dict(LONG_FILES), dict(LONG_FUNCTIONS)
    for path in sources(root):
        name = str(path.relative_to(root))
        text = path.read_text(encoding="utf-8")
        count, limit = text.count("\n"), files_left.pop(name, FILE_LINES)
        if count > limit:
            yield f"{name}: {count} lines, at most {limit}"
        elif limit > FILE_LINES and count <= FILE_LINES:
            yield f"{name}: is short now, and leaves LONG_FILES"
        long = sorted((n for _, n in functions(text) if n > FUNCTION_LINES), reverse=True)
        allowed = functions_left.pop(name, [])
        for index, length in enumerate(long):
            limit = allowed[index] if index < len(allowed) else FUNCTION_LINES
            if length > limit:
                first = next(at for at, n in functions(text) if n == length)
                yield f"{name}:{first}: a function of {length} lines, at most {limit}"
        if len(long) < len(allowed):
            yield f"{name}: has {len(long)} long functions, LONG_FUNCTIONS allows {len(allowed)}"
    for name in list(files_left) + list(functions_left):
        if (root / "tests/tidy/tidy.py").is_file():
            yield f"tests/tidy/tidy.py: {name} does not exist any more"


def check_daemon_rooms(root):
    """A room of the daemon includes only the rooms in its table."""
    source = root / "daemon"
    for path in files(root, "daemon"):
        parts = path.relative_to(source).parts
        room = parts[0] if len(parts) > 1 else ""
        if room not in DAEMON_ROOMS:
            yield f"{path.relative_to(root)}: the room '{room}' is not in the daemon's table of rooms"
            continue
        for number, kind, target in includes(path):
            if kind != '"' or not (source / target).is_file():
                continue
            other = target.split("/")[0] if "/" in target else ""
            if other != room and other not in DAEMON_ROOMS[room]:
                yield f"{where(root, path, number)}: '{room}' must not include '{other}' (\"{target}\")"


def check_architecture(root):
    """docs/ARCHITECTURE.md has the table of rooms, and the paths through them name functions that exist."""
    page = root / "docs/ARCHITECTURE.md"
    if not page.is_file():
        return
    name = page.relative_to(root)
    text = page.read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| (\w+) \| [^|]* \| ([\w, ]+) \|$", text, re.M))
    for room, arrows in ROOMS.items():
        listed = set(table.get(room, "?").split(", ")) - {"nothing"}
        if listed != arrows:
            yield f"{name}: the table of rooms has {room}: {', '.join(sorted(listed))}; it may include " \
                  f"{', '.join(sorted(arrows)) or 'nothing'}"
    for block in re.findall(r"^```path\n(.*?)^```", text, re.S | re.M):
        for line in filter(str.strip, block.splitlines()):
            function, path = line.split()[:2]
            file = root / ("" if path.startswith("daemon/") else "libbus/src") / path
            last = function.split("::")[-1]
            if not file.is_file() or not re.search(rf"\b{last}\(", file.read_text(encoding="utf-8")):
                yield f"{name}: there is no {function} in {path}"


def check_public_headers(root):
    """Public headers include only <bus/...> and the standard library."""
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
    """The tools include only public headers, which proves that these are enough."""
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
    """Each failpoint has a name, in order, and some code reaches it."""
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


CHECKS = (check_rooms, check_daemon_rooms, check_architecture, check_memory_order, check_system_headers,
          check_line_length, check_format, check_tags, check_invariants, check_lengths, check_public_headers,
          check_tools_headers, check_unfinished, check_failpoints, check_pragma_once)


GOOD = {
    ".clang-format": "BasedOnStyle: Google\nSortIncludes: false\nIncludeBlocks: Preserve\n",
    "libbus/include/bus/error.hpp": "#pragma once\n#include <string>\n",
    "libbus/include/bus/session.hpp": "#pragma once\n#include <bus/error.hpp>\n",
    "libbus/src/base/word.hpp": "#pragma once\n#include <atomic>\n",
    "libbus/src/layout/lane.hpp": '#pragma once\n#include "base/word.hpp"\n',
    "libbus/src/os/files.hpp": "#pragma once\n#include <sys/mman.h>\n\n#include <bus/error.hpp>\n",
    "libbus/src/sync/words.hpp": '#pragma once\n#include "os/files.hpp"\nauto order = std::memory_order_relaxed;\n',
    "libbus/src/sync/life.cpp": "#include <linux/futex.h>\nvoid f() {\n  reach(failpoint::first);\n"
                                "  step(failpoint::second);\n}\n",
    "libbus/src/sync/failpoint.hpp": "#pragma once\n"
                                     "enum class failpoint : int {\n  first,  // one\n  second,\n  count\n};\n",
    "libbus/src/sync/failpoint.cpp": 'const char* names[] = {"first", "second"};\nconst char* none = "unknown";\n',
    "libbus/src/ring/pin.hpp": '#pragma once\n#include "layout/lane.hpp"\n#include "sync/words.hpp"\n',
    "libbus/src/subject/table.hpp": '#pragma once\n#include "os/files.hpp"\n',
    "libbus/src/group/core.cpp": '#include <bus/error.hpp>\n#include "ring/pin.hpp"\n// memory_order in words\n',
    "tools/bus/main.cpp": '#include <bus/session.hpp>\n#include "commands.hpp"\n',
    "tools/bus/commands.hpp": "#pragma once\n#include <string>\n",
    "tools/bus/bench/floor.cpp": "auto order = std::memory_order_release;\n",
    "tests/unit/a_test.cpp": "auto order = std::memory_order_release;\n",
    "daemon/storage/log.hpp": '#pragma once\n#include "client/core.hpp"\n'
                              "///   LOG-1  Nothing is lost.\n///   LOG-2  Nothing comes twice.\n",
    "daemon/streams/keeper.hpp": '#pragma once\n#include "storage/log.hpp"\n/// Says (LOG-1).\n/// Errors: none\n',
    "daemon/main.cpp": '#include "streams/keeper.hpp"\n',
}

# check -> trees that it must reject, each as the files that are added or replaced
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
        {"libbus/src/os/bad.cpp": "//" + "x" * 99 + "\n"},
        {"tests/unit/bad.cpp": "//" + "x" * 99 + "\n"},
        {"tools/bus/bad.cpp": "//" + "x" * 99 + "\n"},
    ],
    check_format: [
        {"libbus/src/os/bad.cpp": "int  x;\n"},
        {"bench/bad.cpp": "int f(){return 1;}\n"},
    ],
    check_tags: [
        {"libbus/src/os/bad.hpp": "#pragma once\n/// Opens it. Errors: none\n"},
        {"libbus/src/os/bad.hpp": "#pragma once\n/// of the thread Cost       a load\n"},
        {"daemon/bad.hpp": "#pragma once\n// Opens it. REQUIRES: the lock\n"},
    ],
    check_invariants: [
        {"libbus/src/os/bad.hpp": "#pragma once\n///   LOG-1  Something else.\n"},
        {"libbus/src/os/bad.hpp": "#pragma once\n///   R1  One.\n///   R1  Another.\n"},
    ],
    check_lengths: [
        {"libbus/src/os/bad.cpp": "int x;\n" * 401},
        {"libbus/src/os/bad.cpp": "int f() {\n" + "  g();\n" * 69 + "}\n"},
        {"daemon/bad.cpp": "namespace bus {\nstruct s {\n  int f(int x = 0) const {\n" + "    g();\n" * 69
                           + "  }\n};\n}\n"},
        {"tests/unit/bad.cpp": "TEST(a, b) {\n" + "  g([] { h(); });\n" * 69 + "}\n"},
        {"tests/unit/bad.cpp": "s::s() : a_{1}, b_(2) {\n" + "  g();\n" * 69 + "}\n"},
    ],
    check_daemon_rooms: [
        {"daemon/storage/bad.cpp": '#include "streams/keeper.hpp"\n'},
        {"daemon/streams/bad.cpp": '#include "control/server.hpp"\n', "daemon/control/server.hpp": "#pragma once\n"},
        {"daemon/cellar/bad.cpp": "int x;\n"},
        {"daemon/storage/bad.cpp": '#include "configuration.hpp"\n', "daemon/configuration.hpp": "#pragma once\n"},
    ],
    check_architecture: [
        {"docs/ARCHITECTURE.md": "| base | bits | os |\n"},
        {"docs/ARCHITECTURE.md": ROOMS_TABLE + "```path\nsession::open  client/session.cpp\n```\n"},
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
    LONG_FILES.clear()
    LONG_FUNCTIONS.clear()
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
