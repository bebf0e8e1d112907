"""The command `recoup tasks delete`."""

import json

from recoup.demo.standin import Fault
from tests.commands.programs import NOBODY, error_line


def test_an_operator_deletes_any_task(recoup, world):
    """Without a credential or a scope; the schedule goes too."""
    task_id = world.task(world.account())
    result = recoup("tasks", "delete", task_id.upper())
    assert (result.exit_code, json.loads(result.stderr)["state"]) == (0, "deleted")
    assert result.stdout == f"Task {task_id} is deleted.\n"
    assert world.row(task_id) is None
    assert world.schedule_ids(task_id) == []


def test_an_unknown_task_is_named_as_such(recoup, standin):
    """And nothing is asked of Trigger.dev."""
    line = error_line(recoup("tasks", "delete", NOBODY))
    assert line == "Error: there is no such task; is it deleted already?"
    assert standin.requests == []


def test_a_cancel_that_fails_keeps_the_task(recoup, world, standin):
    """One line says why, and the row is what it was."""
    task_id = world.task(world.account())
    before = world.row(task_id)
    standin.always(Fault.status(403))
    line = error_line(recoup("tasks", "delete", task_id))
    assert "the task was kept" in line
    assert "403" in line
    assert (world.row(task_id), world.mark(task_id)) == (before, None)
    assert len(world.schedule_ids(task_id)) == 1


def test_a_schedule_that_nobody_knew_is_mentioned(recoup, world, standin):
    """The task is gone, and the operator is told where to look for what fired it."""
    task_id = world.task(world.account())
    standin.schedules.clear()
    result = recoup("tasks", "delete", task_id)
    assert "recoup tasks reconcile" in result.stdout
