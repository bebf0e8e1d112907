"""The commands `recoup tasks reconcile` and `restore-schedules`: output, exit codes, and files."""

import json
import re
from pathlib import Path
from uuid import uuid4

import peewee
import psycopg
import pytest

from recoup.app import create_app
from recoup.commands.main import main
from recoup.database.connection import is_postgres
from recoup.database.models import ScheduledAction
from recoup.demo.standin import Fault
from recoup.reconcile import drift as reconcile
from recoup.trigger import inventory
from tests.commands.programs import SECRETS, on_a_terminal
from tests.conftest import close_database, make_config
from tests.factories import delete
from tests.trigger.test_inventory import meanwhile

# `recoup` as a program that never sleeps: it would for 5 s before it looks at drift again.
SLEEPLESS = """
import time
time.sleep = lambda seconds: None
from recoup.commands.main import main
main()
"""
NO_DRIFT = {"orphans": [], "dead_tasks": [], "lost_ids": [], "duplicates": []}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(inventory, "SECONDS_BETWEEN_REQUESTS", 0)
    monkeypatch.setattr(reconcile, "PAUSE_SECONDS", 0)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def recoup(app):
    """Run `recoup tasks …` in this process; see that it shows neither secret nor traceback."""

    def invoke(*args):
        result = app.test_cli_runner().invoke(main, ("tasks", *args))
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert not any(secret in result.output for secret in SECRETS.values())
        return result

    return invoke


@pytest.fixture
def account(world):
    """An account with a task that is as it should be."""
    account = world.account()
    world.task(account)
    return account


@pytest.fixture
def orphan(standin, account):
    """A schedule that no task has: its id."""
    return standin.add(str(uuid4()), timezone="Asia/Tokyo")


def error_line(result):
    """Return the one line that says why it can't be told."""
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


def reported(result):
    """Return the JSON on standard output, which is all there is."""
    return json.loads(result.stdout)


@pytest.fixture
def sleepless(tmp_path):
    """Return the path of `recoup` as a program that never sleeps."""
    script = tmp_path / "sleepless"
    script.write_text(SLEEPLESS)
    return str(script)


# recoup tasks reconcile


def test_without_drift_it_exits_with_0(recoup, account):
    """And says how much it has compared."""
    result = recoup("reconcile")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "No drift; 1 schedule compared.\n"
    result = recoup("reconcile", "--json")
    assert (result.exit_code, result.stderr, reported(result)) == (0, "", NO_DRIFT)


