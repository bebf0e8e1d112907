"""The staged delete, step by step, on both databases; Trigger.dev is a stand-in on a socket."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest

from recoup import log
from recoup.app import create_app
from recoup.database.connection import execute, fetch, is_postgres, release
from recoup.database.expressions import clock_plus
from recoup.database.models import TaskDeletion
from recoup.deletion.outcomes import (
    Caller,
    DeletionInDoubt,
    DeletionNotPossible,
    DeletionPending,
    DeletionRolledBack,
    DeletionUnfinished,
    TaskNotFound,
)
from recoup.deletion.recovery import recover
from recoup.demo.standin import Fault
from recoup.web.errors import FAILURES
from recoup.web.limit import Overloaded
from tests.conftest import make_config
from tests.factories import World, connections_in_use, delete
from tests.waiting import wait_for

REFUSED = Fault.status(401)


@pytest.fixture(name="deleter")
def _deleter(app):
    return app.extensions["recoup"].deleter


@pytest.fixture(name="task")
def _task(world):
    return world.task(world.account())


@pytest.fixture(name="pool")
def _pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def attempt(deleter, task_id):
    """Delete *task_id* as the operator; return None, or the exception."""
    try:
        deleter.delete(task_id, None)
    except Exception as error:
        return error
    finally:
        release()


def expire(task_id):
    """Let the lease on a task's mark run out now."""
    past = "2020-01-01T00:00:00.000Z"
    execute("UPDATE task_deletions SET lease_expires_at = ? WHERE task_id = ?", past, task_id)
    release()


def test_deletion_leaves_nothing(deleter, world, task):
    """Afterwards there is no row, no mark and no schedule."""
    assert attempt(deleter, task) is None
    assert (world.row(task), world.mark(task), world.schedule_ids(task)) == (None, None, [])


def test_unknown_task_calls_nobody(deleter, standin):
    """A task that isn't there is found out before Trigger.dev is asked."""
    with log.record("test") as notes:
        assert isinstance(attempt(deleter, str(uuid4())), TaskNotFound)
    assert notes["step"] == "find"
    assert standin.requests == []


def test_refused_cancel_keeps_every_column(deleter, world, standin, task):
    """After a roll back the row is what it was, and there is no mark."""
    before = world.row(task)
    standin.always(REFUSED)
    assert isinstance(attempt(deleter, task), DeletionRolledBack)
    assert (before, None) == (world.row(task), world.mark(task))
    assert world.schedule_ids(task)


def test_task_is_marked_while_its_schedule_is_cancelled(deleter, world, standin, task, pool):
    """The mark stands before the call goes out, with who asked and a lease past the deadline."""
    account = world.account()
    execute("UPDATE scheduled_actions SET account_id = ? WHERE id = ?", account, task)
    release()
    standin.fail(Fault.delay(0.5))
    done = pool.submit(deleter.delete, task, Caller(account))
    wait_for(lambda: standin.requests)
    assert account == str(world.mark(task)["requested_by"])
    assert not _expired_in(task, 2 + 13)
    assert _expired_in(task, 2 + 16)
    done.result()


def _expired_in(task, seconds):
    expired = TaskDeletion.select(TaskDeletion.lease_expires_at <= clock_plus(seconds)).scalar()
    release()
    return bool(expired)


def test_no_connection_is_held_while_trigger_dev_is_asked(deleter, standin, task, pool):
    """The pool has everything back during the call, so a slow call costs no connection."""
    standin.fail(Fault.delay(0.5))
    done = pool.submit(attempt, deleter, task)
    wait_for(lambda: standin.requests)
    assert connections_in_use() == 0
    assert done.result() is None


def test_same_task_at_once_is_deleted_once(deleter, standin, task, pool):
    """Of eight at once one deletes, the others learn that it is gone; there is one cancel."""
    standin.fail(Fault.delay(0.3))
    outcomes = list(pool.map(lambda _: attempt(deleter, task), range(8)))
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, TaskNotFound) for outcome in outcomes) == 7
    assert len(standin.requests) == 1


