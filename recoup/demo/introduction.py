"""What the demo prints: what it is, and lines to paste, each with what it shows."""

import sys
from pathlib import Path
from shlex import quote

from recoup.demo.data import KEY, TASKS
from recoup.demo.outage import PATH
from recoup.demo.standin import StandIn


def introduce(port: int, folder: str, standin: StandIn) -> str:
    """Return the introduction, for a terminal of 80 columns."""
    _, gone, refused, lost, by_hand, *spare = TASKS
    service = f"http://127.0.0.1:{port}"
    fail = f"{standin.url}{PATH}"
    recoup = f"sh {quote(command_path(folder))}"
    return f"""
This is a DEMO, as TRIGGER_SECRET_KEY is not set. Nothing outside is called, and
nothing that you have configured is used: Trigger.dev is a stand-in. Ctrl-C ends
and removes all of it. The API, to try in a browser with the key {KEY}:

    {service}/docs

Or paste these into another terminal, one line at a time.

# A task goes, and its schedule with it: 200. The same again: 404.
{_delete(service, gone)}

# Trigger.dev refuses for half a minute: 500, and the task is kept.
curl -d refuse {fail}
{_delete(service, refused)}

# It acts, but its answers are lost: 500, in doubt. In about a minute and a half
# that settles automatically: a line with "doubt" in the log here says so.
# (With "hang" for "lost" it doesn't act: the task is found whole, and stays.)
curl -d lost {fail}
{_delete(service, lost)}

# A row is deleted by hand, past the service: within a minute its schedule is
# gone too, and the log has a line with "orphan".
{_delete_by_hand(folder, by_hand)}

# An operator asks: is all in order? Do tasks and schedules match?
{recoup} doctor
{recoup} tasks reconcile

# The schedules that are left.
curl -H 'Authorization: Bearer {standin.secret_key}' {standin.url}/api/v1/schedules

More tasks to delete: {spare[0]}
                      {spare[1]}
"""


def write_command(folder: str, environ: dict[str, str]) -> None:
    """Write a shell script that is `recoup` with the demo's settings."""
    settings = " ".join(f"{name}={quote(value)}" for name, value in environ.items())
    program = quote(str(Path(sys.executable).with_name("recoup")))
    Path(command_path(folder)).write_text(f'exec env {settings} {program} "$@"\n')


def command_path(folder: str) -> str:
    """Return where that script is."""
    return str(Path(folder, "recoup"))


def database_path(folder: str) -> str:
    """Return where the demo's database is."""
    return str(Path(folder, "demo.sqlite3"))


def _delete(service: str, task_id: str) -> str:
    body = f"""-d '{{"id": "{task_id}"}}'"""
    return f"curl -i -X DELETE {service}/api/tasks -H 'x-api-key: {KEY}' {body}"


def _delete_by_hand(folder: str, task_id: str) -> str:
    connection = f"sqlite3.connect('{database_path(folder)}', isolation_level=None)"
    statement = f"'DELETE FROM scheduled_actions WHERE id = ?', ['{task_id}']"
    return f'{quote(sys.executable)} -c "import sqlite3; {connection}.execute({statement})"'
