"""The adapter of Trigger.dev's schedules API: what each of its answers means for a cancel."""

import json
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from recoup import log
from recoup.demo.messages import ROOT
from recoup.demo.standin import Fault
from recoup.http.client import Answer
from recoup.http.deadline import Deadline
from recoup.trigger.answers import Verdict, judge, seconds_until_reset
from recoup.trigger.cancel import CancelFailed, TriggerSchedules
from tests.sockets import (
    answer_with,
    black_hole,
    break_encryption,
    make_certificate,
    server_context,
    talker,
)

TASK_ID = "0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10"
NOT_FOUND = b'{"error": "Schedule not found"}'
# For a machine that is busy with something else.
GRACE = 1.0


@pytest.fixture
def schedules(standin):
    return TriggerSchedules(standin.url, standin.secret_key)


@pytest.fixture
def cancel(schedules):
    """Cancel the schedule of TASK_ID, known by this id or none; return the report."""

    def cancel(schedule_id, seconds=2.0):
        return schedules.cancel(schedule_id, TASK_ID, Deadline(seconds))

    return cancel


@pytest.fixture
def fail(cancel):
    """Cancel, see it fail and return the report."""

    def fail(schedule_id="sched_x", seconds=2.0):
        with pytest.raises(CancelFailed) as caught:
            cancel(schedule_id, seconds)
        return caught.value.report

    return fail


@pytest.fixture
def connections(standin, monkeypatch):
    """The addresses that connections to the stand-in came from."""
    accepted = []
    serve = standin._server.process_request

    def process_request(connection, address):
        accepted.append(address)
        serve(connection, address)

    monkeypatch.setattr(standin._server, "process_request", process_request)
    return accepted


def keys(standin):
    """Return the ids and deduplication keys that were asked for, in their order."""
    return [request.schedule_id for request in standin.requests]


# An id, a deduplication key, and neither


def test_a_schedule_is_cancelled_by_its_id(standin, cancel):
    """A known id needs one request, and it deletes that schedule only."""
    schedule_id, other = standin.add(TASK_ID), standin.add("another")
    report = cancel(schedule_id)
    assert (report.attempts, report.upstream_status, report.missing) == (1, 200, False)
    assert list(standin.schedules) == [other]
    assert keys(standin) == [schedule_id]


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_schedule_without_an_id_is_cancelled_by_its_task(standin, cancel, nothing):
    """The task's own id is the key of its schedule, should none have been stored."""
    standin.add(TASK_ID)
    assert not cancel(nothing).missing
    assert standin.schedules == {}
    assert keys(standin) == [TASK_ID]


def test_a_stale_id_gives_way_to_the_task(standin, cancel):
    """A 404 on the id is no proof: the task may have a schedule of another id."""
    standin.add(TASK_ID)
    assert not cancel("sched_stale").missing
    assert standin.schedules == {}
    assert keys(standin) == ["sched_stale", TASK_ID]


def test_a_schedule_that_is_unknown_by_both_is_missing(standin, cancel):
    """Where Trigger.dev knows neither, there is nothing to cancel, and the report says so."""
    report = cancel("sched_gone")
    assert (report.missing, report.in_doubt) == (True, False)
    assert (report.attempts, report.upstream_status) == (2, 404)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>404</html>",
        b"{}",
        b"[]",
        b"null",
        b'"Schedule not found"',
        b'{"error": "Not found"}',
        b'{"error": ["Schedule not found"]}',
        b'{"error": "Schedule not found"',
        b"\xff\xfe",
        b"[" * 60_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_404_of_something_else_proves_nothing(standin, fail, body):
    """Only the schedules route's own words count; a wrong address says 404 as well."""
    standin.always(Fault.status(404, body))
    report = fail()
    assert (report.attempts, report.upstream_status, report.missing) == (1, 404, False)


def test_a_404_that_breaks_off_is_asked_again(standin, cancel):
    """Half of the right words are not the right words, but the next answer may be whole."""
    standin.fail(Fault.half_body(act=True))
    report = cancel("sched_gone")
    assert (report.attempts, report.upstream_status) == (3, 404)
    assert keys(standin) == ["sched_gone", "sched_gone", TASK_ID]


