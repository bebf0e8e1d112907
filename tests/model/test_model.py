"""Every order of steps in small scopes keeps the promises, and a bug that breaks one is found."""

from dataclasses import replace

import pytest
from peewee import Node, fn

from recoup.database import mark_queries, orphans, queries
from recoup.database.built import Statement
from recoup.database.connection import AnswerLost
from recoup.database.expressions import clock_plus
from recoup.database.models import ScheduledAction, TaskDeletion
from recoup.deletion import doubt, guard, marks
from recoup.deletion.marks import Origin
from recoup.deletion.staged import Deleter
from recoup.trigger import cancel
from recoup.trigger.answers import judge
from recoup.trigger.cancel import TriggerSchedules
from tests.model import scopes
from tests.model.explorer import Explorer, Scope
from tests.model.state import FOREIGN, TASK


@pytest.fixture(name="explorer")
def _explorer(tmp_path, monkeypatch):
    explorer = Explorer(tmp_path, monkeypatch)
    yield explorer
    explorer.database.close()


@pytest.mark.parametrize("scope", scopes.SMALL, ids=lambda scope: f"{scope.actors} {scope.others}")
def test_no_order_breaks_a_promise(explorer, scope):
    """Whatever fails, dies, is late or interferes."""
    found = explorer.explore(scope)
    assert found.broken is None, "\n".join(found.trace)
    assert found.states > 50


def test_trigger_dev_answers_as_the_stand_in_does(explorer):
    """A DELETE by key or id names what went, and only then is it gone."""
    alive = frozenset({"sched_first", FOREIGN})
    for key in (TASK, "sched_first"):
        (status, body), left = explorer.trigger.answer(alive, "DELETE", key)
        assert (status, body, left) == (200, b'{"id": "sched_first"}', {FOREIGN})
        assert explorer.trigger.answer(left, "DELETE", key)[0][0] == 404


# What would break a promise: each is put in, and has to be found


def ignoring(*, token=True, schedule=True):
    """Return a statement that removes the row whatever mark is on it, or whatever it names."""

    def remove_task(task_id: Node, schedule_id: Node, own: Node):
        mark = TaskDeletion.select().where(
            TaskDeletion.task == task_id, (TaskDeletion.token == own) | (not token)
        )
        named = ScheduledAction.trigger_schedule_id
        return ScheduledAction.delete().where(
            ScheduledAction.id == task_id, (named == schedule_id) | (not schedule), fn.EXISTS(mark)
        )

    return Statement(remove_task)


@Statement
def remove_any_mark(task_id: Node, token: Node):
    return TaskDeletion.delete().where(TaskDeletion.task == task_id, token == token)


@Statement
def take_over_any_mark(task_id: Node, token: Node, seconds: Node):
    lease = clock_plus(seconds)
    return TaskDeletion.update(token=token, lease_expires_at=lease).where(
        TaskDeletion.task == task_id, TaskDeletion.doubtful_since.is_null()
    )


def as_if_placed(real):
    """Have marks that were taken over pass for ones of the caller's own."""

    def take_over(*args):
        mark = real(*args)
        return mark and replace(mark, origin=Origin.PLACED)

    return take_over


def forget_the_doubt(real):
    def cancel(self, cancellation):
        cancellation.report.in_doubt = False
        return real(self, cancellation)

    return cancel


def forget_what_was_cancelled(real):
    def give_up(self, mark, report, reason):
        report.cancelled = []
        return real(self, mark, report, reason)

    return give_up


def cancel_by_key_alone(self, cancellation):
    self._delete(cancellation.task_id, cancellation)


def believe_the_key(self, cancellation):
    pass


@Statement
def list_nothing(*_: Node):
    return TaskDeletion.select(TaskDeletion.task).where(TaskDeletion.task.is_null())


BUGS = {
    "the row goes without regard to the token": (
        Scope("dd", crashes=1),
        (queries, "remove_task", ignoring(token=False)),
    ),
    "the row goes whatever it names": (
        Scope("d", ("names_a_new_schedule",)),
        (queries, "remove_task", ignoring(schedule=False)),
    ),
    "a mark is removed without regard to the token": (
        Scope("dd", faults=1),
        (mark_queries, "remove_mark", remove_any_mark),
    ),
    "the end of a lease is not waited for": (
        Scope("dd"),
        (mark_queries, "take_over_mark", take_over_any_mark),
    ),
    "a mark that was taken over is rolled back": (
        Scope("dd", faults=1, crashes=1),
        (marks, "take_over", as_if_placed(marks.take_over)),
    ),
    "a doubt that was taken over is rolled back": (
        Scope("dd", faults=2),
        (marks, "_take_over_doubtful", as_if_placed(marks._take_over_doubtful)),
    ),
    "what was cancelled is rolled back": (
        Scope("d", faults=1, named="sched_host", alive=("sched_first", "sched_host")),
        (Deleter, "_give_up", forget_what_was_cancelled(Deleter._give_up)),
    ),
    "a later round forgets a doubt": (
        Scope("d", ("names_a_new_schedule",), faults=2),
        (TriggerSchedules, "cancel", forget_the_doubt(TriggerSchedules.cancel)),
    ),
    "a doubt whose takeover was not answered is as it was": (
        Scope("dd", faults=2),
        (marks, "_unfinished", AnswerLost),
    ),
    "a doubt is looked at while a request may act": (
        Scope("dl", faults=1),
        (doubt, "SETTLING_SECONDS", 0),
    ),
    "a lost answer is no doubt": (Scope("d", faults=1), (cancel, "was_sent", lambda _: False)),
    "a 422 is no doubt": (
        Scope("d", faults=1),
        (cancel, "may_have_acted", lambda answer: answer.status >= 500),
    ),
    "a success in other words counts": (
        scopes.LOST_ID._replace(actors="d", faults=1),
        (cancel, "judge_schedule", lambda answer, _: judge(answer)),
    ),
    "a 404 is believed without a proof": (
        scopes.WRONG_KEY._replace(actors="d"),
        (TriggerSchedules, "_prove_key", believe_the_key),
    ),
    "another task's schedule is cancelled": (
        scopes.ANOTHERS._replace(actors="d"),
        (cancel, "_is_of_another", lambda *_: False),
    ),
    "only the task's key is cancelled": (
        scopes.TWO_SCHEDULES._replace(actors="d"),
        (TriggerSchedules, "cancel", cancel_by_key_alone),
    ),
    "marks are not looked for": (
        Scope("d", crashes=1),
        (mark_queries, "expired_marks", list_nothing),
    ),
    "doubts are not looked for": (
        Scope("d", faults=1),
        (mark_queries, "old_doubts", list_nothing),
    ),
    "a record is forgotten though nothing was cancelled": (
        Scope("s", ("deletes_the_row",), faults=1),
        (guard, "_cancel", lambda *_: "gone"),
    ),
    "a row that named no schedule is not looked at again": (
        scopes.PAUSED._replace(actors="d", others=("makes_a_schedule",)),
        (orphans, "record_orphan", lambda *_: None),
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_what_breaks_a_promise_is_found(explorer, monkeypatch, bug):
    """So that the exploration is able to fail."""
    scope, seeded = BUGS[bug]
    monkeypatch.setattr(*seeded)
    assert explorer.explore(scope).broken
