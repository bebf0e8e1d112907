"""The log: one line for each request, with all that is known, which nobody can forge."""

import ast
import io
import json
import os
import re
import sys
import threading
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pytest

from recoup import log
from recoup.app import create_app
from recoup.database.connection import execute, fetch, release
from recoup.deletion.sweep import sweep
from recoup.demo.standin import Fault
from tests.factories import delete

ROOT = Path(__file__).parent.parent
MADE_ID = re.compile(r"[0-9a-f]{32}")
IN_TABLE = re.compile("`(\\w+)`")
FORGERY = '\r\n{"event": "forged"}\n'


@pytest.fixture(name="written")
def _written():
    """What the log writes, to something that is no terminal; with `client`, name it after."""
    stream = io.StringIO()
    log.configure(stream)
    yield stream
    log.configure(sys.stdout)


@pytest.fixture(name="every_line")
def _every_line(client, written):
    """Return the lines that the app has logged, read as JSON."""
    return lambda: [json.loads(line) for line in written.getvalue().splitlines()]


@pytest.fixture(name="lines")
def _lines(every_line):
    """Return those of requests, without the audit's."""
    return lambda: [line for line in every_line() if "logger" not in line]


def key_id(account):
    """Return the id of an account's only API key."""
    [(id_,)] = fetch("SELECT id FROM account_api_keys WHERE account = ?", account)
    release()
    return str(id_)


class TestAudit:
    """Who deleted what, in lines that a pipeline can split off by the name of their log."""

    def test_a_deletion_is_one_line(self, client, world, every_line):
        """With the title's length, as the title is the customer's own."""
        owner = world.account()
        task = world.task(owner)
        schedule = world.row(task)["trigger_schedule_id"]
        response = delete(client, task, world.key(owner))
        [line] = [line for line in every_line() if line.get("logger") == "recoup.audit"]
        line.pop("time")
        assert line == {
            "level": "info",
            "event": "deleted",
            "logger": "recoup.audit",
            "task": task,
            "owner": owner,
            "title_length": len("Weekly report"),
            "account": owner,
            "key": key_id(owner),
            "schedule": schedule,
            "request_id": response.headers["X-Request-ID"],
        }

    def test_a_colleague_is_named_beside_the_owner(self, client, world, every_line):
        """`owner` is whose task it was, `account` who asked."""
        shared = uuid4()
        owner = world.account(organizations=[shared])
        colleague = world.account(organizations=[shared])
        delete(client, world.task(owner), world.key(colleague))
        [line] = [line for line in every_line() if line.get("logger")]
        assert (line["owner"], line["account"]) == (owner, colleague)

    def test_what_is_not_deleted_is_no_line(self, client, world, every_line):
        """A refusal and a failure are in the log of requests alone."""
        owner = world.account()
        task = world.task(owner)
        world.standin.fail(Fault.status(401))
        delete(client, task, world.key(owner))
        delete(client, task, world.key(world.account()))
        assert not [line for line in every_line() if line.get("logger")]

    def test_a_recovery_names_who_had_asked(self, app, client, world, every_line):
        """The mark remembers."""
        owner = world.account()
        task = world.task(owner)
        world.place_mark(task, lease_seconds=-1)
        execute("UPDATE task_deletions SET requested_by = ?", owner)
        release()
        list(sweep(app.extensions["recoup"].deleter))
        [line] = [line for line in every_line() if line.get("logger")]
        assert (line["task"], line["owner"], line["account"]) == (task, owner, owner)