def test_a_404_on_the_id_and_a_failure_on_the_task_is_a_failure(standin, fail):
    """Both must say 404; the second counts as much as the first."""
    standin.always(Fault.status(401), schedule_id=TASK_ID)
    report = fail("sched_gone")
    assert (report.missing, report.upstream_status) == (False, 401)


# Successes


@pytest.mark.parametrize(
    "fault",
    [
        Fault.junk(200),
        Fault.junk(299),
        Fault.status(200, b""),
        Fault.status(200, NOT_FOUND),
        Fault.status(202, b"null"),
        Fault.status(204, b""),
        Fault.half_body(act=True),
        Fault.drip(0.2, act=True, where="body"),
    ],
    ids=lambda fault: fault.kind,
)
def test_any_2xx_is_a_success_whatever_follows(standin, cancel, fault):
    """The status decides, and the body may be anything, or never end."""
    standin.always(fault)
    report = cancel(standin.add(TASK_ID))
    assert (report.attempts, report.upstream_status // 100) == (1, 2)
    assert not report.missing


def test_an_act_whose_answer_was_lost_is_seen_when_asked_again(standin, cancel):
    """A 404 after a lost answer is a success, and the report tells of the doubt there was."""
    schedule_id = standin.add(TASK_ID)
    standin.fail(Fault.reset(act=True))
    report = cancel(schedule_id)
    assert (report.missing, report.in_doubt) == (False, True)
    assert standin.schedules == {}


# Failures that are final


@pytest.mark.parametrize("code", [300, 304, 400, 401, 402, 403, 405, 410, 413, 422, 451])
def test_a_refusal_is_final(standin, fail, code):
    """What will not change by asking again is asked once, and leaves no doubt."""
    standin.always(Fault.status(code))
    report = fail(standin.add(TASK_ID))
    assert (report.attempts, report.upstream_status, report.in_doubt) == (1, code, False)
    assert len(standin.schedules) == len(standin.requests) == 1


def test_a_wrong_secret_key_is_final(standin):
    """The server's real refusal of a key ends the cancel."""
    schedules = TriggerSchedules(standin.url, "tr_dev_other")
    with pytest.raises(CancelFailed) as caught:
        schedules.cancel(standin.add(TASK_ID), TASK_ID, Deadline(2))
    assert (caught.value.report.attempts, caught.value.report.upstream_status) == (1, 401)


@pytest.mark.parametrize("location", ["/api/v1/schedules/other", "http://[", "http://\x80"])
def test_a_redirect_is_final_and_not_followed(standin, fail, location):
    """No request goes, and no key with it, where a redirect points."""
    standin.always(Fault.redirect(location))
    report = fail()
    assert (report.attempts, report.upstream_status) == (1, 307)
    assert len(standin.requests) == 1


# Failures that may pass


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault.status(code) for code in (408, 409, 500, 502, 503, 504, 520, 599)),
        Fault.rate_limited(0.1),
        Fault.junk(503),
        Fault.reset(),
        Fault.close(),
        Fault.half_body(),
        Fault.hang(60),
        Fault.drip(0.2),
        Fault.drip(0.2, where="body"),
    ],
    ids=lambda fault: fault.kind,
)
def test_what_may_pass_is_tried_again(standin, cancel, fault):
    """One bad answer, or none, costs a second attempt and not the cancel."""
    standin.fail(fault)
    assert cancel(standin.add(TASK_ID)).attempts == 2
    assert standin.schedules == {}


def test_a_server_that_comes_back_is_reached(standin, cancel):
    """Refused connections are tried again until the server listens."""
    schedule_id = standin.add(TASK_ID)
    standin.stop()
    start = threading.Timer(0.3, standin.start)
    start.start()
    report = cancel(schedule_id, seconds=30)
    start.join()
    assert (report.attempts > 1, report.in_doubt) == (True, False)
    assert standin.schedules == {}


def test_the_servers_advice_to_retry_goes_before_the_status(standin, cancel):
    """`x-should-retry: true` makes a refusal worth another attempt."""
    standin.fail(Fault.status(400, headers={"x-should-retry": "true"}))
    assert cancel(standin.add(TASK_ID)).attempts == 2


