"""A pool of connections for each process, to SQLite or Postgres, with each wait bounded."""

import peewee

from recoup.config import Config
from recoup.database.postgres import PostgresDatabase
from recoup.database.sqlite import SQLiteDatabase


def make_pool(config: Config) -> peewee.Database:
    """Make the pool; its connections are opened when they are needed."""
    scheme, _, rest = config.database_url.partition("://")
    if scheme == "sqlite":
        return SQLiteDatabase(rest[1:], config.database_pool_size)
    return PostgresDatabase(
        f"postgresql://{rest}",
        config.database_pool_size,
        most_waiting=2 * config.web_threads,
        prepare=config.database_prepare,
    )
