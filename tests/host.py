"""Another program at the database: its own connection, with no code of ours in it."""

import sqlite3
from uuid import uuid4

import psycopg


class HostConnection:
    """Runs SQL with `?` for a value, and commits each statement outside of BEGIN.

    `warnings`: what Postgres has warned of. SQLite keeps to foreign keys here.
    """

    def __init__(self, url):
        self.warnings = []
        if url.startswith("sqlite"):
            path = url.removeprefix("sqlite:///")
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._connection.execute("PRAGMA foreign_keys = ON")
        else:
            self._connection = psycopg.connect(url, autocommit=True)
            self._connection.add_notice_handler(self._note)
        self._account = str(uuid4())
        self.run("INSERT INTO accounts (id, name) VALUES (?, 'n')", self._account)

    def run(self, statement, *values):
        """Run a statement and return its rows, if it has any."""
        if isinstance(self._connection, psycopg.Connection):
            cursor = self._connection.execute(statement.replace("?", "%s"), values or None)
        else:
            cursor = self._connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []

    def task(self, schedule, task_id=None):
        """Make a task that names a schedule; return its id."""
        task_id = task_id or str(uuid4())
        self.run(
            "INSERT INTO scheduled_actions (id, title, prompt, schedule, account_id, "
            "artist_account_id, enabled, trigger_schedule_id) "
            "VALUES (?, 't', 'p', '0 9 * * 1', ?, ?, true, ?)",
            task_id,
            self._account,
            self._account,
            schedule,
        )
        return task_id

    def close(self):
        self._connection.close()

    def _note(self, diagnostic):
        if diagnostic.severity == "WARNING":
            self.warnings.append(diagnostic.message_primary)