def test_the_servers_advice_not_to_retry_goes_before_the_status(standin, fail):
    """`x-should-retry: false` makes a server error final."""
    standin.always(Fault.status(500, headers={"x-should-retry": "false"}))
    assert fail().attempts == 1


# The rate limit


def test_a_rate_limit_that_ends_in_time_is_waited_for(standin, cancel):
    """The next attempt comes when the limit is reset, and no sooner."""
    standin.fail(Fault.rate_limited(0.5))
    assert cancel(standin.add(TASK_ID), seconds=30).attempts == 2
    assert standin.requests[1].at - standin.requests[0].at > 0.4


def test_a_rate_limit_beyond_the_deadline_is_not_waited_for(standin, fail):
    """Nobody has to wait for what will not come."""
    standin.always(Fault.rate_limited(60))
    started = time.monotonic()
    assert fail(seconds=30).attempts == 1
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("reset", ["", "nan", "inf", "soon", "-1", "0", "1.5", "9" * 400])
def test_a_rate_limit_without_a_usable_reset_is_tried_with_growing_waits(standin, fail, reset):
    """A junk reset, or one that has passed, must not make us hammer a server in need."""
    standin.always(Fault.status(429, headers={"x-ratelimit-reset": reset}))
    report = fail(seconds=0.5)
    assert 2 <= report.attempts <= 6


def test_the_seconds_until_reset_are_read_from_milliseconds():
    """The moment is in unix milliseconds, and what has passed is no time at all."""
    answer = Answer(429, {"x-ratelimit-reset": "1000500"}, b"")
    assert seconds_until_reset(answer, 1000.0) == 0.5
    assert seconds_until_reset(answer, 2000.0) == 0


@pytest.mark.parametrize("headers", [{}, {"x-ratelimit-reset": "nan"}, {"retry-after": "9"}])
def test_without_a_reset_there_is_nothing_to_wait_for(headers):
    """Where the server names no moment, none is made up."""
    assert seconds_until_reset(Answer(429, headers, b""), 0.0) == 0


def test_a_reset_counts_for_the_rate_limited_only():
    """Every answer has the header; it is a time to wait only in a 429."""
    assert seconds_until_reset(Answer(500, {"x-ratelimit-reset": "9000"}, b""), 0.0) == 0


# The deadline


@pytest.mark.parametrize(
    "fault",
    [
        Fault.hang(60),
        Fault.drip(0.2),
        Fault.drip(0.2, where="body"),
        Fault.status(500),
        Fault.reset(),
        Fault.close(),
        Fault.rate_limited(0.3),
        Fault.status(400, headers={"x-should-retry": "true"}),
    ],
    ids=lambda fault: fault.kind,
)
def test_the_deadline_is_total(standin, fail, fault):
    """Attempts, waits and dripping bytes together take no longer than was given."""
    standin.always(fault)
    started = time.monotonic()
    fail(standin.add(TASK_ID), seconds=0.6)
    assert time.monotonic() - started < 0.6 + GRACE


def test_the_deadline_holds_over_id_and_task_together(standin, fail):
    """What the id has taken is not there for the task's own id."""
    standin.always(Fault.delay(0.3), schedule_id="sched_gone")
    standin.always(Fault.hang(60), schedule_id=TASK_ID)
    started = time.monotonic()
    fail("sched_gone", seconds=1)
    assert time.monotonic() - started < 1 + GRACE


def test_the_deadline_holds_where_no_connection_is_made():
    """A host that swallows packets takes no longer, and leaves no doubt."""
    started = time.monotonic()
    with black_hole() as (host, port), pytest.raises(CancelFailed) as caught:
        TriggerSchedules(f"http://{host}:{port}", "key").cancel("sched_x", TASK_ID, Deadline(1))
    assert time.monotonic() - started < 1 + GRACE
    assert not caught.value.report.in_doubt


def test_nothing_is_sent_after_the_deadline(standin, schedules):
    """With no time left a cancel fails without a request."""
    with pytest.raises(CancelFailed) as caught:
        schedules.cancel("sched_x", TASK_ID, Deadline(-1))
    assert (caught.value.report.attempts, standin.requests) == (0, [])


