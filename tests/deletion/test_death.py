"""Death at every step: the workers get a SIGKILL in the middle of a deletion.

Nothing in the service helps with this. Trigger.dev is held at the moment of the cancel by the
stand-in, the database at the moment of a write by a lock from outside, and then comes the kill.
"""

import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial

import psycopg
import pytest
import requests

from recoup.database.connection import is_postgres, release
from recoup.database.expressions import clock_plus
from recoup.database.models import TaskDeletion
from recoup.demo.standin import Fault
from tests.conftest import close_database
from tests.forked import run
from tests.server import Server
from tests.waiting import wait_for

# Far longer than any step is held: only the kill ends it.
DEADLINE_SECONDS = "30"
WAIT_SECONDS = 20
wait_until = partial(wait_for, seconds=WAIT_SECONDS)
UNANSWERED = "no answer"


class Stage:
    """A task whose deletion is asked for, at a server that will not live to answer."""

    def __init__(self, database_url, world, servers):
        self.database_url = database_url
        self.world = world
        self.standin = world.standin
        self.serve = servers
        self.account = world.account()
        self.key = world.key(self.account)
        self.task = world.task(self.account)
        self.row = world.row(self.task)

    def ask(self, server):
        """Ask for the deletion in a thread; the future holds the answer's status, if one comes."""

        def send():
            try:
                return server.delete(self.task, self.key).status_code
            except requests.ConnectionError:
                return UNANSWERED

        threads = ThreadPoolExecutor(1)
        future = threads.submit(send)
        threads.shutdown(wait=False)
        return future

    def hold(self, status=None):
        """Hold the cancel at the stand-in: then act and answer, or answer only with *status*."""
        return Held(self.standin, self.task, status)

    def is_gone(self):
        """Whether neither row nor mark nor schedule is left."""
        left = self.world.row(self.task), self.world.mark(self.task)
        return left == (None, None) and not self.world.schedule_ids(self.task)

    def expire(self):
        """Let the lease of the mark run out now, and not in three quarters of a minute."""
        TaskDeletion.update(lease_expires_at=clock_plus(-1)).execute()
        release()

    def recover(self):
        """Let the lease run out, start the server anew, and wait until nothing is left."""
        self.expire()
        self.serve()
        wait_until(self.is_gone)


class Held:
    """A cancel that has arrived at the stand-in, and stays there until it is let go."""

    def __init__(self, standin, task, status):
        self.arrived = threading.Event()
        self.answered = threading.Event()
        self._let_go = threading.Event()
        standin.fail(Fault("held", self._play), schedule_id=task)
        self._then = Fault.status(status).play if status else Fault.delay(0).play

    def _play(self, exchange):
        self.arrived.set()
        if self._let_go.wait(WAIT_SECONDS):
            self._then(exchange)
            self.answered.set()

    def let_go(self):
        self._let_go.set()
        assert self.answered.wait(WAIT_SECONDS)


@pytest.fixture(name="stage")
def _stage(database_url, world):
    servers = []

    def serve(url=world.standin.url):
        server = Server(
            database_url,
            TRIGGER_API_URL=url,
            TRIGGER_DEADLINE_SECONDS=DEADLINE_SECONDS,
            WEB_CONCURRENCY="1",
        )
        servers.append(server)
        server.start()
        return server

    yield Stage(database_url, world, serve)
    for server in servers:
        server.close()


@contextmanager
def writes_held(stage):
    """Hold a lock that each write to the task and its mark has to wait for; give `(wait, end)`.

    *wait* returns once a write waits for it. *end* ends what waits in Postgres, where a statement
    outlives the worker that sent it.
    """
    close_database()
    hold = _hold_postgres if is_postgres() else _hold_sqlite
    with hold(stage.database_url) as steps:
        yield steps


@contextmanager
def _hold_postgres(url):
    # Within one transaction Postgres shows who waits only as it was at the first look.
    with psycopg.connect(url) as connection, psycopg.connect(url, autocommit=True) as watch:
        connection.execute("SELECT FROM scheduled_actions FOR UPDATE")
        connection.execute("SELECT FROM task_deletions FOR UPDATE")
        service = "FROM pg_stat_activity WHERE application_name = 'recoup'"

        def wait():
            waiting = f"SELECT 1 {service} AND wait_event_type = 'Lock'"
            wait_until(lambda: watch.execute(waiting).fetchone())

        def end():
            watch.execute(f"SELECT pg_terminate_backend(pid, 10000) {service}")

        yield wait, end


@contextmanager
def _hold_sqlite(url):
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        # Nobody can see who waits for SQLite's lock; without this the kill comes just before.
        yield lambda: time.sleep(0.5), lambda: None


