"""`upgrade()`: add what this version needs to a database.

A SQLite database is ours, so all tables are made. On Postgres the tables are the host's, and
`postgres.sql` only adds. It is one transaction, and other upgrades wait for it, so that it may run
again and several times at once.
"""

from importlib.resources import files
from typing import Any

import peewee

from recoup.database.connection import DatabaseFailed, database, is_postgres
from recoup.database.failures import explain
from recoup.database.models import HOST_MODELS, MODELS, TaskDeletion

UPGRADE_SECONDS = 600
LOCK_KEY = 5_702_887  # an advisory lock number that is ours alone


def upgrade() -> None:
    """Add what is missing.

    Raises:
        DatabaseFailed: with the reason; nothing was changed.
    """
    try:
        _upgrade_postgres() if is_postgres() else _upgrade_sqlite()
    except (peewee.PeeweeException, OSError) as error:
        raise DatabaseFailed(explain(error)) from error


def _upgrade_sqlite() -> None:
    database.make_file()
    with database.atomic("IMMEDIATE"):
        database.create_tables(MODELS, safe=True)
        _add_columns(TaskDeletion)
        # An earlier version may have made another.
        database.execute_sql("DROP TRIGGER IF EXISTS recoup_guard")
        database.execute_sql(read_sql("sqlite"))


def _add_columns(model: Any) -> None:
    """Add the columns that the tables of an earlier version lack; each may be null."""
    table = model._meta.table_name
    there = {column.name for column in database.get_columns(table)}
    for name, field in model._meta.columns.items():
        if name not in there:
            database.execute_sql(f'ALTER TABLE {table} ADD COLUMN "{name}" {field.field_type}')


def _upgrade_postgres() -> None:
    # It may wait for other upgrades, and an index takes time. Locks have their own limit.
    database.connection().patience = UPGRADE_SECONDS
    with database.atomic():
        database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
        _check_host_tables()
        database.execute_sql(read_sql("postgres"))


def read_sql(name: str) -> str:
    """Return the content of a file in this folder."""
    return files(__package__).joinpath(f"{name}.sql").read_text()


def _check_host_tables() -> None:
    there = set(database.get_tables())
    names = [model._meta.table_name for model in HOST_MODELS]
    missing = [name for name in names if name not in there]
    if missing:
        raise DatabaseFailed(
            f"no table {', '.join(missing)}: on Postgres this has to be Recoup's own database"
        )