# Doubt


@pytest.mark.parametrize("act", [False, True])
@pytest.mark.parametrize(
    "make",
    [Fault.reset, Fault.close, lambda act: Fault.hang(60, act), lambda act: Fault.drip(0.2, act)],
    ids=["reset", "close", "hang", "drip"],
)
def test_a_request_without_an_answer_leaves_doubt(standin, fail, make, act):
    """Nobody can tell whether it was acted upon, and the report says so either way."""
    standin.always(make(act=act))
    report = fail(standin.add(TASK_ID), seconds=0.5)
    assert (report.in_doubt, report.upstream_status) == (True, None)


@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_a_failure_of_the_servers_own_leaves_doubt(standin, fail, code):
    """A server that failed may have done it first; a proxy doesn't know what one has done."""
    standin.always(Fault.junk(code))
    assert fail(seconds=0.5).in_doubt


@pytest.mark.parametrize("code", [408, 409, 429])
def test_a_refusal_for_now_leaves_no_doubt(standin, fail, code):
    """The server answered that it did not do it."""
    standin.always(Fault.status(code))
    assert not fail(seconds=0.5).in_doubt


def test_a_refused_connection_leaves_no_doubt(standin, fail):
    """What was never sent was never acted upon."""
    standin.stop()
    report = fail(seconds=0.5)
    standin.start()
    assert (report.in_doubt, report.upstream_status) == (False, None)
    assert report.attempts > 1


def test_a_lost_answer_is_not_reported_as_the_one_before_it(standin, fail):
    """The status is that of the last attempt, which may have had none."""
    standin.fail(Fault.status(500))
    standin.always(Fault.hang(60))
    report = fail(seconds=0.5)
    assert (report.attempts, report.upstream_status) == (2, None)


def test_doubt_stays_when_a_later_attempt_is_refused(standin, fail):
    """A clear answer to the second attempt tells nothing of the first."""
    standin.fail(Fault.reset(act=True), Fault.status(401))
    report = fail(standin.add(TASK_ID))
    assert (report.in_doubt, report.upstream_status) == (True, 401)


def test_a_certificate_that_is_not_trusted_leaves_no_doubt(tmp_path):
    """Nothing is sent to a server that could not prove who it is."""
    context = server_context(make_certificate(tmp_path))
    with talker(break_encryption(context)) as address:
        report = _fail_at(address)
    assert (report.in_doubt, report.reason) == (False, "SSLError")


def test_an_encryption_that_breaks_off_leaves_doubt(tmp_path):
    """An error of TLS after the request was sent is a lost answer like any other."""
    certificate = make_certificate(tmp_path)
    with talker(break_encryption(server_context(certificate))) as address:
        assert _fail_at(address, verify=str(certificate)).in_doubt


def test_a_handshake_that_is_cut_off_leaves_no_doubt():
    """A server that hangs up before the connection is encrypted has been sent nothing."""
    with talker(lambda connection: connection.recv(1)) as address:
        assert not _fail_at(address).in_doubt


def _fail_at(address, verify=True):
    schedules = TriggerSchedules(f"https://{address[0]}:{address[1]}", "key")
    schedules._client.verify = verify
    with pytest.raises(CancelFailed) as caught:
        schedules.cancel("sched_x", TASK_ID, Deadline(1))
    return caught.value.report


# What is sent


