"""`recoup doctor`: a line for each thing that a deletion needs; exit code 1 if one is wrong."""

import json
import os
import signal

import psycopg
import pytest
from click.testing import CliRunner

from recoup.app import create_app
from recoup.commands.main import main
from recoup.config import SETTINGS
from recoup.database import guard, orphans
from recoup.database.connection import connect, execute, release
from recoup.database.expressions import clock_plus
from recoup.database.models import OrphanedSchedule
from recoup.demo.standin import Fault
from tests.commands.programs import converse
from tests.conftest import close_database, make_config
from tests.factories import World
from tests.forked import Forked
from tests.privy import APP_ID, verification_key
from tests.sockets import encrypt, make_certificate

KEY = "tr_dev_standin"
NOT_LOOKED_UP = ("note", "not looked up, because the database can't say what tasks name")
OURS = "table task_deletions, table orphaned_schedules, table orphan_collector"


@pytest.fixture(name="environ")
def _environ(tmp_path, monkeypatch, standin):
    """Leave this process no settings but those that a test gives; return the usual ones."""
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    yield {
        "TRIGGER_API_URL": standin.url,
        "TRIGGER_SECRET_KEY": KEY,
        "PRIVY_PROJECT_SECRET": "secret-of-the-tests",
    }
    close_database()


@pytest.fixture(name="doctor")
def _doctor(environ):
    """Run the command: `code, findings = doctor(NAME="value")`, findings by their subject.

    Of several with one subject, the last one counts; `doctor.findings` has all.
    """

    def run(*args, **settings):
        close_database()  # as it is in a process of its own
        result = CliRunner(env={**environ, **settings}).invoke(main, ["doctor", *args])
        assert isinstance(result.exception, SystemExit | None)
        for secret in (KEY, "secret-of-the-tests", "hidden"):
            assert secret not in result.output
        findings = {}
        for line in result.output.splitlines():
            verdict, rest = line.split(maxsplit=1)
            subject, _, text = rest.partition(": ")
            findings[subject] = (verdict, text)
            run.findings.append((verdict, subject, text))
        return result.exit_code, findings

    run.findings = []

    return run


def test_all_is_well(doctor, database_url, standin):
    """Nothing is amiss, so nothing fails; what is not set is noted."""
    standin.add("some-task")
    code, findings = doctor(DATABASE_URL=database_url)
    assert code == 0
    assert findings.pop("clock")[0] == "ok"
    assert findings.pop("guard")[0] == ("ok" if database_url.startswith("sqlite") else "note")
    assert findings == {
        "database": ("ok", "reachable and upgraded"),
        "orphans": ("ok", "none"),
        "Trigger.dev": ("ok", "reachable with this key (schedules: 1)"),
        "environment": ("note", "the key's is dev; set TRIGGER_ENVIRONMENT to check it"),
        "schedules": ("note", "no enabled task names a schedule to look up"),
        "Privy": ("note", "not configured; only API keys are accepted"),
    }


def test_nothing_is_changed(doctor, sqlite_url, standin):
    """Trigger.dev is asked once, to read."""
    doctor(DATABASE_URL=sqlite_url)
    [request] = standin.requests
    assert (request.method, request.path) == ("GET", "/api/v1/schedules?perPage=1")


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_database_that_is_gone(doctor, kind, tmp_path):
    """The reason is told, its password isn't; the rest is checked all the same."""
    url = {"sqlite": f"sqlite:///{tmp_path}", "postgres": "postgresql://me:hidden@127.0.0.1:1/x"}
    code, findings = doctor(DATABASE_URL=url[kind])
    assert code == 1
    verdict, text = findings["database"]
    assert verdict == "failed"
    assert {"sqlite": "unable to open", "postgres": "Connection refused"}[kind] in text
    assert findings["Trigger.dev"][0] == "ok"
    assert findings["clock"][0] == {"sqlite": "ok", "postgres": "note"}[kind]
    assert findings["schedules"] == NOT_LOOKED_UP


