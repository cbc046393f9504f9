#!/usr/bin/env python3
"""Groups on the command line, as an operator and a shell script use them.

    groups_test.py --bus PROGRAM --bus-top PROGRAM [TestCase[.test] ...]
"""

import base64
import json
import os
import pathlib
import signal
import subprocess
import unittest

import tools_test
from tools_test import CONFLICT, FAILURE, NOT_FOUND, OK, TIMEOUT, USAGE, ToolsCase, eventually, error_lines, objects


class GroupsCase(ToolsCase):
    def setUp(self):
        super().setUp()
        self.add("t")

    def group(self, *rules, name="g"):
        return self.bus("group", "add", "t", name, *rules)

    def publish(self, *payloads, subject="t.a"):
        for payload in payloads:
            self.bus("pub", subject, payload)

    def info(self, name="g"):
        return json.loads(self.bus("group", "info", "t", name, "--json").text)

    def counts(self, name="g"):
        return self.info(name)["counts"]

    def pending(self, name="g"):
        return json.loads(self.bus("group", "pending", "t", name, "--json").text)

    def dead(self, name="g"):
        return objects(self.bus("dlq", "export", "t", name).text)

    def next(self, *how, expect=OK, name="g"):
        return self.bus("group", "next", "t", name, *how, expect=expect)

    def work(self, command, *how, expect=OK):
        """Passes one message to a command. Returns the outcome."""
        return objects(self.next("--exec", command, "--json", *how, expect=expect).text)[-1]

    def script(self, text):
        path = pathlib.Path(self.root) / "worker.sh"
        path.write_text("#!/bin/sh\n" + text, encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    def file(self, name):
        return pathlib.Path(self.root) / name


class Groups(GroupsCase):
    def test_add_info_ls_rm(self):
        said = self.group("--filter", "t.a", "--filter", "t.b.>", "--header", "region=eu", "--header", "k=a=b",
                          "--headers-any", "--order", "key", "--on-fail", "skip", "--mode", "failover", "--deliver",
                          "by_sequence:7", "--max-ack-pending", 5, "--max-delayed", 6, "--max-parked", 7, "--ack-wait",
                          "1500ms", "--max-lease", "1h", "--max-deliver", 3, "--backoff", "0s,5s,1m", "--jitter", 0.5,
                          "--dlq", "none", "--hold-bytes", "1MiB", "--max-consumers", 9, "--idle-release", "2h").text
        self.assertEqual(said, "group g of stream t receives t.a,t.b.>\n")
        self.assertEqual(self.info()["config"], {
            "filter": ["t.a", "t.b.>"], "headers": {"region": "eu", "k": "a=b"}, "headers_all": False,
            "ack": "explicit", "order": "key", "on_fail": "skip", "mode": "failover", "deliver": "by_sequence:7",
            "max_ack_pending": 5, "max_delayed": 6, "max_parked": 7, "ack_wait_ms": 1500, "max_lease_ms": 3600000,
            "max_deliver": 3, "backoff_ms": [0, 5000, 60000], "jitter": 0.5, "dead_letters": False,
            "hold_bytes": 1 << 20, "max_consumers": 9, "idle_release_ms": 7200000})
        text = self.bus("group", "info", "t", "g").text
        for said in ("t.a, t.b.> with region=eu or k=a=b", "mode              failover", "0s, 5s, 1m", "1500ms"):
            self.assertIn(said, text)
        self.assertRegex(self.bus("group", "ls").text, r"(?m)^t +g +0 +0 +0 +0 +0 +- +$")
        self.group(name="h")
        self.assertEqual([g["group"] for g in json.loads(self.bus("group", "ls", "t", "--json").text)], ["g", "h"])
        self.bus("group", "rm", "t", "g")
        self.assertEqual([g["group"] for g in json.loads(self.bus("group", "ls", "--json").text)], ["h"])

    def test_defaults(self):
        self.assertEqual(self.group().text, "group g of stream t receives everything\n")
        rules = self.info()["config"]
        self.assertEqual((rules["ack"], rules["order"], rules["mode"], rules["deliver"]),
                         ("explicit", "none", "shared", "all"))
        self.assertEqual((rules["ack_wait_ms"], rules["max_deliver"], rules["backoff_ms"], rules["dead_letters"]),
                         (30000, 5, [0, 5000, 25000, 125000], True))
        shown = self.bus("group", "add", "--help").text
        for default in ("30s", "12h", "0s,5s,25s,125s", "16MiB", "explicit", "1000", "1h", "0.2"):
            self.assertRegex(shown, rf"(?m)[=\[]{default}( |\]|$)")

    def test_the_same_again_is_ok_and_something_else_a_conflict(self):
        self.group("--max-deliver", 3, "--jitter", 0.3)
        self.group("--max-deliver", 3, "--jitter", 0.3, "--deliver", "new")
        parts = self.bus_fails("group", "add", "t", "g", "--max-deliver", "4", "--ack-wait", "1s", status=CONFLICT)
        self.assertIn("'g'", parts["what"])
        for field in ("max_deliver", "ack_wait_ms", "jitter"):
            self.assertIn(field, parts["why"])
        self.assertNotIn("order", parts["why"])

    def test_not_found(self):
        for command in (["info"], ["why"], ["pending"], ["pause"], ["resume"], ["repair"], ["rm"], ["next"]):
            with self.subTest(command=command):
                self.assertIn("'x'", self.bus_fails("group", *command, "t", "x", status=NOT_FOUND)["what"])
        self.bus_fails("group", "add", "nothing", "g", status=NOT_FOUND)
        self.bus_fails("group", "ls", "nothing", status=NOT_FOUND)
        for command in (["queue", "peek"], ["dlq", "show"], ["dlq", "ls"], ["dlq", "export"]):
            self.bus_fails(*command, "t", "x", status=NOT_FOUND)
        self.bus_fails("dlq", "drop", "t", "x", "--all", status=NOT_FOUND)
        self.assertEqual(json.loads(self.bus("group", "ls", "--json").text), [], "looking made a group")

    def test_usage(self):
        self.group()
        for rules in (["--ack-wait", "soon"], ["--order", "up"], ["--deliver", "by_sequence:x"], ["--ack", "all"],
                      ["--deliver", "by_time:later"], ["--header", "colon:no"], ["--dlq", "some"], ["--jitter", "2"],
                      ["--backoff", "1s,,2s"], ["--filter", "bad..pattern"]):
            with self.subTest(rules=rules):
                failed = self.bus("group", "add", "t", "x", *rules, expect=USAGE)
                self.assertIsNotNone(error_lines(failed.complaint), failed.complaint)
        for arguments in (["consume", "t"], ["--json", "group", "ack", "t"]):
            unknown = " ".join(["bus"] + [word for word in arguments if word not in ("--json", "t")])
            self.assertIn(f"unknown command '{unknown}'", self.bus(*arguments, expect=USAGE).complaint)
        for arguments in (["group"], ["group", "add", "t"], ["group", "next", "t"], ["queue"], ["dlq"],
                          ["group", "add", "t", "x/y"], ["group", "pause", "t", "g", "--for", "soon"],
                          ["group", "next", "t", "g", "--timeout", "soon"], ["group", "next", "t", "g", "--batch", "0"],
                          ["group", "next", "t", "g", "--count", "2", "--follow"], ["dlq", "drop", "t", "g"],
                          ["dlq", "drop", "t", "g", "--all", "--up-to", "3"], ["dlq", "show", "t", "g", "--raw"]):
            with self.subTest(arguments=arguments):
                failed = self.bus(*arguments, expect=USAGE)
                self.assertIsNotNone(error_lines(failed.complaint), failed.complaint)
        self.assertEqual(len(json.loads(self.bus("group", "ls", "--json").text)), 1)

    def test_counts_add_up(self):
        self.group("--filter", "t.a")
        self.publish("1", "2", "3", "4")
        self.publish("x", subject="t.b")
        self.work("exit 0")
        self.work("exit 1")
        worker = self.start("group", "next", "t", "g", "--exec", "sleep 100")
        eventually(lambda: any(m["started"] for m in self.pending()), "the third is out")
        self.assertEqual(self.counts(), {"settled": 1, "filtered": 0, "dropped": 0, "dead": 1, "pending": 1,
                                         "unclaimed": 2})
        info = self.info()
        self.assertEqual(info["pending"]["leased"], 1)
        self.assertGreater(info["oldest_age_ns"], 0)
        self.assertEqual([c["name"] for c in info["consumers"]], [f"bus group next (pid {worker.pid})"])
        text = self.bus("group", "info", "t", "g").text
        self.assertRegex(text, r"(?m)^messages +5$")
        self.assertRegex(text, r"(?m)^  pending +1  1 leased$")
        self.assertIn(f"pid {worker.pid}", text)

    def test_pending_says_who_has_what(self):
        self.group("--max-ack-pending", 1, "--backoff", "1h")
        self.publish("1", "2", "3")
        self.work("exit 75")
        worker = self.start("group", "next", "t", "g", "--exec", "sleep 100")
        def out():
            found = [m for m in self.pending() if m["state"] == "leased" and m["started"]]
            return found[0] if found else None
        one = eventually(out, "it is out")
        self.assertEqual((one["sequence"], one["subject"], one["acquired"], one["failed"], one["bytes"]),
                         (2, "t.a", 1, 0, 1))
        self.assertIn(f"pid {worker.pid}", one["holder"])
        self.assertEqual((one["pid"], one["thread"]), (worker.pid, worker.pid))
        self.assertGreater(one["remaining_ns"], 0)
        text = self.bus("group", "pending", "t", "g").text
        self.assertRegex(text, rf"(?m)^ +2 +0 leased +0 .*  bus group next \(pid {worker.pid}\) +t\.a$")
        self.assertRegex(text, r"(?m)^ +1 +0 delayed +1 .*  - +t\.a$")
        self.assertEqual(len(json.loads(self.bus("group", "pending", "t", "g", "--limit", 1, "--json").text)), 1)
        said = json.loads(self.bus("group", "why", "t", "g", "--json").text)["why"]
        self.assertTrue(any("max_ack_pending" in line for line in said), said)

    def test_why_pause_and_resume(self):
        self.group()
        self.publish("1")
        self.assertIn("it has no running consumer", self.bus("group", "why", "t", "g").text)
        self.assertIn("until bus group resume", self.bus("group", "pause", "t", "g").text)
        self.assertIn("it is paused: bus group resume t g", self.bus("group", "why", "t", "g").text)
        self.assertIn("paused", self.bus("group", "ls").text)
        failed = self.bus("group", "next", "t", "g", "--timeout", "100ms", expect=TIMEOUT)
        self.assertEqual(failed.output, b"")
        self.assertIn("paused", error_lines(failed.complaint)["why"])
        self.bus("group", "resume", "t", "g")
        self.assertEqual(self.next().text, "1\n")
        self.bus("group", "pause", "t", "g", "--for", "1h")
        self.assertGreater(self.info()["paused_for_ns"], 3e12)
        self.bus("group", "pause", "t", "g", "--for", "200ms")
        self.publish("2")
        self.assertEqual(self.next().text, "2\n")

    def test_peek_takes_nothing_and_knows_the_filter(self):
        self.group("--filter", "t.a", "--header", "region=eu")
        self.publish("other", subject="t.b")
        for number, region in enumerate(("eu", "us", "eu")):
            self.bus("pub", "t.a", str(number), "--header", f"region:{region}")
        self.bus("pub", "t.a", "-H", "region:eu", stdin=b"\xff\x00")
        before = self.counts()
        seen = objects(self.bus("queue", "peek", "t", "g", "--json").text)
        self.assertEqual([m["sequence"] for m in seen], [2, 4, 5])
        self.assertEqual((seen[0]["payload"], seen[0]["headers"]), ("0", {"region": "eu"}))
        self.assertEqual(base64.b64decode(seen[2]["payload_base64"]), b"\xff\x00")
        self.assertEqual(len(self.bus("queue", "peek", "t", "g", "--limit", 2).text.splitlines()), 2)
        self.assertIn("lane 0 #2  t.a  [region: eu]  0\n", self.bus("queue", "peek", "t", "g").text)
        self.assertEqual(self.counts(), before)

    def test_rm_refuses_what_is_used(self):
        self.group()
        worker = self.start("group", "next", "t", "g", "--follow")
        eventually(lambda: self.info()["consumers"], "it consumes")
        self.assertIn(f"pid {worker.pid}", self.bus_fails("group", "rm", "t", "g", status=CONFLICT)["why"])
        worker.send_signal(signal.SIGTERM)
        self.finish(worker)
        self.publish("1")
        self.work("exit 1")
        self.assertIn("1 dead letters", self.bus_fails("group", "rm", "t", "g", status=CONFLICT)["why"])
        self.bus("group", "rm", "t", "g", "--force")
        self.bus_fails("group", "info", "t", "g", status=NOT_FOUND)
        self.bus_fails("stream", "info", "t.g.dlq", status=NOT_FOUND)

    def test_repair(self):
        self.group()
        self.publish("1", "2")
        self.work("exit 75")
        self.assertEqual(json.loads(self.bus("group", "repair", "t", "g", "--json").text),
                         {"stream": "t", "group": "g", "dropped": 0})
        self.assertIn("repaired", self.bus("group", "repair", "t", "g").text)
        self.assertEqual(self.counts()["pending"], 1)

    def test_other_commands_show_groups(self):
        self.group()
        self.publish("1", "2")
        findings = json.loads(self.bus("doctor", "--json", expect=None).text)["findings"]
        def says(*words):
            return [f for f in findings if all(word in f["finding"] for word in words)]
        self.assertEqual(says("group g of stream t", "2 messages, and no consumer")[0]["grade"], "note")
        self.work("exit 1")
        worker = self.start("group", "next", "t", "g", "--follow", "--exec", "exit 0")
        eventually(lambda: self.counts()["settled"] == 1, "it works")
        findings = json.loads(self.bus("doctor", "--json", expect=None).text)["findings"]
        self.assertFalse(says("no consumer"))
        self.assertIn("bus dlq show t g", says("group g of stream t", "1 dead letters")[0]["fix"])
        process = next(p for p in self.processes() if p["pid"] == worker.pid)
        self.assertEqual(process["consumers"],
                         [{"stream": "t", "group": "g", "active": True, "claimed": 1, "settled": 1}])
        self.assertRegex(self.bus("ps").text, r"(?m)^  consumes   g +stream t +1 settled$")
        self.assertIn("1 dead letters", self.bus("stream", "info", "t").text)
        self.assertEqual(json.loads(self.bus("stream", "info", "t", "--json").text)["groups"], ["g"])

    def test_what_an_overwriting_stream_lost_is_seen_everywhere(self):
        self.bus("stream", "add", "o", "--subjects", "o.>", "--overflow", "drop_oldest", "--ring-bytes", "64KiB",
                 "--max-message-bytes", "4KiB")
        self.bus("group", "add", "o", "g")
        self.bus("pub", "o.x", "x" * 1000, "--count", 500)
        done = self.bus("group", "next", "o", "g", "--fail-on-gap", expect=8)
        self.assertIn("messages of stream o lost, from #1", done.complaint)
        self.bus("group", "next", "o", "g", "--fail-on-gap")  # reported once
        lost = json.loads(self.bus("group", "info", "o", "g", "--json").text)["counts"]["dropped"]
        self.assertGreater(lost, 400)
        self.assertRegex(self.bus("group", "ls").text, rf"(?m)^o +g .* {lost} ")
        findings = json.loads(self.bus("doctor", "--json", expect=FAILURE).text)["findings"]
        self.assertTrue(any(f"has lost {lost} messages" in f["finding"] and f["grade"] == "bad" for f in findings))

    def test_doctor_finds_a_broken_group(self):
        self.group()
        self.group(name="h")
        path = pathlib.Path(self.root) / f"bus-{os.geteuid()}.default/streams/t/groups/h"
        with open(path, "r+b") as file:
            file.truncate(1000)
        doctor = json.loads(self.bus("doctor", "--json", expect=FAILURE).text)
        self.assertTrue(any("groups/h" in f["finding"] and f["grade"] == "bad" for f in doctor["findings"]))
        self.bus("group", "rm", "t", "h")
        self.assertEqual([g["group"] for g in json.loads(self.bus("group", "ls", "--json").text)], ["g"])

    def test_help_teaches(self):
        for command in (["group"], ["group", "add"], ["group", "next"], ["group", "pause"], ["group", "pending"],
                        ["queue", "peek"], ["dlq"], ["dlq", "show"], ["dlq", "export"], ["dlq", "drop"]):
            self.assertIn("Example", self.bus(*command, "--help").text, command)


class Work(GroupsCase):
    def setUp(self):
        super().setUp()
        self.group("--backoff", "0s", "--max-deliver", "3")

    def test_prints_and_settles(self):
        self.publish("one", "two", "three", "four")
        self.assertEqual(self.next().text, "one\n")
        self.assertEqual(self.next("--raw").text, "two")
        seen = json.loads(self.next("--json").text)
        self.assertEqual((seen["payload"], seen["sequence"], seen["group"], seen["attempt"]), ("three", 3, "g", 1))
        self.assertEqual(self.counts()["settled"], 3)
        some = self.next("--count", 2, "--timeout", "200ms", expect=TIMEOUT)
        self.assertEqual(some.text, "four\n")

    def test_binary_payload(self):
        payload = bytes(range(256)) * 8
        self.bus("pub", "t.a", stdin=payload)
        self.bus("pub", "t.a", stdin=payload)
        self.assertEqual(self.next("--raw").output, payload)
        self.assertEqual(self.next("--exec", "cat").output, payload)

    def test_goes_back_when_it_cannot_be_printed(self):
        self.publish("one")
        with open("/dev/full", "wb") as full:
            done = subprocess.run([programs().bus, "group", "next", "t", "g"], stdout=full, stderr=subprocess.PIPE,
                                  env=self.environment, timeout=tools_test.PATIENCE_S, check=False)
        self.assertEqual(done.returncode, FAILURE)
        self.assertIn("it was returned to the group", done.stderr.decode())
        counts = self.counts()
        self.assertEqual((counts["settled"], counts["dead"]), (0, 0))
        self.assertEqual(json.loads(self.next("--json").text)["attempt"], 1)

    def test_what_the_command_finds(self):
        self.bus("pub", "t.a", "hello", "-H", "trace-id:a b", "-H", "n:1")
        environment = self.file("environment")
        self.environment["BUS_HEADER_OLD"] = "of another message"
        self.next("--exec", f"env | grep ^BUS_ > '{environment}'; cat")
        seen = dict(line.split("=", 1) for line in environment.read_text().splitlines())
        del seen["BUS_ROOT"]
        self.assertEqual(seen, {"BUS_SUBJECT": "t.a", "BUS_SEQUENCE": "1", "BUS_LANE": "0", "BUS_ATTEMPT": "1",
                                "BUS_STREAM": "t", "BUS_GROUP": "g", "BUS_HEADER_TRACE_ID": "a b", "BUS_HEADER_N": "1"})

    def test_the_command_finds_the_bus(self):
        self.bus("--bus", "other", "stream", "add", "t", "--subjects", "t.>")
        self.bus("--bus", "other", "group", "add", "t", "g")
        self.bus("--bus", "other", "pub", "t.a", "ping")
        self.bus("--bus", "other", "group", "next", "t", "g", "--exec", f"'{programs().bus}' pub t.answer")
        self.assertEqual(self.bus("--bus", "other", "group", "next", "t", "g", "--json").text.count("t.answer"), 1)

    def test_status_0_is_done(self):
        self.publish("one")
        done = self.work("exit 0")
        self.assertEqual((done["outcome"], done["exit_status"], done["signal"], done["result"]),
                         ("acked", 0, None, "ok"))
        self.assertEqual(self.counts()["settled"], 1)

    def test_status_75_is_again(self):
        self.publish("one")
        self.assertEqual(self.work("echo not yet >&2; exit 75")["outcome"], "nacked")
        done = self.work('test "$BUS_ATTEMPT" = 2')
        self.assertEqual((done["outcome"], done["attempt"]), ("acked", 2))
        self.assertEqual((self.counts()["settled"], self.info()["nacked"]), (1, 1))

    def test_another_status_is_a_dead_letter(self):
        self.publish("one", "two")
        done = self.next("--exec", "echo first >&2; printf 'cannot parse' >&2; exit 3")
        self.assertEqual(done.errors, b"first\ncannot parse")
        self.work("exit 4")
        first, second = self.dead()
        self.assertEqual((first["reason"], first["error"]), ("rejected", "exit status 3: cannot parse"))
        self.assertEqual(second["error"], "exit status 4")

    def test_a_command_that_cannot_run_ends_it_and_is_again(self):
        self.publish("one", "two")
        not_executable = self.file("not_executable")
        not_executable.write_text("echo never\n", encoding="utf-8")
        for command, status in (("no_such_command_of_bus", 127), (str(not_executable), 126)):
            done = self.next("--follow", "--exec", command, expect=USAGE)
            self.assertIn(f"exit status {status}", done.complaint)
            self.assertEqual(self.dead(), [])
        self.assertEqual(self.info()["nacked"], 2)
        self.work("true")

    def test_a_signal_is_again(self):
        self.publish("one")
        done = self.work("kill -SEGV $$")
        self.assertEqual((done["outcome"], done["signal"], done["exit_status"]), ("nacked", signal.SIGSEGV, None))
        for _ in range(2):
            self.work("kill -KILL $$")
        self.assertIn("killed by signal 9", self.dead()[0]["error"])

    def test_a_command_that_does_not_read(self):
        self.bus("pub", "t.a", stdin=b"x" * 4096)
        self.assertEqual(self.work("exec <&-; exit 0")["outcome"], "acked")
        self.bus("stream", "add", "big", "--subjects", "big.>")
        self.bus("group", "add", "big", "g")
        for _ in range(2):
            self.bus("pub", "big.a", stdin=b"y" * 1000000)
        self.bus("group", "next", "big", "g", "--exec", "exit 0")
        counted = self.bus("group", "next", "big", "g", "--exec", "cat >/dev/null; head -c 300000 /dev/zero >&2")
        self.assertEqual(len(counted.errors), 300000)
        counts = json.loads(self.bus("group", "info", "big", "g", "--json").text)["counts"]
        self.assertEqual(counts["settled"], 2)

    def test_its_lease_is_kept_while_it_runs(self):
        self.group("--ack-wait", "200ms", name="short")
        self.publish("one")
        worker = self.start("group", "next", "t", "short", "--exec", "sleep 1")
        eventually(lambda: any(m["started"] for m in self.pending("short")), "it works")
        self.bus("group", "next", "t", "short", "--timeout", "700ms", expect=TIMEOUT)
        self.finish(worker)
        self.assertEqual((self.counts("short")["settled"], self.info("short")["expired"]), (1, 0))

    def test_count_and_follow(self):
        self.publish(*"12345")
        self.assertEqual(self.next("--exec", "cat", "--count", 2, "--batch", 2).text, "12")
        self.assertEqual(self.bus("group", "next", "t", "g", "--exec", "cat", "--follow", "--batch", 10, "--timeout",
                                  "300ms").text, "345")

    def test_batch_takes_no_more_than_it_shall(self):
        self.publish(*"123")
        out = json.loads(self.next("--batch", 10, "--exec", f"'{programs().bus}' group pending t g --json").text)
        self.assertEqual([m["sequence"] for m in out], [1])

    def test_timeout(self):
        failed = self.bus_fails("group", "next", "t", "g", "--timeout", "50ms", status=TIMEOUT)
        self.assertIn("nothing to deliver", failed["why"])
        self.bus("group", "next", "t", "g", "--timeout", "0", expect=TIMEOUT)
        self.bus("group", "next", "t", "g", "--timeout", "50ms", "--follow", expect=OK)

    def test_exclusive_is_refused_with_the_name(self):
        self.group("--mode", "exclusive", name="alone")
        first = self.start("group", "next", "t", "alone", "--follow")
        eventually(lambda: self.info("alone")["consumers"], "it is there")
        self.assertIn(f"pid {first.pid}", self.bus_fails("group", "next", "t", "alone", status=TIMEOUT)["why"])

    def busy(self, command, *how):
        """Starts a worker and waits until it is in the middle of its command."""
        begun = self.file("begun")
        worker = self.start("group", "next", "t", "g", "--exec", f"touch '{begun}'; {command}", *how)
        eventually(begun.exists, "it works")
        begun.unlink()
        return worker

    def test_interrupt_lets_the_command_finish(self):
        self.publish("one", "two")
        for number in (signal.SIGINT, signal.SIGTERM):
            go = self.file("go")
            worker = self.busy(f"while ! test -e '{go}'; do sleep 0.02; done", "--follow")
            worker.send_signal(number)
            go.touch()
            self.finish(worker)
            go.unlink()
        self.assertEqual(self.counts()["settled"], 2)

    def test_interrupt_gives_a_long_one_back(self):
        self.publish("one")
        worker = self.busy("exec sleep 1000")
        worker.send_signal(signal.SIGTERM)
        self.finish(worker)
        self.assertEqual(self.info()["released"], 1)
        self.assertEqual(self.work("exit 0")["attempt"], 1)

    def test_interrupt_while_it_waits(self):
        worker = self.start("group", "next", "t", "g", "--follow")
        eventually(lambda: self.info()["consumers"], "it waits")
        worker.send_signal(signal.SIGINT)
        self.finish(worker)
        worker = self.start("group", "next", "t", "g")
        eventually(lambda: self.info()["consumers"], "it waits")
        worker.send_signal(signal.SIGINT)
        self.finish(worker, FAILURE)
        self.assertEqual(self.info()["consumers"], [])

    def test_a_worker_that_is_killed(self):
        self.publish("one")
        pid_file = self.file("pid")
        worker = self.busy(f"echo $$ > '{pid_file}'; exec sleep 100")
        eventually(lambda: pid_file.exists() and pid_file.read_text().strip(), "its pid is known")
        command = int(pid_file.read_text())
        worker.kill()
        worker.wait()
        eventually(lambda: [m["holder"] for m in self.pending()] == [f"bus group next (pid {worker.pid}), dead"],
                   "its death is seen")
        done = self.work("exit 0")
        self.assertEqual((done["sequence"], done["attempt"], done["outcome"]), (1, 2, "acked"))
        def ended():
            try:
                return b"sleep" not in pathlib.Path(f"/proc/{command}/cmdline").read_bytes()
            except FileNotFoundError:
                return True
        eventually(ended, "its command ended with it")

    def test_poison_becomes_a_dead_letter_and_others_flow(self):
        self.publish("a", "poison", "b", "c")
        done = self.file("done")
        script = self.script(f'payload=$(cat)\nif [ "$payload" = poison ]; then echo "bad: $payload" >&2; exit 75; fi\n'
                             f'echo "$payload" >> "{done}"\n')
        first = self.start("group", "next", "t", "g", "--follow", "--exec", script)
        second = self.start("group", "next", "t", "g", "--follow", "--exec", script)
        eventually(lambda: self.counts()["settled"] == 3 and self.counts()["dead"] == 1, "all have ended")
        for worker in (first, second):
            worker.send_signal(signal.SIGTERM)
            self.finish(worker)
        self.assertEqual(sorted(done.read_text().split()), ["a", "b", "c"])
        (letter,) = self.dead()
        self.assertEqual((letter["payload"], letter["reason"], letter["attempts"], letter["origin_sequence"]),
                         ("poison", "max_deliver", 3, 2))
        self.assertEqual(letter["error"], "exit status 75: bad: poison")


class DeadLetters(GroupsCase):
    def setUp(self):
        super().setUp()
        self.group()

    def reap_process(self, count=3):
        for number in range(count):
            self.bus("pub", "t.a", f"payload {number}", "-H", f"n:{number}")
        self.bus("group", "next", "t", "g", "--count", count, "--exec", "echo no >&2; exit 1")

    def test_ls(self):
        self.assertRegex(self.bus("dlq", "ls").text, r"(?m)^t +g +0 +0 +-")
        self.reap_process()
        self.group("--dlq", "none", name="h")
        text = self.bus("dlq", "ls").text
        self.assertRegex(text, r"(?m)^t +g +3 +3 +\S+ \S+ +rejected: exit status 1: no$")
        self.assertRegex(text, r"(?m)^t +h +0 +0 +- +dlq=none: dropped$")
        seen = json.loads(self.bus("dlq", "ls", "t", "--json").text)
        self.assertEqual([(g["group"], g["messages"], g["kept"]) for g in seen], [("g", 3, True), ("h", 0, False)])
        self.assertGreater(seen[0]["oldest_age_ns"], 0)
        self.assertIsNone(seen[1]["oldest_age_ns"])
        self.assertEqual(len(json.loads(self.bus("dlq", "ls", "t", "g", "--json").text)), 1)

    def test_show(self):
        self.reap_process()
        self.bus("pub", "t.b", stdin=b"\xff\x00bin")
        self.work("exit 9")
        text = self.bus("dlq", "show", "t", "g", 2).text
        for said in ("dead letter 2 of group g of stream t", "rejected", "exit status 1: no", "t.a, lane 0 #2",
                     "n: 1", "payload 1", "bus group next (pid "):
            self.assertIn(said, text)
        self.assertNotIn("payload 0", text)
        self.assertIn("ff 00 62 69 6e", self.bus("dlq", "show", "t", "g", 4).text)
        self.assertEqual(self.bus("dlq", "show", "t", "g", 4, "--raw").output, b"\xff\x00bin")
        self.assertEqual(len(objects(self.bus("dlq", "show", "t", "g", "--json").text)), 4)
        self.assertEqual(len(objects(self.bus("dlq", "show", "t", "g", "--limit", 2, "--json").text)), 2)
        self.bus_fails("dlq", "show", "t", "g", "5", status=NOT_FOUND)

    def test_export(self):
        self.reap_process(300)
        self.bus("pub", "t.b", stdin=b"\xff")
        self.work("exit 9")
        out = self.file("dead.jsonl")
        self.assertIn("301 dead letters", self.bus("dlq", "export", "t", "g", "--out", out).text)
        seen = objects(out.read_text())
        self.assertEqual([d["sequence"] for d in seen], list(range(1, 302)))
        self.assertEqual((seen[7]["payload"], seen[7]["headers"], seen[7]["subject"]), ("payload 7", {"n": "7"}, "t.a"))
        self.assertEqual(base64.b64decode(seen[300]["payload_base64"]), b"\xff")
        self.assertEqual(self.dead(), seen)
        self.bus_fails("dlq", "export", "t", "g", "--out", str(out), status=CONFLICT)

    def test_drop(self):
        self.reap_process()
        self.assertEqual(json.loads(self.bus("dlq", "drop", "t", "g", "--up-to", 2, "--json").text)["dropped"], 2)
        self.assertEqual([d["sequence"] for d in self.dead()], [3])
        self.bus_fails("dlq", "show", "t", "g", "1", status=NOT_FOUND)
        self.assertEqual(self.bus("dlq", "drop", "t", "g", "--all").text, "1 dead letters dropped\n")
        self.assertEqual(self.dead(), [])
        self.assertEqual(self.counts()["dead"], 3)


class Completion(tools_test.Completion):
    def test_bash(self):
        self.assertLessEqual({"group", "queue", "dlq"}, self.complete("bus", ""))
        self.assertLessEqual({"ls", "add", "info", "next", "why", "pending", "pause", "resume", "rm", "repair"},
                             self.complete("bus", "group", ""))
        self.assertLessEqual({"--exec", "--follow", "--timeout"}, self.complete("bus", "group", "next", "t", "g", "--"))
        self.assertLessEqual({"--max-deliver", "--backoff"}, self.complete("bus", "group", "add", "t", "g", "--"))
        self.assertEqual(self.complete("bus", "dlq", "e"), {"export"})


def programs():
    return tools_test.programs


if __name__ == "__main__":
    tools_test.main()
