"""Fixtures that run commands: in this process, or in one of their own."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from recoup.commands.main import main
from recoup.database.connection import connect, execute, release
from tests import forked
from tests.conftest import close_database


@pytest.fixture
def recoup(app):
    """Run a command in this process: `recoup("keys", "revoke", "x")`."""

    def invoke(*args):
        return app.test_cli_runner().invoke(main, args)

    return invoke


@pytest.fixture
def run(tmp_path):
    """Run a program of ours in an empty folder; return its exit code, stdout and stderr."""

    def finish(*command, **environ):
        code, stdout, stderr = forked.run(*command, cwd=tmp_path, **environ)
        assert "Traceback" not in stdout + stderr
        return code, stdout, stderr

    return finish


@pytest.fixture
def half_blind(app):
    """Connect, for a while, as a role that is under a table's row level security."""
    config = app.extensions["recoup"].config

    @contextmanager
    def connected(table="scheduled_actions"):
        for statement in (
            "CREATE ROLE half_blind LOGIN",
            "GRANT USAGE ON SCHEMA public TO half_blind",
            "GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO half_blind",
            "ALTER TABLE task_deletions DISABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY all_rows ON {table} USING (true)",
        ):
            execute(statement)
        release()
        close_database()
        url = config.database_url.replace("postgres@", "half_blind@")
        connect(replace(config, database_url=url))
        yield
        close_database()
        connect(config)
        execute("DROP OWNED BY half_blind")
        execute("DROP ROLE half_blind")
        release()

    return connected