def test_a_database_on_sqlite_that_was_not_upgraded(doctor, tmp_path):
    """It says what to run."""
    (tmp_path / "new.db").touch()
    code, findings = doctor(DATABASE_URL=f"sqlite:///{tmp_path}/new.db")
    verdict, text = findings["database"]
    assert (code, verdict) == (1, "failed")
    assert text.endswith(f"{OURS}: run `recoup db upgrade`")


def test_a_database_on_postgres_that_was_not_upgraded(doctor, postgres):
    """The host's tables are there, ours is what lacks."""
    postgres.create_database("not_upgraded", template="template_host")
    code, findings = doctor(DATABASE_URL=postgres.url("not_upgraded"))
    close_database()
    postgres.drop_database("not_upgraded")
    text = f"lacks {OURS}: run `recoup db upgrade` as the owner of the tables"
    assert (code, findings["database"]) == (1, ("failed", text))


def test_a_guard_that_is_off_or_broken_is_a_note(doctor, postgres_url):
    """Deletions of the service need none."""
    code, findings = doctor(DATABASE_URL=postgres_url)
    verdict, text = findings["guard"]
    assert (code, verdict, text.startswith("off: ")) == (0, "note", True)
    connect(make_config(postgres_url))
    guard.turn_on()
    execute("ALTER TABLE scheduled_actions DISABLE TRIGGER recoup_guard")
    code, findings = doctor(DATABASE_URL=postgres_url)
    verdict, text = findings["guard"]
    assert (code, verdict) == (0, "note")
    assert "The trigger recoup_guard is missing or disabled." in text
    assert text.endswith(". `recoup db guard on` turns it on")


def test_a_guard_of_sqlite_that_is_lost_is_a_note(doctor, sqlite_url):
    """An upgrade makes it again."""
    connect(make_config(sqlite_url))
    execute("DROP TRIGGER recoup_guard")
    release()
    verdict, text = doctor(DATABASE_URL=sqlite_url)[1]["guard"]
    assert (verdict, text[:5], text.endswith(". `recoup db upgrade` makes it")) == (
        "note",
        "off: ",
        True,
    )


@pytest.mark.parametrize(("hours", "code", "verdict"), [(0, 0, "ok"), (2, 1, "failed")])
def test_orphans_that_wait_for_long_are_wrong(doctor, database_url, hours, code, verdict):
    """Their schedules may fire."""
    connect(make_config(database_url))
    orphans.record_orphan("aade2bce-55c7-468e-a606-c4e76fb2ea2a", 60)
    OrphanedSchedule.update(orphaned_at=clock_plus(-3600 * hours)).execute()
    release()
    found, findings = doctor(DATABASE_URL=database_url)
    assert (found, findings["orphans"][0]) == (code, verdict)
    assert findings["orphans"][1].startswith("1 wait to be cancelled, the first for ")


@pytest.mark.parametrize(("seconds", "text"), [(60, "60 s behind"), (-60, "60 s ahead of")])
def test_a_clock_that_is_apart_from_the_databases(doctor, postgres_url, seconds, text):
    """A database whose clock is wrong is as good as a machine whose clock is."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            f"$$ SELECT pg_catalog.clock_timestamp() + interval '{seconds} seconds' $$"
        )
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    code, findings = doctor(DATABASE_URL=postgres_url)
    verdict, said = findings["clock"]
    assert (code, verdict, said.startswith(text)) == (1, "failed", True), said


def test_a_clock_that_is_the_databases(doctor, postgres_url):
    """Compared over a real connection."""
    _, findings = doctor(DATABASE_URL=postgres_url)
    assert findings["clock"] == ("ok", "same as the database's")


def test_a_wrong_key(doctor, sqlite_url, standin):
    """Trigger.dev refuses it."""
    standin.secret_key = "tr_dev_another"
    code, findings = doctor(DATABASE_URL=sqlite_url)
    text = "refuses TRIGGER_SECRET_KEY, with status 401"
    assert (code, findings["Trigger.dev"]) == (1, ("failed", text))


def test_trigger_that_is_unreachable(doctor, sqlite_url, standin):
    """The address and the reason are told."""
    standin.stop()
    code, findings = doctor(DATABASE_URL=sqlite_url)
    verdict, text = findings["Trigger.dev"]
    assert (code, verdict) == (1, "failed")
    assert text == f"{standin.url} can't be reached: no connection"


def test_a_certificate_that_is_not_trusted(doctor, sqlite_url, standin, tmp_path):
    """The variable that would help is named; where it is set, that its file doesn't help."""
    url = encrypt(standin, make_certificate(tmp_path))
    code, findings = doctor(DATABASE_URL=sqlite_url, TRIGGER_API_URL=url)
    verdict, text = findings["Trigger.dev"]
    assert (code, verdict) == (1, "failed")
    assert text.endswith("; set REQUESTS_CA_BUNDLE to a file with the authority that signed it")
    other = tmp_path / "other"
    other.mkdir()
    settings = {"DATABASE_URL": sqlite_url, "SSL_CERT_FILE": str(make_certificate(other))}
    verdict, text = doctor(TRIGGER_API_URL=url, **settings)[1]["Trigger.dev"]
    assert verdict == "failed"
    assert text.endswith("; the file of SSL_CERT_FILE lacks the authority that signed it")


