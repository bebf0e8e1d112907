"""What the database lacks of what a deletion needs."""

from typing import Any

from recoup.database.connection import FAILURES, database
from recoup.database.models import MODELS


def find_problems() -> list[str]:
    """Return what keeps the service from its work, a sentence each."""
    try:
        missing = missing_from_schema()
    except FAILURES:
        return ["The database can't be reached."]
    if missing:
        return [f"The database lacks {', '.join(missing)}: run `recoup db upgrade`."]
    return []


def missing_from_schema() -> list[str]:
    """Return what the database lacks of the tables and columns that are used here.

    Raises:
        peewee.PeeweeException: the database can't be asked.
    """
    missing = []
    tables = set(database.get_tables())
    for model in MODELS:
        table: str = model._meta.table_name  # type: ignore[attr-defined]
        if table not in tables:
            missing.append(f"table {table}")
            continue
        there = {column.name for column in database.get_columns(table)}
        wanted: Any = model._meta.columns  # type: ignore[attr-defined]
        missing += [f"column {table}.{name}" for name in wanted if name not in there]
    return missing