@pytest.mark.parametrize(
    ("schedule_id", "path"),
    [
        ("a/b", "a%2Fb"),
        ("/", "%2F"),
        ("//evil.test/x", "%2F%2Fevil.test%2Fx"),
        ("@evil.test", "%40evil.test"),
        ("../../runs", "..%2F..%2Fruns"),
        ("...", "..."),
        ("%2e%2e", "%252e%252e"),
        ("x?y=1", "x%3Fy%3D1"),
        ("x#y", "x%23y"),
        ("x;y&z", "x%3By%26z"),
        (" ", "%20"),
        ("\r\nHost: evil.test\r\n\r\n", "%0D%0AHost%3A%20evil.test%0D%0A%0D%0A"),
        ("\x00", "%00"),
        ("ü\N{PILE OF POO}", "%C3%BC%F0%9F%92%A9"),
        ("x" * 50_000, "x" * 50_000),
    ],
    ids=lambda text: repr(text[:12]),
)
def test_an_id_stays_one_part_of_the_path(standin, cancel, schedule_id, path):
    """Whatever an id holds, it changes neither the host nor the route nor another header."""
    # The real server fails at a NUL, and refuses a path of 50,000 characters.
    standin.always(Fault.status(404, b'{"error": "Schedule not found"}'))
    assert cancel(schedule_id).missing
    assert [r.path for r in standin.requests] == [f"{ROOT}/{path}", f"{ROOT}/{TASK_ID}"]
    assert {r.headers["host"] for r in standin.requests} == {standin.url[len("http://") :]}


@pytest.mark.parametrize("schedule_id", [".", ".."])
def test_an_id_that_no_path_can_name_is_not_sent(standin, cancel, schedule_id):
    """Dots would ask for the list of schedules, which answers a DELETE with 200."""
    standin.add(TASK_ID)
    assert not cancel(schedule_id).missing
    assert keys(standin) == [TASK_ID]


def test_an_id_that_is_too_long_for_the_server_is_refused(fail):
    """A server that won't read the address has done nothing."""
    report = fail("x" * 100_000)
    assert (report.attempts, report.upstream_status, report.in_doubt) == (1, 414, False)


@pytest.mark.parametrize("ending", ["", "/", "//"])
def test_a_slash_at_the_end_of_the_address_makes_no_difference(standin, ending):
    """Both ways to write the address lead to the same route."""
    schedules = TriggerSchedules(standin.url + ending, standin.secret_key)
    schedules.cancel(standin.add(TASK_ID), TASK_ID, Deadline(2))
    assert standin.schedules == {}


def test_the_id_of_our_request_goes_along(standin, cancel):
    """Their log and ours can be laid side by side."""
    with log.record("x", request_id="abc"):
        cancel("sched_gone")
    assert [r.headers["x-request-id"] for r in standin.requests] == ["abc", "abc"]


def test_without_a_request_no_id_goes_along(standin, cancel):
    """A command or a sweep has none to send."""
    with log.record("x"):
        cancel(None)
    cancel(None)
    assert all("x-request-id" not in request.headers for request in standin.requests)