def test_a_certificate_of_another_host(doctor, sqlite_url, standin, tmp_path):
    """No authority helps against that, so none is asked for; it says whose it isn't."""
    certificate = make_certificate(tmp_path)
    url = encrypt(standin, certificate).replace("127.0.0.1", "localhost")
    settings = {"DATABASE_URL": sqlite_url, "REQUESTS_CA_BUNDLE": str(certificate)}
    verdict, text = doctor(TRIGGER_API_URL=url, **settings)[1]["Trigger.dev"]
    assert verdict == "failed"
    assert "REQUESTS_CA_BUNDLE" not in text
    assert text == (
        f"{url} can't be reached: the certificate is not trusted "
        "(Hostname mismatch, certificate is not valid for 'localhost')"
    )


def test_a_certificate_that_is_trusted(doctor, sqlite_url, standin, tmp_path):
    """By the file that is named."""
    certificate = make_certificate(tmp_path)
    settings = {"DATABASE_URL": sqlite_url, "REQUESTS_CA_BUNDLE": str(certificate)}
    url = encrypt(standin, certificate)
    assert doctor(TRIGGER_API_URL=url, **settings)[1]["Trigger.dev"][0] == "ok"


def test_trigger_that_hangs(doctor, sqlite_url, standin):
    """It is given up after the deadline."""
    standin.always(Fault.hang(600), method="GET")
    code, findings = doctor(DATABASE_URL=sqlite_url, TRIGGER_DEADLINE_SECONDS="1")
    verdict, text = findings["Trigger.dev"]
    assert (code, verdict) == (1, "failed")
    assert text == f"{standin.url} can't be reached: no answer within 1.0 s"


def test_an_address_that_speaks_no_tls(doctor, sqlite_url, standin):
    """No certificate was seen, so none is blamed."""
    url = standin.url.replace("http:", "https:")
    verdict, text = doctor(DATABASE_URL=sqlite_url, TRIGGER_API_URL=url)[1]["Trigger.dev"]
    assert (verdict, text) == ("failed", f"{url} can't be reached: no encrypted connection")


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault.junk(), "doesn't answer as Trigger.dev does"),
        (Fault.status(200, b"[]"), "doesn't answer as Trigger.dev does"),
        (
            Fault.status(200, b'{"pagination": {"count": 1e999}}'),
            "doesn't answer as Trigger.dev does",
        ),
        (Fault.junk(404), "answers with status 404"),
        (
            Fault.rate_limited(60),
            "answers with status 429: Rate limit exceeded 0/750 requests remaining. "
            "Retry in 60 seconds",
        ),
        (Fault.status(503), "answers with status 503: Something went wrong, please try again"),
    ],
)
def test_an_answer_that_is_not_the_list(doctor, sqlite_url, standin, fault, text):
    """A page, or an answer of another shape, is no sign that the key will do."""
    standin.fail(fault, method="GET")
    code, findings = doctor(DATABASE_URL=sqlite_url)
    assert (code, findings["Trigger.dev"]) == (1, ("failed", f"{standin.url} {text}"))


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ("dev", "tr_dev_x"),
        ("staging", "tr_stg_x"),
        ("prod", "tr_prod_x"),
        ("preview", "tr_preview_x"),
    ],
)
def test_a_key_of_the_environment_that_it_should_be_of(
    doctor, sqlite_url, standin, environment, key
):
    """Trigger.dev puts it into the key's prefix."""
    standin.secret_key = key
    settings = {"TRIGGER_SECRET_KEY": key, "TRIGGER_ENVIRONMENT": environment}
    if environment == "preview":
        settings["TRIGGER_PREVIEW_BRANCH"] = "main"
    code, findings = doctor(DATABASE_URL=sqlite_url, **settings)
    text = f"the key's is {environment}, as it should be"
    assert (code, findings["environment"]) == (0, ("ok", text))
    assert findings["Trigger.dev"][0] == "ok"
    branches = {request.headers.get("x-trigger-branch") for request in standin.requests}
    assert branches == {settings.get("TRIGGER_PREVIEW_BRANCH")}