def test_waiting_for_a_deletion_that_fails_makes_an_attempt_of_its_own(
    deleter, world, standin, task, pool
):
    """A second request whose first was rolled back tries itself, and may succeed."""
    standin.fail(Fault.hang(0.4), Fault.status(401))
    first = pool.submit(attempt, deleter, task)
    wait_for(lambda: world.mark(task))
    second = pool.submit(attempt, deleter, task)
    assert isinstance(first.result(), DeletionInDoubt)
    assert second.result() is None


def test_waiting_ends_with_the_deadline(deleter, world, task):
    """A mark that stays is waited for no longer than the deadline, and is left alone."""
    token = world.place_mark(task, lease_seconds=60)
    started = time.monotonic()
    with log.record("test") as notes:
        assert isinstance(attempt(deleter, task), DeletionPending)
    assert time.monotonic() - started < 2 + 2
    assert notes["step"] == "wait"
    assert token == str(world.mark(task)["token"])


def test_expired_mark_is_taken_over_by_the_next_request(deleter, world, task):
    """What a dead process left is completed by whoever asks next."""
    world.place_mark(task, lease_seconds=-1)
    assert attempt(deleter, task) is None
    assert world.row(task) is None


def test_mark_that_was_taken_over_is_never_rolled_back(deleter, world, standin, task):
    """Its first owner may have cancelled, so after a failure the mark stays, under a new lease."""
    token = world.place_mark(task, lease_seconds=-1)
    standin.always(REFUSED)
    assert isinstance(attempt(deleter, task), DeletionUnfinished)
    assert token != str(world.mark(task)["token"])
    assert not _expired_in(task, 2)


def test_recovery_completes_what_was_cancelled_already(deleter, world, standin, task):
    """A process that died after the cancel left a row without a schedule: the row goes."""
    standin.schedules.clear()
    world.place_mark(task, lease_seconds=-1)
    assert recover(deleter, task)
    assert world.row(task) is None


def test_recovery_leaves_a_mark_that_is_in_its_lease(deleter, world, standin, task):
    """What another process is working on is not touched."""
    token = world.place_mark(task, lease_seconds=60)
    assert not recover(deleter, task)
    assert token == str(world.mark(task)["token"])
    assert standin.requests == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_recovery_leaves_a_row_that_was_put_back(deleter, world, standin, task):
    """It goes with its mark and comes back as the mark is taken over: nobody asked for this one."""
    world.place_mark(task, lease_seconds=-1)
    execute("CREATE TABLE backup AS SELECT * FROM scheduled_actions")
    execute(
        "CREATE TRIGGER put_back AFTER UPDATE ON task_deletions BEGIN"
        " DELETE FROM scheduled_actions; INSERT INTO scheduled_actions SELECT * FROM backup; END"
    )
    assert not _recover(deleter, task)
    assert (bool(world.row(task)), world.mark(task), standin.requests) == (True, None, [])


def test_expired_mark_is_recovered_by_one_of_many(deleter, world, standin, task, pool):
    """Of several that find the same mark, one takes it over."""
    world.place_mark(task, lease_seconds=-1)
    assert sum(pool.map(lambda _: _recover(deleter, task), range(8))) == 1
    assert len(standin.requests) == 1


def _recover(deleter, task):
    try:
        return recover(deleter, task)
    finally:
        release()


def test_slow_owner_that_lost_its_mark_does_no_harm(deleter, world, standin, task, pool):
    """One that wakes after its lease was taken over changes nothing with its old token."""
    standin.fail(Fault.delay(0.6), Fault.status(401))
    slow = pool.submit(attempt, deleter, task)
    wait_for(lambda: standin.requests)
    expire(task)
    with pytest.raises(DeletionUnfinished):
        recover(deleter, task)
    owner = world.mark(task)["token"]
    assert isinstance(slow.result(), DeletionUnfinished)
    assert owner == world.mark(task)["token"]


def test_slow_owner_whose_deletion_another_completed_has_deleted(
    deleter, world, standin, task, pool
):
    """It cancelled, lost its mark, waited for the new owner, and found the row gone."""
    standin.fail(Fault.delay(0.4), Fault.delay(0.8))
    slow = pool.submit(notes_of_an_attempt, deleter, task)
    wait_for(lambda: standin.requests)
    expire(task)
    assert _recover(deleter, task)
    assert slow.result()["state"] == "deleted"


