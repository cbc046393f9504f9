#!/usr/bin/env python3
"""The command line and the monitor as a user sees them: the real programs, on a separate bus root.

    tools_test.py --bus PROGRAM --bus-top PROGRAM [TestCase[.test] ...]
"""

import argparse
import base64
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PATIENCE_S = 60
OK, FAILURE, USAGE, NOT_FOUND, CONFLICT, PERMISSION, TIMEOUT, UNAVAILABLE, LOSS, CORRUPTION = range(10)
programs = argparse.Namespace(bus="bus", bus_top="bus-top")


def eventually(condition, what):
    """Waits for something that happens soon, at no particular time."""
    end = time.monotonic() + PATIENCE_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"did not happen: {what}")
        time.sleep(0.02)


def error_lines(text):
    """What, why and fix of an error message for people; None: it is not one."""
    found = re.fullmatch(r"bus(?:-top)?: (?P<what>\S.*)\n  why: (?P<why>\S.*)\n(?:  fix: (?P<fix>\S.*)\n)?", text)
    return found.groupdict() if found else None


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


class Outcome:
    def __init__(self, status, output, errors):
        self.status = status
        self.output = output
        self.errors = errors

    @property
    def text(self):
        return self.output.decode()

    @property
    def complaint(self):
        return self.errors.decode()


class ToolsCase(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="bus-test-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.root, True)
        self.environment = {k: v for k, v in os.environ.items() if k not in ("BUS_URL", "COLUMNS", "LINES")}
        self.environment.update(BUS_ROOT=self.root, LC_ALL="C.UTF-8")

    def run_program(self, command, stdin=b"", expect=OK):
        done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True, env=self.environment,
                              timeout=PATIENCE_S, check=False)
        if expect is not None:
            self.assertEqual(done.returncode, expect, f"{command}: {done.stdout[-500:]!r} {done.stderr[-500:]!r}")
        return Outcome(done.returncode, done.stdout, done.stderr)

    def bus(self, *arguments, stdin=b"", expect=OK):
        return self.run_program([programs.bus, *arguments], stdin, expect)

    def bus_fails(self, *arguments, status, needs_fix=True):
        """It must fail with this status and print what, why and a fix, in text and in JSON. Returns the parts."""
        failed = self.bus(*arguments, expect=status)
        self.assertEqual(failed.output, b"")
        parts = error_lines(failed.complaint)
        self.assertIsNotNone(parts, f"not three parts: {failed.complaint!r}")
        if needs_fix:
            self.assertTrue(parts["fix"], f"no fix: {failed.complaint!r}")
        in_json = self.bus(*arguments, "--json", expect=status)
        said = json.loads(in_json.complaint)["error"]
        self.assertEqual(set(said), {"code", "errno", "what", "why", "fix"})
        self.assertTrue(said["what"] and said["why"])
        return parts

    def start(self, *arguments, stdin=subprocess.DEVNULL):
        process = subprocess.Popen([programs.bus, *[str(part) for part in arguments]], stdin=stdin,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment)
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                pipe.close()

    def finish(self, process, expect=OK):
        output, errors = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, expect, f"{output[-500:]!r} {errors[-500:]!r}")
        return Outcome(process.returncode, output, errors)

    def processes(self):
        return json.loads(self.bus("ps", "--json").text)

    def wait_for_subscriber(self, process, rings=1):
        def there():
            seen = self.bus("ps", "--json", expect=None)
            if seen.status != OK:
                return False
            return any(p["pid"] == process.pid and len(p["subscribers"]) >= rings for p in json.loads(seen.text))
        eventually(there, "the subscriber is on the bus")

    def add(self, name, *more, subjects=None, overflow="block"):
        return self.bus("stream", "add", name, "--subjects", subjects or f"{name}.>", "--overflow", overflow,
                        "--ring-bytes", "64KiB", "--max-message-bytes", "4KiB", *more)


