"""A worker that can open no more files finishes its requests, and goes on later."""

import os
import resource
import socket
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import requests

from tests.server import Executed
from tests.waiting import wait_for

SECONDS = 60
SETTINGS = {"WEB_CONCURRENCY": "1", "WEB_THREADS": "4", "DATABASE_POOL_SIZE": "1"}
# What the worker may have open beside its clients, with these settings.
BESIDE = 3 * 4 + 3 * 1 + 32
REFUSED = "Too many open files"


@contextmanager
def limited(pid, files):
    """Have a process, and those that it starts meanwhile, open so many files at the most."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (files, limits[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def count_files(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def dial(server, stack, connections):
    for _ in range(connections):
        stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))


def test_a_worker_that_can_open_no_more_files_pauses_and_goes_on(sqlite_url):
    """No worker is replaced, one line says why it pauses, and waiting clients are served."""
    with Executed(sqlite_url, **SETTINGS) as server:
        [worker] = server.workers()
        with limited(worker, count_files(worker) + 5), ExitStack() as stack:
            dial(server, stack, 10)
            wait_for(lambda: REFUSED in server.stderr(), seconds=SECONDS)
        assert requests.get(f"{server.url}/healthz", timeout=SECONDS).ok
        assert server.workers() == [worker]
        assert server.stderr().count(REFUSED) == 1


def test_a_worker_takes_no_more_connections_than_it_can_open_files(sqlite_url):
    """Idle clients don't use up the files that its requests need."""
    files = BESIDE + 50
    with ExitStack() as stack:
        with limited(os.getpid(), files):
            server = stack.enter_context(Executed(sqlite_url, **SETTINGS))
        [worker] = server.workers()
        before = count_files(worker)
        dial(server, stack, 100)
        wait_for(lambda: count_files(worker) >= before + 50, seconds=SECONDS)
        time.sleep(0.5)  # for the others to be accepted too, if they were
        assert count_files(worker) < files
        assert REFUSED not in server.stderr()
