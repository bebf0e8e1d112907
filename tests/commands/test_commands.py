"""The command `recoup`: what it does, what it prints, and its exit codes.

Most tests run it in this process; those that could only fail in a process of its own, there.
"""

import json
import os
import re
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import requests

from recoup.app import create_app
from recoup.commands.main import main
from recoup.database.connection import execute, release
from recoup.database.readiness import missing_from_schema
from recoup.demo.standin import Fault
from tests.commands.programs import NOBODY, SECRETS, error_line
from tests.conftest import close_database, make_config
from tests.factories import select_row
from tests.forked import SECONDS, Forked

ROOT = Path(__file__).resolve().parents[2]
WSGI = str(ROOT / "wsgi.py")


# recoup db


def test_upgrade_makes_a_database(run, tmp_path):
    """From nothing to a database that is ready, in a folder that it makes."""
    url = f"sqlite:///{tmp_path}/new/recoup.db"
    assert run("recoup", "db", "upgrade", DATABASE_URL=url, **SECRETS) == (
        0,
        "The database is up to date.\n",
        "",
    )
    app = create_app(make_config(url))
    assert app.test_client().get("/readyz").status_code == 200
    close_database()


def test_the_default_database_is_below_instance(run, tmp_path):
    """Two secrets are enough to begin with."""
    assert run("recoup", "db", "upgrade", **SECRETS)[0] == 0
    assert (tmp_path / "instance" / "recoup.sqlite3").is_file()


def test_upgrade_of_an_upgraded_database_changes_nothing(recoup):
    """It runs with each deployment."""
    result = recoup("db", "upgrade")
    assert (result.exit_code, result.stdout) == (0, "The database is up to date.\n")
    assert missing_from_schema() == []


def test_flask_has_the_same_commands(run, sqlite_url):
    """`flask --app wsgi db upgrade` is `recoup db upgrade`."""
    command = ("flask", "--app", WSGI, "db", "upgrade")
    result = run(*command, DATABASE_URL=sqlite_url, **SECRETS)
    assert result == (0, "The database is up to date.\n", "")


# recoup tasks recover


def without_times(text):
    """Return the lines of an output, its instants as TIME."""
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text).splitlines()


def test_recover_completes_what_has_expired(recoup, world):
    """What somebody may still be working on is left alone, but counted."""
    account = world.account()
    expired, working, untouched = (world.task(account) for _ in range(3))
    world.place_mark(expired, lease_seconds=-1)
    world.place_mark(working, lease_seconds=60)
    result = recoup("tasks", "recover")
    assert (result.exit_code, without_times(result.stdout)) == (
        1,
        [
            f"{expired} deleted",
            f"{working} is left until TIME: its deletion is under way",
            "1 settled, 1 left.",
        ],
    )
    assert [bool(world.row(task)) for task in (expired, working, untouched)] == [False, True, True]
    assert world.schedule_ids(expired) == []
    assert world.mark(working)


def test_recover_goes_on_until_nothing_has_expired(recoup, world, monkeypatch):
    """However many there are."""
    monkeypatch.setattr("recoup.deletion.sweep.MOST_PER_SWEEP", 2)
    account = world.account()
    for _ in range(5):
        world.place_mark(world.task(account), lease_seconds=-1)
    result = recoup("tasks", "recover")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "5 settled, 0 left.")


def test_recover_tells_what_is_left(recoup, world, standin):
    """One that fails doesn't keep the others, and makes the exit code 1."""
    account = world.account()
    failing, other = world.task(account), world.task(account)
    world.place_mark(failing, lease_seconds=-2)
    world.place_mark(other, lease_seconds=-1)
    standin.always(Fault.status(403), schedule_id=failing)
    result = recoup("tasks", "recover")
    assert result.exit_code == 1
    reason = "Trigger.dev answered 403: Something went wrong, please try again"
    assert without_times(result.stdout) == [
        f"{other} deleted",
        f"{failing} is left until TIME: {reason}",
        "1 settled, 1 left.",
    ]
    assert world.row(failing)
    assert world.mark(failing)
    assert world.row(other) is None