@pytest.mark.parametrize(
    ("key", "found"), [("tr_dev_x", "dev"), ("tr_pro_x", "unknown"), ("x", "unknown")]
)
def test_a_key_of_another_environment(doctor, sqlite_url, standin, key, found):
    """Trigger.dev takes it, and would say of each schedule that it is not there."""
    standin.secret_key = key
    settings = {"TRIGGER_SECRET_KEY": key, "TRIGGER_ENVIRONMENT": "prod"}
    code, findings = doctor(DATABASE_URL=sqlite_url, **settings)
    text = f"TRIGGER_ENVIRONMENT is prod, but the key's is {found}"
    assert (code, findings["environment"]) == (1, ("failed", text))
    assert findings["Trigger.dev"][0] == "ok"


@pytest.fixture
def fill(database_url, standin):
    """Fill the database with tasks that name these schedules: `fill(id, …, column=value)`."""

    def add(*schedule_ids, **columns):
        app = create_app(make_config(database_url, TRIGGER_API_URL=standin.url))
        world = World(app, standin)
        account = world.account()
        for id_ in schedule_ids:
            world.task(account, schedule=False, trigger_schedule_id=id_, **columns)
        close_database()

    return add


def test_stored_ids_that_the_key_knows_all(doctor, database_url, standin, fill):
    """As it should be."""
    fill(standin.add("x"), standin.add("y"))
    code, findings = doctor(DATABASE_URL=database_url)
    assert (code, findings["schedules"]) == (0, ("ok", "this key knows 2 of 2 that tasks name"))


def test_stored_ids_that_the_key_knows(doctor, database_url, standin, fill):
    """Some may be gone; five are enough to tell."""
    fill(standin.add("x"), standin.add("y"), "sched_gone")
    code, findings = doctor(DATABASE_URL=database_url)
    text = "this key knows 2 of 3 that tasks name; `recoup tasks reconcile` lists the others"
    assert (code, findings["schedules"]) == (0, ("note", text))
    fill(*[standin.add(f"key-{n}") for n in range(10)])
    standin.requests.clear()
    assert doctor(DATABASE_URL=database_url)[0] == 0
    looked_up = [r for r in standin.requests if r.schedule_id]
    assert (len(looked_up), {r.method for r in looked_up}) == (5, {"GET"})


@pytest.mark.parametrize("key", ["tr_dev_other", "tr_dev_another_project"])
def test_a_key_that_knows_no_stored_id(doctor, database_url, standin, fill, key):
    """Of another environment or project, or all schedules are gone: it can't tell, and says so."""
    fill(standin.add("x"), standin.add("y"))
    standin.other_keys = (key,)
    code, findings = doctor(DATABASE_URL=database_url, TRIGGER_SECRET_KEY=key)
    verdict, text = findings["schedules"]
    assert (code, verdict) == (1, "failed")
    assert text == (
        "this key knows none of 2 that tasks name; it belongs to another environment or project; "
        "if the schedules are really gone, set TRIGGER_TRUST_MISSING to delete their tasks"
    )
    settings = {"TRIGGER_SECRET_KEY": key, "TRIGGER_TRUST_MISSING": "true"}
    code, findings = doctor(DATABASE_URL=database_url, **settings)
    text = "this key knows none of 2 that tasks name; with TRIGGER_TRUST_MISSING they count as gone"
    assert (code, findings["schedules"]) == (0, ("note", text))


