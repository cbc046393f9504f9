#!/usr/bin/env python3
"""Runs an example and checks its output, its exit status, and that it leaves no files.

    examples_test.py EXAMPLE PROGRAM
    examples_test.py interrupted|checks_can_fail PROGRAM
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PATIENCE_S = 60


class Failed(Exception):
    pass


def expect(condition, what):
    if not condition:
        raise Failed(what)


def grouped(text):
    return int(text.replace(",", ""))


def find(pattern, output):
    found = re.search(pattern, output, re.M)
    expect(found, f"no line like {pattern!r}")
    return found.groups()


def pingpong(output):
    trips, p50, p99, p999, slowest = find(
        r"^(\d+) round trips of 64 B: p50 ([\d.]+) us, p99 ([\d.]+) us, "
        r"p99.9 ([\d.]+) us, slowest ([\d.]+) us$", output)
    expect(int(trips) == 20000, f"{trips} round trips")
    expect(0 < float(p50) <= float(p99) <= float(p999) <= float(slowest) + 0.1, "percentiles out of order")


def market_data(output):
    expect(find(r"^early subscriber: (\d+) quotes, no gap$", output) == ("20000",),
           "the early subscriber missed quotes")
    newest, = find(r"^late joiner: AAPL stands at [\d.]+ / [\d.]+ \(quote (\d+)\)$", output)
    expect(int(newest) > 9000, f"the newest quote of a late joiner was {newest}")
    received, before = find(r"^late joiner: (\d+) quotes, no gap: about (\d+) from the ring, the rest live$", output)
    expect(int(received) == 20000, "the late joiner missed quotes")
    expect(10000 <= int(before) <= 20000, f"the late joiner came after {before} quotes")


def epoll_loop(output):
    slept, = find(r"^received 3000 prices and 300 orders; slept (\d+) times$", output)
    expect(int(slept) > 0, "it never slept")
    find(r"^after +\d+ ms: \d+ prices, \d+ orders$", output)


def telemetry(output):
    subjects, messages = find(
        r"^  ([\d,]+) subjects, ([\d,]+) messages, [\d,]+/s; [\d,]+ sweeps .* drop_oldest$", output)
    published, delivered, lost = find(
        r"^slow subscriber: ([\d,]+) published == ([\d,]+) delivered \+ ([\d,]+) lost "
        r"in [\d,]+ gaps: accounted exactly$", output)
    expect(grouped(published) == grouped(delivered) + grouped(lost), "the sum of the slow subscriber is wrong")
    expect(grouped(published) == grouped(messages), "two figures for what was published")
    expect(grouped(subjects) >= 20, f"only {subjects} subjects")
    find(r"^fast subscriber: ([\d,]+) published to its patterns, ([\d,]+) delivered: "
         r"(?:nothing lost|the loss was reported)$", output)
    for name in ("fast subscriber, which sleeps when idle", "floor: raw futex wake, nothing else running",
                 "floor: raw cache line, both sides spinning"):
        find(rf"^  {name} +(?:[\d.]+ us +[\d.]+ us +[\d.]+ us|needs two processors)$", output)
    find(r"^  cpu busy +[\d.]+ %$", output)
    find(r"^  memory available +[1-9][\d,]* MiB$", output)
    find(r"^  largest processes +\S.* \(\d+\) [\d,]+ MiB", output)


def checkout(output):
    seen, missed = find(r"^analytics 1980 paid orders: (\d+) seen, ([1-9]\d*) missed$", output)
    expect(int(seen) + int(missed) == 1980, "analytics was not told what it missed")
    for group, done, dead, retries in (("payment", 1980, 20, 0), ("email", 1970, 10, 0),
                                       ("inventory", 1980, 0, 40), ("fraud", 1976, 4, 8)):
        find(rf"^{group} +{done} done, {dead} dead letters, {retries} retries$", output)


def double_charge(output):
    for line in ("second worker: order 1 charged; ack: ok",
                 "first worker: order 1 refused: an old lease; ack: stale_lease",
                 "second worker: order 2 was charged before; ack: ok",
                 "first worker: order 2 charged; ack: stale_lease",
                 "2 orders, 4 holders, 2 charges"):
        find(rf"^{line}$", output)


def chat(output):
    find(r"^9000 messages of 3000 users shown in order, while the hot user was stuck\n"
         r"6000 messages of the hot user shown in order$", output)


def rolling_deploy(output):
    jobs, again = find(r"^(\d+) jobs, all done; 3 workers ended, 3 killed; (\d+) jobs started again$", output)
    expect(int(jobs) >= 1000 and int(again) <= 3, f"{jobs} jobs, {again} started again")


def schema_drift(output):
    find(r"^alarm: rejected: no plan: '61'$", output)
    redriven, = find(r"^100 users billed once, (\d+) of them from the dead letters$", output)
    expect(1 <= int(redriven) <= 20, f"{redriven} were published again")


def webhook(output):
    find(r"^600 hooks: 400 delivered at once, 100 after two retries, 90 given up after 4 attempts, 10 at once$",
         output)
    find(r"^the source was never held back; up to \d+ hooks waited for a retry$", output)


def interrupted(output):
    telemetry(output)


def checks_can_fail(output):
    """Each check above rejects the output of another program, and left-over files are noticed."""
    for check in (market_data, epoll_loop, telemetry, checkout, double_charge, chat, rolling_deploy, schema_drift,
                  webhook):
        try:
            check(output)
        except Failed:
            continue
        raise Failed(f"{check.__name__} accepts the output of pingpong")
    with tempfile.TemporaryDirectory(prefix="bus-test-") as root:
        (pathlib.Path(root) / "bus-0.left").mkdir()
        try:
            nothing_left(pathlib.Path(root))
        except Failed:
            return
    raise Failed("a left-over bus was not noticed")


ARGUMENTS = {"pingpong": ["20000"], "checks_can_fail": ["20000"], "telemetry": ["--seconds", "2"],
             "interrupted": ["--seconds", "600"]}


def nothing_left(root):
    left = sorted(entry.name for entry in root.iterdir())
    expect(not left, f"left behind: {left}")


def interrupt_when_publishing(running, root):
    """Like Ctrl-C: signals all processes of the group, once messages flow."""
    end = time.monotonic() + PATIENCE_S
    while not list(root.glob("bus-*/streams/telemetry/lane-*")):
        expect(time.monotonic() < end and running.poll() is None, "it never began to publish")
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(running.pid, signal.SIGINT)


def check(name, program):
    root = pathlib.Path(tempfile.mkdtemp(prefix="bus-test-", dir="/dev/shm"))
    environment = {key: value for key, value in os.environ.items() if key != "BUS_URL"}
    environment["BUS_ROOT"] = str(root)
    output = ""
    # A separate process group, so that all processes left at the end can be killed.
    running = subprocess.Popen([program, *ARGUMENTS.get(name, [])],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env=environment, start_new_session=True)
    try:
        if name == "interrupted":
            interrupt_when_publishing(running, root)
        output, _ = running.communicate(timeout=PATIENCE_S)
        expected = 128 + signal.SIGINT if name == "interrupted" else 0
        expect(running.returncode == expected, f"it ended with {running.returncode}, not {expected}")
        globals()[name](output)
        nothing_left(root)
    except Failed as failure:
        print(f"{name}: {failure}; it said:\n{output}")
        return 1
    finally:
        try:
            os.killpg(running.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        running.wait()
        shutil.rmtree(root, ignore_errors=True)
    print(output, end="")
    return 0


if __name__ == "__main__":
    sys.exit(check(sys.argv[1], sys.argv[2]))
