"""Many at once against real servers: one task from everywhere, and other people's slow cancels."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from recoup.deletion.outcomes import DeletionPending, DeletionRolledBack
from recoup.demo.standin import Fault
from recoup.web.errors import FAILURES
from recoup.web.limit import Overloaded
from tests.deletion.test_staged import expire
from tests.server import Server
from tests.waiting import wait_for

DEADLINE_SECONDS = 4
# Beyond the deadline: the database's part, and a loaded machine's.
MARGIN_SECONDS = 4


def settings(standin, **more):
    deadline = str(DEADLINE_SECONDS)
    return {"TRIGGER_API_URL": standin.url, "TRIGGER_DEADLINE_SECONDS": deadline, **more}


@pytest.fixture(name="servers")
def _servers(database_url, standin):
    """Two servers, of two workers each, on one database."""
    with (
        Server(database_url, **settings(standin)) as one,
        Server(database_url, **settings(standin)) as other,
    ):
        yield one, other


@pytest.fixture(name="account")
def _account(world):
    return world.account()


@pytest.fixture(name="key")
def _key(world, account):
    return world.key(account)


def ask_all(servers, task, key, times):
    """Send *times* requests to each server at once; return the answers, each within its time."""
    with ThreadPoolExecutor(times * len(servers)) as pool:
        started = time.monotonic()
        answers = list(pool.map(lambda server: server.delete(task, key), servers * times))
        assert time.monotonic() - started < DEADLINE_SECONDS + MARGIN_SECONDS
    return answers


def test_one_task_asked_for_everywhere_is_deleted_once(servers, world, standin, account, key):
    """From two servers and many threads: one 200, the rest 404, one cancel."""
    task = world.task(account)
    standin.always(Fault.delay(0.3))
    statuses = sorted(answer.status_code for answer in ask_all(servers, task, key, 10))
    assert statuses == [200] + [404] * 19
    assert len(standin.requests) == 1
    assert (world.row(task), world.mark(task), world.schedule_ids(task)) == (None, None, [])


def test_one_task_whose_cancel_fails_is_kept_for_all(servers, world, standin, account, key):
    """When the cancel fails, every request answers 500, and the row stands as it was."""
    task = world.task(account)
    before = world.row(task)
    standin.always(Fault.status(401))
    answers = ask_all(servers, task, key, 10)
    assert {500} == {answer.status_code for answer in answers}
    sentences = {FAILURES[DeletionRolledBack], FAILURES[DeletionPending]}
    assert {answer.json()["error"] for answer in answers} <= sentences
    assert (before, None) == (world.row(task), world.mark(task))
    assert world.schedule_ids(task)


def test_worker_that_wakes_after_its_lease_was_taken_over_does_no_harm(
    servers, world, standin, account, key
):
    """It finds that its token no longer counts, and the other server's deletion stands."""
    task = world.task(account)
    standin.fail(Fault.delay(1.5))
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(servers[0].delete, task, key)
        wait_for(lambda: standin.requests)
        expire(task)
        quick = pool.submit(servers[1].delete, task, key)
        assert slow.result().status_code in (200, 404)
        # Unless a sweeper, which looks now and then, was faster, and has said so.
        lines = [line for server in servers for line in server.log_lines()]
        swept = any((line["event"], line.get("state")) == ("recovery", "deleted") for line in lines)
        assert quick.result().status_code == (404 if swept else 200)
    assert (world.row(task), world.mark(task), world.schedule_ids(task)) == (None, None, [])


@pytest.fixture(name="busy")
def _busy(database_url, standin, world, account, key):
    """A server of three workers, 20 of whose deletions are hanging.

    Each has places for all of them and ten more: a busy machine may leave all to one worker.
    """
    more = {"WEB_CONCURRENCY": "3", "WEB_THREADS": "40"}
    tasks = [world.task(account) for _ in range(20)]
    for task in tasks:
        standin.always(Fault.hang(60), schedule_id=task)
    with (
        Server(database_url, **settings(standin, **more)) as server,
        ThreadPoolExecutor(64) as pool,
    ):
        hanging = [pool.submit(server.delete, task, key) for task in tasks]
        wait_for(lambda: len(standin.requests) >= 20)
        yield server, pool
        assert {500} == {future.result().status_code for future in hanging}


def test_hung_cancels_hold_up_nobody_else(busy, database_url, world, account, key):
    """With more of them than the database has connections, health and deletes are answered."""
    server, pool = busy
    tasks = [world.task(account) for _ in range(10)]
    answers = list(pool.map(lambda task: server.delete(task, key), tasks))
    assert {200} == {answer.status_code for answer in answers}
    assert requests.get(f"{server.url}/healthz", timeout=2).ok
    assert requests.get(f"{server.url}/readyz", timeout=2).ok
    if database_url.startswith("sqlite"):
        write_as_another_program(database_url)


def write_as_another_program(database_url):
    """Write to the file without waiting for a lock at all."""
    with sqlite3.connect(database_url.removeprefix("sqlite:///"), timeout=0) as other:
        other.execute("INSERT INTO accounts (id) VALUES ('somebody-elses')")


def test_too_many_hung_cancels_are_refused_meanwhile(database_url, standin, world, account, key):
    """What is beyond a worker's places gets a plain 500 while the others still hang."""
    more = {"WEB_CONCURRENCY": "1", "WEB_THREADS": "8"}
    standin.always(Fault.hang(60))
    tasks = [world.task(account) for _ in range(12)]
    with (
        Server(database_url, **settings(standin, **more)) as server,
        ThreadPoolExecutor(12) as pool,
    ):
        hanging = [pool.submit(server.delete, task, key) for task in tasks[:7]]
        wait_for(lambda: len(standin.requests) >= 7)
        refused = [server.delete(task, key) for task in tasks[7:]]
        assert not any(future.done() for future in hanging)
        assert {FAILURES[Overloaded]} == {answer.json()["error"] for answer in refused}
        assert requests.get(f"{server.url}/healthz", timeout=2).ok
        assert {500} == {future.result().status_code for future in hanging}
    assert all(world.row(task) for task in tasks)
    assert all(world.mark(task)["doubtful_since"] for task in tasks[:7])
    assert not any(world.mark(task) for task in tasks[7:])
