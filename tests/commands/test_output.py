"""Output that can't be written is one line and an exit code, and leaves no key that nobody has."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from recoup.database.connection import fetch, release
from tests.commands.programs import SECRETS
from tests.commands.test_commands import WSGI
from tests.forked import BIN, Forked

FULL = "/dev/full"
NO_SPACE = "Error: the output can't be written: No space left on device"

pytestmark = pytest.mark.skipif(not Path(FULL).exists(), reason="only Linux has /dev/full")


@pytest.fixture(name="environ")
def _environ(database_url, standin):
    return {"DATABASE_URL": database_url, "TRIGGER_API_URL": standin.url, **SECRETS}


@pytest.fixture(name="full")
def _full(environ, tmp_path):
    """Run `recoup` with an output on a full disk; return its exit code and what it says."""
    said = tmp_path / "said"

    def run(*args, streams=(FULL, said)):
        streams = [os.devnull, *map(str, streams)]
        process = Forked(["recoup", *args], tmp_path, {"PATH": os.defpath, **environ}, streams)
        return process.wait(), said.read_text().splitlines()

    return run


def keys():
    found = fetch("SELECT 1 FROM account_api_keys")
    release()
    return found


@pytest.mark.parametrize(
    "args",
    [("tasks", "recover"), ("db", "upgrade"), ("config", "check"), ("doctor",)],
    ids=" ".join,
)
def test_a_full_disk_is_one_line(full, args):
    """Whatever the command."""
    assert full(*args) == (1, [NO_SPACE])


def test_a_full_disk_is_one_line_of_flask_too(full, environ, tmp_path):
    """The same commands are there."""
    said = tmp_path / "said"
    process = Forked(
        ["flask", "--app", WSGI, "tasks", "recover"],
        tmp_path,
        {"PATH": os.defpath, **environ},
        [os.devnull, FULL, str(said)],
    )
    assert (process.wait(), said.read_text().splitlines()) == (1, [NO_SPACE])


def test_nobody_who_reads_on_is_no_error(environ, tmp_path):
    """As in `recoup … | head -1`."""
    line = f"{BIN}/recoup config check | true"
    env = {"PATH": os.defpath, **environ}
    ended = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=env, capture_output=True)
    assert ended.stderr == b""


def test_tasks_after_one_that_can_not_be_told_are_left(full, world):
    """What was done is in the log."""
    account = world.account()
    ids = [world.task(account) for _ in range(3)]
    code, (*logged, last) = full("tasks", "delete", *ids)
    assert (code, last) == (1, NO_SPACE)
    assert {json.loads(line)["task"] for line in logged} == {ids[0]}
    assert [bool(world.row(task)) for task in ids] == [False, True, True]


def test_drift_that_can_not_be_told_is_not_told_by_the_exit_code(full, world):
    """1 would mean that there is some."""
    world.task(world.account())
    assert full("tasks", "reconcile") == (2, [NO_SPACE])


def test_a_key_that_can_not_be_printed_is_not_made(full, world, tmp_path):
    """Nobody would have it, and it would be valid for ever."""
    create = ("keys", "create", "--account", world.account())
    code, lines = full(*create)
    assert (code, lines[-1], keys()) == (1, NO_SPACE, [])
    # Nor one whose id nobody knows.
    assert full(*create, streams=(tmp_path / "said", FULL))[0] == 1
    assert keys() == []


def test_no_key_is_made_for_an_output_that_is_closed(environ, world, tmp_path):
    """Python would print it to nobody, without an error."""
    script = 'exec "$0" keys create --account "$1" >&-'
    done = subprocess.run(
        ["sh", "-c", script, BIN / "recoup", world.account()],
        cwd=tmp_path,
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    line = "Error: standard output is closed, so nobody would see the key\n"
    assert (done.returncode, done.stderr, keys()) == (1, line, [])