class PublishAndSubscribe(ToolsCase):
    def test_text(self):
        self.add("t")
        self.bus("pub", "t.a", "hello world")
        self.bus("pub", "t.b", "with\ttab and \x1b[31mcolour")
        lines = self.bus("sub", "t.>", "--all", "--count", 2).text.splitlines()
        self.assertRegex(lines[0], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}  #1  t\.a  hello world$")
        self.assertIn("#2  t.b  with\\x09tab and \\x1b[31mcolour", lines[1])

    def test_raw_is_payload_and_newline(self):
        self.add("t")
        payloads = [b"one", b"", b"\x00\xff\xfe binary \x01"]
        for payload in payloads:
            self.bus("pub", "t.a", stdin=payload)
        received = self.bus("sub", "t.a", "--all", "--count", 3, "--raw")
        self.assertEqual(received.output, b"".join(payload + b"\n" for payload in payloads))

    def test_json_objects(self):
        self.add("t")
        self.bus("pub", "t.a", "x y", "-H", "unit:ms", "-H", "trace:1:2")
        self.bus("pub", "t.b", stdin=b"\xff\x00")
        first, second = objects(self.bus("sub", "t.*", "--all", "--count", 2, "--json").text)
        self.assertEqual((first["sequence"], first["subject"], first["payload"]), (1, "t.a", "x y"))
        self.assertEqual(first["headers"], {"unit": "ms", "trace": "1:2"})
        self.assertEqual(first["stream"], "t")
        self.assertNotIn("payload_base64", first)
        self.assertEqual((second["sequence"], second["subject"]), (2, "t.b"))
        self.assertEqual(base64.b64decode(second["payload_base64"]), b"\xff\x00")
        self.assertNotIn("headers", second)
        self.assertLess(abs(first["publish_ns"] / 1e9 - time.time()), 3600)

    def test_default_stream_needs_no_set_up(self):
        subscriber = self.start("sub", "md.>", "--count", 1, "--raw")
        eventually(lambda: self.bus("ps", "--json", expect=None).status == OK, "the bus is there")
        def came():
            self.bus("pub", "md.eq.AAPL", "101.25")
            return subscriber.poll() is not None
        eventually(came, "the message came")
        self.assertEqual(self.finish(subscriber).output, b"101.25\n")

    def test_standard_input_is_one_message_or_lines(self):
        self.add("t")
        self.bus("pub", "t.a", stdin=b"first\nsecond\n")
        done = json.loads(self.bus("pub", "t.a", "--lines", "--json", stdin=b"l1\nl2\n\nlast without newline").text)
        self.assertEqual((done["published"], done["last_sequence"], done["dropped"]), (4, 5, 0))
        seen = [m["payload"] for m in objects(self.bus("sub", "t.a", "--all", "--count", 5, "--json").text)]
        self.assertEqual(seen, ["first\nsecond\n", "l1", "l2", "", "last without newline"])

    def test_count_and_rate(self):
        self.add("t")
        begin = time.monotonic()
        done = json.loads(self.bus("pub", "t.a", "x", "--count", 20, "--rate", 100, "--json").text)
        self.assertGreaterEqual(time.monotonic() - begin, 0.18)  # the last of 20 is due after 190 ms
        self.assertEqual((done["published"], done["bytes"], done["subject"], done["stream"]), (20, 20, "t.a", "t"))
        self.assertEqual(len(self.bus("sub", "t.a", "--all", "--count", 20, "--raw").text.splitlines()), 20)

    def test_where_a_subscriber_starts(self):
        self.add("t")
        self.bus("pub", "t.a", "--lines", stdin=b"1\n2\n3\n4\n5")
        def seen(*how):
            return self.bus("sub", "t.a", "--timeout", "300ms", "--raw", *how).text.split()
        self.assertEqual(seen("--all"), ["1", "2", "3", "4", "5"])
        self.assertEqual(seen("--last"), ["5"])
        self.assertEqual(seen("--from-sequence", 4), ["4", "5"])
        self.assertEqual(seen("--since", "10m"), ["1", "2", "3", "4", "5"])
        self.assertEqual(seen("--since", "0s"), [])
        self.assertEqual(seen(), [])

    def test_patterns(self):
        self.add("t")
        for subject in ("t.a.x", "t.b.x", "t.a.y", "t.a.x.z"):
            self.bus("pub", subject, subject)
        def seen(*patterns):
            return self.bus("sub", *patterns, "--all", "--timeout", "300ms", "--raw").text.split()
        self.assertEqual(seen("t.*.x"), ["t.a.x", "t.b.x"])
        self.assertEqual(seen("t.a.>"), ["t.a.x", "t.a.y", "t.a.x.z"])
        self.assertEqual(seen("t.#.z"), ["t.a.x.z"])
        self.assertEqual(seen("t.b.x", "t.a.y"), ["t.b.x", "t.a.y"])

    def test_exit_status_of_timeout(self):
        self.add("t")
        self.bus("pub", "t.a", "x")
        self.bus("sub", "t.a", "--all", "--count", 1, "--timeout", "30s", expect=OK)
        short = self.bus("sub", "t.a", "--all", "--count", 2, "--timeout", "200ms", "--raw", expect=TIMEOUT)
        self.assertEqual(short.output, b"x\n")
        self.bus("sub", "t.a", "--all", "--timeout", "200ms", expect=OK)  # the usual end without --count

    def test_interrupt_ends_it_cleanly(self):
        self.add("t")
        for number in (signal.SIGINT, signal.SIGTERM):
            subscriber = self.start("sub", "t.>", "--quiet")
            def sleeps(pid=subscriber.pid):
                return any(p["pid"] == pid and any(r["sleeping"] for r in p["subscribers"]) for p in self.processes())
            eventually(sleeps, "the subscriber waits")
            subscriber.send_signal(number)
            self.assertIn("0 messages, 0 lost", self.finish(subscriber).text)
        self.assertEqual([p for p in self.processes() if p["name"] == "bus sub"], [])

    def test_binary_standard_input(self):
        self.add("t")
        payload = bytes(range(256)) * 8
        self.bus("pub", "t.a", stdin=payload)
        self.assertEqual(self.bus("sub", "t.a", "--all", "--count", 1, "--raw").output, payload + b"\n")


