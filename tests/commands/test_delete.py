"""The command `recoup tasks delete`."""

import json
import re

import pytest

from recoup.commands.main import main
from recoup.database import statements
from recoup.database.connection import DatabaseFailed, release
from recoup.database.models import ScheduledAction
from recoup.demo.standin import Fault
from recoup.trigger import inventory
from tests.commands.programs import NOBODY, SECRETS, converse, error_line, on_a_terminal


@pytest.fixture(autouse=True)
def _unpaced(monkeypatch):
    monkeypatch.setattr(inventory, "SECONDS_BETWEEN_REQUESTS", 0)


def lines_of(logged):
    """Return what the command itself has logged; the audit has lines of its own."""
    lines = map(json.loads, logged)
    return [line for line in lines if line["event"] == "command"]


def test_an_operator_deletes_any_task(recoup, world):
    """Without a credential or a scope; the schedule goes too."""
    task_id = world.task(world.account())
    result = recoup("tasks", "delete", task_id.upper())
    [logged] = lines_of(result.stderr.splitlines())
    assert (result.exit_code, logged["state"]) == (0, "deleted")
    assert result.stdout == f"Task {task_id} is deleted.\n"
    assert world.row(task_id) is None
    assert world.schedule_ids(task_id) == []


def test_an_unknown_task_is_named_as_such(recoup, standin):
    """And nothing is asked of Trigger.dev."""
    line = error_line(recoup("tasks", "delete", NOBODY))
    assert line == "Error: there is no such task; perhaps it is deleted already"
    assert standin.requests == []


def test_a_cancel_that_fails_keeps_the_task(recoup, world, standin):
    """One line says why, and the row is what it was."""
    task_id = world.task(world.account())
    before = world.row(task_id)
    standin.always(Fault.status(403))
    result = recoup("tasks", "delete", task_id)
    line = error_line(result)
    assert "the task was kept" in line
    assert line.endswith("kept. (Trigger.dev answered 403: Something went wrong, please try again)")
    assert "403" in line
    logged = json.loads(result.stderr.splitlines()[0])
    assert (logged["level"], logged["state"]) == ("error", "kept")
    assert "403" in logged["reason"]
    assert (world.row(task_id), world.mark(task_id)) == (before, None)
    assert len(world.schedule_ids(task_id)) == 1


def test_a_schedule_that_nobody_knew_is_mentioned(recoup, world, standin):
    """The task is gone, and the operator is told where to look for what fired it."""
    task_id = world.task(world.account())
    standin.schedules.clear()
    result = recoup("tasks", "delete", task_id)
    assert "recoup tasks reconcile" in result.stdout


# Many


def tasks(world, count):
    """Make an account with tasks; return it, and their ids."""
    account = world.account()
    return account, [world.task(account) for _ in range(count)]


def title(task_id, text, **columns):
    """Give a task another title."""
    row = ScheduledAction.id == task_id
    ScheduledAction.update(title=text, **columns).where(row).execute()
    release()


def refuse(standin, task_id):
    """Have Trigger.dev refuse to cancel a task's schedule."""
    standin.always(Fault.status(403), method="DELETE", schedule_id=task_id)


def test_many_tasks_are_deleted(recoup, world, standin):
    """Each is told and logged, and the last line counts them; one named twice is one."""
    _, ids = tasks(world, 3)
    result = recoup("tasks", "delete", *ids, ids[0].upper())
    assert result.exit_code == 0
    told = [f"Task {task_id} is deleted." for task_id in ids]
    assert result.stdout.splitlines() == [*told, "3 of 3 deleted."]
    logged = lines_of(result.stderr.splitlines())
    assert [(line["task"], line["state"]) for line in logged] == [(i, "deleted") for i in ids]
    assert [world.row(task_id) for task_id in ids] == [None] * 3
    assert standin.schedules == {}


