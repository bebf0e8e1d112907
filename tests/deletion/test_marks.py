"""Marks whose statements get no answer. On Postgres: SQLite is not a server, and always answers."""

import os
import signal
from contextlib import suppress
from uuid import uuid4

import psycopg
import pytest

from recoup import log
from recoup.app import create_app
from recoup.database import statements
from recoup.database.connection import AnswerLost, execute, fetch
from recoup.deletion import marks
from recoup.deletion.outcomes import DeletionUnfinished, TaskNotFound
from tests.conftest import close_database, make_config
from tests.database.conftest import backend
from tests.sockets import Proxy

LEASE = 60


@pytest.fixture(name="proxy")
def _proxy(short_waits, postgres, postgres_url):
    """What the service reaches its database through."""
    proxy = Proxy(postgres.port)
    yield proxy
    close_database()
    with suppress(OSError):  # a test has closed it
        proxy.close()


@pytest.fixture(name="app")
def _app(proxy, postgres_url, standin):
    name = psycopg.conninfo.conninfo_to_dict(postgres_url)["dbname"]
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}"
    return create_app(make_config(url, TRIGGER_API_URL=standin.url))


@pytest.fixture(name="task")
def _task(world):
    return world.task(world.account())


def test_a_mark_whose_insertion_was_not_answered_is_removed(proxy, world, task):
    """It was inserted, though nobody heard so; nothing is left, and nothing was begun."""
    fetch("SELECT 1")
    proxy.silence()
    with pytest.raises(AnswerLost):
        marks.acquire(task, None, LEASE)
    assert world.mark(task) is None


def test_a_mark_that_may_still_be_inserted_may_stand(world, task):
    """The server has not got to it when we look, so nobody knows what it will do."""
    pid = backend()
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(DeletionUnfinished):
            marks.acquire(task, None, LEASE)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_mark_that_cannot_be_looked_at_may_stand(proxy, task):
    """The database is gone together with its answer; the line of the request says so."""
    fetch("SELECT 1")
    proxy.close()
    with pytest.raises(DeletionUnfinished), log.record("request") as notes:
        marks.acquire(task, None, LEASE)
    assert notes["state"] == "marked"


@pytest.mark.parametrize("change", ["take_over_mark", "take_over_doubt"])
def test_a_mark_whose_takeover_was_not_answered_goes_forward(
    proxy, world, task, monkeypatch, change
):
    """It may be ours and no longer in doubt, so nobody is told that nothing was changed."""
    world.place_mark(task, lease_seconds=60)
    execute("UPDATE task_deletions SET doubtful_since = requested_at")
    run = getattr(statements, change)

    def unanswered(*args):
        proxy.silence()
        return run(*args)

    monkeypatch.setattr(statements, change, unanswered)
    with pytest.raises(DeletionUnfinished), log.record("request") as notes:
        marks.acquire(task, None, LEASE)
    assert notes["state"] == "marked"


def test_a_removal_that_was_not_answered_is_found_done(proxy, world, task):
    """The task is unmarked, whoever did it, and the caller hears so."""
    mark = marks.acquire(task, None, LEASE)
    proxy.silence()
    assert marks.remove(mark)
    assert world.mark(task) is None


def test_a_removal_that_was_not_answered_leaves_the_mark_of_another(proxy, world, task):
    """Who has taken it over completes the deletion, and nobody is told that the task is kept."""
    mark = marks.acquire(task, None, LEASE)
    execute("UPDATE task_deletions SET token = ?", str(uuid4()))
    proxy.silence()
    assert not marks.remove(mark)
    assert world.mark(task)


@pytest.mark.parametrize("taken_over", [False, True])
def test_a_doubt_that_was_not_answered_is_a_doubt(proxy, world, task, taken_over):
    """Or another has the mark by now, and settles it."""
    mark = marks.acquire(task, None, LEASE)
    if taken_over:
        execute("UPDATE task_deletions SET token = ?", str(uuid4()))
    proxy.silence()
    assert marks.turn_doubtful(mark)
    assert bool(world.mark(task)["doubtful_since"]) is not taken_over


@pytest.mark.parametrize("change", [marks.remove, marks.turn_doubtful])
def test_a_mark_that_cannot_be_changed_may_stand(proxy, task, change):
    """The database is gone, so the deletion is completed later."""
    mark = marks.acquire(task, None, LEASE)
    proxy.close()
    with pytest.raises(DeletionUnfinished):
        change(mark)


def test_a_task_that_goes_before_its_mark_is_not_found(app):
    """The foreign key says so."""
    with pytest.raises(TaskNotFound):
        marks.acquire(str(uuid4()), None, LEASE)
