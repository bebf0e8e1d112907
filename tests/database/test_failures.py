"""A failing database is reported in a sentence that says what to do and doesn't name it."""

from pathlib import Path

import psycopg
import pytest

from recoup.app import create_app
from recoup.commands.main import main
from recoup.database.connection import DatabaseFailed, connect, fetch
from recoup.database.failures import explain
from tests.conftest import close_database, make_config
from tests.postgres import PostgresServer, find_binaries
from tests.sockets import black_hole

PASSWORD = "hid#den/@?"
ENCODED = "hid%23den%2F%40%3F"


@pytest.fixture(name="guarded", scope="module")
def _guarded(postgres):
    """The address of a server that asks for a password, by TCP."""
    with PostgresServer(find_binaries()) as server:
        server.create_database("hidden_name")
        with psycopg.connect(server.url("hidden_name"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE hidden_user LOGIN PASSWORD '{PASSWORD}'")
            hba = Path(connection.execute("SHOW hba_file").fetchone()[0])
            hba.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
            connection.execute("SELECT pg_reload_conf()")
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_database()


def told_of(url):
    """Return what is told of a failure to connect, and see that nothing of the URL is quoted."""
    connect(make_config(url))
    with pytest.raises(DatabaseFailed) as caught:
        fetch("SELECT 1")
    assert str(caught.value) == str(caught.value.__cause__)
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_password_that_is_encoded_is_the_right_one(guarded):
    """Whatever is in it."""
    connect(make_config(f"postgresql://hidden_user:{ENCODED}@{guarded}/hidden_name"))
    assert fetch("SELECT 1") == [(1,)]


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize(
    ("credentials", "name", "sentence"),
    [
        ("hidden_user:hidden", "hidden_name", "it refuses the user or the password; correct"),
        ("hidden_user:hid#", "hidden_name", "percent-encode special characters in them"),
        ("hidden_user", "hidden_name", "it refuses the user or the password; correct"),
        ("hidden_nobody:hidden", "hidden_name", "it refuses the user or the password; correct"),
        (
            f"hidden_user:{ENCODED}",
            "hidden_other",
            "it has no database with the name in DATABASE_URL",
        ),
    ],
)
def test_a_server_that_refuses(guarded, credentials, name, sentence):
    """User and password, or the name of the database, have to be corrected."""
    assert sentence in told_of(f"postgresql://{credentials}@{guarded}/{name}")


@pytest.mark.usefixtures("short_waits")
def test_a_closed_port():
    """Something has to be started, or host and port be corrected."""
    told = told_of("postgresql://hidden_user:hidden@127.0.0.1:1/hidden_name")
    assert told.startswith("Connection refused: nothing listens there; start the database, or")


@pytest.mark.usefixtures("short_waits")
def test_a_host_that_nobody_knows():
    """The host has to be corrected."""
    told = told_of("postgresql://hidden_user:hidden@hidden.invalid/hidden_name")
    assert told == "the host's name is not known; correct it in DATABASE_URL"


def test_a_host_that_does_not_answer():
    """A firewall may be in between."""
    with black_hole() as (host, port):
        told = told_of(f"postgresql://hidden_user:hidden@{host}:{port}/hidden_name")
    assert told.startswith("it can't be reached in time; check the host in DATABASE_URL")


def test_what_is_not_known_is_told_without_what_it_quotes():
    """The reason may help all the same."""
    error = psycopg.OperationalError("FATAL: \"hidden\" is\nnot for 'hidden' at the moment")
    assert explain(error) == "FATAL: … is not for … at the moment"


def test_a_file_that_is_missing(tmp_path):
    """`recoup db upgrade` makes it; most often the path begins in another folder than was meant."""
    told = told_of(f"sqlite:///{tmp_path}/hidden.db")
    assert told.startswith("unable to open database file: it doesn't exist, or this user may not")
    assert "`recoup db upgrade` makes it" in told


def test_a_file_that_is_no_database(tmp_path):
    """The path has to be corrected."""
    (tmp_path / "hidden.db").write_text("hidden" * 1000)
    told = told_of(f"sqlite:///{tmp_path}/hidden.db")
    assert told == "file is not a database: DATABASE_URL names another kind of file"


def test_what_the_server_says_of_a_statement_is_told_whole(postgres_url):
    """It names a table or a right, and neither is in DATABASE_URL."""
    connect(make_config(postgres_url))
    with pytest.raises(DatabaseFailed, match='relation "no_such_table" does not exist'):
        fetch("SELECT * FROM no_such_table")


URL = "postgresql://hidden_user:hidden@127.0.0.1:1/hidden_name"


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize(
    "command",
    [["tasks", "delete", "0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10"], ["tasks", "reconcile"]],
    ids=" ".join,
)
def test_commands_tell_the_same(standin, command):
    """On their one line."""
    standin.add("some-task")
    app = create_app(make_config(URL, TRIGGER_API_URL=standin.url))
    result = app.test_cli_runner().invoke(main, command)
    assert result.exit_code != 0
    assert "nothing listens there; start the database" in result.stderr.splitlines()[-1]
    assert "hidden" not in result.output


@pytest.mark.usefixtures("short_waits")
def test_the_log_tells_the_same(capsys):
    """An operator who reads it needs no other place."""
    app = create_app(make_config(URL))
    headers = {"x-api-key": "recoup_sk_x"}
    body = {"id": "0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10"}
    answer = app.test_client().delete("/api/tasks", json=body, headers=headers)
    assert answer.status_code == 500
    logged = capsys.readouterr().out
    assert "nothing listens there; start the database" in logged
    assert "hidden" not in logged
