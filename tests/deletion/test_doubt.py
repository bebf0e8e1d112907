"""Deletions in doubt: Trigger.dev may have cancelled without saying so; and how that settles."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event
from uuid import uuid4

import pytest

from recoup import log
from recoup.app import create_app
from recoup.database.connection import execute, release
from recoup.deletion.doubt import settle
from recoup.deletion.outcomes import (
    DeletionInDoubt,
    DeletionRolledBack,
    DeletionUnfinished,
)
from recoup.deletion.sweep import sweep
from recoup.demo.standin import Fault
from recoup.trigger.cancel import UNPROVEN
from tests.deletion.test_staged import attempt, expire
from tests.waiting import wait_for

PAST = "2020-01-01T00:00:00.000Z"
OTHER_WORDS = Fault.status(200, b"<html>maintenance</html>")


@pytest.fixture(name="deleter")
def _deleter(app):
    return app.extensions["recoup"].deleter


@pytest.fixture(name="task")
def _task(world):
    return world.task(world.account())


@pytest.fixture(name="doubt")
def _doubt(deleter, world, standin, task):
    """Leave the task in doubt; its schedule was cancelled, or not."""

    def doubt(*, acted):
        standin.always(Fault.reset(act=acted))
        assert isinstance(attempt(deleter, task), DeletionInDoubt)
        standin.clear()
        standin.requests.clear()

    return doubt


def age(task):
    """Let a doubt be so old that Trigger.dev can have nothing of it in hand any more."""
    begin_doubt(task, PAST)


def begin_doubt(task, since):
    """Let a doubt have begun then, and nobody have looked at it since."""
    execute(
        "UPDATE task_deletions SET doubtful_since = ?, lease_expires_at = ? WHERE task_id = ?",
        since,
        since,
        task,
    )
    release()


def ago(seconds):
    """Return that moment as the database has it."""
    moment = datetime.now(UTC) - timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def swept(deleter, **options):
    """Sweep once; return what became of each task."""
    return [(one.task_id, one.state) for one in sweep(deleter, **options)]


@pytest.mark.parametrize(
    "fault",
    [
        Fault.reset(act=True),
        Fault.hang(5, act=True),
        Fault.half_body(act=True),
        Fault.status(422),
        Fault.status(500),
        Fault.junk(502, act=True),
        OTHER_WORDS,
    ],
    ids=lambda fault: fault.kind,
)
def test_what_may_have_acted_leaves_a_doubt(deleter, world, standin, task, fault):
    """The row is kept to the last column, and its mark says since when nobody knows."""
    before = world.row(task)
    standin.fail(fault)
    standin.always(Fault.status(401))
    assert isinstance(attempt(deleter, task), DeletionInDoubt)
    assert world.row(task) == before
    assert world.mark(task)["doubtful_since"]


def test_the_line_says_in_doubt(deleter, standin, task):
    """The operator reads it, with the reason."""
    standin.always(Fault.reset())
    with log.record("test") as notes:
        attempt(deleter, task)
    assert (notes["state"], notes["step"]) == ("in doubt", "roll back")
    assert notes["reason"].endswith("the connection broke off before an answer")


def test_a_new_request_takes_a_doubt_over_at_once(deleter, world, doubt, task):
    """It blocks nobody, however young it is."""
    doubt(acted=True)
    assert attempt(deleter, task) is None
    assert world.row(task) is None


def test_a_new_request_that_fails_leaves_the_doubt(deleter, world, standin, doubt, task):
    """A clear refusal of this request says nothing of the one before."""
    doubt(acted=True)
    standin.always(Fault.status(401))
    assert isinstance(attempt(deleter, task), DeletionInDoubt)
    assert world.mark(task)["doubtful_since"]


def test_a_doubt_that_was_taken_over_by_one_that_died_is_completed(deleter, world, doubt, task):
    """Its owner may have cancelled: the mark is like any other that has expired."""
    doubt(acted=False)
    execute("UPDATE task_deletions SET doubtful_since = NULL WHERE task_id = ?", task)
    release()
    expire(task)
    assert swept(deleter) == [(task, "deleted")]
    assert world.schedule_ids(task) == []


def test_a_young_doubt_is_left_alone(deleter, world, standin, doubt, task):
    """Trigger.dev may still act."""
    doubt(acted=True)
    assert swept(deleter) == []
    assert world.row(task)
    assert standin.requests == []


def test_a_doubt_is_looked_at_after_a_minute(deleter, doubt, task):
    """Trigger.dev was seen to act 33 s after its caller had gone; half a minute is the margin."""
    doubt(acted=True)
    begin_doubt(task, ago(50))
    assert swept(deleter) == []
    begin_doubt(task, ago(61))
    assert swept(deleter) == [(task, "deleted")]


def test_doubts_that_cannot_be_told_hold_up_no_others(deleter, world, standin):
    """However old they are: what was looked at longest ago comes first."""
    account = world.account()
    stuck, others = ([world.task(account) for _ in range(2)] for _ in range(2))
    for number, task in enumerate([*stuck, *others]):
        standin.fail(Fault.reset(), Fault.status(401))
        assert isinstance(attempt(deleter, task), DeletionInDoubt)
        begin_doubt(task, ago(300 - number))
    for task in stuck:
        standin.always(Fault.status(401), schedule_id=task, method="GET")
    assert swept(deleter, most=2) == [(task, "in doubt") for task in stuck]
    for task in stuck:
        lease = ago(1)
        execute("UPDATE task_deletions SET lease_expires_at = ? WHERE task_id = ?", lease, task)
    release()
    assert swept(deleter, most=2) == [(task, "kept") for task in others]


def test_a_task_that_is_found_whole_stays(deleter, world, standin, doubt, task):
    """Its schedule is there, so nothing had happened: the mark goes, and nothing else."""
    before = world.row(task)
    doubt(acted=False)
    age(task)
    assert swept(deleter) == [(task, "kept")]
    assert (world.row(task), world.mark(task)) == (before, None)
    assert world.schedule_ids(task)
    assert standin.deletions == {}


def test_a_task_that_is_found_cancelled_goes(deleter, world, doubt, task):
    """What was begun is completed."""
    world.task(world.account())
    doubt(acted=True)
    age(task)
    assert swept(deleter) == [(task, "deleted")]
    assert (world.row(task), world.mark(task)) == (None, None)


def test_a_doubt_that_cannot_be_told_yet_stays(deleter, world, standin, doubt, task):
    """As long as it takes; the row is kept meanwhile."""
    doubt(acted=True)
    standin.always(Fault.status(503), method="GET")
    for _ in range(2):
        age(task)
        expire(task)
        assert swept(deleter) == [(task, "in doubt")]
    assert world.row(task)
    standin.clear()
    expire(task)
    assert swept(deleter) == [(task, "deleted")]


def test_a_404_with_an_unproven_key_settles_no_doubt(deleter, world, standin, doubt, task, caplog):
    """The key may have been replaced by one of another environment meanwhile; a warning says so."""
    schedule = world.row(task)["trigger_schedule_id"]
    world.task(world.account())
    doubt(acted=True)
    deleter.schedules._seen_at = float("-inf")
    standin.schedules.clear()
    age(task)
    assert swept(deleter) == [(task, "in doubt")]
    assert world.row(task)
    [line] = [record for record in caplog.records if record.message == "doubt"]
    noted = [line.fields[name] for name in ("step", "schedule", "reason")]
    assert [line.levelname, *noted] == ["WARNING", "look up", schedule, UNPROVEN]


def test_a_doubt_is_looked_at_by_one_worker_at_a_time(deleter, world, standin, doubt, task):
    """The others find a lease on it."""
    doubt(acted=False)
    age(task)
    standin.always(Fault.delay(0.3), method="GET")

    def look(_):
        with log.record("test") as notes:
            settle(deleter, task)
        release()
        return notes["state"]

    with ThreadPoolExecutor(4) as pool:
        states = sorted(pool.map(look, range(4)))
    assert states == ["kept", "overtaken", "overtaken", "overtaken"]
    assert len(standin.requests) == 1


def test_a_request_overtakes_a_look(deleter, world, standin, doubt, task):
    """Whoever looks finds its token gone, and changes nothing."""
    doubt(acted=False)
    age(task)
    overtaken = Event()

    def play(exchange):
        overtaken.wait(1.5)  # the look has two seconds
        exchange.deliver(exchange.answer())

    standin.fail(Fault("waits", play), method="GET")
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(swept, deleter)
        wait_for(lambda: standin.requests)
        assert attempt(deleter, task) is None
        overtaken.set()
        assert looking.result() == [(task, "overtaken")]
    assert world.row(task) is None


def test_a_settled_doubt_is_overtaken_as_it_is_completed(deleter, world, standin, doubt, task):
    """Another has the mark by then, and does the rest."""
    world.task(world.account())
    doubt(acted=True)
    age(task)

    def play(exchange):
        execute("UPDATE task_deletions SET token = ?", str(uuid4()))
        release()
        exchange.deliver(exchange.answer())

    standin.always(Fault("overtakes", play), method="DELETE")
    assert swept(deleter) == [(task, "overtaken")]
    assert world.mark(task)


def test_a_settled_doubt_is_no_missing_schedule(deleter, standin, doubt, task):
    """We had it cancelled ourselves, though nobody told us."""
    doubt(acted=True)
    with log.record("test") as notes:
        assert attempt(deleter, task) is None
    assert not notes["missing"]


def test_a_disabled_task_in_doubt_settles_too(deleter, world, doubt, task):
    """No list of tasks has to name it."""
    execute("UPDATE scheduled_actions SET enabled = ? WHERE id = ?", False, task)
    release()
    doubt(acted=True)
    age(task)
    assert swept(deleter) == [(task, "deleted")]


# What was cancelled goes forward


def test_what_was_cancelled_is_never_rolled_back(deleter, world, standin, task):
    """Of two schedules one went and one is refused: the mark stays, and the deletion goes on."""
    stored = standin.add("x", externalId=task, deduplicationKey="of-the-host")
    execute("UPDATE scheduled_actions SET trigger_schedule_id = ? WHERE id = ?", stored, task)
    release()
    standin.always(Fault.status(401), schedule_id=stored)
    with log.record("test") as notes:
        assert isinstance(attempt(deleter, task), DeletionUnfinished)
    assert notes["state"] == "marked"
    standin.clear()
    expire(task)
    assert swept(deleter) == [(task, "deleted")]
    assert world.schedule_ids(task) == []


def test_a_second_round_that_fails_goes_forward_too(deleter, world, standin, task):
    """Round one cancelled the schedule that another program has just named: no way back."""
    standin.fail(Fault.delay(0.4))
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(attempt, deleter, task)
        wait_for(lambda: standin.requests)
        new = standin.add("x", externalId=task, deduplicationKey="of-the-host")
        execute("UPDATE scheduled_actions SET trigger_schedule_id = ? WHERE id = ?", new, task)
        release()
        standin.always(Fault.status(403), method="GET")
        assert isinstance(done.result(), DeletionUnfinished)
    assert world.mark(task)["doubtful_since"] is None


def test_a_later_round_forgets_no_doubt(deleter, world, standin, task):
    """Round one lost an answer, round two is refused clearly: it stays a doubt."""
    standin.schedules.clear()
    execute("UPDATE scheduled_actions SET trigger_schedule_id = NULL WHERE id = ?", task)
    release()
    standin.fail(Fault.reset(), Fault.delay(0.4), Fault.status(401))
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(attempt, deleter, task)
        wait_for(lambda: len(standin.requests) == 2)
        new = standin.add("x", externalId=task, deduplicationKey="of-the-host")
        execute("UPDATE scheduled_actions SET trigger_schedule_id = ? WHERE id = ?", new, task)
        release()
        assert isinstance(done.result(), DeletionInDoubt)
    assert world.mark(task)["doubtful_since"]


def test_a_refusal_that_is_clear_leaves_no_mark(deleter, world, standin, task):
    """Nothing was cancelled, and nothing may have been."""
    standin.always(Fault.status(403))
    assert isinstance(attempt(deleter, task), DeletionRolledBack)
    assert world.mark(task) is None


def test_a_wrong_key_costs_no_row(deleter, world, standin, task):
    """Where the key knows no other task's schedule, it is of another environment."""
    world.task(world.account())
    standin.schedules.clear()
    with log.record("test") as notes:
        assert isinstance(attempt(deleter, task), DeletionRolledBack)
    assert "TRIGGER_SECRET_KEY" in notes["reason"]
    assert (notes["refused"], notes["unproven"]) == ("unproven key", None)
    assert world.row(task)


def test_a_wrong_key_is_believed_where_the_operator_says_so(config, world, standin, task):
    """The schedules are really gone, and so no task is undeletable for ever."""
    world.task(world.account())
    standin.schedules.clear()
    trusting = replace(config, trigger_trust_missing=True)
    assert attempt(create_app(trusting).extensions["recoup"].deleter, task) is None
    assert world.row(task) is None