def test_with_drift_it_exits_with_1_and_changes_nothing(recoup, world, standin, account):
    """Each entry has what exists of a schedule's and a task's id."""
    stray = str(uuid4())
    orphan, bare = standin.add(stray), standin.add("x", externalId=None)
    named = world.task(account, schedule=False, trigger_schedule_id="sched_gone")
    lost = world.task(account, schedule=False)
    lost_schedule = standin.add(lost)
    second = standin.add(lost, deduplicationKey="another")
    before = dict(standin.schedules), world.row(named), world.row(lost)
    result = recoup("reconcile", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    found = reported(result)
    found["orphans"].sort(key=len)
    assert found == {
        "orphans": [{"schedule_id": bare}, {"schedule_id": orphan, "task_id": stray}],
        "dead_tasks": [{"schedule_id": "sched_gone", "task_id": named}],
        "lost_ids": [{"schedule_id": lost_schedule, "task_id": lost}],
        "duplicates": [{"schedule_id": second, "task_id": lost}],
    }
    assert list(found) == list(NO_DRIFT)
    assert (dict(standin.schedules), world.row(named), world.row(lost)) == before
    assert {request.method for request in standin.requests} == {"GET"}
    assert not list(Path().iterdir())


def test_a_dead_task_that_never_had_a_schedule_is_named_alone(recoup, world, account):
    """There is no schedule to name."""
    task_id = world.task(account, schedule=False)
    assert reported(recoup("reconcile", "--json"))["dead_tasks"] == [{"task_id": task_id}]


def test_a_lost_id_is_told_by_the_schedule_that_is_there(recoup, world, standin, account):
    """Whatever the row has in its place."""
    stale = world.task(account, schedule=False, trigger_schedule_id="sched_gone")
    alive = standin.add(stale, deduplicationKey="another")
    result = recoup("reconcile", "--json")
    assert reported(result) == NO_DRIFT | {"lost_ids": [{"schedule_id": alive, "task_id": stale}]}


def test_the_table_has_a_line_for_each(recoup, world, standin, account, orphan):
    """Plain text where there is no terminal; what others set can't draw on one."""
    standin.schedules[orphan]["externalId"] = "\x1b[31mred\nü"
    dead = world.task(account, schedule=False)
    result = recoup("reconcile")
    assert result.exit_code == 1
    table, *_, summary = result.stdout.split("\n\n")
    assert [re.split("  +", line) for line in table.splitlines()] == [
        ["DRIFT", "SCHEDULE", "TASK"],
        ["orphan", orphan, r"\x1b[31mred\n\xfc"],
        ["dead task", "-", dead],
    ]
    summary = summary.removesuffix("\n")
    assert summary == "1 orphan, 1 dead task; 2 schedules compared."


def test_the_columns_of_the_table_are_straight(recoup, world, standin, account, orphan):
    """Below the headings, whatever the kind."""
    world.task(account, schedule=False, trigger_schedule_id="sched_gone")
    heading, *lines = recoup("reconcile").stdout.split("\n\n")[0].splitlines()
    assert [line.index("sched_") for line in lines] == [heading.index("SCHEDULE")] * 2
    tasks = [line.rsplit(maxsplit=1)[1] for line in lines]
    starts = [line.index(task) for line, task in zip(lines, tasks, strict=True)]
    assert starts == [heading.index("TASK")] * 2


def test_more_than_one_is_a_plural(recoup, world, standin, account):
    """Of each kind."""
    for _ in range(2):
        standin.add(str(uuid4()))
        world.task(account, schedule=False)
        standin.add(world.task(account, schedule=False))
        standin.add(world.task(account), deduplicationKey=f"another-{uuid4()}")
    summary = recoup("reconcile").stdout.splitlines()[-1]
    assert summary == ("2 orphans, 2 dead tasks, 2 lost ids, 2 duplicates; 9 schedules compared.")


def test_another_task_identifier_may_be_set(app, world, standin):
    """Another deployment may have named its task otherwise."""
    account = world.account()
    world.task(account)
    for schedule in standin.schedules.values():
        schedule["task"] = "other-task"
    config = app.extensions["recoup"].config
    object.__setattr__(config, "trigger_task_identifier", "other-task")
    result = app.test_cli_runner().invoke(main, ("tasks", "reconcile", "--json"))
    assert (result.exit_code, reported(result)) == (0, NO_DRIFT)


@pytest.mark.parametrize("fix", [(), ("--fix", "--yes")])
def test_an_empty_list_tells_nothing(recoup, standin, account, orphan, fix):
    """It says so, and what to look at."""
    standin.deployed = False
    line = error_line(recoup("reconcile", *fix))
    assert "lists no schedule of customer-prompt-task, which proves nothing" in line
    assert "TRIGGER_SECRET_KEY" in line
    assert orphan in standin.schedules


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        (Fault.status(401), "check TRIGGER_SECRET_KEY"),
        (Fault.status(500), "check TRIGGER_API_URL, or try again later"),
        (Fault.reset(), "could not be reached"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_failing_trigger_dev_tells_nothing(recoup, standin, account, fault, hint):
    """Neither that there is drift nor that there is none."""
    standin.always(fault, method="GET")
    assert hint in error_line(recoup("reconcile", "--json"))


def test_a_look_up_that_fails_tells_nothing(recoup, standin, account, orphan):
    """Half of an answer is none."""
    standin.always(Fault.status(500), method="GET", schedule_id=orphan)
    error_line(recoup("reconcile"))


def test_an_unreachable_trigger_dev_tells_nothing(recoup, standin, account):
    """As a cron job would meet it."""
    standin.stop()
    try:
        assert "could not be reached" in error_line(recoup("reconcile"))
    finally:
        standin.start()


def test_a_database_that_is_not_upgraded_tells_nothing(recoup, account):
    """As would one that is down."""
    ScheduledAction._meta.database.execute_sql("DROP TABLE task_deletions")
    line = error_line(recoup("reconcile"))
    owner = " as the owner of the tables" if is_postgres() else ""
    assert line == f"the database lacks table task_deletions; run `recoup db upgrade`{owner}"


def test_a_database_that_lacks_nothing_and_fails_tells_nothing(recoup, account, monkeypatch):
    """What it said is passed on, in one line."""

    def fail():
        raise peewee.OperationalError("could not\nserialize")

    monkeypatch.setattr(reconcile, "read_tasks", fail)
    line = error_line(recoup("reconcile"))
    assert line == "the database failed: could not serialize; check DATABASE_URL"


@pytest.mark.usefixtures("short_waits")
def test_a_database_that_is_down_tells_nothing(standin):
    """In one line, with the address and without the password."""
    standin.add(str(uuid4()))
    url = "postgresql://postgres:hidden@127.0.0.1:9/nowhere"
    app = create_app(make_config(url, TRIGGER_API_URL=standin.url))
    line = error_line(app.test_cli_runner().invoke(main, ["tasks", "reconcile"]))
    assert line.startswith("the database failed: ")
    assert line.endswith("; check DATABASE_URL")
    assert "hidden" not in line
    close_database()


def test_a_rate_limit_is_waited_for(recoup, standin, account):
    """Other programs use the same key."""
    standin.fail(Fault.rate_limited(0.3), method="GET")
    assert recoup("reconcile").exit_code == 0
    assert len(standin.requests) == 2


def test_two_hundred_and_fifty_schedules_are_compared(recoup, standin, account):
    """They are three pages; the orphan may be on any."""
    strays = {standin.add(str(uuid4())) for _ in range(249)}
    found = reported(recoup("reconcile", "--json"))
    assert {entry["schedule_id"] for entry in found["orphans"]} == strays
    assert found == NO_DRIFT | {"orphans": found["orphans"]}


def test_it_says_what_to_do_about_what_only_a_person_can_fix(recoup, world, standin, account):
    """Above the last line, in lines that fit a terminal; of what there is alone."""
    orphan = standin.add(str(uuid4()))
    assert recoup("reconcile").stdout.count("\n") == 3
    standin.schedules.pop(orphan)
    world.task(account, schedule=False)
    dead = recoup("reconcile").stdout
    assert "recoup tasks delete TASK" in dead
    assert "set trigger_schedule_id in its row to NULL, then PATCH" in dead
    assert "duplicate" not in dead
    standin.add(world.task(account), deduplicationKey="another")
    both = recoup("reconcile").stdout
    assert "Delete that schedule in Trigger.dev's\ndashboard" in both
    assert both.startswith("DRIFT ")
    assert both.endswith("\n\n1 dead task, 1 duplicate; 3 schedules compared.\n")
    assert max(map(len, both.splitlines())) < 80


# --fix


def test_fix_deletes_orphans_and_stores_lost_ids(recoup, world, standin, account, orphan):
    """Then there is no drift: 0, now and the next time."""
    lost = world.task(account, schedule=False)
    kept = standin.add(lost)
    result = recoup("reconcile", "--fix", "--yes", "--json")
    assert result.exit_code == 0
    assert [len(entries) for entries in reported(result).values()] == [1, 0, 1, 0]
    backed_up, *said = [line for line in result.stderr.splitlines() if not line.startswith("{")]
    assert "has the schedules" in backed_up
    assert said == [f"{orphan} deleted", f"{kept} stored", "Left: nothing."]
    assert standin.deletions == {orphan: 1}
    assert world.row(lost)["trigger_schedule_id"] == kept
    assert reported(recoup("reconcile", "--json")) == NO_DRIFT


def test_after_the_fix_of_a_stale_id_a_deletion_finds_the_schedule(
    recoup, client, world, standin, account
):
    """Before, it would have asked for one that is gone, and left this one for ever."""
    stale = world.task(account, schedule=False, trigger_schedule_id="sched_gone")
    alive = standin.add(stale, deduplicationKey="another")
    before = world.row(stale)
    result = recoup("reconcile", "--fix", "--yes")
    assert result.exit_code == 0
    assert result.stdout.endswith(f"\n{alive} stored\nLeft: nothing.\n")
    assert json.loads(result.stderr)["replaced"] == "sched_gone"
    assert world.row(stale) == before | {"trigger_schedule_id": alive}
    assert delete(client, stale, world.key(account)).status_code == 200
    assert alive not in standin.schedules


def test_what_only_a_person_can_fix_is_left_and_exits_with_1(recoup, world, standin, account):
    """Dead tasks and duplicates; without an orphan, nothing is asked or written."""
    world.task(account, schedule=False)
    twice = world.task(account)
    standin.add(twice, deduplicationKey="another")
    before = dict(standin.schedules)
    result = recoup("reconcile", "--fix", "--yes")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.splitlines()[-1] == "Left: 1 dead task, 1 duplicate."
    assert standin.schedules == before
    assert not list(Path().iterdir())


def test_without_drift_fix_does_nothing(recoup, account):
    """It may run by the clock."""
    result = recoup("reconcile", "--fix", "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "No drift; 1 schedule compared.\n"
    assert not list(Path().iterdir())


def test_without_a_terminal_fix_needs_yes(recoup, standin, account, orphan):
    """It is refused before anything is asked of anybody."""
    result = recoup("reconcile", "--fix")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give --yes" in result.stderr
    assert standin.requests == []


def test_the_backup_is_written_before_the_first_deletion(recoup, standin, account, orphan):
    """By default in this folder, for our eyes only, with all that Trigger.dev said."""
    schedule = dict(standin.schedules[orphan])
    seen = []

    def look():
        (path,) = Path().iterdir()
        seen.append((path.name, path.stat().st_mode & 0o777, json.loads(path.read_text())))

    standin.fail(meanwhile(look))
    result = recoup("reconcile", "--fix", "--yes")
    ((name, mode, content),) = seen
    assert re.fullmatch(r"recoup-schedules-\d{8}T\d{6}Z\.json", name)
    assert (mode, content) == (0o600, [schedule])
    assert f"{name} has the schedules" in result.stdout


@pytest.mark.parametrize(("path", "reason"), [("kept.json", "File exists"), ("no/x", "No such")])
def test_where_no_backup_can_be_written_nothing_is_deleted(recoup, standin, orphan, path, reason):
    """Nor is an earlier backup written over."""
    Path("kept.json").write_text("precious")
    result = recoup("reconcile", "--fix", "--yes", "--backup", path)
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    assert line.startswith(f"Error: {path} can't be written, so nothing was changed: {reason}")
    assert Path("kept.json").read_text() == "precious"
    assert not standin.deletions


def test_an_orphan_whose_task_comes_back_is_not_deleted(recoup, world, standin, account, orphan):
    """Between the listing and the deletion, somebody restored the row."""
    task_id = standin.schedules[orphan]["externalId"]

    def come_back():
        task = world.task(account, schedule=False)
        ScheduledAction.update(id=task_id).where(ScheduledAction.id == task).execute()

    standin.fail(meanwhile(come_back), method="GET", schedule_id=orphan)
    result = recoup("reconcile", "--fix", "--yes")
    assert f"{orphan} kept: a task has it now\n" in result.stdout
    assert not standin.deletions
    assert world.row(task_id)


@pytest.mark.parametrize("stored_id", [None, "sched_gone"])
def test_a_lost_id_that_was_stored_meanwhile_is_left(recoup, world, standin, account, stored_id):
    """What another program wrote is newer than what we know."""
    lost = world.task(account, schedule=False, trigger_schedule_id=stored_id)
    kept = standin.add(lost)

    def store():
        ScheduledAction.update(trigger_schedule_id="sched_newer").where(
            ScheduledAction.id == lost
        ).execute()

    standin.fail(meanwhile(store), method="GET", schedule_id=kept)
    result = recoup("reconcile", "--fix", "--yes")
    assert f"{kept} not stored: its task has changed\n" in result.stdout
    assert world.row(lost)["trigger_schedule_id"] == "sched_newer"
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "Left: 1 lost id.")


def change_row(task_id, **fields):
    ScheduledAction.update(**fields).where(ScheduledAction.id == task_id).execute()


@pytest.mark.parametrize("change", ["gone", "deleted", "marked", "mended"])
def test_a_lost_id_that_nobody_misses_any_more_is_not_left(recoup, world, standin, account, change):
    """Its task is gone, or will be, or another program stored it."""
    lost = world.task(account, schedule=False)
    schedule = standin.add(lost)

    def delete_row():
        ScheduledAction.delete().where(ScheduledAction.id == lost).execute()

    changes = {
        "gone": delete_row,
        "deleted": lambda: (standin.schedules.pop(schedule), delete_row()),
        "marked": lambda: world.place_mark(lost, lease_seconds=60),
        "mended": lambda: change_row(lost, trigger_schedule_id=f"{schedule}\n"),
    }
    before_it_is_mended(standin, schedule, changes[change])
    result = recoup("reconcile", "--fix", "--yes")
    *_, said, left = result.stdout.splitlines()
    assert said.startswith(f"{schedule} not stored: ")
    assert (result.exit_code, left) == (0, "Left: nothing.")


def test_a_lost_id_whose_schedule_names_the_task_no_more_is_not_stored(
    recoup, world, standin, account
):
    """It was given to another use while the question waited."""
    lost = world.task(account, schedule=False)
    schedule = standin.add(lost)
    other = {"externalId": "other", "deduplicationKey": "other"}
    before_it_is_mended(standin, schedule, lambda: standin.schedules[schedule].update(other))
    result = recoup("reconcile", "--fix", "--yes")
    assert result.exit_code == 1
    said = f"{schedule} not stored: it is no longer its task's"
    assert result.stdout.splitlines()[-2:] == [said, "Left: 1 lost id."]
    assert world.row(lost)["trigger_schedule_id"] is None


def test_a_lost_id_that_two_tasks_could_have_is_left(recoup, world, standin, account):
    """The deletion of either task would cancel it, so a person has to choose."""
    tasks = [world.task(account, schedule=False) for _ in range(2)]
    schedule = standin.add(tasks[0], deduplicationKey=tasks[1])
    result = recoup("reconcile", "--fix", "--yes")
    assert result.exit_code == 1
    said = f"{schedule} not stored: several tasks could have it, so a person has to look"
    assert result.stdout.splitlines()[-3:] == [said, said, "Left: 2 lost ids."]
    assert [world.row(task)["trigger_schedule_id"] for task in tasks] == [None, None]


def test_a_database_without_any_of_the_tasks_deletes_nothing(recoup, world, standin):
    """It is another one, or its role sees no rows; every schedule would be an orphan."""
    ids = {standin.add(str(uuid4())) for _ in range(3)}
    result = recoup("reconcile", "--fix", "--yes", "--json")
    assert result.exit_code == 2
    assert len(reported(result)["orphans"]) == 3
    assert "check DATABASE_URL" in result.stderr
    assert set(standin.schedules) == ids
    assert not list(Path().iterdir())


def test_a_deletion_that_fails_leaves_the_backup(recoup, standin, account):
    """Where nothing was deleted before it, 2: what is left, nobody knows."""
    orphans = [standin.add(str(uuid4())) for _ in range(2)]
    first = orphans[-1]  # the newest is listed first
    standin.always(Fault.status(403), schedule_id=first)
    result = recoup("reconcile", "--fix", "--yes")
    assert result.exit_code == 2
    assert "check TRIGGER_SECRET_KEY" in result.stderr.splitlines()[-1]
    (backup,) = Path().iterdir()
    assert {schedule["id"] for schedule in json.loads(backup.read_text())} == set(orphans)
    logged = [json.loads(line) for line in result.stderr.splitlines()[:-1]]
    assert (logged[-1]["level"], logged[-1]["schedule"]) == ("error", first)


def test_a_fix_that_fails_after_a_change_says_what_is_left(recoup, world, standin, account):
    """With exit code 1, as 2 would say that nothing was done."""
    for _ in range(2):
        standin.add(str(uuid4()))
    standin.add(world.task(account, schedule=False))
    before = set(standin.schedules)
    standin.fail(undisturbed(), Fault.status(403))
    result = recoup("reconcile", "--fix", "--yes")
    assert result.exit_code == 1
    assert "check TRIGGER_SECRET_KEY" in result.stderr.splitlines()[-1]
    (deleted,) = before - set(standin.schedules)
    assert result.stdout.endswith(f"\n{deleted} deleted\nLeft: 1 orphan, 1 lost id.\n")


def before_it_is_mended(standin, schedule_id, action):
    """Let something happen after the comparison and the question: at the second look at it."""
    look = meanwhile(action)
    standin.fail(undisturbed(), look, method="GET", schedule_id=schedule_id)


def test_an_orphan_that_is_gone_by_now_is_not_deleted(recoup, standin, account, orphan):
    """A person may think about the question for an hour."""
    before_it_is_mended(standin, orphan, lambda: standin.schedules.pop(orphan))
    result = recoup("reconcile", "--fix", "--yes")
    assert result.exit_code == 0
    assert result.stdout.endswith(f"\n{orphan} is gone already\nLeft: nothing.\n")
    assert not standin.deletions


@pytest.mark.parametrize("field", ["externalId", "deduplicationKey"])
def test_an_orphan_that_names_a_task_by_now_is_not_deleted(
    recoup, world, standin, account, orphan, field
):
    """What it was called an hour ago doesn't count."""
    task_id = world.task(account, enabled=False, schedule=False)
    change = {field: task_id}
    before_it_is_mended(standin, orphan, lambda: standin.schedules[orphan].update(change))
    result = recoup("reconcile", "--fix", "--yes")
    assert result.exit_code == 0
    assert f"{orphan} kept: a task has it now\n" in result.stdout
    assert not standin.deletions


def test_an_orphan_that_has_several_environments_by_now_is_left(recoup, standin, account, orphan):
    """And nothing else was changed, but something is left."""
    environments = standin.schedules[orphan]["environments"]
    before_it_is_mended(standin, orphan, lambda: environments.append(STAGING))
    result = recoup("reconcile", "--fix", "--yes")
    assert result.exit_code == 1
    assert f"{orphan} kept: several environments use it" in result.stdout
    assert result.stdout.endswith("\nLeft: 1 orphan.\n")
    assert not standin.deletions


def put_back(world, account, task_id):
    """Restore a task's row, as a person with a backup of the database would."""
    task = world.task(account, enabled=False, schedule=False)
    ScheduledAction.update(id=task_id).where(ScheduledAction.id == task).execute()


def test_an_orphan_whose_task_comes_back_while_it_is_deleted_can_be_made_again(
    recoup, world, standin, account, orphan
):
    """The window can't be closed; it is told, and how to mend it."""
    schedule = standin.schedules[orphan]
    task_id = schedule["externalId"]
    standin.fail(meanwhile(lambda: put_back(world, account, task_id)))
    result = recoup("reconcile", "--fix", "--yes", "--backup", "backup.json")
    assert result.exit_code == 1
    said = (
        f"{orphan} deleted, but a task has it now: "
        "`recoup tasks restore-schedules backup.json` makes it again"
    )
    assert result.stdout.splitlines()[-2:] == [said, "Left: 1 orphan."]
    assert recoup("restore-schedules", "backup.json").exit_code == 0
    assert recoup("reconcile", "--fix", "--yes").exit_code == 0
    (now,) = standin.schedules.keys() & {world.row(task_id)["trigger_schedule_id"]}
    assert standin.schedules[now]["timezone"] == schedule["timezone"]


def test_a_failure_after_such_a_deletion_says_what_is_left(recoup, world, standin, account, orphan):
    """It has changed something, though all is left."""
    task_id = str(uuid4())
    first = standin.add(task_id)  # the newest is listed first
    standin.fail(meanwhile(lambda: put_back(world, account, task_id)), schedule_id=first)
    standin.always(Fault.status(403), schedule_id=orphan)
    result = recoup("reconcile", "--fix", "--yes")
    assert result.exit_code == 1
    assert "check TRIGGER_SECRET_KEY" in result.stderr.splitlines()[-1]
    assert result.stdout.endswith("\nLeft: 2 orphans.\n")


def test_a_lost_id_whose_schedule_is_gone_by_now_is_not_stored(recoup, world, standin, account):
    """It would name nothing."""
    lost = world.task(account, schedule=False)
    schedule = standin.add(lost)
    before_it_is_mended(standin, schedule, lambda: standin.schedules.pop(schedule))
    result = recoup("reconcile", "--fix", "--yes")
    assert result.exit_code == 1
    assert result.stdout.endswith(f"\n{schedule} not stored: it is gone\nLeft: 1 lost id.\n")
    assert world.row(lost)["trigger_schedule_id"] is None


def test_a_look_before_mending_that_fails_changes_nothing(recoup, standin, account, orphan):
    """It can't be told what is there by now."""
    standin.fail(undisturbed(), Fault.status(403), method="GET", schedule_id=orphan)
    result = recoup("reconcile", "--fix", "--yes")
    assert result.exit_code == 2
    assert "check TRIGGER_SECRET_KEY" in result.stderr.splitlines()[-1]
    assert not standin.deletions


STAGING = {"id": "env_x", "type": "STAGING"}


def test_an_orphan_of_several_environments_is_left(recoup, standin, account, orphan):
    """A deletion would take it away from all of them, and a restore gives it back to one."""
    standin.schedules[orphan]["environments"].append(STAGING)
    before = dict(standin.schedules)
    result = recoup("reconcile", "--fix", "--yes")
    assert (result.exit_code, result.stderr) == (1, "")
    kept = f"{orphan} kept: several environments use it, so a person has to look"
    assert result.stdout.splitlines()[-2:] == [kept, "Left: 1 orphan."]
    assert standin.schedules == before
    assert not list(Path().iterdir())


def test_beside_an_orphan_of_several_environments_the_others_are_deleted(
    recoup, standin, account, orphan
):
    """And they alone are backed up."""
    standin.schedules[orphan]["environments"].append(STAGING)
    other = standin.add(str(uuid4()))
    result = recoup("reconcile", "--fix", "--yes", "--backup", "backup.json")
    assert result.exit_code == 1
    assert result.stdout.endswith(f"\n{other} deleted\nLeft: 1 orphan.\n")
    assert standin.deletions == {other: 1}
    assert [s["id"] for s in json.loads(Path("backup.json").read_text())] == [other]


def undisturbed():
    return Fault("undisturbed", lambda exchange: exchange.deliver(exchange.answer()))


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_role_that_may_not_store_ids_changes_nothing(
    app, recoup, world, standin, account, orphan, half_blind
):
    """The right is one that deletions don't need, so `recoup doctor` doesn't ask for it."""
    standin.add(world.task(account, schedule=False))
    owner = app.extensions["recoup"].config.database_url
    with half_blind("account_emails"):
        with psycopg.connect(owner) as connection:
            connection.execute("REVOKE UPDATE ON scheduled_actions FROM half_blind")
        result = recoup("reconcile", "--fix", "--yes")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "Error: this role lacks UPDATE (trigger_schedule_id) on scheduled_actions, which storing "
        "lost ids needs, so nothing was changed; see docs/deployment.md"
    )
    assert not standin.deletions
    assert not list(Path().iterdir())


# recoup tasks restore-schedules


def test_what_was_deleted_is_made_again(recoup, standin, account):
    """As it was, but for its id; and once, however often it is asked for."""
    keyed = standin.add(str(uuid4()), timezone="Asia/Tokyo")
    bare = standin.add("x", externalId=None, active=False)
    del standin.schedules[bare]["deduplicationKey"]
    before = {id_: dict(standin.schedules[id_]) for id_ in (keyed, bare)}
    recoup("reconcile", "--fix", "--yes", "--backup", "backup.json")
    assert not before.keys() & standin.schedules.keys()

    result = recoup("restore-schedules", "backup.json")
    assert result.exit_code == 0
    new = dict(re.findall(r"(sched_\w+) is new as (sched_\w+)\n", result.stdout))
    assert new.keys() == before.keys()
    same = ("task", "active", "generator", "timezone", "type")
    for old_id, new_id in new.items():
        after = standin.schedules[new_id]
        assert {name: after[name] for name in same} == {name: before[old_id][name] for name in same}
        assert after.get("externalId") == before[old_id].get("externalId")
    assert standin.schedules[new[keyed]]["deduplicationKey"] == before[keyed]["deduplicationKey"]

    everything = dict(standin.schedules)
    again = recoup("restore-schedules", "backup.json")
    assert re.findall(r"(sched_\w+) is there as (sched_\w+)\n", again.stdout) == list(new.items())
    assert [text.splitlines()[-1] for text in (result.stdout, again.stdout)] == [
        "2 restored.",
        "0 restored.",
    ]
    assert standin.schedules == everything


def test_after_a_restore_fix_stores_the_id_of_what_its_row_alone_names(
    recoup, world, standin, account, orphan
):
    """The schedule names no task, and the row has the id that it had before."""
    standin.schedules[orphan] |= {"externalId": None, "deduplicationKey": None}
    recoup("reconcile", "--fix", "--yes", "--backup", "backup.json")
    task_id = world.task(account, schedule=False, trigger_schedule_id=orphan)
    assert recoup("restore-schedules", "backup.json").exit_code == 0
    (now,) = (s["id"] for s in standin.schedules.values() if s["timezone"] == "Asia/Tokyo")
    result = recoup("reconcile", "--fix", "--yes")
    assert (result.exit_code, result.stdout.splitlines()[-2:]) == (
        0,
        [f"{now} stored", "Left: nothing."],
    )
    assert now in standin.schedules
    assert world.row(task_id)["trigger_schedule_id"] == now


@pytest.mark.parametrize("key", ["some-key", None])
def test_what_was_not_deleted_is_left_as_it_is(recoup, standin, account, orphan, key):
    """Though it has changed since the backup, and may only be found by its id."""
    standin.schedules[orphan]["deduplicationKey"] = key
    Path("backup.json").write_text(json.dumps([standin.schedules[orphan]]))
    standin.schedules[orphan]["timezone"] = "Europe/Paris"
    result = recoup("restore-schedules", "backup.json")
    assert result.exit_code == 0
    assert result.stdout == f"{orphan} is there as {orphan}\n0 restored.\n"
    assert standin.schedules[orphan]["timezone"] == "Europe/Paris"
    assert len(standin.schedules) == 2


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[1]", "null", '[{"id": "sched_x"}]', '[{"id": "../x"}]', "[" * 9999, "\xff"],
)
def test_a_file_that_is_no_backup_is_refused(recoup, standin, content):
    """In one line, and with nothing sent."""
    Path("backup.json").write_bytes(content.encode("latin-1"))
    result = recoup("restore-schedules", "backup.json")
    assert (result.exit_code, result.stdout) == (2, "")
    line = result.stderr.splitlines()[-1]
    assert line == "Error: backup.json was not written by `tasks reconcile --fix`."
    assert standin.requests == []


def test_a_backup_of_nothing_restores_nothing(recoup, standin):
    """And says so."""
    Path("backup.json").write_text("[]")
    result = recoup("restore-schedules", "backup.json")
    assert (result.exit_code, result.output) == (0, "0 restored.\n")
    assert standin.requests == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [("nowhere.json", "No such file or directory"), (".", "Is a directory")],
)
def test_a_file_that_cannot_be_read_is_named(recoup, path, reason):
    """A typing error."""
    result = recoup("restore-schedules", path)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"Error: {path} can't be read: {reason}."