def test_after_a_failure_it_goes_on(recoup, world, standin):
    """What failed is told after the others, the last line adds up, and the exit code is 1."""
    _, (first, kept, last) = tasks(world, 3)
    refuse(standin, kept)
    result = recoup("tasks", "delete", first, NOBODY, kept, last)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "2 of 4 deleted, 2 failed."
    *logged, unknown, refused = result.stderr.splitlines()
    assert unknown == f"Error: {NOBODY}: there is no such task; perhaps it is deleted already"
    assert refused.startswith(f"Error: {kept}: The schedule could not be cancelled; ")
    levels = [line["level"] for line in lines_of(logged)]
    assert levels == ["info", "error", "error", "info"]
    assert [bool(world.row(task_id)) for task_id in (first, kept, last)] == [False, True, False]


def test_ids_are_read_from_standard_input(app, world):
    """Where a `-` is, separated by white space."""
    _, ids = tasks(world, 3)
    given = f"{ids[0]}\n {ids[1]}\r\n\n"
    result = app.test_cli_runner().invoke(main, ["tasks", "delete", "-", ids[2]], input=given)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "3 of 3 deleted.")
    assert [world.row(task_id) for task_id in ids] == [None] * 3


@pytest.mark.parametrize("junk", ["monday-report", "x;y", "\xff\xfe"])
def test_an_input_with_anything_else_deletes_nothing(app, world, junk):
    """Whoever pipes the wrong column wants none of it deleted."""
    _, [task_id] = tasks(world, 1)
    given = f"{task_id}\n".encode() + junk.encode("latin-1")
    result = app.test_cli_runner().invoke(main, ["tasks", "delete", "-"], input=given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is not a valid UUID." in result.stderr.splitlines()[-1]
    assert world.row(task_id)


def test_an_empty_input_deletes_nothing(app):
    """A query may find no task."""
    result = app.test_cli_runner().invoke(main, ["tasks", "delete", "-"], input="")
    assert (result.exit_code, result.output) == (0, "0 of 0 deleted.\n")


@pytest.mark.parametrize("args", [(), ("--yes",), (NOBODY, "--account", NOBODY)])
def test_it_takes_ids_or_an_account(recoup, args):
    """Nothing is not everything."""
    result = recoup("tasks", "delete", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "either the ids of tasks (- to read them) or --account" in result.stderr


def test_schedules_that_nobody_knew_are_counted(recoup, world, standin):
    """Before the last line."""
    _, ids = tasks(world, 3)
    standin.schedules.popitem()
    result = recoup("tasks", "delete", *ids)
    assert result.stdout.splitlines()[-2:] == [
        "Trigger.dev knew no schedule of 1 of them; see `recoup tasks reconcile`.",
        "3 of 3 deleted.",
    ]


def test_a_database_that_fails_in_between_fails_that_task_alone(recoup, world, monkeypatch):
    """As any failure does."""
    _, ids = tasks(world, 2)
    find = statements.find_standing
    asked = []

    def fail_once(task_id):
        asked.append(task_id)
        if len(asked) == 1:
            raise DatabaseFailed("gone\naway")
        return find(task_id)

    monkeypatch.setattr(statements, "find_standing", fail_once)
    result = recoup("tasks", "delete", *ids)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "1 of 2 deleted, 1 failed.")
    line = result.stderr.splitlines()[-1]
    assert line == f"Error: {ids[0]}: the database failed: gone away; see `recoup doctor`"


# An account


def test_all_tasks_that_go_with_an_account_are_shown_and_deleted(recoup, world):
    """Those that it owns and those that it is the artist of, and nobody else's."""
    account, (owned,) = tasks(world, 1)
    _, (played, others) = tasks(world, 2)
    title(owned, "Zoë\x1b[31m")
    title(played, "Tour dates", artist_account_id=account)
    result = recoup("tasks", "delete", "--account", account, "--yes")
    assert result.exit_code == 0
    heading, *shown = [re.split("  +", line) for line in result.stdout.splitlines()[:3]]
    assert heading == ["TASK", "ROLE", "CRON", "TITLE"]
    assert shown == [
        [played, "artist", "0 9 * * 1", "Tour dates"],
        [owned, "owner", "0 9 * * 1", r"Zoë\x1b[31m"],
    ]
    assert result.stdout.splitlines()[-1] == "2 of 2 deleted."
    assert [bool(world.row(task_id)) for task_id in (owned, played, others)] == [0, 0, 1]


def test_without_a_terminal_an_account_needs_yes(recoup, world, standin):
    """It is refused before anything is asked of anybody."""
    account, (task_id,) = tasks(world, 1)
    result = recoup("tasks", "delete", "--account", account)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give --yes" in result.stderr
    assert world.row(task_id)
    assert standin.requests == []


def test_an_account_without_tasks_has_none_to_delete(recoup, world):
    """It may be run again."""
    result = recoup("tasks", "delete", "--account", world.account(), "--yes")
    assert (result.exit_code, result.output) == (0, "0 of 0 deleted.\n")


def test_an_unknown_account_is_named_as_such(recoup):
    """It is probably a typing error, and its tasks are still there."""
    result = recoup("tasks", "delete", "--account", NOBODY, "--yes")
    assert error_line(result) == f"Error: there is no account {NOBODY}"


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_an_account_whose_tasks_may_be_hidden_is_not_called_empty(app, world, half_blind):
    """Whoever relied on that would delete the account, and leave its schedules."""
    account, (task_id,) = tasks(world, 1)
    args = ("tasks", "delete", "--account", account, "--yes")
    with half_blind():
        result = app.test_cli_runner().invoke(main, args)
    assert "row level security may hide tasks" in error_line(result)
    assert world.row(task_id)


# On a terminal, as programs of their own


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1)])
def test_on_a_terminal_an_account_is_asked_about(world, standin, database_url, answer, code):
    """A table, a question whose answer is no unless told otherwise, and a bar."""
    account, ids = tasks(world, 3)
    environ = {"DATABASE_URL": database_url, "TRIGGER_API_URL": standin.url, **SECRETS}
    command = ["recoup", "tasks", "delete", "--account", account]
    returned, shown = on_a_terminal(command, answer, **environ)
    assert returned == code, shown
    assert all(task_id in shown for task_id in ids)
    assert "Delete tasks: 3, each with its schedule? [y/N]" in shown
    assert ("3/3" in shown) == (code == 0)
    assert shown.endswith("Aborted!\r\n" if code else "\n3 of 3 deleted.\r\n")
    assert [bool(world.row(task_id)) for task_id in ids] == [bool(code)] * 3