class TestRequestLine:
    """Each request leaves one line."""

    def test_it_goes_to_standard_output(self, config, capsys):
        """Where containers and process managers look for it."""
        create_app(config).test_client().get("/healthz")
        assert json.loads(capsys.readouterr().out)["route"] == "/healthz"

    def test_it_tells_the_whole_story_of_a_deletion(self, client, world, lines):
        """Who asked for what, what Trigger.dev said, and how it ended."""
        owner = world.account()
        task = world.task(owner)
        schedule = world.row(task)["trigger_schedule_id"]
        response = delete(client, task, world.key(owner))
        [line] = lines()
        assert isinstance(line.pop("ms"), float)
        assert datetime.fromisoformat(line.pop("time")).utcoffset().total_seconds() == 0
        assert line == {
            "level": "info",
            "event": "request",
            "request_id": response.headers["X-Request-ID"],
            "method": "DELETE",
            "route": "/api/tasks",
            "status": 200,
            "account": owner,
            "key": key_id(owner),
            "owner": owner,
            "title_length": len("Weekly report"),
            "task": task,
            "schedule": schedule,
            "step": "finish",
            "state": "deleted",
            "upstream_statuses": [200],
        }

    def test_a_schedule_that_was_gone_already_is_a_warning(self, client, world, lines):
        """It may mean that our key is of another environment, so the id is there to look for."""
        owner = world.account()
        task = world.task(owner, schedule=False, trigger_schedule_id="sched_gone")
        delete(client, task, world.key(owner))
        [line] = lines()
        assert (line["level"], line["missing"], line["schedule"]) == ("warning", True, "sched_gone")

    def test_a_failure_is_an_error_with_its_reason(self, client, world, lines):
        """It says what the caller isn't told."""
        world.standin.fail(Fault.status(401))
        owner = world.account()
        delete(client, world.task(owner), world.key(owner))
        [line] = lines()
        assert (line["level"], line["status"], line["state"]) == ("error", 500, "kept")
        assert line["reason"] == "Trigger.dev answered 401: Something went wrong, please try again"
        assert "error" not in line

    def test_what_trigger_dev_says_is_in_the_line_and_in_no_answer(self, client, world, lines):
        """It is for the operator alone, in one line, without a key that it might quote."""
        said = "Transaction failed:\n\x1b[31m write conflict of tr_prod_4f1-2d3c.\u202e" + "x" * 999
        world.standin.fail(Fault.status(403, json.dumps({"error": said}).encode()))
        owner = world.account()
        answer = delete(client, world.task(owner), world.key(owner))
        assert "write conflict" not in answer.text
        [line] = lines()
        begins = "Trigger.dev answered 403: Transaction failed: [31m write conflict of tr_***. xxx"
        assert line["reason"].startswith(begins)
        assert len(line["reason"]) == len("Trigger.dev answered 403: ") + 200
        assert line["reason"].endswith("x…")

    def test_a_refusal_is_one_line_too(self, client, world, lines):
        """A caller's fault is no error of ours, and says which task and account it was."""
        stranger = world.account()
        task = world.task(world.account())
        delete(client, task, world.key(stranger))
        [line] = lines()
        assert (line["level"], line["status"]) == ("info", 403)
        assert (line["account"], line["task"]) == (stranger, task)

    @pytest.mark.parametrize(
        ("key", "masked"), [("recoup_sk_4f-2_x", "recoup_sk_***"), ("tr_prod_4f-2_x", "tr_***")]
    )
    def test_a_key_in_a_path_is_masked(self, client, lines, key, masked):
        """Somebody may put it where an id belongs."""
        client.get(f"/api/x_{key}/x")
        [line] = lines()
        assert line["path"] == f"/api/x_{masked}/x"

    def test_a_path_without_a_route_is_named_itself(self, client, lines):
        """What isn't known is left out."""
        client.get("/unknown")
        [line] = lines()
        assert (line["path"], line["status"]) == ("/unknown", 404)
        assert "route" not in line

    def test_nothing_of_it_is_in_the_next_one(self, client, world, lines):
        """Notes end with their request."""
        owner = world.account()
        delete(client, world.task(owner), world.key(owner))
        client.get("/healthz")
        assert not {"task", "account", "schedule", "state"} & lines()[1].keys()

    def test_no_credential_is_ever_in_it(self, client, world, written, config):
        """No key, valid or not, and none of our own secrets."""
        owner = world.account()
        task, key = world.task(owner), world.key(owner)
        world.standin.fail(Fault.status(401))
        for attempt in (key, key, "recoup_sk_canary"):
            delete(client, task, attempt)
        headers = {"Authorization": "Bearer canary.canary.canary"}
        client.delete("/api/tasks", data=f'{{"id": "{task}"}}', headers=headers)
        assert written.getvalue().count("\n") == 5  # and one of the audit
        for secret in (key, "canary", config.trigger_secret_key, config.privy_project_secret):
            assert secret not in written.getvalue()


