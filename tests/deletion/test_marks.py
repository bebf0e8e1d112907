"""Marks whose statements get no answer: each ends as what is known to be there."""

import os
import signal
from contextlib import contextmanager

import psycopg
import pytest

from recoup.app import create_app
from recoup.database.connection import AnswerLost, connect, execute, fetch, release
from recoup.deletion import marks
from recoup.deletion.marks import Mark, Origin
from recoup.deletion.outcomes import DeletionUnfinished, TaskNotFound
from tests.conftest import make_config
from tests.database.conftest import backend
from tests.factories import World
from tests.sockets import Proxy

LEASE = 60


@pytest.fixture(name="proxy")
def _proxy(short_waits, postgres, postgres_url):
    """The test's Postgres is behind it."""
    proxy = Proxy(postgres.port)
    name = postgres_url.partition("@/")[2].partition("?")[0]
    connect(make_config(f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}"))
    yield proxy
    release()
    proxy.close()
