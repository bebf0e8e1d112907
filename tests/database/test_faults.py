"""The database gone, locked, full or read-only, before, during and after the cancel.

Each time the caller gets the contract's 500, and what it was told turns out true.
"""

import resource
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from recoup.database.connection import DatabaseFailed, database, fetch, release
from recoup.deletion.outcomes import DeletionNotPossible, DeletionUnfinished
from recoup.deletion.sweep import sweep
from recoup.demo.standin import Fault
from recoup.web.errors import FAILURES
from tests.deletion.test_staged import expire
from tests.factories import delete
from tests.waiting import wait_for

NOTHING_WAS_CHANGED = FAILURES[DatabaseFailed]
WILL_BE_COMPLETED = FAILURES[DeletionUnfinished]
NOT_POSSIBLE = FAILURES[DeletionNotPossible]
REFUSED = Fault.status(401)


class Outage:
    """A way to break the test's database, and to mend it."""

    def __init__(self, url, postgres=None):
        self.url, self.postgres = url, postgres

    @contextmanager
    def gone(self):
        """No connection works, neither an old one nor a new one."""
        release()
        if self.postgres:
            self.postgres.stop("immediate")
            yield
            self.postgres.start()
            wait_for(self.answers)
        else:
            database.close_all()
            file = Path(self.url.removeprefix("sqlite:///"))
            hidden = file.rename(file.with_suffix(".hidden"))
            file.mkdir()
            yield
            file.rmdir()
            hidden.rename(file)

    @contextmanager
    def locked(self):
        """Another program holds what a deletion has to write, for longer than we wait."""
        if self.postgres:
            with psycopg.connect(self.url) as other:
                other.execute("LOCK TABLE task_deletions, scheduled_actions IN SHARE MODE")
                yield
        else:
            other = sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            yield
            other.close()

    @contextmanager
    def read_only(self):
        """Reading works, writing doesn't."""
        release()
        database.close_all()
        if self.postgres:
            name = database.execute_sql("SELECT current_database()").fetchone()[0]
            database.execute_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            database.close()
            database.close_all()
            yield
            with psycopg.connect(self.url, autocommit=True) as other:
                other.execute("SET default_transaction_read_only = off")
                other.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            database.close_all()
        else:
            database.obj._pragmas.append(("query_only", 1))
            yield
            database.obj._pragmas.remove(("query_only", 1))
            release()
            database.close_all()

    @contextmanager
    def full(self):
        """No file of this process can grow, as on a disk without a free byte."""
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = Path(self.url.removeprefix("sqlite:///") + "-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    def answers(self):
        """Say whether our own pool is served again, its pause being over."""
        try:
            fetch("SELECT 1")
        except DatabaseFailed:
            return False
        finally:
            release()
        return True


@pytest.fixture(name="outage")
def _outage(request, database_url, app):
    server = request.getfixturevalue("postgres") if database_url.startswith("postgres") else None
    return Outage(database_url, server)


@pytest.fixture(name="task")
def _task(world):
    return world.task(world.account())


@pytest.fixture(name="key")
def _key(world, task):
    return world.key(world.row(task)["account_id"])


@pytest.fixture(name="pool")
def _pool():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def failed(answer, *sentences):
    """Say whether *answer* is the contract's 500 with one of *sentences*."""
    assert answer.status_code == 500, answer.json
    assert {"status", "error"} == set(answer.json)
    assert answer.json["error"] in sentences
    return True


@pytest.mark.parametrize("kind", ["gone", "locked", "read_only"])
def test_outage_before_the_deletion_changes_nothing(
    client, world, standin, outage, task, key, kind
):
    """Trigger.dev is not called, the row stays, and asking again afterwards deletes."""
    before = world.row(task)
    with getattr(outage, kind)():
        answer = delete(client, task, key)
    assert failed(answer, NOTHING_WAS_CHANGED, WILL_BE_COMPLETED, NOT_POSSIBLE)
    assert standin.requests == []
    assert (before, None) == (world.row(task), world.mark(task))
    assert delete(client, task, key).status_code == 200


@pytest.mark.parametrize("kind", ["gone", "locked", "read_only"])
@pytest.mark.parametrize("cancelled", [True, False])
def test_outage_after_the_cancel_is_completed_later(
    client, app, world, standin, outage, task, key, pool, kind, cancelled
):
    """With the finish or the roll back impossible the mark stands, and recovery completes it."""
    standin.fail(Fault.delay(0.7) if cancelled else Fault.hang(0.7))
    standin.always(REFUSED) if not cancelled else None
    pending = pool.submit(delete, client, task, key)
    wait_for(lambda: standin.requests)
    with getattr(outage, kind)():
        assert failed(pending.result(), WILL_BE_COMPLETED)
    assert world.row(task)
    assert world.mark(task)

    standin.clear()
    expire(task)
    assert list(sweep(app.extensions["recoup"].deleter)) == [(task, "deleted", None)]
    assert (world.row(task), world.schedule_ids(task)) == (None, [])


def test_outage_during_the_cancel_that_ends_in_time_is_not_noticed(
    client, standin, outage, task, key, pool
):
    """The database is not needed while Trigger.dev works; back in time, the deletion ends well."""
    standin.fail(Fault.delay(1.8))
    pending = pool.submit(delete, client, task, key)
    wait_for(lambda: standin.requests)
    with outage.gone():
        pass
    assert pending.result().status_code == 200


# A full disk stops the server of Postgres, which is an outage.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@on_sqlite
def test_full_disk_before_the_deletion_changes_nothing(client, world, standin, outage, task, key):
    """SQLite that can't write another page answers 500, and all is as it was."""
    before = world.row(task)
    with outage.full():
        answer = delete(client, task, key)
    assert failed(answer, NOTHING_WAS_CHANGED, WILL_BE_COMPLETED)
    assert standin.requests == []
    assert (before, None) == (world.row(task), world.mark(task))


@on_sqlite
def test_disk_that_fills_up_during_the_cancel_delays_the_deletion(
    client, app, world, standin, outage, task, key, pool
):
    """The mark stands, and the deletion is completed when there is room again."""
    standin.fail(Fault.delay(0.7))
    pending = pool.submit(delete, client, task, key)
    wait_for(lambda: standin.requests)
    with outage.full():
        assert failed(pending.result(), WILL_BE_COMPLETED)
    expire(task)
    assert list(sweep(app.extensions["recoup"].deleter)) == [(task, "deleted", None)]
    assert world.row(task) is None