class TestRequestId:
    """A request is known under one id, in the log and in the answer."""

    @pytest.mark.parametrize("given", ["x", "0d9a3c1e-6a83-4b8c-9d52", "A.b_c-1", "x" * 64])
    def test_a_sane_one_is_taken(self, client, lines, given):
        """A proxy in front may have given the request its id."""
        response = client.get("/healthz", headers={"X-Request-ID": given})
        assert response.headers["X-Request-ID"] == given
        assert lines()[0]["request_id"] == given

    @pytest.mark.parametrize(
        "given", ["", "x" * 65, "a b", 'a"b', "a\\b", "a\n", FORGERY, "\xe9", "\x1b[2J", "a,b"]
    )
    def test_another_is_replaced(self, client, lines, given):
        """What could be taken for something else is never written or sent back."""
        response = client.get("/healthz", environ_overrides={"HTTP_X_REQUEST_ID": given})
        assert MADE_ID.fullmatch(response.headers["X-Request-ID"])
        assert lines()[0]["request_id"] == response.headers["X-Request-ID"]

    def test_trigger_gets_it_too(self, client, world):
        """A call of ours can be found again in the log of whoever got it."""
        owner = world.account()
        task, key = world.task(owner), world.key(owner)
        response = delete(client, task, key)
        [request] = world.standin.requests
        assert request.headers["x-request-id"] == response.headers["X-Request-ID"]

    def test_without_one_each_request_has_its_own(self, client):
        """Two requests are never mixed up."""
        made = {client.get("/healthz").headers["X-Request-ID"] for _ in range(3)}
        assert len(made) == 3


class TestForgery:
    """No value, wherever it came from, can begin a line or a field of its own."""

    @pytest.mark.parametrize("header", ["HTTP_X_API_KEY", "HTTP_AUTHORIZATION", "HTTP_USER_AGENT"])
    @pytest.mark.parametrize("value", [FORGERY, '", "status": 200, "x": "', "\x1b[2J\x00\x85"])
    def test_not_from_a_header(self, client, lines, header, value):
        """Headers are not logged, or only as values."""
        body = '{"id": "0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10"}'
        client.delete("/api/tasks", data=body, environ_overrides={header: value})
        [line] = lines()
        assert (line["event"], line["status"]) == ("request", 401)

    @pytest.mark.parametrize("path", ["/%0d%0a%7B%22event%22%3A1%7D", "/\u2028", "/%22%2C%22x"])
    def test_not_from_a_path(self, client, lines, path):
        """An unknown path is a caller's text."""
        client.get(path)
        [line] = lines()
        assert (line["event"], line["status"]) == ("request", 404)

    def test_not_from_a_method(self, client, lines):
        """A method is a caller's text too."""
        client.open("/healthz", method='GET", "level": "x\u2028')
        [line] = lines()
        assert (line["level"], line["status"]) == ("info", 405)

    def test_not_from_a_row(self, client, world, lines):
        """Other programs write the host's tables."""
        owner = world.account()
        task = world.task(owner, schedule=False, trigger_schedule_id=FORGERY)
        delete(client, task, world.key(owner))
        [line] = lines()
        assert (line["event"], line["schedule"]) == ("request", FORGERY)


class TestRecord:
    """`record()` collects what `note()` is told, and writes it once."""

    def test_a_later_note_replaces_an_earlier(self, written):
        """A line says what was last known."""
        with log.record("event", step="one"):
            log.note(step="two", status=200)
        line = json.loads(written.getvalue())
        assert (line["event"], line["step"], line["status"]) == ("event", "two", 200)

    def test_it_is_written_whatever_happens(self, written):
        """A block that raises has its line all the same."""
        with pytest.raises(ZeroDivisionError), log.record("event", zero=0) as notes:
            notes["step"] = 1 / notes["zero"]
        line = json.loads(written.getvalue())
        assert line["event"] == "event"
        assert (line["level"], line["error"]) == ("error", "ZeroDivisionError: division by zero")

    def test_its_error_is_the_reason_beneath(self, written):
        """Not every exception says more than its name."""
        with pytest.raises(LookupError), log.record("event"):
            raise LookupError from OSError("disk full")
        with pytest.raises(LookupError), log.record("event"):
            raise LookupError
        errors = [json.loads(line)["error"] for line in written.getvalue().splitlines()]
        assert errors == ["LookupError: disk full", "LookupError"]

    def test_an_inner_one_is_a_line_of_its_own(self, written):
        """Notes go to the innermost record."""
        with log.record("outer"):
            with log.record("inner"):
                log.note(x=1)
            log.note(y=2)
        inner, outer = map(json.loads, written.getvalue().splitlines())
        assert (inner["event"], inner["x"], "y" in inner) == ("inner", 1, False)
        assert (outer["event"], outer["y"], "x" in outer) == ("outer", 2, False)

    def test_threads_have_their_own(self, written):
        """What one request notes is never in another's line."""
        barrier = threading.Barrier(4, timeout=10)

        def work(number):
            with log.record("event", number=number):
                barrier.wait()
                log.note(noted=number)
                barrier.wait()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = [json.loads(line) for line in written.getvalue().splitlines()]
        assert sorted((line["number"], line["noted"]) for line in lines) == [
            (number, number) for number in range(4)
        ]

    def test_a_note_outside_of_any_is_dropped(self, written):
        """Modules may note what they know, whoever calls them."""
        log.note(x=1)
        assert (log.noted("x"), written.getvalue()) == (None, "")

    def test_what_is_absent_is_left_out_and_what_is_false_is_not(self, written):
        """None says nothing; 0, False and the empty text do."""
        with log.record("event", a=None, b=False, c=0, d=""):
            pass
        line = json.loads(written.getvalue())
        assert (line["b"], line["c"], line["d"], "a" in line) == (False, 0, "", False)

    def test_a_traceback_is_part_of_its_line(self, written):
        """An error is one JSON object too, however many lines its traceback has."""
        try:
            raise RuntimeError("why")
        except RuntimeError:
            log.logger.exception("unexpected error")
        [line] = map(json.loads, written.getvalue().splitlines())
        assert line["event"] == "unexpected error"
        assert line["traceback"].splitlines()[-1] == "RuntimeError: why"


