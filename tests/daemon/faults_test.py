#!/usr/bin/env python3
"""busd under faults that are not its own: damaged files, a wrong directory, no descriptors, limits, set clocks.
Each test failed before its fault was fixed.

    faults_test.py --busd PROGRAM --bus PROGRAM [TestCase[.test] ...]
"""

import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import busd_cli_test
from busd_cli_test import CONFLICT, OK, PATIENCE_S, DaemonCase, eventually, programs

CORRUPT = 9
NO_SPACE = 7


class Files(DaemonCase):
    """Files of a log are damaged while no process runs, and shared memory is lost."""

    def reboot(self, process):
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
        self.bus("rm", "--force")

    def stream_directory(self, name):
        return pathlib.Path(f"{self.data}/t/streams/{name}")

    def test_subjects_that_were_emptied_come_from_the_copy_and_it_is_said(self):
        busd = self.start()
        self.add("t")
        self.bus("pub", "t.buy", "buy 100", "--confirm", "disk")
        self.bus("pub", "t.sell", "sell 5", "--confirm", "disk")
        self.reboot(busd)
        (self.stream_directory("t") / "subjects").write_bytes(b"")
        self.start()
        self.bus("pub", "t.cancel", "cancel 7", "--confirm", "disk")
        found = [(one["subject"], one["payload"]) for one in self.messages("t.>", 3)]
        self.assertEqual(found, [("t.buy", "buy 100"), ("t.sell", "sell 5"), ("t.cancel", "cancel 7")])
        self.assertIn("subjects of stream 't' were damaged", self.log())

    def test_without_subjects_and_copy_nothing_is_delivered_under_another_name(self):
        busd = self.start()
        self.add("t")
        self.add("other")
        self.bus("pub", "t.buy", "buy 100", "--confirm", "disk")
        self.reboot(busd)
        kept = {name: (self.stream_directory("t") / name).read_bytes() for name in ("subjects", "subjects.copy")}
        for name in kept:
            (self.stream_directory("t") / name).write_bytes(b"")
        busd = self.start()
        refused = self.bus("pub", "t.cancel", "cancel 7", expect=CORRUPT).stderr.decode()
        self.assertIn("subjects", refused)
        self.assertIn("restore the file from a backup", refused)
        self.bus("pub", "other.x", "on it goes", "--confirm", "disk")  # another stream is unaffected
        for name, contents in kept.items():
            (self.stream_directory("t") / name).write_bytes(contents)
        self.assertIn("buy 100", [one["payload"] for one in self.wait_for_stream("t.>", 1)])

    def messages(self, pattern, count):
        return [one for one in self.read(pattern, count) if "payload" in one]

    def wait_for_stream(self, pattern, count):
        eventually(lambda: self.bus("pub", pattern.replace(">", "again"), "x", "--confirm", "disk",
                                    expect=None).returncode == OK, "the stream comes back by itself")
        return self.messages(pattern, count)

    def test_another_streams_lane_is_not_taken(self):
        busd = self.start()
        for name in ("a", "b"):
            self.add(name)
            self.bus("pub", f"{name}.x", f"of {name}", "--count", "50", "--confirm", "disk")
        self.reboot(busd)
        shutil.rmtree(self.stream_directory("a") / "lane-0")
        shutil.copytree(self.stream_directory("b") / "lane-0", self.stream_directory("a") / "lane-0")
        self.start()
        said = self.bus("pub", "a.x", "y", expect=CORRUPT).stderr.decode()
        self.assertIn("belongs to another stream", said)
        read = self.bus("sub", "a.>", "--all", "--timeout", "300ms", "--raw", expect=None)
        self.assertNotIn(b"of b", read.stdout)
        self.assertEqual(len(self.messages("b.>", 50)), 50)
        self.bus("stream", "verify", "--dir", str(self.stream_directory("a")), expect=CORRUPT)

    def test_messages_missing_at_the_end_are_told(self):
        busd = self.start()
        self.add("t")
        self.bus("pub", "t.x", "payload", "--count", "100", "--confirm", "disk")
        self.reboot(busd)
        segment = sorted((self.stream_directory("t") / "lane-0").glob("*.log"))[-1]
        segment.unlink()
        self.bus("stream", "verify", "--dir", str(self.stream_directory("t")), expect=CORRUPT)
        self.start()
        self.assertIn("100 messages are missing, from sequence 1", self.log())
        self.bus("sub", "t.>", "--all", "--timeout", "300ms", "--fail-on-gap", expect=8)

    def test_what_was_purged_is_not_read_from_the_ring(self):
        self.start()
        self.add("t")
        self.bus("pub", "t.x", "old", "--count", "5", "--confirm", "disk")
        self.bus("stream", "purge", "t", "--all")
        for start in (["--all"], ["--last"], ["--since", "1h"], ["--from-sequence", "2"]):
            read = self.bus("sub", "t.>", *start, "--timeout", "200ms", "--raw", expect=None)
            self.assertEqual(read.stdout, b"", start)
        self.bus("pub", "t.x", "new", "--confirm", "disk")
        read = self.bus("sub", "t.>", "--all", "--timeout", "300ms", "--raw", expect=None)
        self.assertEqual(read.stdout, b"new\n")

    def test_a_backup_that_lacks_a_part_is_refused_and_what_there_is_can_be_had(self):
        self.start()
        self.add("t")
        self.bus("pub", "t.x", "p" * 900, "--count", "3000", "--confirm", "memory")
        self.bus("pub", "t.x", "last", "--confirm", "disk")
        backup = f"{self.data}/backup"
        self.bus("stream", "backup", "t", "--to", backup)
        self.bus("stream", "rm", "t", "--force")
        whole = f"{self.data}/whole"
        shutil.copytree(backup, whole)
        segment = sorted(pathlib.Path(f"{backup}/lane-0").glob("*.log"))[-1]
        os.truncate(segment, segment.stat().st_size // 2)
        said = self.bus("stream", "restore", "t", "--from", backup, expect=CORRUPT).stderr.decode()
        self.assertIn("of 3001 messages can be read", said)
        self.assertIn("--damaged", said)
        self.bus("stream", "restore", "t", "--from", backup, "--damaged", expect=CORRUPT)  # not all of it came back
        self.bus("stream", "rm", "t", "--force")
        shutil.copytree(whole, f"{self.data}/emptied")
        pathlib.Path(f"{self.data}/emptied/lane-0/state").write_bytes(b"")
        self.bus("stream", "restore", "t", "--from", f"{self.data}/emptied", "--damaged")
        self.assertEqual(len(self.messages("t.>", 3001)), 3001)
        self.bus("stream", "rm", "t", "--force")
        self.bus("stream", "restore", "t", "--from", whole)
        self.assertEqual(len(self.messages("t.>", 3001)), 3001)


class Reboots(DaemonCase):
    """After an orderly stop shared memory is lost: no message is missing, and no loss is reported."""

    def stop(self, process):
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE_S), 0, self.log())

    def lose_memory(self):
        self.bus("rm", "--force")

    def stream(self, name="t"):
        return json.loads(self.bus("stream", "info", name, "--json").stdout)

    def replay(self, expect):
        return self.bus("sub", "t.>", "--all", "--timeout", "300ms", "--fail-on-gap", "--raw", expect=expect).stdout

    def test_a_reboot_in_order_loses_nothing_and_says_so(self):
        for policy in ("batch", "interval"):
            busd = self.start()
            self.add("t", "--fsync", policy)
            for round in range(3):
                self.bus("pub", "t.x", f"m{round}", "--count", 100, "--confirm", "memory")
                self.stop(busd)
                self.lose_memory()
                busd = self.start()
                self.assertEqual(len(self.replay(OK).splitlines()), 100 * (round + 1))
                self.assertEqual(self.stream()["lane"][0]["last_sequence"], 100 * (round + 1))
            self.bus("stream", "rm", "t", "--force")
            self.stop(busd)

    def test_a_large_rest_is_written_before_busd_stops(self):
        busd = self.start("--buffer-bytes", str(256 << 10))
        self.bus("stream", "add", "t", "--subjects", "t.>", "--storage", "durable", "--ring-bytes", "256MiB",
                 "--max-message-bytes", "64KiB")
        self.bus("pub", "t.x", "first", "--confirm", "disk")
        busd.send_signal(signal.SIGSTOP)  # nothing is written meanwhile
        self.bus("pub", "t.x", "x" * 60_000, "--count", 3000, "--confirm", "memory")
        busd.send_signal(signal.SIGTERM)
        busd.send_signal(signal.SIGCONT)
        self.assertEqual(busd.wait(PATIENCE_S), 0, self.log())
        self.lose_memory()
        self.start()
        self.assertEqual(len(self.replay(OK).splitlines()), 3001)

    def test_what_was_published_after_the_stop_is_a_loss(self):
        busd = self.start()
        self.add("t")
        self.bus("pub", "t.x", "kept", "--count", 10, "--confirm", "disk")
        self.stop(busd)
        self.bus("pub", "t.x", "lost", "--count", 5, "--confirm", "memory")
        self.lose_memory()
        self.start()
        self.assertEqual(self.replay(8).splitlines(), [b"kept"] * 10)
        self.bus("pub", "t.x", "next", "--confirm", "disk")
        lane = self.stream()["lane"][0]
        self.assertGreater(lane["last_sequence"], 15)
        self.assertLessEqual(lane["last_sequence"], 10 + 65536 // 32 + 1)
        listed = json.loads(self.bus("stream", "ls", "--json").stdout)
        self.assertEqual([one["messages"] for one in listed if one["name"] == "t"], [11])

    def test_what_was_published_after_the_stop_is_there_when_memory_is(self):
        busd = self.start()
        self.add("t")
        self.bus("pub", "t.x", "1", "--count", 10, "--confirm", "disk")
        self.stop(busd)
        self.bus("pub", "t.x", "2", "--count", 5, "--confirm", "memory")
        busd = self.start()
        self.assertEqual(len(self.replay(OK).splitlines()), 15)
        self.stop(busd)
        self.lose_memory()
        self.start()
        self.assertEqual(len(self.replay(OK).splitlines()), 15)

    def test_an_exclusive_publisher_over_a_stop(self):
        busd = self.start()
        self.add("t")
        writer = subprocess.Popen([programs.bus, "pub", "t.x", "--lines", "--exclusive"], stdin=subprocess.PIPE,
                                  env=self.environment)
        self.addCleanup(self.end, writer)

        def send(text):
            writer.stdin.write(text)
            writer.stdin.flush()

        send(b"before\n")
        eventually(lambda: self.stream()["lane"][0]["last_sequence"] == 1, "it is published")
        self.stop(busd)
        send(b"after\n")
        eventually(lambda: self.stream()["lane"][0]["last_sequence"] == 2, "it is published")
        self.assertTrue((pathlib.Path(self.data) / "t/streams/t/lane-0/reopened").exists())
        busd = self.start()
        self.assertEqual(self.replay(OK).splitlines(), [b"before", b"after"])
        writer.stdin.close()
        self.assertEqual(writer.wait(PATIENCE_S), 0)


class Clocks(DaemonCase):
    """The wall clock is set while all runs: retention by age, searches by time and replay lose and hide nothing."""

    YEAR_S, HOUR_S = 365 * 86400, 3600

    def setUp(self):
        super().setUp()
        self.wall = pathlib.Path(self.root, "wall")
        self.environment.update(LD_PRELOAD=programs.wall_clock, BUS_TEST_WALL=str(self.wall))
        self.write_offset(0)
        self.start("--buffer-bytes", "262144")
        self.add_clocked("tick")

    def write_offset(self, offset_s):
        early = self.wall.with_suffix(".new")
        early.write_text(str(offset_s))
        early.rename(self.wall)
        self.offset = offset_s

    def set_clock(self, offset_s):
        self.write_offset(offset_s)
        time.sleep(1.2)            # an earlier reading counts for a second
        self.publish("tick.x", 2)  # a process reads the clock
        time.sleep(3.3)            # later stamps show the change

    def now(self):
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + self.offset))

    def publish(self, subject, count):
        payload = b"x" * 3000
        self.bus("pub", subject, "--count", count - 1, "--confirm", "memory", stdin=payload)
        self.bus("pub", subject, "--confirm", "disk", stdin=payload)

    def add_clocked(self, name, *more):
        self.bus("stream", "add", name, "--subjects", f"{name}.>", "--storage", "durable", "--segment-bytes", "1MiB",
                 "--ring-bytes", "256KiB", "--max-message-bytes", "4KiB", *more)

    def counts(self, *command):
        found = {}
        for line in self.bus(*command, "--json").stdout.decode().splitlines():
            subject = json.loads(line)["subject"]
            found[subject] = found.get(subject, 0) + 1
        return found

    def test_a_clock_that_is_set_deletes_nothing_and_keeps_nothing_for_ever(self):
        self.add_clocked("s", "--max-age", "1h")
        self.add_clocked("short", "--max-age", "2s")
        self.publish("s.x", 1200)
        self.set_clock(self.YEAR_S)
        self.publish("short.ahead", 1200)
        self.assertEqual(self.counts("stream", "view", "s", "--all"), {"s.x": 1200})
        self.set_clock(0)
        self.publish("short.x", 1200)
        time.sleep(5)
        self.publish("short.y", 2)
        eventually(lambda: sum(self.counts("stream", "view", "short", "--all").values()) < 400, "what is old goes")
        self.assertEqual(self.counts("stream", "view", "s", "--all"), {"s.x": 1200})

    def test_a_search_by_time_and_a_replay_hide_nothing(self):
        self.add_clocked("s")
        self.publish("s.before", 900)
        time.sleep(2)
        since = self.now()
        time.sleep(2)
        self.publish("s.after", 900)
        self.set_clock(-self.HOUR_S)
        self.publish("s.back", 2700)
        found = self.counts("stream", "view", "s", "--since", since, "--all")
        self.assertEqual(found, {"s.after": 900, "s.back": 2700})
        self.set_clock(self.YEAR_S)
        self.publish("s.ahead", 600)
        self.set_clock(0)
        since = self.now()
        time.sleep(1.2)
        self.publish("s.right", 300)
        found = self.counts("stream", "view", "s", "--since", since, "--all")
        self.assertEqual((found["s.ahead"], found["s.right"]), (600, 300))
        everything = {"s.before": 900, "s.after": 900, "s.back": 2700, "s.ahead": 600, "s.right": 300}
        self.assertEqual(self.counts("replay", "--stream", "s", "--speed", "max"), everything)
        self.assertEqual(self.counts("replay", "--stream", "s", "--speed", "1000"), everything)


