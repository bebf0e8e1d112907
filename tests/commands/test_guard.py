"""`recoup db guard`, and what `recoup tasks recover` does about orphans."""

import re
from contextlib import closing
from uuid import uuid4

import pytest

from recoup.app import create_app
from recoup.commands.main import main
from recoup.database import guard, orphans
from recoup.database.connection import execute, is_postgres, release
from recoup.deletion.guard import MOST_FAILURES
from recoup.demo.standin import Fault
from tests.commands.programs import error_line
from tests.conftest import make_config
from tests.host import HostConnection

GUARD_ON = ("db", "guard", "on")
NONE_WAIT = "Schedules that wait to be cancelled: 0."


@pytest.fixture(name="drop")
def _drop(database_url):
    """Delete the row of a task as another program does."""

    def drop(task):
        with closing(HostConnection(database_url)) as host:
            host.run("DELETE FROM scheduled_actions WHERE id = ?", task)

    return drop


def said(result):
    return result.exit_code, result.stdout.splitlines()


def test_the_guard_is_turned_on_and_off(recoup):
    """It may be turned on again and again; on SQLite it can't be turned off."""
    if is_postgres():
        assert said(recoup("db", "guard", "status")) == (1, ["The guard is off.", NONE_WAIT])
    for _ in range(2):
        assert said(recoup(*GUARD_ON)) == (0, ["The guard is on."])
    assert said(recoup("db", "guard", "status")) == (0, ["The guard is on.", NONE_WAIT])
    off = recoup("db", "guard", "off")
    if is_postgres():
        assert said(off) == (0, [f"The guard is off. {NONE_WAIT}"])
        assert not guard.look().is_on
    else:
        assert "stays on" in error_line(off)
        assert guard.look().is_whole


def test_a_guard_that_is_broken_is_told(recoup):
    """With what is wrong, and exit code 1."""
    if is_postgres():
        recoup(*GUARD_ON)
        execute("ALTER TABLE scheduled_actions DISABLE TRIGGER recoup_guard_truncate")
        release()
        line = "The guard is broken. The trigger recoup_guard_truncate is missing or disabled."
    else:
        execute("DROP TRIGGER recoup_guard")
        release()
        line = "The guard is off."
    assert said(recoup("db", "guard", "status")) == (1, [line, NONE_WAIT])
    recoup(*GUARD_ON)
    assert recoup("db", "guard", "status").exit_code == 0


def test_a_guard_that_could_record_nothing_is_not_called_on(postgres_url):
    """As before the first upgrade; after it, the same command is content."""
    runner = create_app(make_config(postgres_url)).test_cli_runner()
    execute("ALTER TABLE orphaned_schedules RENAME TO gone")
    release()
    result = runner.invoke(main, GUARD_ON)
    assert result.exit_code == 1
    assert "or there is no such table" in error_line(result)
    execute("ALTER TABLE gone RENAME TO orphaned_schedules")
    release()
    assert said(runner.invoke(main, GUARD_ON)) == (0, ["The guard is on."])


def test_what_waits_is_told(recoup, world, drop):
    """When it is turned off, too: that is still collected."""
    recoup(*GUARD_ON)
    drop(world.task(world.account()))
    result = recoup("db", "guard", *(["off"] if is_postgres() else ["status"]))
    assert "Schedules that wait to be cancelled: 1, the first for 0 s." in result.stdout


def test_recover_collects_orphans(recoup, world, drop):
    """Also one that was tried in vain, and would wait for its next turn."""
    recoup(*GUARD_ON)
    world.task(world.account())
    task = world.task(world.account())
    drop(task)
    world.standin.fail(Fault.status(403))
    result = recoup("tasks", "recover")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "0 settled, 1 left.")
    assert re.search(f"{task} is left until .*Z: Trigger.dev answered 403", result.stdout)
    assert said(recoup("tasks", "recover")) == (0, [f"{task} cancelled", "1 settled, 0 left."])
    assert world.schedule_ids(task) == []


def test_recover_says_why_an_orphan_was_not_tried(recoup, world, drop):
    """It is too early for one. The last of the others has no turn while Trigger.dev is not well."""
    recoup(*GUARD_ON)
    early = world.task(world.account(), schedule=False)
    drop(early)
    for _ in range(MOST_FAILURES + 1):
        drop(world.task(world.account()))
    world.standin.always(Fault.status(403))
    lines = recoup("tasks", "recover").stdout.splitlines()
    reason = "Trigger.dev answered 403: Something went wrong, please try again"
    assert sum(line.endswith(f"Z: {reason}") for line in lines) == MOST_FAILURES
    untried = f"is left, due now: not tried, because others failed before it ({reason})"
    assert sum(line.endswith(untried) for line in lines) == 1
    assert [line for line in lines if line.endswith("it may be about to get a schedule")] == [
        line for line in lines if line.startswith(early)
    ]
    world.standin.clear()


def test_recover_says_that_a_worker_collects(recoup, world, drop):
    """Its reasons are in its log; Trigger.dev may be down, and nobody else would say so.

    Deletions in the middle that fail are another matter.
    """
    recoup(*GUARD_ON)
    account = world.account()
    task, *marked = (world.task(account) for _ in range(1 + MOST_FAILURES))
    drop(task)
    for one in marked:
        world.place_mark(one, lease_seconds=-1)
    world.standin.always(Fault.status(403))
    orphans.hold_collection(str(uuid4()), 60)
    code, lines = said(recoup("tasks", "recover"))
    assert (code, lines[-2:]) == (
        1,
        [
            f"{task} is left, due now: a worker is trying such tasks now; see the service's log",
            f"0 settled, {1 + MOST_FAILURES} left.",
        ],
    )
    world.standin.clear()


def test_a_role_that_does_not_own_the_tables_is_told_so(postgres_url):
    """And nothing was made."""
    app = create_app(make_config(postgres_url))
    execute("SET ROLE service_role")
    assert "permission denied" in error_line(app.test_cli_runner().invoke(main, GUARD_ON))
    assert not guard.look().is_on
    release()