class Loss(ToolsCase):
    def lapped(self, *how, expect=OK):
        """A subscriber that sleeps at each message, while 3000 are published into a ring of several hundred."""
        self.add("lossy", overflow="drop_oldest")
        subscriber = self.start("sub", "lossy.>", "--json", "--timeout", "2s", *how)
        self.wait_for_subscriber(subscriber)
        text = b"".join(b"%d\n" % (i + 1) for i in range(3000))
        done = json.loads(self.bus("pub", "lossy.a", "--lines", "--json", stdin=text).text)
        self.assertEqual((done["published"], done["last_sequence"]), (3000, 3000))
        return self.finish(subscriber, expect)

    def test_gaps_are_exact(self):
        seen = objects(self.lapped("--delay", "2ms").text)
        gaps = [o["gap"] for o in seen if "gap" in o]
        messages = [o for o in seen if "gap" not in o]
        self.assertGreaterEqual(len(gaps), 1)
        expected = 1
        for entry in seen:
            if "gap" in entry:
                self.assertEqual(entry["gap"]["first"], expected)
                self.assertGreater(entry["gap"]["count"], 0)
                expected += entry["gap"]["count"]
            else:
                self.assertEqual(entry["sequence"], expected)
                self.assertEqual(entry["payload"], str(expected))
                expected += 1
        self.assertEqual(expected, 3001)
        self.assertEqual(len(messages) + sum(gap["count"] for gap in gaps), 3000)

    def test_fail_on_gap(self):
        seen = objects(self.lapped("--delay", "2ms", "--fail-on-gap", expect=LOSS).text)
        self.assertIn("gap", seen[-1])

    def test_fail_on_gap_without_a_gap(self):
        self.add("t")
        self.bus("pub", "t.a", "x")
        self.bus("sub", "t.a", "--all", "--count", 1, "--fail-on-gap", expect=OK)

    def test_slow_reader_of_a_blocking_stream_loses_nothing(self):
        self.add("safe", overflow="block")
        # Its output fits into a pipe, because no process reads it meanwhile.
        subscriber = self.start("sub", "safe.>", "--raw", "--count", 3000, "--delay", "20us")
        self.wait_for_subscriber(subscriber)
        text = b"".join(b"%d\n" % (i + 1) for i in range(3000))
        self.bus("pub", "safe.a", "--lines", stdin=text)
        self.assertEqual(self.finish(subscriber).output, text)

    def full(self, overflow, *how, expect):
        self.add("full", "--send-timeout", "300ms", overflow=overflow)
        reader = self.start("sub", "full.>", "--quiet", "--delay", "1h")
        self.wait_for_subscriber(reader)
        self.bus("pub", "full.a", "x")  # the reader sleeps at this one
        return reader, self.bus("pub", "full.a", "x" * 1000, "--count", 100, *how, expect=expect)

    def test_full_ring_block_names_the_reader(self):
        reader, refused = self.full("block", expect=TIMEOUT)
        parts = error_lines(refused.complaint)
        self.assertIsNotNone(parts, refused.complaint)
        self.assertIn("full", parts["what"])
        self.assertIn(f"pid {reader.pid}", parts["why"])
        self.assertTrue(parts["fix"])

    def test_full_ring_reject(self):
        reader, refused = self.full("reject", expect=UNAVAILABLE)
        self.assertIn(f"pid {reader.pid}", error_lines(refused.complaint)["why"])

    def test_full_ring_drop_new_is_counted(self):
        _, dropped = self.full("drop_new", "--json", expect=LOSS)
        done = json.loads(dropped.text)
        self.assertEqual(done["published"] + done["dropped"], 100)
        self.assertGreater(done["dropped"], 0)
        info = json.loads(self.bus("stream", "info", "full", "--json").text)
        self.assertEqual(info["lane"][0]["dropped"], done["dropped"])


