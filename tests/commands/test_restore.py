"""`recoup tasks restore-schedules`: a schedule comes back whole, or it is said that it doesn't."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from recoup.app import create_app
from recoup.commands.main import main
from recoup.demo.standin import Fault, StandIn
from recoup.trigger import inventory
from recoup.trigger.schedule import ScheduleSchema
from tests.commands.programs import on_a_terminal
from tests.conftest import make_config

BACKUP = "backup.json"
PROD, DEV, OTHER_DEV = "tr_prod_standin", "tr_dev_standin", "tr_dev_other"
SAME = ("task", "active", "generator", "timezone", "window", "externalId", "environments")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(inventory, "SECONDS_BETWEEN_REQUESTS", 0)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(name="standin")
def _standin():
    with StandIn(PROD, other_keys=[DEV, OTHER_DEV, "x"]) as standin:
        yield standin


@pytest.fixture
def restore(sqlite_url, standin):
    """Restore what is in the backup with a secret key; return what the command did."""

    def invoke(key=PROD, *options):
        settings = {"TRIGGER_SECRET_KEY": key, "TRIGGER_API_URL": standin.url}
        app = create_app(make_config(sqlite_url, **settings))
        command = ("tasks", "restore-schedules", BACKUP, *options)
        result = app.test_cli_runner().invoke(main, command)
        assert isinstance(result.exception, SystemExit | None)
        assert not any(key in result.output for key in (PROD, DEV, OTHER_DEV))
        return result

    return invoke


def back_up(standin, *ids):
    """Write a backup of schedules, and take them away; return them."""
    schedules = [standin.schedules.pop(id_) for id_ in ids]
    Path(BACKUP).write_text(json.dumps(schedules))
    return schedules


YES = (PROD, "--yes")


def posts(standin):
    return [request.path for request in standin.requests if request.method == "POST"]


@pytest.mark.parametrize("active", [True, False])
def test_a_schedule_comes_back_whole(restore, standin, active):
    """With its cron, zone, window and external id, under its key, and on or off as it was."""
    cron = {"type": "CRON", "expression": "5 4 * * 0", "description": "Cron 5 4 * * 0"}
    fields = {"timezone": "Asia/Tokyo", "window": "30m", "active": active, "generator": cron}
    key = str(uuid4())
    [before] = back_up(standin, standin.add(key, task="other-task", **fields))
    result = restore(*YES)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "1 restored.")
    [after] = standin.schedules.values()
    assert {name: after[name] for name in SAME} == {name: before[name] for name in SAME}
    assert after["deduplicationKey"] == key


def test_one_that_is_there_but_for_its_switch_is_switched_off(restore, standin):
    """As where a restore broke off before it."""
    key = str(uuid4())
    [before] = back_up(standin, standin.add(key, window="30m", active=False))
    now = standin.add(key, window="30m", active=True)
    result = restore()
    assert result.exit_code == 0
    assert result.stdout == f"{before['id']} is there as {now}\n0 restored.\n"
    assert standin.schedules[now]["active"] is False
    assert standin.schedules[now]["window"] == "30m"


def test_one_that_was_switched_off_since_its_restore_stays_off(restore, standin):
    """A person has paused it; it is said each time that it differs."""
    [before] = back_up(standin, standin.add(str(uuid4())))
    assert restore(*YES).exit_code == 0
    [now] = standin.schedules
    standin.schedules[now]["active"] = False
    as_it_was = dict(standin.schedules[now])
    result = restore()
    assert (result.exit_code, result.stdout) == (1, "0 restored, 1 not.\n")
    assert result.stderr == f"{before['id']} is not restored: {now} has its key, and is off now\n"
    assert standin.schedules == {now: as_it_was}


def test_another_one_under_its_key_is_left_alone_and_told(restore, standin):
    """A program that made it meanwhile knows better; the others are restored all the same."""
    key, other = str(uuid4()), str(uuid4())
    [before, _] = back_up(standin, standin.add(key, window="30m"), standin.add(other))
    now = standin.add(key, timezone="Asia/Tokyo", active=False)
    as_it_was = dict(standin.schedules[now])
    result = restore()
    assert result.exit_code == 1
    text = f"{before['id']} is not restored: {now} has its key, and not its timezone, window"
    assert result.stderr.splitlines() == [text]
    assert result.stdout.splitlines()[-1] == "1 restored, 1 not."
    assert standin.schedules[now] == as_it_was
    assert sorted(s["externalId"] for s in standin.schedules.values()) == sorted([key, other])


def test_a_server_that_drops_a_part_is_told(restore, standin):
    """An older one knows no windows: what it made is not what was."""
    back_up(standin, standin.add(str(uuid4()), window="30m"))
    save = standin._save

    def without_window(schedule, options, environment):
        return save(schedule, {k: v for k, v in options.items() if k != "window"}, environment)

    standin._save = without_window
    result = restore(*YES)
    assert result.exit_code == 1
    assert result.stderr.endswith(" has its key, and not its window\n")


@pytest.mark.parametrize("status", [400, 422])
def test_one_that_is_refused_for_good_does_not_keep_the_others(restore, standin, status):
    """Each run would meet it again, and break off."""
    keys = [str(uuid4()) for _ in range(3)]
    [_, refused, _] = back_up(standin, *map(standin.add, keys))
    fault = Fault.status(status, b'{"error": "Invalid IANA timezone"}')
    standin.fail(_undisturbed(), fault, method="POST")
    result = restore(*YES)
    assert result.exit_code == 1
    text = f"{refused['id']} is not restored: Trigger.dev answered {status}: Invalid IANA timezone"
    assert result.stderr.splitlines() == [text]
    assert result.stdout.splitlines()[-1] == "2 restored, 1 not."
    assert len(standin.schedules) == 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault.status(401), "answered 401"),
        (Fault.status(403), "answered 403"),
        (Fault.status(404), "answered 404"),
        (Fault.status(422, headers={"x-should-retry": "true"}), "answered 422"),
        (Fault.rate_limited(100_000), "answered 429"),
        (Fault.status(500), "answered 500"),
        (Fault.reset(), "could not be reached"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_what_would_keep_each_from_being_made_ends_the_restore(restore, standin, fault, said):
    """With the first one; the same command, again, completes it."""
    back_up(standin, standin.add(str(uuid4())), standin.add(str(uuid4())))
    standin.always(fault, method="POST")
    result = restore(*YES)
    assert (result.exit_code, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: Trigger.dev ")
    assert said in line


@pytest.mark.parametrize("key", ["%61", "%2e%2e", "a%2Fb", ".", "..", "sched_mine"])
def test_a_key_that_can_not_be_asked_for_is_refused(restore, standin, key):
    """It might be there, or be taken for the key of another, which would be changed."""
    [before] = back_up(standin, standin.add("x", externalId=None, deduplicationKey=key))
    another = standin.add("y", deduplicationKey="a")
    now = standin.add("z", deduplicationKey=key)
    everything = {id_: dict(schedule) for id_, schedule in standin.schedules.items()}
    result = restore()
    assert (result.exit_code, result.stdout) == (1, "0 restored, 1 not.\n")
    assert result.stderr.startswith(f"{before['id']} is not restored: its key can't be asked for")
    assert standin.schedules == everything
    assert {another, now} == everything.keys()


@pytest.mark.parametrize("key", ["%61", ".", "sched_mine"])
def test_a_key_that_can_not_be_asked_for_is_there_by_its_id(restore, standin, key):
    """What was never deleted is found."""
    id_ = standin.add("x", deduplicationKey=key)
    Path(BACKUP).write_text(json.dumps([standin.schedules[id_]]))
    result = restore()
    assert (result.exit_code, result.stdout) == (0, f"{id_} is there as {id_}\n0 restored.\n")


@pytest.mark.parametrize(
    ("key", "named"), [(DEV, "DEVELOPMENT"), ("x", "unknown")], ids=["dev", "unknown"]
)
def test_with_a_key_of_another_environment_nothing_is_made(restore, standin, key, named):
    """Deduplication keys are a project's: it would take over what is there."""
    there = standin.add(str(uuid4()))
    as_it_was = dict(standin.schedules[there])
    lost = standin.add(str(uuid4()))
    Path(BACKUP).write_text(json.dumps([standin.schedules[there], standin.schedules.pop(lost)]))
    result = restore(key)
    assert (result.exit_code, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert line.startswith(
        f"Error: {there} in {BACKUP} belongs to another environment (PRODUCTION) "
    )
    assert f"TRIGGER_SECRET_KEY ({named})" in line
    assert standin.requests == []
    assert standin.schedules == {there: as_it_was}


def test_with_a_key_of_another_environment_of_its_kind_nothing_is_made(restore, standin):
    """Each person has a DEVELOPMENT, and each branch is a PREVIEW, of its own."""
    standin.secret_key, standin.other_keys = DEV, (OTHER_DEV,)
    there = standin.add(str(uuid4()))
    Path(BACKUP).write_text(json.dumps([standin.schedules[there]]))
    mine = ScheduleSchema().load(standin.schedules[there] | {"id": "sched_x"})
    config = make_config("sqlite:///x", TRIGGER_API_URL=standin.url, TRIGGER_SECRET_KEY=OTHER_DEV)
    object.__setattr__(mine, "deduplication_key", "mine")
    inventory.ScheduleInventory.of(config).make(mine)
    before = {id_: dict(schedule) for id_, schedule in standin.schedules.items()}
    standin.requests.clear()
    result = restore(OTHER_DEV)
    assert result.exit_code == 1
    assert "belongs to another environment" in result.stderr
    assert posts(standin) == []
    assert standin.schedules == before


def test_one_of_another_environment_keeps_all_from_being_made(restore, standin):
    """It is seen before the first is made."""
    ids = [standin.add(str(uuid4())), standin.add(str(uuid4()))]
    standin.schedules[ids[1]]["environments"] = [{"id": "env_x", "type": "STAGING"}]
    back_up(standin, *ids)
    result = restore()
    assert result.exit_code == 1
    assert f"{ids[1]} in {BACKUP} belongs to another environment (STAGING)" in result.stderr
    assert standin.schedules == {}


def test_one_of_two_environments_comes_back_in_one_and_that_is_told(restore, standin):
    """Each time, because only a person can give it to the other one."""
    id_ = standin.add(str(uuid4()))
    standin.schedules[id_]["environments"].insert(0, {"id": "env_x", "type": "STAGING"})
    back_up(standin, id_)
    for options in (YES, ()):
        result = restore(*options)
        assert (result.exit_code, result.stdout) == (1, "0 restored, 1 not.\n")
        [now] = standin.schedules
        text = f"{id_} is not restored: {now} has its key, and not its environments\n"
        assert result.stderr == text


ASKED = "lists no schedule, so it can't be told whether they belong to its environment"


RISK = "A schedule with the same key in another environment would move to this one"


def test_with_a_key_that_lists_no_schedule_nothing_is_made_unasked(restore, standin):
    """It may be of another branch or person, and would take over what is there."""
    standin.secret_key, standin.other_keys = DEV, (OTHER_DEV,)
    there = standin.add(str(uuid4()))
    Path(BACKUP).write_text(json.dumps([standin.schedules[there]]))
    before = dict(standin.schedules[there])
    result = restore(OTHER_DEV)
    assert (result.exit_code, result.stdout) == (2, "")
    assert ASKED in result.stderr.splitlines()[-1]
    assert RISK in result.stderr.splitlines()[-1]
    assert "give --yes" in result.stderr
    assert posts(standin) == []
    assert standin.schedules == {there: before}


def test_yes_answers_for_a_key_that_lists_no_schedule_alone(restore, standin):
    """All schedules of an environment may be gone; those of another one are refused as ever."""
    back_up(standin, standin.add(str(uuid4())))
    assert restore(DEV, "--yes").exit_code == 1
    assert posts(standin) == []
    assert restore(*YES).exit_code == 0
    assert len(standin.schedules) == 1


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1)])
def test_on_a_terminal_it_asks_for_a_key_that_lists_no_schedule(standin, sqlite_url, answer, code):
    """The answer is no unless told otherwise."""
    back_up(standin, standin.add(str(uuid4())))
    environ = {"DATABASE_URL": sqlite_url, "TRIGGER_API_URL": standin.url}
    secrets = {"TRIGGER_SECRET_KEY": PROD, "PRIVY_PROJECT_SECRET": "secret-of-the-tests"}
    command = ["recoup", "tasks", "restore-schedules", BACKUP]
    returned, shown = on_a_terminal(command, answer, **environ, **secrets)
    assert returned == code, shown
    assert f"{ASKED}. Make schedules: 1? [y/N]" in " ".join(shown.split())
    assert f"{RISK}. " in " ".join(shown.split())
    assert len(standin.schedules) == (code == 0)


def test_after_a_restore_it_says_how_tasks_get_the_new_ids(restore, standin):
    """Their rows name the old ones; where nothing is new there is nothing to do."""
    back_up(standin, standin.add(str(uuid4())))
    advice = "`recoup tasks reconcile --fix`"
    assert advice in restore(*YES).stdout.splitlines()[-2]
    assert advice not in restore().stdout


def test_what_breaks_off_before_the_switch_is_completed_by_another(restore, standin):
    """The same command, again."""
    back_up(standin, standin.add(str(uuid4()), active=False))
    standin.fail(_undisturbed(), Fault.status(403), method="POST")
    assert restore(*YES).exit_code == 1
    [now] = standin.schedules.values()
    assert now["active"] is True
    assert restore().exit_code == 0
    assert [s["active"] for s in standin.schedules.values()] == [False]


def _undisturbed():
    return Fault("undisturbed", lambda exchange: exchange.deliver(exchange.answer()))