def test_a_restore_that_fails_says_why(recoup, standin, account, orphan):
    """In Trigger.dev's own words, with the schedule's name."""
    Path("backup.json").write_text(json.dumps([standin.schedules.pop(orphan)]))
    said = "You have created 10/10 schedules"
    standin.always(Fault.status(422, json.dumps({"error": said}).encode()), method="POST")
    result = recoup("restore-schedules", "backup.json")
    assert result.exit_code == 1
    text = f"{orphan} is not restored: Trigger.dev answered 422: {said}"
    assert result.stderr.splitlines()[-1] == text


# On a terminal, as programs of their own


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1)])
def test_on_a_terminal_fix_asks(
    sleepless, world, standin, account, orphan, database_url, answer, code
):
    """A bar, a table in colours, and a question whose answer is no unless told otherwise."""
    environ = {"DATABASE_URL": database_url, "TRIGGER_API_URL": standin.url, **SECRETS}
    command = [sleepless, "tasks", "reconcile", "--fix"]
    returned, shown = on_a_terminal(command, answer, **environ)
    assert returned == code, shown
    assert "Comparing" in shown
    assert "100%" in shown
    assert re.search(r"Looking again after 5 s .* 0%", shown)
    assert "\x1b[33morphan " in shown
    assert orphan in shown
    assert "Delete orphans: 1, and store lost ids: 0? [y/N]" in shown
    assert (orphan in standin.schedules) == (code == 1)
    assert len(list(Path().iterdir())) == (code == 0)
    *_, last = shown.splitlines()
    assert last == ("Left: 1 orphan." if code else "Left: nothing.")
    assert "Traceback" not in shown