class Streams(ToolsCase):
    def test_add_info_ls_rm(self):
        self.add("orders", "--max-readers", 16, "--send-timeout", "250ms", "--max-subjects", 100, subjects="o.>,p.*")
        info = json.loads(self.bus("stream", "info", "orders", "--json").text)
        expected = {"name": "orders", "subjects": ["o.>", "p.*"], "overflow": "block", "lanes": 1, "lane_mode": "fixed",
                    "ring_bytes": 65536, "max_message_bytes": 4096, "send_timeout_ms": 250, "max_readers": 16,
                    "max_subjects": 100, "messages": 0}
        self.assertEqual({key: info[key] for key in expected}, expected)
        self.assertIn("orders", self.bus("stream", "info", "orders").text)
        listed = self.bus("stream", "ls").text
        self.assertRegex(listed, r"(?m)^orders +memory +block +1 +64\.0 KiB +0 +0  o\.>,p\.\*$")
        self.assertEqual([s["name"] for s in json.loads(self.bus("stream", "ls", "--json").text)], ["orders"])
        self.assertEqual(json.loads(self.bus("stream", "rm", "orders", "--json").text), {"removed": "orders"})
        self.assertEqual(json.loads(self.bus("stream", "ls", "--json").text), [])

    def test_add_prints_json(self):
        self.assertEqual(json.loads(self.add("t", "--json").text)["name"], "t")
        self.assertIn("captures t.>", self.add("t").text)  # the same again is ok

    def test_options_arrive(self):
        for policy in ("block", "reject", "drop_oldest", "drop_new"):
            self.add(policy, "--lanes", 3, "--ephemeral", overflow=policy)
        keeper = self.start("sub", "nothing.at.all")
        self.wait_for_subscriber(keeper, 0)
        self.add("each", "--lanes", "publisher")
        info = json.loads(self.bus("stream", "info", "each", "--json").text)
        self.assertEqual((info["lane_mode"], info["lanes"]), ("publisher", 64))

    def test_conflicts(self):
        self.add("t")
        parts = self.bus_fails("stream", "add", "t", "--subjects", "t.>", "--overflow", "reject", status=CONFLICT)
        self.assertIn("'t'", parts["what"])
        self.assertIn("overflow", parts["why"])
        parts = self.bus_fails("stream", "add", "other", "--subjects", "t.a", "--overflow", "block", status=CONFLICT)
        self.assertIn("'other'", parts["what"])
        for named in ("'t.a'", "'t.>'", "'t'"):
            self.assertIn(named, parts["why"])

    def test_not_found(self):
        self.bus_fails("stream", "ls", status=NOT_FOUND)
        self.bus_fails("ps", status=NOT_FOUND)
        self.bus_fails("rm", status=NOT_FOUND)
        self.add("t")
        self.assertIn("'nothing'", self.bus_fails("stream", "info", "nothing", status=NOT_FOUND)["what"])
        self.bus_fails("stream", "rm", "nothing", status=NOT_FOUND)
        self.bus_fails("--bus", "elsewhere", "stream", "ls", status=NOT_FOUND)

    def test_usage(self):
        for arguments in (["frobnicate"], [], ["pub"], ["sub"], ["stream"], ["stream", "add", "x"], ["bench"],
                          ["pub", "t.a", "x", "--count", "0"], ["pub", "t.a", "x", "--no-such-option"],
                          ["pub", "t.a", "x", "-H", "nocolon"], ["pub", "t.a", "x", "--timeout", "soon"],
                          ["pub", "bad..subject", "x"], ["pub", "wild.*", "x"], ["pub", "", "x"],
                          ["sub", "a.>.b", "--timeout", "1s"], ["sub", "t.a", "--timeout", "never"],
                          ["sub", "t.a", "--since", "tomorrowish"], ["sub", "t.a", "--all", "--last"],
                          ["stream", "add", "x", "--subjects", "x.>", "--overflow", "sometimes"],
                          ["stream", "add", "x", "--subjects", "x.>", "--ring-bytes", "lots"],
                          ["stream", "add", "x", "--subjects", "x.>", "--ring-bytes", "100000"],
                          ["stream", "add", "../x", "--subjects", "x.>"],
                          ["stream", "add", "y" * 65, "--subjects", "x.>"],
                          ["stream", "add", "x", "--subjects", "x.>", "--lanes", "65"],
                          ["--bus", "../up", "pub", "t.a", "x"], ["--bus", "bus://host/x", "pub", "t.a", "x"],
                          ["bench", "rtt", "--same-core", "--wait", "spin"], ["completion", "tcsh"]):
            with self.subTest(arguments=arguments):
                failed = self.bus(*arguments, expect=USAGE)
                self.assertIsNotNone(error_lines(failed.complaint), failed.complaint)

    def test_permission(self):
        self.add("t")
        directory = pathlib.Path(self.root) / f"bus-{os.geteuid()}.default"
        directory.chmod(0o777)
        parts = self.bus_fails("pub", "t.a", "x", status=PERMISSION)
        self.assertIn(f"chmod 700 {directory}", parts["fix"])
        directory.chmod(0o700)
        self.bus("pub", "t.a", "x")

    def test_corruption(self):
        self.add("t")
        lane = pathlib.Path(self.root) / f"bus-{os.geteuid()}.default/streams/t/lane-0"
        with open(lane, "r+b") as file:
            file.truncate(1000)
        parts = self.bus_fails("pub", "t.a", "x", status=CORRUPTION)
        self.assertIn("lane-0", parts["what"])
        self.assertIn("truncated", parts["why"])

    def test_rm_refuses_what_is_used(self):
        self.add("t")
        reader = self.start("sub", "t.>", "--quiet")
        self.wait_for_subscriber(reader)
        self.assertIn(f"pid {reader.pid}", self.bus_fails("stream", "rm", "t", status=CONFLICT)["why"])
        self.bus("stream", "rm", "t", "--force")
        self.bus_fails("stream", "info", "t", status=NOT_FOUND)
        self.assertIn(f"pid {reader.pid}", self.bus_fails("rm", status=TIMEOUT)["why"])
        self.bus("rm", "--force")
        self.assertEqual(self.bus("ls").text, "")

    def test_ls_and_rm_of_buses(self):
        for name in ("one", "two"):
            self.bus("--bus", name, "pub", "a.b", "x")
        self.assertEqual(self.bus("ls").text.split(), ["one", "two"])
        self.assertEqual(json.loads(self.bus("ls", "--json").text), ["one", "two"])
        self.bus("rm", "--bus", "one")
        self.assertEqual(self.bus("ls").text.split(), ["two"])
        self.bus("--bus", "two", "rm")
        self.assertEqual(os.listdir(self.root), [])

    def test_bus_by_url_and_environment(self):
        self.environment["BUS_URL"] = "bus:///from-environment?name=me"
        self.bus("pub", "a.b", "x")
        self.assertEqual(self.bus("ls").text.split(), ["from-environment"])
        other = os.path.join(self.root, "deeper")
        os.mkdir(other)
        self.bus("--bus", f"bus:///named?root={other}", "pub", "a.b", "x")
        self.assertEqual(os.listdir(other), [f"bus-{os.geteuid()}.named"])


