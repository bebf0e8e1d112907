"""A log that nobody reads, or that is read late: nothing waits, and it says what is missing."""

import json
import logging
import os
import pty
import resource
import shlex
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest
import requests

from recoup import log
from recoup.app import create_app
from recoup.lines import LINE_BYTES
from tests.conftest import make_config
from tests.factories import World
from tests.server import Executed
from tests.test_metrics import scrape_server

SECONDS = 60
GAP = "log lines were dropped"
DROPPED = ("recoup_log_lines_dropped_total",)
FILLING = b"#" * (LINE_BYTES - 1) + b"\n"


def fill(descriptor):
    """Write to a pipe or a socket until it takes no more."""
    os.set_blocking(descriptor, False)
    with suppress(BlockingIOError):
        while True:
            os.write(descriptor, FILLING)


def read_all(descriptor):
    """Return what there is to read now, in lines, without what it was filled with."""
    os.set_blocking(descriptor, False)
    received = b""
    with suppress(BlockingIOError):
        while data := os.read(descriptor, 1 << 20):
            received += data
    return received.replace(FILLING, b"").decode().splitlines()


def split(lines):
    """Return the log's other lines, and how many are missing between them."""
    parsed = [json.loads(line) for line in lines]
    missing = sum(line["lines"] for line in parsed if line["event"] == GAP)
    return [line for line in parsed if line["event"] != GAP], missing


class Piped(Executed):
    """A server whose both outputs are one pipe, which nobody reads if not the test."""

    def command(self):
        """Return the command, with its outputs led there."""
        path = f"{self._files.name}/pipe"
        os.mkfifo(path)
        self.pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        return ["sh", "-c", f"exec {shlex.join(super().command())} >{path} 2>&1"]

    def fill_pipe(self):
        """Have no room in it for another line."""
        filler = os.open(f"{self._files.name}/pipe", os.O_WRONLY)
        fill(filler)
        os.close(filler)


@pytest.fixture(name="server")
def _server(sqlite_url, standin):
    with Piped(sqlite_url, TRIGGER_API_URL=standin.url, WEB_CONCURRENCY="1") as server:
        yield server
        os.close(server.pipe)


def test_nobody_waits_for_a_log_that_nobody_reads(server, sqlite_url, standin):
    """Tasks are deleted and health checks answered; missing lines are counted and reported."""
    world = World(create_app(make_config(sqlite_url, TRIGGER_API_URL=standin.url)), standin)
    owner = world.account()
    key, tasks = world.key(owner), [world.task(owner) for _ in range(5)]
    assert read_all(server.pipe)
    server.fill_pipe()
    for task in tasks:
        assert server.delete(task, key).status_code == 200
    assert requests.get(f"{server.url}/healthz", timeout=SECONDS).ok
    dropped = scrape_server(server)[DROPPED]
    assert dropped > len(tasks)
    assert read_all(server.pipe) == []
    # The line of the last scrape was dropped after it was answered.
    assert scrape_server(server)[DROPPED] == dropped + 1
    lines, missing = split(read_all(server.pipe))
    assert [line["route"] for line in lines] == ["/metrics"]
    assert missing == dropped + 1


def test_a_server_stops_in_order_though_nobody_reads_its_log(server):
    """gunicorn's own lines hold up nothing either."""
    server.fill_pipe()
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 20


def test_gunicorns_own_lines_are_such_as_ours(server):
    """All that comes is JSON, an object a line."""
    server.stop()
    lines, _ = split(read_all(server.pipe))
    assert {"time", "level", "event"} <= set.intersection(*map(set, lines))
    assert "Shutting down: Master" in [line["event"] for line in lines]


@contextmanager
def logging_to(descriptor):
    """Send the log there."""
    with open(descriptor, "w", closefd=False) as stream:
        log.configure(stream)
        yield log.logger
        log.configure(sys.stdout)


@pytest.fixture(name="pipe")
def _pipe():
    """A pipe's two ends."""
    ours, theirs = os.pipe()
    yield ours, theirs
    os.close(ours)
    with suppress(OSError):
        os.close(theirs)


