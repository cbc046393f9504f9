#!/usr/bin/env python3
"""busd as an operator sees it: the real programs, on a separate bus root and data directory.

    busd_cli_test.py --busd PROGRAM --bus PROGRAM [TestCase[.test] ...]
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

PATIENCE_S = 60
OK, FAILURE, USAGE, NOT_FOUND, CONFLICT, PERMISSION, TIMEOUT, UNAVAILABLE = range(8)
HEAD = struct.Struct("<III")
programs = argparse.Namespace(bus="bus", busd="busd")


def eventually(condition, what):
    end = time.monotonic() + PATIENCE_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"did not happen: {what}")
        time.sleep(0.02)


class DaemonCase(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="bus-test-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.root, True)
        self.data = tempfile.mkdtemp(prefix="busd-test-")
        self.addCleanup(shutil.rmtree, self.data, True)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("BUS_")}
        self.environment.update(BUS_ROOT=self.root, BUS_URL="t", LC_ALL="C.UTF-8")

    def run_program(self, command, expect=OK, environment=None, stdin=b""):
        done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True,
                              env=environment or self.environment, timeout=PATIENCE_S, check=False)
        said = f"{command}: {done.stdout[-500:]!r} {done.stderr[-800:]!r}"
        if expect is not None:
            self.assertEqual(done.returncode, expect, said)
        return done

    def bus(self, *arguments, expect=OK, stdin=b""):
        return self.run_program([programs.bus, *arguments], expect, stdin=stdin)

    def busd_fails(self, *arguments, status, environment=None):
        """busd must exit by itself with this status and print a reason. Returns what it printed."""
        done = self.run_program([programs.busd, *arguments], status, environment)
        said = done.stderr.decode()
        self.assertTrue(said.strip(), "it said nothing")
        return said

    def socket_path(self, bus="t"):
        return f"{self.root}/bus-{os.geteuid()}.{bus}/busd.sock"

    def answers(self, bus="t"):
        with socket.socket(socket.AF_UNIX) as to:
            try:
                to.connect(self.socket_path(bus))
                return True
            except OSError:
                return False

    def start(self, *options, data=None):
        log = open(f"{self.root}/busd.log", "ab")
        self.addCleanup(log.close)
        process = subprocess.Popen([programs.busd, "--bus", "t", "--data", data or self.data, *options],
                                   stdout=log, stderr=log, env=self.environment)
        self.addCleanup(self.end, process)
        eventually(lambda: self.answers() or process.poll() is not None, "busd comes up")
        self.assertIsNone(process.poll(), self.log())
        return process

    def log(self):
        return pathlib.Path(f"{self.root}/busd.log").read_text()

    def end(self, process):
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait(PATIENCE_S)

    def add(self, name, *more):
        return self.bus("stream", "add", name, "--subjects", f"{name}.>", "--storage", "durable",
                        "--ring-bytes", "64KiB", "--max-message-bytes", "4KiB", *more)

    def read(self, pattern, count):
        lines = self.bus("sub", pattern, "--all", "--count", count, "--json").stdout.decode().splitlines()
        return [json.loads(line) for line in lines]

    def request(self, data, half_close=True):
        """Sends these bytes to busd. Returns its answer; empty: it closed the connection."""
        with socket.socket(socket.AF_UNIX) as to:
            to.settimeout(PATIENCE_S)
            to.connect(self.socket_path())
            answer = b""
            try:
                to.sendall(data)
                if half_close:
                    to.shutdown(socket.SHUT_WR)
                while piece := to.recv(65536):
                    answer += piece
            except (BrokenPipeError, ConnectionResetError):
                pass
            return answer


class Life(DaemonCase):
    def test_a_second_one_on_the_same_bus_is_refused(self):
        first = self.start()
        with tempfile.TemporaryDirectory() as other:
            said = self.busd_fails("--bus", "t", "--data", other, status=CONFLICT)
        self.assertIn("another busd", said)
        self.assertIn(str(first.pid), said)
        self.assertIn("fix", said)
        self.add("a")  # the first one is unaffected

    def test_a_second_one_on_the_same_data_is_refused(self):
        self.start()
        with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
            said = self.busd_fails("--bus", "t", "--data", self.data, status=CONFLICT,
                                   environment={**self.environment, "BUS_ROOT": other})
        self.assertIn("another busd", said)
        self.assertIn(self.data, said)
        self.add("a")

    def test_ends_cleanly_and_goes_on(self):
        for stop in (signal.SIGTERM, signal.SIGINT):
            busd = self.start()
            if stop == signal.SIGTERM:
                self.add("a")
            self.bus("pub", "a.x", str(stop), "--count", 50)
            busd.send_signal(stop)
            self.assertEqual(busd.wait(PATIENCE_S), 0, self.log())
            self.assertFalse(os.path.exists(self.socket_path()))
        self.start()
        self.assertEqual([m["sequence"] for m in self.read("a.>", 100)], list(range(1, 101)))
        # After an orderly stop there is nothing to repair.
        self.assertIn("0 records rewritten", self.log().splitlines()[-2])

    def test_data_that_cannot_be_written(self):
        blocked = pathlib.Path(self.data, "file")
        blocked.write_text("")
        said = self.busd_fails("--bus", "t", "--data", blocked / "below", status=PERMISSION)
        self.assertIn("--data", said)
        if os.geteuid() != 0:
            os.chmod(self.data, 0o500)
            self.busd_fails("--bus", "t", "--data", pathlib.Path(self.data, "below"), status=PERMISSION)
            os.chmod(self.data, 0o700)
        else:
            self.busd_fails("--bus", "t", "--data", "/proc/nothing/here", status=PERMISSION)

    def test_without_data_and_with_a_bad_name(self):
        self.assertIn("data", self.busd_fails("--bus", "t", "--data", "", status=USAGE))
        self.assertIn("bus", self.busd_fails("--bus", "a/b", "--data", self.data, status=USAGE))
        self.busd_fails("--no-such-option", status=USAGE)

    def test_posix_works_the_same(self):
        busd = self.start("--io", "posix")
        self.add("a")
        self.bus("pub", "a.x", "one", "--count", 300, "--confirm", "disk")
        busd.kill()
        busd.wait(PATIENCE_S)
        self.assertIn("with posix", self.log())
        again = self.start("--io", "auto")
        self.bus("pub", "a.x", "two", "--confirm", "disk")
        self.assertEqual(len(self.read("a.>", 301)), 301)
        again.terminate()
        self.assertEqual(again.wait(PATIENCE_S), 0)

    def test_a_bus_that_is_removed_ends_it_and_keeps_the_log(self):
        busd = self.start()
        self.add("a")
        self.bus("pub", "a.x", "kept", "--confirm", "disk")
        self.bus("rm", "--force")
        self.assertNotEqual(busd.wait(PATIENCE_S), 0)
        self.assertIn("removed", self.log())
        self.start()
        self.assertEqual(self.read("a.>", 1)[0]["payload"], "kept")


class Configuration(DaemonCase):
    def fails(self, text, *parts):
        path = pathlib.Path(self.data, "busd.toml")
        path.write_text(text)
        said = self.busd_fails("--config", path, status=USAGE)
        for part in parts:
            self.assertIn(part, said)

    def test_names_line_and_key(self):
        data = f'data = "{self.data}"\n'
        self.fails(data + "\n\nno_such = 1\n", "busd.toml:4", "no_such")
        self.fails(data + 'buffers = "many"\n', "busd.toml:2", "buffers")
        self.fails(data + "disk_warn = true\n", "busd.toml:2", "disk_warn")
        self.fails(data + "bus = 3\n", "busd.toml:2", "bus")
        self.fails(data + 'bus = "t\n', "busd.toml:2")
        self.fails(data + "disk_warn = 0.9\ndisk_block = 0.5\n", "disk_warn")
        self.fails(data + "buffer_bytes = 12345\n", "buffer_bytes")
        self.fails(data + 'io = "tape"\n', "io", "posix")
        self.assertIn("/nowhere", self.busd_fails("--config", "/nowhere", status=NOT_FOUND))

    def test_is_used_and_options_go_over_it(self):
        path = pathlib.Path(self.data, "busd.toml")
        path.write_text(f'bus = "other"\ndata = "{self.data}"\nio = "posix"\nbuffers = 4\n'
                        f'log_file = "{self.root}/own.log"\n')
        process = self.start("--config", str(path))  # --bus t overrides it
        process.terminate()
        self.assertEqual(process.wait(PATIENCE_S), 0)
        self.assertIn("with posix", pathlib.Path(self.root, "own.log").read_text())


class Streams(DaemonCase):
    def test_a_durable_stream_needs_busd_and_the_error_says_how(self):
        for storage in ("durable", "spill"):
            failed = self.bus("stream", "add", "a", "--subjects", "a.>", "--storage", storage, expect=UNAVAILABLE)
            self.assertRegex(failed.stderr.decode(), r"fix: .*busd --bus t --data ")
        self.bus("stream", "info", "a", expect=NOT_FOUND)

    def test_limits_are_shown_changed_and_refused_without_a_log(self):
        self.start()
        self.add("a", "--max-age", "7d", "--max-bytes", "1GiB", "--max-messages-per-subject", 3, "--fsync", "interval")
        text = self.bus("stream", "info", "a").stdout.decode()
        self.assertRegex(text, r"(?m)^keeps +7d or 1.0 GiB, the newest 3 of each subject, per lane$")
        self.assertRegex(text, r"(?m)^synced +every 100ms$")
        self.bus("stream", "edit", "a", "--max-messages-per-subject", 5, "--max-age", 0, "--max-bytes", 0)
        shown = json.loads(self.bus("stream", "info", "a", "--json").stdout)
        self.assertEqual((shown["max_messages_per_subject"], shown["max_age_ms"], shown["max_bytes"], shown["fsync"],
                          shown["compress"]), (5, 0, 0, "interval", "none"))
        self.assertIn("the newest 5 of each subject", self.bus("stream", "info", "a").stdout.decode())
        self.bus("stream", "edit", "a", "--max-messages-per-subject", 0)
        self.assertRegex(self.bus("stream", "info", "a").stdout.decode(), r"(?m)^keeps +everything$")
        for storage in ("memory", "spill"):
            for limit in (("--max-age", "1h"), ("--max-messages-per-subject", 1), ("--compress", "zstd")):
                failed = self.bus("stream", "add", "b", "--subjects", "b.>", "--storage", storage, *limit, expect=USAGE)
                self.assertIn("storage durable", failed.stderr.decode())

    def test_rm_removes_the_data(self):
        self.start()
        self.add("a")
        self.bus("pub", "a.x", "gone", "--confirm", "disk")
        where = pathlib.Path(self.data, "t", "streams", "a")
        self.assertTrue(where.is_dir())
        self.bus("stream", "rm", "a", "--force", expect=None)
        eventually(lambda: not where.exists(), "the data is removed")
        self.assertEqual([p.name for p in where.parent.iterdir()], [])
        self.add("a")
        self.assertEqual(self.bus("pub", "a.x", "new", "--confirm", "disk").returncode, 0)
        self.assertEqual(self.read("a.>", 1)[0]["payload"], "new")

    def test_lanes_of_publishers_are_durable(self):
        busd = self.start()
        self.add("a", "--lanes", "publisher")
        for n in range(3):
            self.bus("pub", f"a.{n}", str(n), "--count", 20, "--confirm", "disk")
        busd.kill()
        busd.wait(PATIENCE_S)
        self.start()
        self.assertEqual(len(self.read("a.>", 60)), 60)


class Confirms(DaemonCase):
    def pub(self, *more, expect):
        return self.bus("pub", "a.x", "text", "--confirm", "disk", *more, expect=expect)

    def test_exit_status_tells(self):
        busd = self.start()
        self.add("a")
        self.pub(expect=OK)
        busd.send_signal(signal.SIGSTOP)
        stopped = self.pub("--timeout", "200ms", expect=None)
        self.assertNotEqual(stopped.returncode, 0)
        self.assertIn("busd", stopped.stderr.decode())
        waits = subprocess.Popen([programs.bus, "pub", "a.x", "text", "--confirm", "disk", "--timeout", "60s"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self.environment)
        self.addCleanup(waits.stderr.close)
        self.addCleanup(self.end, waits)
        time.sleep(0.3)
        self.assertIsNone(waits.poll(), "it did not wait for the confirm")
        busd.send_signal(signal.SIGCONT)
        self.assertEqual(waits.wait(PATIENCE_S), OK)
        busd.kill()
        busd.wait(PATIENCE_S)
        dead = self.pub("--timeout", "200ms", expect=None)
        self.assertNotEqual(dead.returncode, 0)
        self.assertRegex(dead.stderr.decode(), r"busd --bus t")
        self.start()
        self.pub(expect=OK)
        self.assertEqual(len(self.read("a.>", 5)), 5)

    def test_of_a_stream_in_memory_is_refused(self):
        self.start()
        self.bus("stream", "add", "m", "--subjects", "m.>")
        failed = self.bus("pub", "m.x", "text", "--confirm", "disk", expect=None)
        self.assertNotEqual(failed.returncode, 0)
        self.assertIn("memory", failed.stderr.decode())


class Bench(DaemonCase):
    def test_readers_beside_a_publisher(self):
        seen = json.loads(self.bus("bench", "replay", "--beside", "--messages", "20000", "--pace", "8MiB",
                                   "--seconds", "1", "--dir", self.data, "--json").stdout)
        for who in ("reader_start", "reader_middle", "pread_start", "pread_middle"):
            self.assertGreater(seen[who + "_bytes_per_s"], 0, seen)
        for key in ("alone_messages_per_s", "beside_readers_messages_per_s", "beside_preads_messages_per_s",
                    "ratio_readers_alone", "ratio_preads_alone", "ratio_readers_preads", "readers_processor_share",
                    "preads_processor_share"):
            self.assertGreater(seen[key], 0, seen)
        self.assertEqual([name for name in os.listdir(self.data) if name.startswith("bus-bench")], [])

    def test_options_that_only_it_has(self):
        for wrong in (["--pace", "8MiB"], ["--beside", "--readers", "2"], ["--beside", "--pace", "fast"]):
            self.bus("bench", "replay", *wrong, expect=USAGE)


class ControlSocket(DaemonCase):
    def setUp(self):
        super().setUp()
        self.busd = self.start()
        self.add("a")

    def tearDown(self):
        self.assertIsNone(self.busd.poll(), "busd ended: " + self.log())
        self.bus("pub", "a.x", "after", "--confirm", "disk")
        self.bus("stream", "ls")

    def magic_and_version(self):
        """As busd itself sends them."""
        answer = self.request(b"\0" * HEAD.size)
        magic, version, size = HEAD.unpack(answer[:HEAD.size])
        self.assertEqual(size, len(answer) - HEAD.size)
        self.assertFalse(json.loads(answer[HEAD.size:])["ok"])
        return magic, version

    def test_garbage(self):
        chance = random.Random(os.environ.get("SEED", 5))
        for _ in range(60):
            self.request(chance.randbytes(chance.choice([0, 1, 7, 12, 13, 4096, 200_000])))

    def test_heads_and_bodies(self):
        magic, version = self.magic_and_version()
        for size in (0xffffffff, 1 << 30, 1 << 24):
            self.assertNotIn(b'"ok":true', self.request(HEAD.pack(magic, version, size) + b"{}"))
        self.assertIn(b"version", self.request(HEAD.pack(magic, version + 7, 2) + b"{}"))
        self.request(HEAD.pack(magic, version, 1000) + b'{"do":')  # the rest never follows
        bodies = [b"", b"{", b"[]", b"null", b"{}", b'{"do":1}',
                  b'{"do":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
                  b'{"do":"add_stream"}', b'{"do":"add_stream","stream":[]}',
                  b'{"do":"add_stream","stream":{"name":"../x"}}',
                  b'{"do":"remove_stream","name":"../../etc"}', b'{"do":"remove_stream","name":7}',
                  b'{"do":"purge_stream","name":"a"}', b'{"do":"purge_stream","name":"a","below":-1}',
                  b'{"do":"seal_stream","name":"a","sealed":"yes"}', b'{"do":"add_lane","name":"a","lane":5000000000}',
                  b'{"do":"add_lane","name":"a","lane":1}', b"\xff\xfe\xfd", b'{"do":"\\ud800"}',
                  b'{"do":"' + b"x" * 60_000 + b'"}']
        for body in bodies:
            answer = self.request(HEAD.pack(magic, version, len(body)) + body)
            self.assertGreater(len(answer), HEAD.size, body[:80])
            said = json.loads(answer[HEAD.size:])
            self.assertFalse(said["ok"], body[:80])
            self.assertTrue(said["error"]["what"], body[:80])
        status = b'{"do":"status"}'
        answer = self.request(HEAD.pack(magic, version, len(status)) + status)
        self.assertIn("pid", json.loads(answer[HEAD.size:]))

    def test_many_that_say_nothing(self):
        held = []
        try:
            for _ in range(100):
                one = socket.socket(socket.AF_UNIX)
                one.settimeout(PATIENCE_S)
                held.append(one)
                try:
                    one.connect(self.socket_path())
                except (BlockingIOError, ConnectionError):
                    break  # the backlog is full
            self.bus("pub", "a.x", "beside them", "--confirm", "disk")  # needs no socket
        finally:
            for one in held:
                one.close()
        eventually(lambda: self.bus("stream", "add", "b", "--subjects", "b.>", "--storage", "durable",
                                    expect=None).returncode == OK, "busd listens again")


class TheChecksCanFail(DaemonCase):
    def test_a_wrong_status_and_silence_are_noticed(self):
        with self.assertRaises(AssertionError):
            self.busd_fails("--version", status=CONFLICT)
        with self.assertRaises(AssertionError):
            self.busd_fails("--version", status=OK)  # prints to standard output only

    def test_a_busd_that_does_not_come_up_is_noticed(self):
        with self.assertRaises(AssertionError):
            self.start("--buffers", "1")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--busd", required=True)
    parser.add_argument("--bus", required=True)
    parser.add_argument("--wall-clock", default="", help="the library that moves a wall clock")
    known, rest = parser.parse_known_args()
    programs.busd, programs.bus, programs.wall_clock = known.busd, known.bus, known.wall_clock
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)


if __name__ == "__main__":
    main()