class Looking(ToolsCase):
    def test_ps(self):
        self.add("t")
        reader = self.start("sub", "t.>", "--quiet")
        self.wait_for_subscriber(reader)
        writer = self.start("pub", "t.a", "x", "--count", 1000000, "--rate", 200)
        def both():
            seen = {p["pid"]: p for p in self.processes()}
            if reader.pid not in seen or writer.pid not in seen or not seen[writer.pid]["publishers"]:
                return None
            p, r = seen[writer.pid]["publishers"][0], seen[reader.pid]["subscribers"][0]
            return (p, r) if p["messages"] > 0 and r["delivered"] > 0 else None
        publisher, subscriber = eventually(both, "messages flow")
        self.assertEqual((publisher["subject"], publisher["stream"], publisher["exclusive"]), ("t.a", "t", False))
        self.assertEqual((subscriber["stream"], subscriber["gating"], subscriber["lost"]), ("t", True, 0))
        text = self.bus("ps").text
        for said in (f"pid {reader.pid}", f"pid {writer.pid}", "publishes  t.a", "reads      t.>", "running"):
            self.assertIn(said, text)
        reader.send_signal(signal.SIGSTOP)
        def stopped():
            return any(p["pid"] == reader.pid and p["state"] == "stopped" for p in self.processes())
        eventually(stopped, "a stopped process is shown as stopped")
        doctor = json.loads(self.bus("doctor", "--json", expect=FAILURE).text)
        self.assertFalse(doctor["healthy"])
        self.assertTrue(any(f"pid {reader.pid}" in f["finding"] and f["grade"] == "bad" for f in doctor["findings"]))
        reader.send_signal(signal.SIGCONT)

    def test_doctor(self):
        first = self.bus("doctor", "--json", expect=None)
        self.assertIn(first.status, (OK, FAILURE))  # a nearly full /dev/shm is a finding, not an error of this test
        seen = json.loads(first.text)
        self.assertEqual(seen["healthy"], first.status == OK)
        for finding in seen["findings"]:
            self.assertIn(finding["grade"], ("ok", "note", "bad"))
            self.assertTrue(finding["finding"])
            if finding["grade"] == "bad":
                self.assertTrue(finding["fix"])
        self.add("t")
        text = self.bus("doctor", expect=None).text
        self.assertIn("bus 'default' has 1 streams", text)
        self.assertIn(self.root, text)

    def test_json_of_every_command_parses(self):
        self.add("t")
        for arguments in (["pub", "t.a", "x"], ["sub", "t.a", "--all", "--count", 1], ["stream", "ls"],
                          ["stream", "info", "t"], ["ps"], ["doctor"], ["ls"], ["stream", "rm", "t"]):
            with self.subTest(arguments=arguments):
                json.loads(self.bus(*arguments, "--json", expect=None).text)

    def test_help_and_version(self):
        self.assertRegex(self.bus("--version").text, r"^bus \d+\.\d+\.\d+")
        self.assertRegex(self.run_program([programs.bus_top, "--version"]).text, r"^bus-top \d+\.\d+\.\d+")
        for command in ("pub", "sub", "stream", "ps", "bench", "doctor", "completion", "ls", "rm"):
            self.assertIn(command, self.bus("--help").text)
            self.assertIn("--help", self.bus(command, "--help").text)


