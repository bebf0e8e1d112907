"""What the tests of connections share."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from recoup.database.connection import connect, fetch, release
from tests.conftest import make_config
from tests.waiting import wait_for

SECONDS = 60


@pytest.fixture
def pg(postgres_url):
    """The module's database on Postgres; a connection of somebody else's to it."""
    connect(make_config(postgres_url, DATABASE_POOL_SIZE="2"))
    with psycopg.connect(postgres_url, autocommit=True) as somebody:
        yield somebody


def in_thread(function, *args):
    """Run a function in a thread that then gives its connection back; return what it returns."""

    def call():
        try:
            return function(*args)
        finally:
            release()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(call).result(SECONDS)


def backend():
    """Return the process of the server that this thread's connection is with."""
    return fetch("SELECT pg_backend_pid()")[0][0]


def kill(somebody, pid):
    """End a connection at the server, and wait until it has ended."""
    somebody.execute("SELECT pg_terminate_backend(%s)", (pid,))
    query = "SELECT FROM pg_stat_activity WHERE pid = %s"
    wait_for(lambda: not somebody.execute(query, (pid,)).fetchall())


def ours(somebody, condition="true"):
    """Return how many connections of this service the server has, under a condition."""
    query = f"""
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'recoup' AND {condition}
    """
    return somebody.execute(query).fetchone()[0]