@pytest.mark.parametrize("doubtful", [False, True])
def test_refused_owner_that_lost_its_mark_does_not_remove_it(
    deleter, world, standin, task, doubtful
):
    """A roll back takes only the own mark away, and turns only that doubtful."""
    owner = str(uuid4())

    def play(exchange):
        execute("UPDATE task_deletions SET token = ? WHERE task_id = ?", owner, task)
        release()
        exchange.reset() if doubtful else REFUSED.play(exchange)

    standin.fail(Fault("takes the mark", play))
    standin.always(REFUSED)
    assert isinstance(attempt(deleter, task), DeletionUnfinished)
    mark = world.mark(task)
    assert (owner, None) == (str(mark["token"]), mark["doubtful_since"])


@pytest.mark.parametrize("renamed", [False, True], ids=["as it was", "with a new schedule"])
def test_owner_that_lost_its_mark_over_the_rows_lock_says_what_is_true(
    postgres_url, standin, pool, renamed
):
    """It deletes what it has cancelled. A new schedule is left to whoever has the mark."""
    app = create_app(make_config(postgres_url, TRIGGER_API_URL=standin.url))
    world = World(app, standin)
    task = world.task(world.account())
    standin.fail(Fault.delay(0.4))
    slow = pool.submit(attempt, app.extensions["recoup"].deleter, task)
    wait_for(lambda: standin.requests)
    with psycopg.connect(postgres_url) as host:
        host.execute("SELECT FROM scheduled_actions FOR UPDATE")
        if renamed:
            host.execute("UPDATE scheduled_actions SET trigger_schedule_id = %s", ["sched_new"])
        wait_for(lambda: fetch("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        execute("UPDATE task_deletions SET token = ?", str(uuid4()))
        release()
    assert isinstance(slow.result(), DeletionUnfinished) is renamed
    assert bool(world.row(task)) is renamed
    assert bool(world.mark(task)) is renamed
    assert world.schedule_ids(task) == []


def test_schedule_given_by_another_program_meanwhile_is_cancelled_too(
    deleter, world, standin, task, pool
):
    """A row that got a new schedule during the cancel goes only after that one has gone."""
    standin.fail(Fault.delay(0.4))
    done = pool.submit(notes_of_an_attempt, deleter, task)
    wait_for(lambda: standin.requests)
    new = standin.add(task)
    execute("UPDATE scheduled_actions SET trigger_schedule_id = ? WHERE id = ?", new, task)
    release()
    notes = done.result()
    assert (notes["state"], notes["upstream_statuses"]) == ("deleted", [200, 200])
    assert (world.row(task), world.schedule_ids(task)) == (None, [])


def notes_of_an_attempt(deleter, task):
    with log.record("test") as notes:
        attempt(deleter, task)
    return notes


def test_row_that_the_host_deletes_meanwhile_is_a_deletion(deleter, world, standin, task, pool):
    """When the row goes by another hand during the cancel, both halves are gone all the same."""
    standin.fail(Fault.delay(0.4))
    done = pool.submit(attempt, deleter, task)
    wait_for(lambda: standin.requests)
    execute("DELETE FROM scheduled_actions WHERE id = ?", task)
    release()
    assert done.result() is None
    assert (world.mark(task), world.schedule_ids(task)) == (None, [])


def keep_rows(*, silently=True):
    """Have the database keep rows that are deleted, without a word, as a policy may, or with."""
    if is_postgres():
        action = "RETURN NULL" if silently else "RAISE ''no''"
        body = f"AS 'BEGIN {action}; END' LANGUAGE plpgsql"
        execute(f"CREATE FUNCTION keep() RETURNS trigger {body}")
        execute(
            "CREATE TRIGGER keep BEFORE DELETE ON scheduled_actions"
            " FOR EACH ROW EXECUTE FUNCTION keep()"
        )
    else:
        action = "RAISE(IGNORE)" if silently else "RAISE(ABORT, 'no')"
        execute(
            f"CREATE TRIGGER keep BEFORE DELETE ON scheduled_actions BEGIN SELECT {action}; END"
        )
    release()


def test_row_that_would_not_go_costs_no_schedule(deleter, world, standin, task):
    """A trigger of the host's that keeps the row is found before anything is begun."""
    keep_rows()
    before = world.row(task)
    assert isinstance(attempt(deleter, task), DeletionNotPossible)
    assert (world.row(task), world.mark(task), standin.requests) == (before, None, [])


def test_row_that_does_not_go_keeps_its_mark(deleter, world, standin, task):
    """Its schedule is cancelled, so there is no way back, and nothing to cancel again."""
    deleter.readiness.refresh()
    keep_rows()
    assert isinstance(attempt(deleter, task), DeletionUnfinished)
    assert world.row(task)
    assert world.mark(task)
    assert len(standin.requests) == 1


def test_row_that_is_refused_to_go_keeps_its_mark(deleter, world, standin, task):
    """Though this call cancelled nothing, as the schedule was gone: somebody else has begun."""
    standin.schedules.clear()
    deleter.readiness.refresh()
    keep_rows(silently=False)
    assert isinstance(attempt(deleter, task), DeletionUnfinished)
    assert world.row(task)
    assert world.mark(task)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_mark_whose_row_is_gone_is_cleared(deleter, world, task):
    """SQLite without foreign keys lets a row go and keeps its mark, which recovery removes."""
    world.place_mark(task, lease_seconds=-1)
    execute("PRAGMA foreign_keys = 0")
    execute("DELETE FROM scheduled_actions WHERE id = ?", task)
    execute("PRAGMA foreign_keys = 1")
    release()
    assert _recover(deleter, task)
    assert world.mark(task) is None


@pytest.mark.parametrize(
    ("fault", "state"),
    [(REFUSED, "kept"), (Fault.hang(5), "in doubt"), (Fault.hang(5, act=True), "in doubt")],
)
def test_log_says_what_state_the_task_is_in(deleter, world, standin, task, fault, state):
    """After a failed cancel the line names schedule, reason, state and owner."""
    standin.always(fault)
    with log.record("test") as notes:
        attempt(deleter, task)
    assert (state, "roll back") == (notes["state"], notes["step"])
    assert notes["schedule"].startswith("sched_")
    assert notes["reason"]
    row = world.row(task)
    assert (notes["owner"], notes["title_length"]) == (str(row["account_id"]), len(row["title"]))


def test_log_warns_of_a_404_that_nothing_proves(deleter, standin, task, caplog):
    """The last task has no other beside it whose schedule the key might know."""
    standin.schedules.clear()
    with log.record("deletion") as notes:
        assert attempt(deleter, task) is None
    told = [notes[name] for name in ("missing", "foreign", "unproven", "refused")]
    assert told == [True, None, True, None]
    assert [one.levelname for one in caplog.records if one.message == "deletion"] == ["WARNING"]


@pytest.fixture
def narrow(config, standin):
    """An app with one place for deletions, a key, and two tasks; the first cancel takes 0.5 s."""
    app = create_app(replace(config, web_threads=2))
    world = World(app, standin)
    account = world.account()
    standin.fail(Fault.delay(0.5))
    return app, world.key(account), [world.task(account) for _ in range(2)]


def test_worker_refuses_what_finds_no_place(narrow, standin, pool):
    """With all places taken a deletion is refused, and takes one when it is free again."""
    app, key, tasks = narrow
    first = pool.submit(delete, app.test_client(), tasks[0], key)
    wait_for(lambda: standin.requests)
    refused = delete(app.test_client(), tasks[1], key)
    assert (500, FAILURES[Overloaded]) == (refused.status_code, refused.json["error"])
    assert first.result().status_code == 200
    assert delete(app.test_client(), tasks[1], key).status_code == 200


def test_a_deletion_waits_for_a_place(narrow, standin, pool, monkeypatch):
    """One that becomes free in time is taken, and nobody is refused."""
    monkeypatch.setattr("recoup.web.limit.PATIENCE_SECONDS", 20)
    app, key, tasks = narrow
    first = pool.submit(delete, app.test_client(), tasks[0], key)
    wait_for(lambda: standin.requests)
    assert delete(app.test_client(), tasks[1], key).status_code == 200
    assert first.result().status_code == 200