def test_a_netrc_entry_does_not_replace_the_key(standin, cancel, tmp_path, monkeypatch):
    """The key is ours, whoever has stored a password for the same host."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    cancel(standin.add(TASK_ID))
    assert standin.requests[0].headers["authorization"] == f"Bearer {standin.secret_key}"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_is_not_used(standin, schedules, monkeypatch, name):
    """Our key goes to nobody who is not in our own settings."""
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    schedules.cancel(standin.add(TASK_ID), TASK_ID, Deadline(2))
    assert standin.schedules == {}


def test_a_proxy_of_the_settings_is_used(standin):
    """With a proxy set, the request goes to it, addressed to Trigger.dev."""
    standin.always(Fault.status(204, b""))
    schedules = TriggerSchedules("http://trigger.test", "key", proxy_url=standin.url)
    schedules.cancel("a/b", TASK_ID, Deadline(2))
    assert [r.path for r in standin.requests] == ["http://trigger.test/api/v1/schedules/a%2Fb"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_cannot_be_reached_leaves_no_doubt(standin, scheme):
    """What never got to the proxy never got to Trigger.dev."""
    standin.stop()
    schedules = TriggerSchedules(f"{scheme}://trigger.test", "key", proxy_url=standin.url)
    with pytest.raises(CancelFailed) as caught:
        schedules.cancel("sched_x", TASK_ID, Deadline(0.5))
    standin.start()
    assert not caught.value.report.in_doubt


def test_a_proxy_that_refuses_the_tunnel_leaves_no_doubt():
    """A request that waits for its tunnel has not been sent."""
    refusal = answer_with(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
    with talker(refusal) as (host, port):
        schedules = TriggerSchedules("https://trigger.test", "k", proxy_url=f"http://{host}:{port}")
        with pytest.raises(CancelFailed) as caught:
            schedules.cancel("sched_x", TASK_ID, Deadline(0.5))
    assert not caught.value.report.in_doubt


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(500),
        Fault.status(401),
        Fault.redirect("/elsewhere"),
        Fault.reset(),
        Fault.hang(60),
        Fault.rate_limited(60),
    ],
    ids=lambda fault: fault.kind,
)
def test_the_secret_key_is_in_no_report_and_no_error(standin, cancel, schedules, fault):
    """What is logged of a failure, its traceback included, tells nobody the key."""
    standin.always(fault)
    with pytest.raises(CancelFailed) as caught:
        cancel("sched_x", seconds=0.5)
    trace = "".join(traceback.format_exception(caught.value))
    told = trace + repr(caught.value) + repr(caught.value.report) + repr(schedules)
    assert standin.secret_key not in told


# Connections


def test_cancels_one_after_the_other_use_one_connection(standin, cancel, connections):
    """A kept connection saves the time of a handshake, after errors too."""
    standin.fail(Fault.status(500), Fault.status(503, b""), Fault.junk(502), Fault.status(204, b""))
    for _ in range(20):
        cancel(standin.add(TASK_ID), seconds=30)
    cancel("sched_gone")
    assert len(standin.requests) > 20
    assert len(connections) == 1


def test_threads_share_one_adapter(standin, schedules):
    """Sixteen at once get each their own answer, and each schedule is cancelled once."""
    task_ids = [f"task-{n}" for n in range(64)]
    standin.always(Fault.delay(0.02))
    pairs = [(standin.add(task_id), task_id) for task_id in task_ids]
    with ThreadPoolExecutor(16) as pool:
        reports = pool.map(lambda pair: schedules.cancel(*pair, Deadline(30)), pairs)
    assert all(report.upstream_status == 200 for report in reports)
    assert set(standin.deletions.values()) == {1}
    assert standin.schedules == {}


def test_a_kept_connection_that_has_died_is_replaced(standin, cancel):
    """A restart of the server between two cancels goes unnoticed."""
    cancel(standin.add(TASK_ID))
    standin.stop()
    standin.start()
    cancel(standin.add(TASK_ID))
    assert standin.schedules == {}


# What an answer means, as a function


def test_every_status_has_one_meaning():
    """2xx is done, the passing failures are tried again, and all else is refused."""
    verdicts = {status: judge(Answer(status, {}, b"")) for status in range(200, 600)}

    def statuses(verdict):
        return {status for status, of_it in verdicts.items() if of_it is verdict}

    assert statuses(Verdict.CANCELLED) == set(range(200, 300))
    assert statuses(Verdict.RETRY) == {408, 409, 429, *range(500, 600)}
    assert statuses(Verdict.MISSING) == set()


def test_the_words_of_a_missing_schedule_count_in_a_404_only():
    """No other status becomes a success by what its body says."""
    missing = [s for s in range(200, 600) if judge(Answer(s, {}, NOT_FOUND)) is Verdict.MISSING]
    assert missing == [404]


@pytest.mark.parametrize("advice", ["true", "false"])
def test_advice_on_retries_changes_no_success(advice):
    """What is settled is not tried again."""
    headers = {"x-should-retry": advice}
    assert judge(Answer(200, headers, b"")) is Verdict.CANCELLED
    assert judge(Answer(404, headers, NOT_FOUND)) is Verdict.MISSING


@pytest.mark.parametrize("advice", ["", "1", "yes", "TRUE", "null"])
def test_advice_of_other_words_is_none(advice):
    """Where the advice is not understood, the status decides."""
    assert judge(Answer(400, {"x-should-retry": advice}, b"")) is Verdict.REFUSED
    assert judge(Answer(500, {"x-should-retry": advice}, b"")) is Verdict.RETRY


def test_a_missing_schedule_is_told_by_its_error_alone():
    """Other fields, and another way to write the JSON, change nothing."""
    body = json.dumps({"requestId": 1, "error": "Schedule not found"}, indent=2).encode()
    assert judge(Answer(404, {}, body)) is Verdict.MISSING