def test_recover_names_a_doubt_that_is_too_young(recoup, world, standin):
    """With the time from which it is looked at."""
    task = world.task(world.account())
    standin.always(Fault.reset())
    assert recoup("tasks", "delete", task).exit_code == 1
    result = recoup("tasks", "recover")
    assert (result.exit_code, without_times(result.stdout)) == (
        1,
        [f"{task} is left until TIME: Trigger.dev may still act", "0 settled, 1 left."],
    )


def test_recover_with_nothing_to_do_succeeds(recoup):
    """It may run by the clock."""
    result = recoup("tasks", "recover")
    assert (result.exit_code, result.stdout) == (0, "0 settled, 0 left.\n")


def test_commands_work_as_processes(run, world, standin, database_url):
    """The installed program does the same; results on stdout, its log on stderr."""
    environ = {"DATABASE_URL": database_url, "TRIGGER_API_URL": standin.url, **SECRETS}
    account = world.account()
    task_id, marked = world.task(account), world.task(account)
    world.place_mark(marked, lease_seconds=-1)
    code, key, _ = run("recoup", "keys", "create", "--account", account, **environ)
    assert (code, world.authenticator.hash_key(key.strip())) == (
        0,
        select_row("account_api_keys", "account", account)["key_hash"],
    )
    code, stdout, stderr = run("recoup", "tasks", "delete", task_id, **environ)
    assert (code, stdout.startswith(f"Task {task_id} is deleted")) == (0, True)
    lines = [json.loads(line) for line in stderr.splitlines()]
    assert {line["event"]: line["task"] for line in lines} == {
        "deleted": task_id,
        "command": task_id,
    }
    code, stdout, stderr = run("recoup", "tasks", "recover", **environ)
    assert (code, stdout) == (0, f"{marked} deleted\n1 settled, 0 left.\n")
    assert standin.schedules == {}


# recoup config


def test_config_check_shows_settings_and_no_secret(run):
    """An operator may paste it into an issue."""
    code, stdout, stderr = run(
        "recoup",
        "config",
        "check",
        TRIGGER_SECRET_KEY="tr_hidden",
        PRIVY_PROJECT_SECRET="https://hidden",
        DATABASE_URL="postgres://user:hid?den#hidden@db.example.com:6543/postgres?passfile=hidden",
        TRIGGER_PROXY_URL="http://user:hidden@proxy:3128",
        TRIGGER_DEADLINE_SECONDS="5",
    )
    assert (code, stderr) == (0, "")
    assert "hid" not in stdout
    shown = dict(line.split("=", 1) for line in stdout.splitlines())
    assert shown["DATABASE_URL"] == "postgres://user:********@db.example.com:6543/postgres"
    assert shown["TRIGGER_PROXY_URL"] == "http://user:********@proxy:3128"
    assert shown["TRIGGER_SECRET_KEY"] == shown["PRIVY_PROJECT_SECRET"] == "********"
    assert (shown["TRIGGER_DEADLINE_SECONDS"], shown["PRIVY_APP_ID"]) == ("5.0", "")


@pytest.mark.parametrize("url", ["sqlite:///a/b.db", "postgresql://user@db/x", "postgres://db/x"])
def test_config_check_shows_a_url_without_secrets_whole(run, url):
    """It has nothing to hide."""
    assert (
        f"DATABASE_URL={url}\n" in run("recoup", "config", "check", DATABASE_URL=url, **SECRETS)[1]
    )


def test_config_check_names_every_problem(run):
    """On stderr, with exit code 1."""
    environ = {"DATABASE_URL": "mysql://u:hidden@h/x", "WEB_THREADS": "hidden"}
    assert run("recoup", "config", "check", **environ) == (
        1,
        "",
        "Error: the configuration is not usable:\n"
        "  DATABASE_URL: must begin with sqlite:///, postgres:// or postgresql://.\n"
        "  PRIVY_PROJECT_SECRET: is required.\n"
        "  TRIGGER_SECRET_KEY: is required.\n"
        "  WEB_THREADS: must be a number.\n",
    )