@pytest.fixture(name="pair")
def _pair():
    """A socket's two ends, as a service manager has it."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        yield ours.fileno(), theirs.fileno()


@pytest.mark.parametrize("kind", ["pipe", "pair"])
def test_the_first_line_after_a_gap_says_how_many_are_missing(request, kind):
    """And another gap is told anew."""
    ours, theirs = request.getfixturevalue(kind)
    with logging_to(theirs) as logger:
        for missing in (3, 2):
            fill(theirs)
            for _ in range(missing):
                logger.info("lost")
            read_all(ours)
            logger.info("read")
            lines = [json.loads(line) for line in read_all(ours)]
            assert [(line["event"], line.get("lines")) for line in lines] == [
                (GAP, missing),
                ("read", None),
            ]


def test_a_line_waits_a_moment_for_its_reader(pipe, monkeypatch):
    """One that is merely late misses nothing."""
    monkeypatch.setattr("recoup.lines.PATIENCE_SECONDS", SECONDS)
    ours, theirs = pipe
    with logging_to(theirs) as logger:
        fill(theirs)
        reader = threading.Timer(0.01, os.read, [ours, LINE_BYTES])
        reader.start()
        logger.info("in time")
        reader.join()
        [line] = read_all(ours)
        assert json.loads(line)["event"] == "in time"


def test_a_reader_that_is_gone_is_nobodys_trouble(pipe, capfd):
    """No request fails for it, and nothing is said elsewhere."""
    ours, theirs = os.pipe()
    with logging_to(theirs) as logger:
        os.close(ours)
        logger.info("lost")
    os.close(theirs)
    assert capfd.readouterr() == ("", "")


def test_others_who_have_the_pipe_write_as_before(pipe):
    """A shell, say: its own writes must not begin to fail."""
    with logging_to(pipe[1]):
        assert os.get_blocking(pipe[1])


def test_a_terminal_that_nobody_reads_holds_up_nobody():
    """As after Ctrl-S, or with `docker run -t`."""
    ours, theirs = pty.openpty()
    with logging_to(theirs) as logger:
        for _ in range(1000):
            logger.info("much more than it takes")
    os.close(ours)
    os.close(theirs)


def test_a_line_that_a_full_disk_cuts_off_spoils_no_other(tmp_path):
    """It is counted as dropped, and the next begins on a line of its own."""
    path = tmp_path / "log"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with path.open("wb") as file, logging_to(file.fileno()) as logger:
        resource.setrlimit(resource.RLIMIT_FSIZE, (250, hard))  # as a disk with 250 bytes left
        try:
            for _ in range(4):
                logger.info("x" * 50)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        logger.info("read")
    first, second, _, *lines = path.read_text().splitlines()
    assert json.loads(first)
    assert json.loads(second)
    lines = [json.loads(line) for line in lines]
    assert [(line["event"], line.get("lines")) for line in lines] == [(GAP, 2), ("read", None)]


SCRIPT = """
import os, sys
from recoup import log
log.configure(sys.stdout)
"""


def start(script, output, **options):
    """Start a process of its own that logs to *output*."""
    command = [sys.executable, "-c", SCRIPT + script]
    return subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, **options)


def test_what_is_missing_at_the_end_is_said_at_the_end(pipe):
    """If somebody reads by then; the process waits only a moment."""
    ours, theirs = pipe
    script = """
os.set_blocking(1, False)
try:
    while True:
        os.write(1, b"#" * 4095 + b"\\n")
except BlockingIOError:
    pass
for _ in range(3):
    log.logger.info("lost")
print("done", file=sys.stderr, flush=True)
"""
    with start(script, theirs) as process:
        assert process.stderr.readline() == b"done\n"
        lines = read_all(ours)
        assert process.wait(SECONDS) == 0
    assert split(lines + read_all(ours)) == ([], 3)


@pytest.mark.parametrize("size", [10, 2000, 100_000])
def test_lines_of_several_processes_are_never_torn(pipe, size):
    """Each line is whole, or counted as missing."""
    ours, theirs = pipe
    script = f"""
for number in range(300):
    log.logger.info("line", extra={{"fields": {{"text": "x" * {size}}}}})
"""
    with ExitStack() as stack:
        processes = [stack.enter_context(start(script, theirs)) for _ in range(4)]
        os.close(theirs)
        received = b""
        while data := os.read(ours, 1 << 16):
            received += data
        assert [(process.wait(), process.stderr.read()) for process in processes] == [(0, b"")] * 4
    lines, missing = split(received.decode().splitlines())
    assert len(lines) + missing == 1200
    assert {line["event"] for line in lines} == {"line"}


def test_the_pipe_of_another_user_is_not_waited_for_either(pipe):
    """It can't be opened again, as after a change of the user."""
    ours, theirs = pipe
    os.fchmod(theirs, 0)
    script = """
os.getuid() or os.setuid(65534)
log.configure(sys.stdout)
for _ in range(10_000):
    log.logger.info("x" * 1000)
"""
    with start(script, theirs) as process:
        assert process.wait(SECONDS) == 0
    assert 0 < len(read_all(ours)) < 10_000


def test_a_line_is_cut_to_what_a_pipe_takes_as_a_whole(pipe):
    """A traceback loses its middle; what else there is stays, and it is one object still."""
    ours, theirs = pipe

    def fail(depth):
        if depth:
            fail(depth - 1)
        raise RuntimeError("why " + "\u20ac" * depth)

    with logging_to(theirs) as logger:
        try:
            fail(200)
        except RuntimeError:
            logger.exception(
                "unexpected error", extra={"fields": {"task": "t", "all": ["x" * 99] * 99}}
            )
    [text] = read_all(ours)
    line = json.loads(text)
    assert len(text) < LINE_BYTES
    assert (line["event"], line["task"]) == ("unexpected error", "t")
    assert line["traceback"].startswith("Traceback (most recent call last):")
    assert "RuntimeError: why" in line["traceback"]
    assert logging.getLevelName(logging.ERROR).lower() == line["level"]