def test_what_is_no_id_is_not_asked_for(doctor, database_url, standin, fill):
    """It might be found as the key of another."""
    standin.add("x", deduplicationKey="somebody's")
    fill("somebody's")
    code, findings = doctor(DATABASE_URL=database_url)
    assert (code, findings["schedules"][0]) == (1, "failed")
    assert not [r for r in standin.requests if r.schedule_id]


def test_disabled_tasks_are_not_asked_about(doctor, database_url, fill):
    """Theirs may well be gone."""
    fill("sched_gone", enabled=False)
    code, findings = doctor(DATABASE_URL=database_url)
    text = "no enabled task names a schedule to look up"
    assert (code, findings["schedules"]) == (0, ("note", text))


def test_stored_ids_that_can_not_be_looked_up(doctor, database_url, standin, fill):
    """The reason is told, in Trigger.dev's words."""
    id_ = standin.add("x")
    fill(id_)
    standin.always(Fault.status(403), method="GET", schedule_id=id_)
    code, findings = doctor(DATABASE_URL=database_url)
    text = (
        "can't be looked up: Trigger.dev answered 403: Something went wrong, please try again; "
        "check TRIGGER_SECRET_KEY"
    )
    assert (code, findings["schedules"]) == (1, ("failed", text))


def test_each_of_the_databases_problems_is_named(doctor, postgres_url, standin):
    """In the words of `/readyz`."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for statement in (
            "CREATE ROLE no_deleter LOGIN",
            "GRANT USAGE ON SCHEMA public TO no_deleter",
            "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO no_deleter",
            "ALTER TABLE task_deletions DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE scheduled_actions ENABLE ROW LEVEL SECURITY",
        ):
            connection.execute(statement)
    url = postgres_url.replace("postgres@", "no_deleter@")
    code, _ = doctor(DATABASE_URL=url)
    app = create_app(make_config(url, TRIGGER_API_URL=standin.url))
    problems = app.test_client().get("/readyz").json["problems"]
    close_database()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP OWNED BY no_deleter")
        connection.execute("DROP ROLE no_deleter")
    told = [text for verdict, subject, text in doctor.findings if subject == "database"]
    assert code == 1
    assert "The role lacks DELETE on scheduled_actions" in told
    assert [f"{text}." for text in told] == problems
    assert {v for v, subject, _ in doctor.findings if subject == "database"} == {"failed"}


def test_a_role_that_may_not_read_tasks_looks_nothing_up(doctor, postgres_url):
    """That is not the same as a database whose tasks name no schedule."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE no_reader LOGIN")
        _, findings = doctor(DATABASE_URL=postgres_url.replace("postgres@", "no_reader@"))
        close_database()
        connection.execute("DROP ROLE no_reader")
    assert findings["schedules"] == NOT_LOOKED_UP


# --rehearse


def test_a_rehearsal_is_told_line_by_line(doctor, database_url, standin):
    """After all else, and nothing is left."""
    assert doctor("--rehearse", DATABASE_URL=database_url)[0] == 0
    lines = [(v, text) for v, subject, text in doctor.findings if subject == "rehearsal"]
    assert len(lines) == 16
    assert {verdict for verdict, _ in lines} == {"ok"}
    assert doctor.findings[-1][1] == "rehearsal"
    assert lines[0][1].startswith("make recoup-rehearsal-")
    assert lines[-1][1] == "look it up by its id: 404 Schedule not found"
    assert {json.loads(r.body)["task"] for r in standin.requests if r.body} == {
        "customer-prompt-task"
    }
    assert standin.schedules == {}