class Completion(ToolsCase):
    def complete(self, *words):
        """The words that bash offers for the last of `words`."""
        script = ('source <("$PROGRAM" completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=();'
                  ' handler=$(complete -p bus | sed "s/.*-F \\([^ ]*\\).*/\\1/"); "$handler" bus;'
                  ' printf "%s\\n" "${COMPREPLY[@]}"')
        self.environment["PROGRAM"] = programs.bus
        return set(self.run_program(["bash", "-c", script, "bash", *words]).text.split())

    def test_bash(self):
        commands = {"pub", "sub", "stream", "ps", "bench", "doctor", "completion", "ls", "rm"}
        self.assertLessEqual(commands, self.complete("bus", ""))
        self.assertLessEqual({"ls", "add", "info", "rm"}, self.complete("bus", "stream", ""))
        self.assertNotIn("bench", self.complete("bus", "stream", ""))
        self.assertEqual(self.complete("bus", "stream", "a"), {"add"})
        self.assertLessEqual({"--all", "--count", "--raw", "--timeout"}, self.complete("bus", "sub", "--"))
        self.assertLessEqual({"--subjects", "--overflow"}, self.complete("bus", "stream", "add", "name", "--"))
        self.assertLessEqual({"--publishers"}, self.complete("bus", "bench", "pub", "--p"))

    def test_after_an_option(self):
        self.assertLessEqual({"--count", "--raw"}, self.complete("bus", "sub", "--all", "--"))

    def test_zsh_and_fish_are_printed(self):
        self.assertTrue(self.bus("completion", "zsh").text.startswith("#compdef bus"))
        self.assertIn("complete -c bus", self.bus("completion", "fish").text)