def test_config_check_warns_of_names_that_look_like_a_mistake(run, tmp_path):
    """Beside the settings, on stderr; it doesn't fail, because others may need them."""
    (tmp_path / ".env").write_text("TRIGGER_SECRT_KEY=tr_hidden\nTRIGGER_PROJECT_ID=hidden\n")
    code, stdout, stderr = run("recoup", "config", "check", **SECRETS)
    assert (code, "DATABASE_URL=" in stdout) == (0, True)
    assert stderr == (
        "Warning: TRIGGER_PROJECT_ID is not a setting of this service.\n"
        "Warning: TRIGGER_SECRT_KEY is not a setting of this service; "
        "is TRIGGER_SECRET_KEY meant?\n"
    )


def test_config_check_warns_beside_the_problems(run):
    """What is missing may be what is misspelt."""
    code, _, stderr = run("recoup", "config", "check", TRIGGER_SECRT_KEY="x", RECOUP_ORG="'x'")
    assert code == 1
    assert stderr.startswith("Warning: RECOUP_ORG is not a setting of this service; is RECOUP_ORG_")
    assert "TRIGGER_SECRET_KEY: is required. TRIGGER_SECRT_KEY is set: is it meant" in stderr


def test_config_check_names_a_line_that_cannot_be_read(run, tmp_path):
    """By its number, as it may hold a secret."""
    (tmp_path / ".env").write_text("WEB_THREADS=9\nWEB_CONCURRENCY 'hidden\n")
    code, _, stderr = run("recoup", "config", "check", **SECRETS)
    assert code == 1
    assert stderr.endswith("  .env: line 2 can't be read.\n")


def test_a_dotenv_file_serves_the_command(run, tmp_path):
    """That of the current folder, as for the service."""
    (tmp_path / ".env").write_text("TRIGGER_SECRET_KEY=a\nPRIVY_PROJECT_SECRET=b\nWEB_THREADS=9\n")
    code, stdout, _ = run("recoup", "config", "check", WEB_CONCURRENCY="3")
    assert code == 0
    assert "WEB_THREADS=9\n" in stdout
    assert "WEB_CONCURRENCY=3\n" in stdout


# Failures

COMMANDS = [
    ("db", "upgrade"),
    ("keys", "create", "--account", NOBODY),
    ("keys", "list", "--account", NOBODY),
    ("keys", "revoke", NOBODY),
    ("tasks", "delete", NOBODY),
    ("tasks", "delete", "--account", NOBODY, "--yes"),
    ("tasks", "recover"),
]


@pytest.mark.parametrize(
    "args",
    [("keys", "revoke", "x"), ("tasks", "delete", "x"), ("keys", "create", "--account", "x")],
)
def test_an_id_that_is_none_is_refused(recoup, args):
    """It never reaches the database."""
    result = recoup(*args)
    assert result.exit_code == 2
    assert "'x' is not a valid UUID." in result.stderr.splitlines()[-1]


@pytest.fixture
def closed_port():
    """A port that nobody listens on, and that nobody else is given."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_database_that_is_away_is_one_line(command, closed_port):
    """With exit code 1, and without the password."""
    app = create_app(make_config(f"postgresql://u:hidden@127.0.0.1:{closed_port}/x"))
    line = error_line(app.test_cli_runner().invoke(main, command))
    assert "Connection refused" in line
    assert "hidden" not in line
    close_database()


@pytest.mark.parametrize("command", COMMANDS[1:], ids=" ".join)
def test_a_database_that_was_not_upgraded_is_one_line(command, tmp_path):
    """It says what is missing."""
    (tmp_path / "empty.db").touch()
    app = create_app(make_config(f"sqlite:///{tmp_path}/empty.db"))
    line = error_line(app.test_cli_runner().invoke(main, command))
    assert re.search("no such table|lacks table", line)
    close_database()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    "command", [("db", "upgrade"), ("db", "guard", "on"), ("keys", "create")], ids=" ".join
)
def test_a_role_that_lacks_a_right_is_told_who_has_it(recoup, world, half_blind, command):
    """`recoup doctor` looks for the service's rights alone, and may find nothing amiss."""
    account = ("--account", world.account()) if command[0] == "keys" else ()
    with half_blind():
        line = error_line(recoup(*command, *account))
    assert re.search("permission denied|must be owner", line)
    assert line.endswith(
        "; this role lacks a right: run it as the owner of the tables, see docs/deployment.md"
    )


