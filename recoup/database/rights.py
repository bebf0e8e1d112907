"""What stands against a deletion on Postgres, by the server's catalog."""

from typing import Any

from recoup.database.connection import database
from recoup.database.models import (
    OWN_MODELS,
    AccountApiKey,
    AccountEmail,
    AccountOrganization,
    ScheduledAction,
    column_names,
    table_name,
)

# The columns that the statements of a deletion and a recovery read.
READ: dict[Any, tuple[str, ...]] = {
    AccountApiKey: ("account", "expires_at", "id", "key_hash"),
    AccountEmail: ("account_id", "email", "updated_at"),
    AccountOrganization: ("account_id", "organization_id"),
    ScheduledAction: ("account_id", "enabled", "id", "title", "trigger_schedule_id"),
}
OWN: tuple[Any, ...] = OWN_MODELS


def find_refusals() -> list[str]:
    """Return a sentence for each thing that the server would refuse the role."""
    hidden = hidden_tables(*READ, *OWN)
    return [
        *(f"The role lacks {lack}." for lack in lacking_rights(*_wanted_rights())),
        *(f"Row level security hides rows from this role in {table}." for table in hidden),
        *_read_only(),
    ]


def _wanted_rights() -> list[tuple[str, str, str]]:
    wanted = [(table_name(ScheduledAction), "", "DELETE")]
    for model, columns in READ.items():
        wanted += [(table_name(model), column, "SELECT") for column in columns]
    for model in OWN:
        wanted.append((table_name(model), "", "DELETE"))
        wanted += [(table_name(model), c, r) for r in RIGHTS for c in column_names(model)]
    return wanted


def lacking_rights(*wanted: tuple[str, str, str]) -> list[str]:
    """Return which of these the role lacks: a table, a column or "", and the right.

    Rights granted by column count too.
    """
    rows = fetch_rows(LACKING_RIGHTS, *(list(column) for column in zip(*wanted, strict=True)))
    return [f"{right} on {table}" for table, right in rows]


RIGHTS = ("SELECT", "INSERT", "UPDATE")
LACKING_RIGHTS = """
SELECT DISTINCT name, wanted
FROM unnest(%s::text[], %s::text[], %s::text[]) AS wanted(name, part, wanted)
WHERE NOT CASE part WHEN '' THEN has_table_privilege(name, wanted)
                    ELSE has_column_privilege(name, part, wanted) END
ORDER BY name, wanted
"""


def hidden_tables(*models: Any) -> list[str]:
    """Return those of the tables in which row level security may hide rows from the role.

    Raises:
        peewee.PeeweeException: the database can't be asked.
    """
    names = [table_name(model) for model in models]
    rows = fetch_rows("SELECT t FROM unnest(%s::text[]) t WHERE row_security_active(t)", names)
    return [name for (name,) in rows]


def _read_only() -> list[str]:
    [(setting,)] = fetch_rows("SELECT current_setting('transaction_read_only')")
    if setting != "on":
        return []
    database.close_idle()  # a session that began in a read-only time stays read-only
    return ["The session is read-only."]


def fetch_rows(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """Run a statement on the catalog and return its rows."""
    cursor = database.execute_sql(sql, params)
    return list(cursor.fetchall())