def test_a_stream_that_was_closed_gets_nothing_and_no_other_does(capfd):
    """As with `2>&-`: a command's results stay alone on standard output."""
    log.configure(None)
    log.logger.error("nobody hears")
    log.configure(sys.stdout)
    assert capfd.readouterr() == ("", "")


class TestTerminal:
    """On a terminal the log is text to read."""

    @pytest.fixture
    def screen(self):
        """A terminal that the log writes to; call it to read what is on it."""
        ours, theirs = os.openpty()
        with open(ours, "rb", buffering=0) as screen, open(theirs, "w") as terminal:
            log.configure(terminal)
            yield lambda: screen.read(10_000).decode().replace("\r\n", "\n")
            log.configure(sys.stdout)

    def test_a_line_is_time_level_event_and_fields(self, screen):
        """No JSON around it, and the fields in the order of their notes."""
        with log.record("request", method="GET"):
            log.note(status=200, task=None)
        pattern = r'\d{4}-\d\d-\d\dT[\d:.]+Z info request method="GET" status=200 ms=[\d.]+\n'
        assert re.fullmatch(pattern, screen())

    def test_a_value_can_not_forge_a_line_or_a_field(self, screen):
        """Values are encoded as in JSON, the terminal's own control codes included."""
        with log.record("request", schedule=FORGERY, task='x" status=200', route="\x1b[2J\x9b"):
            pass
        text = screen()
        assert text.count("\n") == 1
        assert r'schedule="\r\n{\"event\": \"forged\"}\n"' in text
        assert r'task="x\" status=200"' in text
        assert r'route="\u001b[2J\u009b"' in text

    def test_a_traceback_is_readable(self, screen):
        """It follows its line as Python writes it."""
        try:
            raise RuntimeError("why")
        except RuntimeError:
            log.logger.exception("unexpected error")
        first, *_, last = screen().splitlines()
        assert first.endswith("error unexpected error")
        assert last == "RuntimeError: why"


class TestDocs:
    """`docs/logs.md` has all that a line can have, and nothing else."""

    def test_each_field_and_event_of_the_code_is_there(self):
        """What is given to `record()` and `note()` by name."""
        text = (ROOT / "docs/logs.md").read_text()
        names, events = _find_names()
        assert {"task", "upstream_statuses", "replaced"} < names
        assert {"request", "reconcile"} < events
        assert [name for name in sorted(names | events) if f"`{name}`" not in text] == []

    def test_each_field_that_is_there_is_in_the_code(self):
        """By that name."""
        text = (ROOT / "docs/logs.md").read_text().split("| field |")[1].split("\n\n")[0]
        fields = {n for row in text.splitlines() for n in IN_TABLE.findall(row.split("|")[1])}
        code = "".join(path.read_text() for path in (ROOT / "recoup").rglob("*.py"))
        assert {"task", "waited", "ms"} < fields
        assert [n for n in sorted(fields) if not re.search(rf"\b{n}=|[\"']{n}[\"']", code)] == []


def _find_names():
    """Return the names of fields, and of events, that the code gives to the log."""
    names, events = set(), set()
    for path in (ROOT / "recoup").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("log.note", "log.record"):
                names |= {keyword.arg for keyword in call.keywords if keyword.arg}
                events |= {a.value for a in call.args if isinstance(a, ast.Constant)}
    return names, events