@pytest.mark.parametrize("args", [("upgrade",), ("guard", "on")], ids=" ".join)
def test_a_table_that_is_busy_is_told_as_such(postgres_url, args):
    """It soon won't be; there is nothing to mend."""
    app = create_app(make_config(postgres_url))
    execute("DROP INDEX account_api_keys_key_hash")
    release()
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE scheduled_actions, account_api_keys IN ROW EXCLUSIVE MODE")
        line = error_line(app.test_cli_runner().invoke(main, ("db", *args)))
    assert "lock timeout" in line
    assert line.endswith("; another program holds a lock: run it again")


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_reason_that_is_a_sentence_is_not_ended_twice(recoup):
    """Before what to do."""
    execute("DROP TABLE orphan_collector")
    release()
    line = error_line(recoup("tasks", "recover"))
    assert line.endswith("run `recoup db upgrade` as the owner of the tables; see `recoup doctor`")


@pytest.mark.parametrize("place", ["/proc/nowhere/x.db", "/dev/null/x.db", "/tmp"])
def test_a_file_that_cannot_be_opened_is_one_line(run, place):
    """A folder that can't be made, one that is a file, and a file that is a folder."""
    code, stdout, stderr = run(
        "recoup", "db", "upgrade", DATABASE_URL=f"sqlite:///{place}", **SECRETS
    )
    assert (code, stdout) == (1, "")
    [line] = stderr.splitlines()
    assert line.startswith("Error: the database failed: ")


@pytest.mark.parametrize(
    "command",
    [
        ("recoup", "db", "upgrade"),
        ("flask", "--app", WSGI, "db", "upgrade"),
        ("flask", "--app", WSGI, "run"),
        ("gunicorn", "--config", str(ROOT / "gunicorn.conf.py")),
    ],
    ids=["recoup", "flask", "flask run", "gunicorn"],
)
def test_a_bad_configuration_starts_nothing(run, command, tmp_path):
    """Each way in shows the same plain list, and exits with an error."""
    code, _, stderr = run(*command, WEB_THREADS="x", TRIGGER_SECRET_KEY="tr_hidden")
    assert code != 0
    assert stderr == (
        "Error: the configuration is not usable:\n"
        "  PRIVY_PROJECT_SECRET: is required.\n"
        "  WEB_THREADS: must be a number.\n"
    )
    assert list(tmp_path.iterdir()) == []


# flask run


def test_flask_run_serves(tmp_path, sqlite_url):
    """The development server runs the same app with the same settings."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ("flask", "--app", WSGI, "run", "--port", str(port))
    environ = {"DATABASE_URL": sqlite_url, **SECRETS}
    process = Forked(command, tmp_path, environ, [os.devnull] * 3)
    assert get(f"http://127.0.0.1:{port}/healthz", process).json()["status"] == "ok"
    assert get(f"http://127.0.0.1:{port}/readyz", process).status_code == 200
    process.send_signal(signal.SIGINT)
    process.wait()


def get(url, process):
    """Ask until there is an answer, or the process is gone."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        with suppress(requests.ConnectionError):
            return requests.get(url, timeout=SECONDS)
        time.sleep(0.05)
    pytest.fail(f"no answer from {url}")