class Bench(ToolsCase):
    def measured(self, *arguments, keys):
        seen = json.loads(self.bus("bench", *arguments, "--seconds", "0.3", "--json").text)
        for key in keys:
            self.assertIn(key, seen)
            self.assertGreater(seen[key], 0, f"{key} of {seen}")
        self.assertEqual(os.listdir(self.root), [], "the benchmark left something behind")
        return seen

    RTT = ("p50_ns", "p99_ns", "p999_ns", "max_ns", "floor_p50_ns", "floor_p99_ns", "ratio_p50")
    STREAM = ("messages_per_s", "bytes_per_s", "floor_messages_per_s")

    def test_rtt_spin(self):
        seen = self.measured("rtt", "--size", "64", keys=self.RTT)
        self.assertLessEqual(seen["p50_ns"], seen["p99_ns"])
        self.assertLessEqual(seen["p99_ns"], seen["p999_ns"])
        self.assertLessEqual(seen["p999_ns"], seen["max_ns"])
        self.assertAlmostEqual(seen["ratio_p50"], seen["p50_ns"] / seen["floor_p50_ns"], places=6)

    def test_rtt_block(self):
        self.measured("rtt", "--size", "64", "--wait", "block", "--same-core", keys=self.RTT)
        self.measured("rtt", "--size", "1024", "--wait", "block", keys=self.RTT)

    def test_pub(self):
        seen = self.measured("pub", "--size", "64", "--publishers", "1", "--subscribers", "1", keys=self.STREAM)
        self.assertEqual(seen["lost"], 0)
        self.assertAlmostEqual(seen["bytes_per_s"] / seen["messages_per_s"], 64, places=3)
        seen = self.measured("pub", "--size", "64", "--publishers", "2", "--subscribers", "1", "--batch", "16",
                             keys=self.STREAM)
        self.assertEqual(seen["lost"], 0)

    def test_fan(self):
        seen = self.measured("fan", "--size", "64", "--subscribers", "4", keys=self.STREAM)
        self.assertEqual((seen["lost"], seen["subscribers"]), (0, 4))