class Resources(DaemonCase):
    def test_a_stream_that_cannot_be_added_is_not_there(self):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit[1]))
        try:
            self.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        name, status = "", OK
        for number in range(200):
            name = f"s{number}"
            status = self.bus("stream", "add", name, "--subjects", f"{name}.>", "--storage", "durable",
                              "--ring-bytes", "64KiB", "--max-message-bytes", "4KiB", expect=None).returncode
            if status != OK:
                break
        self.assertEqual(status, NO_SPACE)
        names = [one["name"] for one in json.loads(self.bus("stream", "ls", "--json").stdout)]
        self.assertNotIn(name, names)
        self.bus("pub", "s0.x", "goes on", "--confirm", "disk")
        for number in range(1, 5):  # makes space
            self.bus("stream", "rm", f"s{number}", "--force")
        eventually(lambda: self.bus("stream", "add", name, "--subjects", f"{name}.>", "--storage", "durable",
                                    "--ring-bytes", "64KiB", "--max-message-bytes", "4KiB",
                                    expect=None).returncode == OK, "it can be added")
        self.bus("pub", f"{name}.x", "important", "--confirm", "disk")

    def test_a_wrong_directory_is_refused_with_the_right_one(self):
        busd = self.start()
        self.add("t")
        self.bus("pub", "t.x", "1", "--confirm", "disk")
        busd.send_signal(signal.SIGTERM)
        busd.wait(PATIENCE_S)
        with tempfile.TemporaryDirectory() as other:
            said = self.busd_fails("--bus", "t", "--data", other, status=CONFLICT)
        self.assertIn(f"busd --bus t --data {self.data}", said)
        self.start()

    def test_doctor_names_each_stream_that_nobody_keeps_and_the_command(self):
        busd = self.start()
        self.add("t")
        busd.send_signal(signal.SIGTERM)
        busd.wait(PATIENCE_S)
        found = json.loads(self.bus("doctor", "--json", expect=None).stdout)["findings"]
        fixes = [one["fix"] for one in found if "log of stream t" in one["finding"]]
        self.assertEqual(fixes, [f"busd --bus t --data {self.data}"])

    def test_the_bus_of_the_environment_is_kept(self):
        with open(f"{self.root}/busd.log", "ab") as log:
            process = subprocess.Popen([programs.busd, "--data", self.data], stdout=log, stderr=log,
                                       env=self.environment)
        self.addCleanup(self.end, process)
        eventually(self.answers, "busd comes up on the bus of BUS_URL")

    def test_a_limit_of_file_sizes_is_an_error_and_not_a_signal(self):
        def limited():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

        done = subprocess.run([programs.bus, "pub", "a.b", "c"], capture_output=True, env=self.environment,
                              preexec_fn=limited, timeout=PATIENCE_S, check=False)
        self.assertEqual(done.returncode, NO_SPACE, done)
        self.assertIn(b"ulimit -f", done.stderr)

    def test_a_umask_that_takes_everything_makes_a_bus_that_can_be_used(self):
        subprocess.run([programs.bus, "pub", "a.b", "c"], env=self.environment, timeout=PATIENCE_S, check=True,
                       preexec_fn=lambda: os.umask(0o777))
        for path in pathlib.Path(self.root).rglob("*"):
            if not path.is_symlink():
                self.assertEqual(path.stat().st_mode & 0o600, 0o600, path)

    def test_silent_connections_do_not_keep_others_out(self):
        self.start()
        silent = []
        try:
            for _ in range(64):
                silent.append(socket.socket(socket.AF_UNIX))
                silent[-1].connect(self.socket_path())
            begin = time.monotonic()
            self.bus("stream", "add", "q", "--subjects", "q.>", "--storage", "durable")
            self.assertLess(time.monotonic() - begin, 4, "as long as busd waits for a silent one")
        finally:
            for one in silent:
                one.close()


if __name__ == "__main__":
    busd_cli_test.main()