def test_on_a_terminal_a_deletion_is_told_once(
    sleepless, world, standin, account, orphan, database_url
):
    """By the command; the log's line is for programs that collect standard error."""
    environ = {"DATABASE_URL": database_url, "TRIGGER_API_URL": standin.url, **SECRETS}
    command = [sleepless, "tasks", "reconcile", "--fix", "--yes"]
    code, shown = on_a_terminal(command, b"", **environ)
    assert code == 0, shown
    _, after = shown.split("has the schedules")
    assert after.count(orphan) == 1
    assert f"\n{orphan} deleted\r\nLeft: nothing.\r\n" in after


def test_without_a_terminal_the_log_is_alone_on_standard_error(
    run, sleepless, world, standin, account, orphan, database_url
):
    """What a person would read is on standard output."""
    environ = {"DATABASE_URL": database_url, "TRIGGER_API_URL": standin.url, **SECRETS}
    code, stdout, stderr = run(sleepless, "tasks", "reconcile", "--fix", "--yes", **environ)
    assert code == 0, stderr
    assert stdout.endswith(f"\n{orphan} deleted\nLeft: nothing.\n")
    (logged,) = [json.loads(line) for line in stderr.splitlines()]
    assert (logged["event"], logged["schedule"], logged["state"]) == (
        "reconcile",
        orphan,
        "deleted",
    )


def test_json_is_all_there_is_on_standard_output(
    run, sleepless, world, standin, account, orphan, database_url
):
    """The log of what was fixed, and everything else, is on standard error."""
    environ = {"DATABASE_URL": database_url, "TRIGGER_API_URL": standin.url, **SECRETS}
    code, stdout, stderr = run(
        sleepless, "tasks", "reconcile", "--fix", "--yes", "--json", **environ
    )
    assert code == 0, stderr
    assert list(json.loads(stdout)) == list(NO_DRIFT)
    logged = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    assert [(line["schedule"], line["state"]) for line in logged] == [(orphan, "deleted")]
    assert "\x1b" not in stdout + stderr


@pytest.mark.parametrize("args", [(), ("--json",), ("--fix", "--yes")], ids=" ".join)
@pytest.mark.parametrize("table", ["scheduled_actions", "task_deletions"])
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_where_rows_may_be_hidden_it_can_not_tell(recoup, standin, orphan, half_blind, table, args):
    """A hidden task's schedule would be an orphan, a task with a hidden mark a dead one."""
    with half_blind(table):
        line = error_line(recoup("reconcile", *args))
    assert line == "row level security may hide tasks from this role; use one that bypasses it"
    assert standin.requests == []
