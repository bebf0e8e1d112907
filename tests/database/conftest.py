"""Fixtures of the tests that look at connections."""

import psycopg
import pytest

from recoup.database import waits
from recoup.database.connection import connect
from tests.conftest import make_config


@pytest.fixture
def pg(postgres_url):
    """The module's database on Postgres; a connection of somebody else's to it."""
    connect(make_config(postgres_url, DATABASE_POOL_SIZE="2"))
    with psycopg.connect(postgres_url, autocommit=True) as somebody:
        yield somebody


@pytest.fixture
def short_waits(monkeypatch):
    """Let every wait end after a second; to be named before the database."""
    monkeypatch.setattr(waits, "WAIT_SECONDS", 1)