class Top(ToolsCase):
    def flow(self):
        self.add("t")
        reader = self.start("sub", "t.>", "--quiet")
        self.wait_for_subscriber(reader)
        writer = self.start("pub", "t.a", "x", "--count", 100000000, "--rate", 500)
        eventually(lambda: any(p["publishers"] for p in self.processes()), "the publisher is there")
        return reader, writer

    def test_once_json(self):
        reader, writer = self.flow()
        seen = json.loads(self.run_program([programs.bus_top, "--once", "--json", "--interval", "0.5"]).text)
        self.assertEqual(set(seen), {"streams", "publishers", "subscribers", "processes"})
        self.assertEqual([s["name"] for s in seen["streams"]], ["t"])
        self.assertGreater(seen["streams"][0]["messages_per_s"], 0)
        publisher = next(p for p in seen["publishers"] if p["pid"] == writer.pid)
        self.assertEqual((publisher["subject"], publisher["state"]), ("t.a", "flowing"))
        subscriber = next(r for r in seen["subscribers"] if r["pid"] == reader.pid)
        self.assertGreater(subscriber["messages_per_s"], 0)
        self.assertEqual(subscriber["lost"], 0)
        self.assertLessEqual({reader.pid, writer.pid}, {p["pid"] for p in seen["processes"]})

    def test_once_text(self):
        self.flow()
        text = self.run_program([programs.bus_top, "--once", "--interval", "0.2"]).text
        for word in ("stream ", "publisher ", "subscriber ", "process "):
            self.assertIn(word, text)

    def test_errors(self):
        missing = self.run_program([programs.bus_top, "--once"], expect=NOT_FOUND)
        self.assertIsNotNone(error_lines(missing.complaint), missing.complaint)
        usage = self.run_program([programs.bus_top, "--no-such-option"], expect=USAGE)
        self.assertIsNotNone(error_lines(usage.complaint), usage.complaint)

    @unittest.skipUnless(shutil.which("tmux"), "needs tmux for a terminal")
    def test_screen(self):
        reader, writer = self.flow()
        socket = os.path.join(self.root, "tmux")
        self.environment["TERM"] = "screen"
        def tmux(*arguments, expect=OK):
            return self.run_program(["tmux", "-S", socket, "-f", "/dev/null", *arguments], expect=expect).text
        def screen():
            return tmux("capture-pane", "-p", "-t", "top")
        def shows(*words):
            def all_there():
                text = screen()
                return text if all(word in text for word in words) else None
            return eventually(all_there, f"it shows {words}")
        status = os.path.join(self.root, "status")
        tmux("new-session", "-d", "-s", "top", "-x", "150", "-y", "30",
             f"'{programs.bus_top}' --interval 0.1; echo $? > '{status}'; sleep 60")
        self.addCleanup(lambda: tmux("kill-server", expect=None))
        def press(*keys):
            tmux("send-keys", "-t", "top", *keys)
        shows("1 Streams (1)", "2 Publishers (1)", "STREAM", "OVERFLOW", "MSG/S", "flowing", "q quit")
        press("2")
        shows("SUBJECT", "t.a", str(writer.pid))
        press("3")
        shows("PATTERNS", "LAG", "t.>", str(reader.pid))
        press("4")
        shows("NAME", "JOINED", "bus sub", "bus pub")
        press("Tab")
        shows("STREAM", "OVERFLOW")
        press("Enter")
        shows("captures t.>", "ring 64.0 KiB")
        press("Enter")
        press("p")
        shows("PAUSED")
        frozen = screen()
        time.sleep(0.5)
        row = re.compile(r"^t +block.*$", re.M)
        self.assertEqual(row.search(frozen).group(), row.search(screen()).group())
        press("p")
        eventually(lambda: "PAUSED" not in screen(), "it goes on")
        press("/")
        press("z", "z")
        shows("/zz", "nothing matches the filter")
        press("BSpace", "BSpace", "Enter")
        shows("block")
        press("4")
        press("s", "r")
        shows("bus sub")
        tmux("resize-window", "-t", "top", "-x", "40", "-y", "6", expect=None)
        shows("NAME")
        tmux("resize-window", "-t", "top", "-x", "150", "-y", "30", expect=None)
        press("3")
        reader.send_signal(signal.SIGSTOP)
        shows("stopped")
        reader.send_signal(signal.SIGCONT)
        press("q")
        ended = pathlib.Path(status)
        eventually(lambda: ended.exists() and ended.read_text(encoding="ascii") == "0\n", "it ends with status 0")


class TheChecksCanFail(unittest.TestCase):
    """The helpers of the checks above notice faults."""

    def test_error_lines(self):
        self.assertIsNotNone(error_lines("bus: what\n  why: why\n  fix: fix\n"))
        self.assertIsNotNone(error_lines("bus: what\n  why: why\n"))
        for wrong in ("", "what\n", "bus: what\n", "bus: what\n  fix: fix\n", "bus: \n  why: why\n",
                      "bus: a\n  why: b\nmore\n"):
            self.assertIsNone(error_lines(wrong), wrong)

    def test_wrong_status_is_noticed(self):
        case = Streams("test_usage")
        case.environment = dict(os.environ)
        with self.assertRaises(AssertionError):
            case.run_program(["false"])

    def test_lines_that_are_not_json_are_noticed(self):
        with self.assertRaises(json.JSONDecodeError):
            objects("{}\nnot json\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bus", required=True)
    parser.add_argument("--bus-top", required=True)
    parser.add_argument("tests", nargs="*")
    options = parser.parse_args()
    programs.bus, programs.bus_top = options.bus, options.bus_top
    unittest.main(argv=[sys.argv[0], *options.tests], verbosity=2)


if __name__ == "__main__":
    main()