def test_on_a_terminal_a_failure_is_told_once(world, standin, database_url):
    """Below the bar, and not in the log as well."""
    _, ids = tasks(world, 2)
    refuse(standin, ids[0])
    environ = {"DATABASE_URL": database_url, "TRIGGER_API_URL": standin.url, **SECRETS}
    code, shown = on_a_terminal(["recoup", "tasks", "delete", *ids], b"", **environ)
    assert code == 1, shown
    *_, failure, last = shown.splitlines()
    assert (shown.count(ids[0]), shown.count(ids[1])) == (1, 0)
    assert failure.startswith(f"Error: {ids[0]}: ")
    assert last == "1 of 2 deleted, 1 failed."


def test_after_ctrl_c_the_last_line_adds_up(world, standin, database_url):
    """What was not tried is left, and may be tried later."""
    _, ids = tasks(world, 50)
    environ = {"DATABASE_URL": database_url, "TRIGGER_API_URL": standin.url, **SECRETS}
    code, shown = converse(["recoup", "tasks", "delete", *ids], (b" 2/50", b"\x03"), **environ)
    assert (code, shown.splitlines()[-1]) == (1, "Aborted!")
    deleted, left = re.search(r"^(\d+) of 50 deleted, (\d+) left\.", shown, re.MULTILINE).groups()
    assert int(deleted) + int(left) == 50
    gone = sum(world.row(task_id) is None for task_id in ids)
    assert int(deleted) <= gone <= int(deleted) + 1