def test_a_rehearsal_with_a_key_of_preview(doctor, sqlite_url, standin):
    """In its branch."""
    standin.secret_key = "tr_preview_x"
    settings = {"TRIGGER_SECRET_KEY": "tr_preview_x", "TRIGGER_PREVIEW_BRANCH": "feature"}
    assert doctor("--rehearse", DATABASE_URL=sqlite_url, **settings)[0] == 0


def test_without_being_asked_for_nothing_is_rehearsed(doctor, sqlite_url, standin):
    """It changes something."""
    doctor(DATABASE_URL=sqlite_url)
    assert {request.method for request in standin.requests} == {"GET"}


def test_where_something_is_wrong_nothing_is_rehearsed(doctor, sqlite_url, standin):
    """With a key of another environment, a schedule would be made there."""
    code, findings = doctor("--rehearse", DATABASE_URL=sqlite_url, TRIGGER_ENVIRONMENT="prod")
    assert (code, findings.get("rehearsal")) == (1, None)
    assert {request.method for request in standin.requests} == {"GET"}


def test_a_rehearsal_that_fails_is_told(doctor, sqlite_url, standin):
    """With the reason and exit code 1, and nothing is left."""
    standin.fail(Fault.database_error())
    assert doctor("--rehearse", DATABASE_URL=sqlite_url)[0] == 1
    told = [(v, text) for v, subject, text in doctor.findings if subject == "rehearsal"]
    verdict, text = told[-2]
    assert verdict == "failed"
    assert text.startswith("cancel it by its key: 422 Internal Server Error; relied on is 200 with")
    assert told[-1] == ("note", "nothing is left")
    assert standin.schedules == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_rehearsal_that_is_ended_leaves_nothing(environ, sqlite_url, standin, number, tmp_path):
    """By Ctrl-C, a container's stop, or a terminal's end."""
    environ = {"DATABASE_URL": sqlite_url, **environ}
    shown = tmp_path / "shown"
    streams = [os.devnull, str(shown), os.devnull]
    process = Forked(["recoup", "doctor", "--rehearse"], tmp_path, environ, streams)
    standin.fail(
        Fault("end", lambda exchange: (process.send_signal(number), exchange.wait(30))),
        method="DELETE",
    )
    assert process.wait() == 1
    assert shown.read_text().splitlines()[-1].endswith("rehearsal: nothing is left")
    assert len(standin.requests) > 4
    assert standin.schedules == {}


def test_a_privy_key_that_parses(doctor, sqlite_url):
    """It is named by its app."""
    settings = {"PRIVY_APP_ID": APP_ID, "PRIVY_JWT_VERIFICATION_KEY": verification_key()}
    code, findings = doctor(DATABASE_URL=sqlite_url, **settings)
    assert (code, findings["Privy"]) == (0, ("ok", f"the key of app {APP_ID} can be used"))


def test_settings_that_are_wrong(doctor):
    """A line for each; what can't be read can't be tried."""
    code, findings = doctor(
        PRIVY_APP_ID=APP_ID,
        PRIVY_JWT_VERIFICATION_KEY="hidden",
        TRIGGER_ENVIRONMENT="production",
        TRIGGER_SECRET_KEY="",
    )
    text = "must be one of: dev, staging, prod, preview."
    assert code == 1
    assert findings == {
        "PRIVY_JWT_VERIFICATION_KEY": ("failed", "must be a public key in PEM, or base64 of it."),
        "TRIGGER_ENVIRONMENT": ("failed", text),
        "TRIGGER_SECRET_KEY": ("failed", "is required."),
    }


def test_colours_are_for_a_terminal(run, environ, sqlite_url):
    """A pipe gets plain text, a terminal gets colours around the verdict alone."""
    environ = {"DATABASE_URL": sqlite_url, **environ}
    code, piped, _ = run("recoup", "doctor", **environ)
    code_there, shown = converse(["recoup", "doctor"], **environ)
    assert (code, code_there) == (0, 0)
    assert "\x1b" not in piped
    assert "database: reachable and upgraded" in piped
    assert "\x1b[32mok    \x1b[0m  database: reachable and upgraded" in shown