def test_after_the_mark_and_before_the_cancel(stage):
    """A deletion that had begun is completed, though Trigger.dev had not heard of it."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        server = stage.serve(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        answer = stage.ask(server)
        wait_until(lambda: stage.world.mark(stage.task))
        server.kill()
    assert answer.result() == UNANSWERED
    assert stage.standin.requests == []
    assert stage.world.row(stage.task) == stage.row
    stage.recover()


@pytest.mark.parametrize("act", [False, True], ids=["before it acted", "after it acted"])
def test_during_the_cancel(stage, act):
    """A deletion is completed, whether Trigger.dev had acted on the cancel or not."""
    stage.standin.fail(Fault.hang(600, act=act))
    server = stage.serve()
    answer = stage.ask(server)
    wait_until(lambda: stage.standin.requests)
    wait_until(lambda: bool(stage.world.schedule_ids(stage.task)) is not act)
    server.kill()
    assert answer.result() == UNANSWERED
    assert stage.world.row(stage.task) == stage.row
    assert stage.world.mark(stage.task)
    stage.recover()


def test_after_the_cancel_and_before_the_row_goes(stage):
    """A row whose schedule is cancelled follows it, though nobody asks again."""
    cancel = stage.hold()
    server = stage.serve()
    answer = stage.ask(server)
    assert cancel.arrived.wait(WAIT_SECONDS)
    with writes_held(stage) as (wait, end):
        cancel.let_go()
        wait()
        server.kill()
        end()
    assert answer.result() == UNANSWERED
    assert stage.world.schedule_ids(stage.task) == []
    assert stage.world.row(stage.task) == stage.row
    assert stage.world.mark(stage.task)
    stage.recover()


def test_during_the_roll_back(stage):
    """A deletion that was being rolled back, and that no caller was told about, is completed."""
    cancel = stage.hold(status=400)
    server = stage.serve()
    answer = stage.ask(server)
    assert cancel.arrived.wait(WAIT_SECONDS)
    with writes_held(stage) as (wait, end):
        cancel.let_go()
        wait()
        server.kill()
        end()
    assert answer.result() == UNANSWERED
    assert stage.world.schedule_ids(stage.task) == [stage.row["trigger_schedule_id"]]
    assert stage.world.row(stage.task) == stage.row
    assert stage.world.mark(stage.task)
    stage.recover()


def test_after_the_cancel_a_living_server_completes_it_for_the_next_caller(stage):
    """If only the workers die, the master's new ones complete it for the next caller."""
    stage.standin.fail(Fault.hang(600, act=True))
    server = stage.serve()
    answer = stage.ask(server)
    wait_until(lambda: stage.standin.requests and not stage.world.schedule_ids(stage.task))
    for worker in server.workers():
        server.kill_worker(worker)
    assert answer.result() == UNANSWERED
    stage.expire()
    assert server.delete(stage.task, stage.key).status_code in (200, 404)
    assert stage.is_gone()
    assert server.delete(stage.task, stage.key).status_code == 404


def test_after_the_cancel_the_command_completes_it(tmp_path, stage, config):
    """`recoup tasks recover` completes it while no server runs at all."""
    stage.standin.fail(Fault.hang(600, act=True))
    server = stage.serve()
    stage.ask(server)
    wait_until(lambda: stage.standin.requests)
    server.kill()
    environ = {
        "DATABASE_URL": stage.database_url,
        "TRIGGER_API_URL": stage.standin.url,
        "TRIGGER_SECRET_KEY": config.trigger_secret_key,
        "PRIVY_PROJECT_SECRET": config.privy_project_secret,
    }

    def recover():
        return run("recoup", "tasks", "recover", cwd=tmp_path, **environ)[:2]

    code, said = recover()
    assert (code, said.splitlines()[-1]) == (1, "0 settled, 1 left.")
    stage.expire()
    assert recover() == (0, f"{stage.task} deleted\n1 settled, 0 left.\n")
    assert stage.is_gone()


def test_a_recovery_that_fails_is_never_taken_back(stage):
    """Whoever takes over a deletion that may have been cancelled goes forward, or leaves it."""
    stage.standin.fail(Fault.hang(600, act=True))
    server = stage.serve()
    stage.ask(server)
    wait_until(lambda: stage.standin.requests and not stage.world.schedule_ids(stage.task))
    server.kill()
    server = stage.serve()
    stage.standin.always(Fault.status(400))
    stage.expire()
    assert server.delete(stage.task, stage.key).status_code == 500
    assert stage.world.row(stage.task) == stage.row
    assert stage.world.mark(stage.task)
    stage.standin.clear()
    stage.expire()
    assert server.delete(stage.task, stage.key).status_code == 200
    assert stage.is_gone()


def test_a_mark_is_left_alone_before_its_lease_has_run_out(stage):
    """As long as its owner may be alive, a restart touches neither task nor schedule."""
    stage.standin.fail(Fault.hang(600))
    server = stage.serve()
    stage.ask(server)
    wait_until(lambda: stage.standin.requests)
    server.kill()
    mark = stage.world.mark(stage.task)
    other = stage.world.task(stage.account)
    stage.world.place_mark(other, lease_seconds=-1)
    stage.serve()
    wait_until(lambda: stage.world.row(other) is None)
    assert stage.world.mark(stage.task) == mark
    assert stage.world.schedule_ids(stage.task) == [stage.row["trigger_schedule_id"]]
