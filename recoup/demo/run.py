"""The demo: the real service on a database of its own, with a stand-in for Trigger.dev.

Nothing that is configured is used or touched, and nothing is left when it ends.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn
from urllib.error import URLError
from urllib.request import urlopen
from uuid import UUID

from click import ClickException

from recoup.app import create_app
from recoup.config import SETTINGS, Config
from recoup.database.connection import release
from recoup.database.migrations import upgrade
from recoup.database.models import Account, AccountApiKey, ScheduledAction
from recoup.demo.standin import StandIn

KEY = "recoup_sk_demo"
TASKS = {
    "aade2bce-55c7-468e-a606-c4e76fb2ea2a": "Weekly streaming report",
    "1f0c7d4e-3b52-4a8e-9d61-5c2e8b7f9a10": "Monthly playlist pitch",
    "7c9e6679-7425-40de-944b-e07fc1f90ae7": "Tour date reminder",
}
START_SECONDS = 30


def run(gunicorn: str, given_port: str) -> int:
    """Run the demo on 127.0.0.1 until Ctrl-C or the terminal's end; return the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    with TemporaryDirectory(prefix="recoup-demo-") as folder, StandIn() as standin:
        environ = _environment(folder, standin, given_port)
        port = _fill(environ, standin)
        _check_free(port)
        command = [gunicorn, "--bind", f"127.0.0.1:{port}", "--log-level", "warning"]
        # In a session of its own, as it would take a terminal's end for an order to reload.
        with subprocess.Popen(command, env=os.environ | environ, start_new_session=True) as server:
            try:
                _wait_for(server, port)
                print(_introduction(port, folder, standin), flush=True)
                return server.wait()
            except KeyboardInterrupt:
                return 0
            finally:
                server.terminate()


def _end(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise ClickException(
                f"port {port} is taken; choose another: PORT=8001 make run"
            ) from None


def _environment(folder: str, standin: StandIn, port: str) -> dict[str, str]:
    """Return every setting, so that none comes from the environment or a `.env`."""
    return dict.fromkeys(SETTINGS, "") | {
        "DATABASE_URL": f"sqlite:///{folder}/demo.sqlite3",
        "TRIGGER_API_URL": standin.url,
        "TRIGGER_SECRET_KEY": standin.secret_key,
        "PRIVY_PROJECT_SECRET": "demo",
        "WEB_CONCURRENCY": "2",
        "PORT": port,
    }


def _fill(environ: dict[str, str], standin: StandIn) -> int:
    """Make the demo's rows and schedules; return the port, which is a number now."""
    config = Config.load(environ)
    service = create_app(config).extensions["recoup"]
    upgrade()
    account = Account.create(name="Demo").id
    key_hash = service.authenticator.hash_key(KEY)
    AccountApiKey.create(name="demo", account=account, key_hash=key_hash)
    for task_id, title in TASKS.items():
        ScheduledAction.insert(
            id=UUID(task_id),
            title=title,
            prompt=f"Write the {title.lower()}.",
            schedule="0 9 * * 1",
            account_id=account,
            artist_account_id=account,
            trigger_schedule_id=standin.add(task_id),
        ).execute()
    release()
    return config.port or 8000


def _wait_for(server: "subprocess.Popen[bytes]", port: int) -> None:
    for _ in range(START_SECONDS * 10):
        if server.poll() is not None:
            break
        try:
            urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
            return
        except (URLError, OSError):
            time.sleep(0.1)
    raise ClickException("gunicorn did not start; its log above says why")


def _introduction(port: int, folder: str, standin: StandIn) -> str:
    task_id, another, *_ = TASKS
    database = Path(folder, "demo.sqlite3")
    statement = "DELETE FROM scheduled_actions WHERE id = ?"
    by_hand = f"import sqlite3; db = sqlite3.connect('{database}', isolation_level=None); "
    by_hand += f"db.execute('{statement}', ['{another}'])"
    url = f"curl -i -X DELETE http://127.0.0.1:{port}/api/tasks"
    key = f"-H 'x-api-key: {KEY}'"
    return f"""
This is a DEMO, as TRIGGER_SECRET_KEY is not set. No outside service is called: a stand-in of
Trigger.dev runs at {standin.url}, and the database is {database}.
Both go when this ends. What you have configured, if anything, is not touched.

Paste these into another terminal.

# Delete a task and its schedule: 200
{url} {key} -d '{{"id": "{task_id}"}}'

# The same again: 404
{url} {key} -d '{{"id": "{task_id}"}}'

# An id that is none: 400
{url} {key} -d '{{"id": "monday-report"}}'

# No key: 401
{url} -d '{{"id": "{task_id}"}}'

# Delete a row by hand, past the service: half a minute later its schedule is gone too
{sys.executable} -c "{by_hand}"

The schedules that are left:
curl -H 'Authorization: Bearer {standin.secret_key}' {standin.url}/api/v1/schedules

Ctrl-C ends the demo.
"""
