"""The benchmark's database: one caller, its organization, and tasks of all its members."""

import hashlib
import hmac
import random
import sqlite3
import time
from functools import partial
from pathlib import Path
from uuid import UUID

import psycopg

from recoup.config import Config
from recoup.database import guard, statements
from recoup.database.connection import connect, database, fetch, is_postgres, release
from recoup.database.migrations import upgrade

KEY = "recoup_sk_benchmark"
SECRET = "benchmark"
HOST_SCHEMA = Path(__file__).parent.parent / "tests" / "host_schema.sql"


def seed(url, tasks, members=1_000):
    """Make the schema and fill it; as many keys as members. One task in five is the caller's."""
    _open(url)
    if is_postgres():
        database.connection().execute(HOST_SCHEMA.read_text())
    upgrade()
    _close()
    numbers = random.Random(1)
    ids = [str(UUID(int=numbers.getrandbits(128), version=4)) for _ in range(members + 1)]
    organization, *accounts = ids
    hashes = [_hash(KEY), *(_hash(account) for account in accounts[1:])]
    connection = plain_connection(url)
    fill = partial(_fill, connection)
    fill("accounts (id)", [(account,) for account in accounts])
    fill(
        "account_api_keys (id, name, account, key_hash, created_at)",
        [(a, "benchmark", a, h, _NOW) for a, h in zip(accounts, hashes, strict=True)],
    )
    fill(
        "account_organization_ids (id, account_id, organization_id, updated_at)",
        [(account, account, organization, _NOW) for account in accounts],
    )
    fill(
        "scheduled_actions (id, title, prompt, schedule, account_id, artist_account_id,"
        " enabled, trigger_schedule_id)",
        (_task(number, numbers, accounts) for number in range(tasks)),
    )
    connection.execute("ANALYZE")
    connection.commit()
    connection.close()


def task_ids(url):
    """Return the ids of all tasks, in no order."""
    _open(url)
    rows = fetch("SELECT id FROM scheduled_actions")
    _close()
    ids = [str(row[0]) for row in rows]
    random.Random(2).shuffle(ids)
    return ids


def count_tasks(url):
    """Return how many tasks there are."""
    _open(url)
    rows = fetch("SELECT count(*) FROM scheduled_actions")
    _close()
    return rows[0][0]


def remove_tasks(url, ids):
    """Delete tasks as the service does in the end; return the seconds that each statement took."""
    _open(url)
    took = []
    for task_id in ids:
        schedule_id = statements.find_standing(task_id).schedule_id
        statements.place_mark(task_id, task_id, None, 60)
        started = time.perf_counter()
        assert statements.remove_task(task_id, schedule_id, task_id)
        took.append(time.perf_counter() - started)
    _close()
    return took


def switch_guard(url, on):
    """Turn the guard on or off; on SQLite, where the service always has it, for comparison."""
    _open(url)
    if is_postgres():
        guard.turn_on() if on else guard.turn_off()
    elif on:
        upgrade()
    else:
        database.execute_sql("DROP TRIGGER IF EXISTS recoup_guard")
    _close()


def execute(url, statement):
    """Run one statement, however long it takes."""
    connection = plain_connection(url)
    connection.execute(statement)
    connection.commit()
    connection.close()


_NOW = "2026-01-01T00:00:00.000Z"


def _task(number, numbers, accounts):
    task_id = str(UUID(int=numbers.getrandbits(128), version=4))
    account = accounts[0] if number % 5 == 0 else accounts[number % len(accounts)]
    schedule = "sched_" + task_id.replace("-", "")  # so that the stand-in can tell it
    prompt = "Write the report of the week. " * 10
    return task_id, "Report", prompt, "0 9 * * 1", account, account, True, schedule


def plain_connection(url):
    """Connect without the service's bounds on how long a statement may take."""
    if url.startswith("sqlite"):
        return sqlite3.connect(url.removeprefix("sqlite:///"))
    return psycopg.connect(url)


def _fill(connection, table, rows):
    mark = "?" if isinstance(connection, sqlite3.Connection) else "%s"
    marks = ", ".join([mark] * (table.count(",") + 1))
    connection.cursor().executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def _hash(key):
    return hmac.new(SECRET.encode(), key.encode(), hashlib.sha256).hexdigest()


def _open(url):
    settings = {"DATABASE_URL": url, "TRIGGER_SECRET_KEY": "x", "PRIVY_PROJECT_SECRET": SECRET}
    connect(Config.load(settings))


def _close():
    release()
    database.close_all()
