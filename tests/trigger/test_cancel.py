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
from recoup.trigger.answers import (
    Verdict,
    judge,
    judge_schedule,
    may_have_acted,
    seconds_until_reset,
)
from recoup.trigger.cancel import UNPROVEN, TriggerSchedules
from recoup.trigger.cancellation import CancelFailed, Cancellation
from tests.sockets import (
    answer_with,
    black_hole,
    break_encryption,
    make_certificate,
    server_context,
    talker,
)

OTHER_ID = "5b1f0e64-0d64-4a0c-9a55-1a1f4ae3c9b2"
TASK_ID = "0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10"
NOT_FOUND = b'{"error": "Schedule not found"}'
# For a machine that is busy with something else.
GRACE = 1.0


@pytest.fixture
def schedules(standin):
    return TriggerSchedules(standin.url, standin.secret_key)


def cancellation(schedule_id, seconds=2.0, others=()):
    """Return the cancelling of the schedules of TASK_ID, whose row names this one."""
    return Cancellation(TASK_ID, schedule_id, Deadline(seconds), lambda: others)


@pytest.fixture
def cancel(schedules):
    """Cancel the schedules of TASK_ID, whose row names this one; return the report."""

    def cancel(*args, **options):
        cancelling = cancellation(*args, **options)
        schedules.cancel(cancelling)
        return cancelling.report

    return cancel


def fail_at(schedules, *args, reason=None, **options):
    """Cancel, see it fail for this reason if one is given, and return the report."""
    cancelling = cancellation(*args, **options)
    with pytest.raises(CancelFailed) as caught:
        schedules.cancel(cancelling)
    assert reason in (None, str(caught.value))
    return cancelling.report


@pytest.fixture
def fail(schedules):
    """Cancel, see it fail and return the report."""

    def fail(schedule_id="sched_x", **options):
        return fail_at(schedules, schedule_id, **options)

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


# What is a task's own


def test_the_schedule_of_a_task_goes_with_one_call(standin, cancel):
    """The task's key is its id. If the row names the schedule that went, that was all."""
    schedule_id, other = standin.add(TASK_ID), standin.add("another")
    report = cancel(schedule_id)
    assert (report.attempts, report.upstream_statuses[-1], report.missing) == (1, 200, False)
    assert report.cancelled == [schedule_id]
    assert list(standin.schedules) == [other]
    assert keys(standin) == [TASK_ID]


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_task_that_names_none_is_asked_for_by_its_key(standin, cancel, nothing):
    """Its schedule may exist without its id in the row."""
    standin.add(TASK_ID)
    assert not cancel(nothing).missing
    assert standin.schedules == {}
    assert keys(standin) == [TASK_ID]


def test_a_task_that_names_none_and_has_none_is_no_alarm(standin, cancel):
    """A paused task never had a schedule."""
    assert not cancel(None).missing
    assert keys(standin) == [TASK_ID]


def test_of_two_schedules_both_go(standin, cancel):
    """The one that the row names, and another under the task's own key."""
    stored = standin.add("x", externalId=TASK_ID, deduplicationKey="of-the-host")
    keyed = standin.add(TASK_ID)
    report = cancel(stored)
    assert standin.schedules == {}
    assert report.cancelled == [keyed, stored]
    assert [r.method for r in standin.requests] == ["DELETE", "GET", "DELETE"]


def test_a_schedule_that_names_no_task_is_the_tasks_whose_row_names_it(standin, cancel):
    """Nothing speaks against the row."""
    stored = standin.add("x", externalId=None, deduplicationKey="made-by-hand")
    assert cancel(stored).cancelled == [stored]


@pytest.mark.parametrize("field", ["externalId", "deduplicationKey"])
def test_the_schedule_of_another_task_is_left_alone(standin, cancel, field):
    """Whoever may write their own row can cancel nobody else's schedule."""
    other = standin.add("x", **{"externalId": None, "deduplicationKey": "y"} | {field: OTHER_ID})
    report = cancel(other)
    assert list(standin.schedules) == [other]
    assert (report.foreign, report.missing, report.cancelled) == (True, False, [])


def test_a_named_schedule_that_is_gone_is_missing(standin, cancel):
    """Where Trigger.dev knows neither, there is nothing to cancel, and the report says so."""
    report = cancel("sched_gone")
    assert (report.missing, report.in_doubt) == (True, False)
    assert (report.attempts, report.upstream_statuses[-1]) == (2, 404)


def test_what_an_earlier_round_cancelled_is_not_missing(standin, schedules):
    """A later round asks for the key only, as the report has the id."""
    cancelling = cancellation(standin.add(TASK_ID))
    schedules.cancel(cancelling)
    schedules.cancel(cancelling)
    assert not cancelling.report.missing
    assert keys(standin) == [TASK_ID, TASK_ID]


# A 404, and whether the key is of the right environment


def test_a_404_counts_where_another_tasks_schedule_is_known(standin, cancel):
    """The key is of the environment that the schedules are in."""
    other = standin.add(OTHER_ID)
    report = cancel("sched_gone", others=["sched_dead", other])
    assert (report.missing, report.unproven) == (True, False)
    assert keys(standin) == [TASK_ID, "sched_gone", "sched_dead", other]


def test_a_404_is_not_believed_where_no_other_schedule_is_known(standin, fail):
    """A key of another environment gets it for every schedule."""
    report = fail("sched_gone", others=["sched_a", "sched_b"], reason=UNPROVEN)
    assert (report.unproven, report.missing, report.in_doubt) == (True, False, False)


def test_a_404_is_not_believed_before_the_key_could_be_proven(standin, fail):
    """A look at another task's schedule that fails proves nothing."""
    other = standin.add(OTHER_ID)
    standin.always(Fault.status(500), method="GET", schedule_id=other)
    report = fail("sched_gone", seconds=0.5, others=[other])
    assert not report.missing


def test_a_schedule_that_was_seen_proves_the_key_for_a_while(standin, cancel, schedules):
    """The usual deletion is proof enough for those that follow."""
    cancel(standin.add(TASK_ID))
    schedules._seen_at -= 590
    assert cancel("sched_gone", others=["sched_a"]).missing
    assert "sched_a" not in keys(standin)


def test_an_old_proof_is_none(standin, cancel, fail, schedules):
    """The key may have been replaced at Trigger.dev meanwhile."""
    cancel(standin.add(TASK_ID))
    schedules._seen_at -= 600
    assert fail("sched_gone", others=["sched_a"]).unproven


def test_without_another_task_a_404_is_believed_and_told(standin, cancel):
    """Otherwise the last task could never be deleted."""
    report = cancel("sched_gone", others=[])
    assert (report.missing, report.unproven) == (True, True)


def test_what_is_no_schedules_id_is_no_other_schedule(standin, cancel):
    """It is not asked about, so it says nothing of the key."""
    report = cancel("sched_gone", others=["pending", ""])
    assert (report.missing, report.unproven) == (True, True)


def test_why_others_could_not_be_looked_for_is_the_reason(schedules):
    """The answer before that was only a 404."""

    def fail():
        raise CancelFailed("the database is away")

    cancelling = Cancellation(TASK_ID, "sched_gone", Deadline(2), fail)
    with pytest.raises(CancelFailed, match=r"^the database is away$"):
        schedules.cancel(cancelling)


def test_a_404_is_always_believed_where_the_operator_says_so(standin):
    """The schedules may be in a project that was given up."""
    schedules = TriggerSchedules(standin.url, standin.secret_key, trust_missing=True)
    cancelling = cancellation("sched_gone", others=["sched_a"])
    schedules.cancel(cancelling)
    assert cancelling.report.missing
    assert keys(standin) == [TASK_ID, "sched_gone"]


@pytest.mark.parametrize("form", [" {}", "{} ", "{}\n"])
def test_space_around_an_id_is_none_of_it(standin, cancel, has_schedule, form):
    """Another program may have stored it so; its schedule would live on."""
    stored = standin.add("x", externalId=TASK_ID, deduplicationKey="of-the-host")
    assert has_schedule(form.format(stored))
    assert cancel(form.format(stored)).cancelled == [stored]
    assert standin.schedules == {}


def test_a_text_that_is_no_id_of_trigger_dev_is_not_sent(standin, cancel):
    """It might be taken for somebody's deduplication key."""
    other = standin.add(OTHER_ID)
    report = cancel(OTHER_ID, others=[other])
    assert report.missing
    assert keys(standin) == [TASK_ID, other]
    assert list(standin.schedules) == [other]


# Has the task a schedule?


@pytest.fixture
def has_schedule(schedules):
    return lambda *args, **options: schedules.has_schedule(cancellation(*args, **options))


def test_a_task_has_what_is_under_its_key(standin, has_schedule):
    """Whatever its row names."""
    standin.add(TASK_ID)
    assert has_schedule(None)
    assert has_schedule("sched_gone")


def test_a_task_has_what_its_row_names(standin, has_schedule):
    """Unless that is another task's."""
    stored = standin.add("x", externalId=TASK_ID, deduplicationKey="y")
    assert has_schedule(stored)
    assert not has_schedule(standin.add(OTHER_ID))


def test_a_task_without_any_has_none(standin, has_schedule):
    """Nothing was cancelled by looking, either."""
    assert not has_schedule(None)
    assert not has_schedule("sched_gone")
    assert standin.deletions == {}


def test_whether_a_task_has_a_schedule_needs_a_proven_key(standin, schedules):
    """As for a cancel."""
    with pytest.raises(CancelFailed, match=UNPROVEN):
        schedules.has_schedule(cancellation("sched_gone", others=["sched_a"]))


def test_a_look_leaves_no_doubt(standin, schedules):
    """Nothing is changed by it, whatever its answer."""
    standin.always(Fault.status(500), method="GET")
    looking = cancellation("sched_gone", seconds=0.5)
    with pytest.raises(CancelFailed):
        schedules.has_schedule(looking)
    assert not looking.report.in_doubt


# Words of the server


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
    assert (report.attempts, report.upstream_statuses[-1], report.missing) == (1, 404, False)


def test_a_404_that_breaks_off_is_asked_again(standin, cancel):
    """Half of the right words are not the right words, but the next answer may be whole."""
    standin.fail(Fault.half_body(act=True))
    report = cancel("sched_gone")
    assert (report.attempts, report.upstream_statuses[-1]) == (3, 404)
    assert keys(standin) == [TASK_ID, TASK_ID, "sched_gone"]


@pytest.mark.parametrize("method", ["DELETE", "GET"])
def test_a_404_for_one_and_a_failure_for_the_other_is_a_failure(standin, fail, method):
    """Both must say 404; the second counts as much as the first."""
    standin.always(Fault.status(401), method=method)
    report = fail("sched_gone")
    assert (report.missing, report.upstream_statuses[-1]) == (False, 401)


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
def test_a_2xx_in_other_words_proves_nothing(standin, cancel, fault):
    """A page of a proxy's is no success: it is asked again, and the report tells of doubt."""
    standin.fail(fault)
    report = cancel(standin.add(TASK_ID))
    assert (report.attempts > 1, report.upstream_statuses[-1] // 100 > 1) == (True, True)
    assert (report.missing, report.in_doubt) == (False, True)
    assert standin.schedules == {}


def test_an_act_whose_answer_was_lost_is_seen_when_asked_again(standin, cancel):
    """A 404 after a lost answer is a success, and the report tells of the doubt there was."""
    schedule_id = standin.add(TASK_ID)
    standin.fail(Fault.reset(act=True))
    report = cancel(schedule_id)
    assert (report.missing, report.in_doubt) == (False, True)
    assert standin.schedules == {}


# Failures that are final


@pytest.mark.parametrize("code", [300, 304, 400, 401, 402, 403, 405, 410, 413, 451])
def test_a_refusal_is_final(standin, fail, code):
    """What will not change by asking again is asked once, and leaves no doubt."""
    standin.always(Fault.status(code))
    report = fail(standin.add(TASK_ID))
    assert (report.attempts, report.upstream_statuses[-1], report.in_doubt) == (1, code, False)
    assert len(standin.schedules) == len(standin.requests) == 1


def test_a_wrong_secret_key_is_final(standin):
    """The server's real refusal of a key ends the cancel."""
    report = fail_at(TriggerSchedules(standin.url, "tr_dev_other"), standin.add(TASK_ID))
    assert (report.attempts, report.upstream_statuses[-1]) == (1, 401)


@pytest.mark.parametrize("location", ["/api/v1/schedules/other", "http://[", "http://\x80"])
def test_a_redirect_is_final_and_not_followed(standin, fail, location):
    """No request goes, and no key with it, where a redirect points."""
    standin.always(Fault.redirect(location))
    report = fail()
    assert (report.attempts, report.upstream_statuses[-1]) == (1, 307)
    assert len(standin.requests) == 1


# Failures that may pass


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault.status(code) for code in (408, 409, 422, 500, 502, 503, 504, 520, 599)),
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
    """Time that was used for the id is not available for the task's key."""
    standin.always(Fault.delay(0.3), schedule_id=TASK_ID)
    standin.always(Fault.hang(60), schedule_id="sched_gone", method="GET")
    started = time.monotonic()
    fail("sched_gone", seconds=1)
    assert time.monotonic() - started < 1 + GRACE


def test_the_deadline_holds_where_no_connection_is_made():
    """A host that swallows packets takes no longer, and leaves no doubt."""
    started = time.monotonic()
    with black_hole() as (host, port):
        report = fail_at(TriggerSchedules(f"http://{host}:{port}", "key"), "sched_x", seconds=1)
    assert time.monotonic() - started < 1 + GRACE
    assert not report.in_doubt


def test_nothing_is_sent_after_the_deadline(standin, fail):
    """With no time left a cancel fails without a request."""
    report = fail(seconds=-1, reason="out of time, after: nothing was sent")
    assert (report.attempts, standin.requests) == (0, [])


def test_a_deadline_that_ends_between_two_requests_is_the_reason(standin, schedules):
    """With the answer before it, which alone would say nothing of time."""
    cancelling = cancellation("sched_gone")

    def play(exchange):
        cancelling.deadline = Deadline(0)
        exchange.deliver(exchange.answer())

    standin.fail(Fault("ends the time", play))
    with pytest.raises(CancelFailed) as caught:
        schedules.cancel(cancelling)
    reason = "out of time, after: Trigger.dev answered 404: Schedule not found"
    assert str(caught.value) == reason


@pytest.mark.parametrize("method", ["DELETE", "GET"])
def test_the_answer_about_another_schedule_proves_nothing(standin, cancel, method):
    """Whoever mixed it up: it is asked again, and a cancel was perhaps not done."""
    stored = standin.add("x", externalId=TASK_ID, deduplicationKey="of-the-host")
    another = Fault.other_words(b'{"id": "sched_another"}')
    standin.fail(another, schedule_id=stored, method=method)
    report = cancel(stored)
    assert report.upstream_statuses == ([404, 200, 200, 200])
    assert (report.cancelled, report.in_doubt) == ([stored], method == "DELETE")
    assert standin.schedules == {}


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
    assert (report.in_doubt, report.upstream_statuses[-1]) == (True, None)


@pytest.mark.parametrize("code", [200, 204, 422, 500, 502, 503, 504])
def test_a_failure_of_the_servers_own_leaves_doubt(standin, fail, code):
    """A server may have acted before it failed; a proxy doesn't know what the server did."""
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
    assert (report.in_doubt, report.upstream_statuses[-1]) == (False, None)
    assert report.attempts > 1


def test_a_lost_answer_is_not_reported_as_the_one_before_it(standin, fail):
    """The status is that of the last attempt, which may have had none."""
    standin.fail(Fault.status(500))
    standin.always(Fault.hang(60))
    report = fail(seconds=0.5)
    assert (report.attempts, report.upstream_statuses[-1]) == (2, None)


def test_doubt_stays_when_a_later_attempt_is_refused(standin, fail):
    """A clear answer to the second attempt tells nothing of the first."""
    standin.fail(Fault.reset(act=True), Fault.status(401))
    report = fail(standin.add(TASK_ID))
    assert (report.in_doubt, report.upstream_statuses[-1]) == (True, 401)


def test_a_certificate_that_is_not_trusted_leaves_no_doubt(tmp_path):
    """Nothing is sent to a server that could not prove who it is."""
    context = server_context(make_certificate(tmp_path))
    with talker(break_encryption(context)) as address:
        report = _fail_at(address, reason="the certificate is not trusted")
    assert not report.in_doubt


def test_an_encryption_that_breaks_off_leaves_doubt(tmp_path):
    """An error of TLS after the request was sent is a lost answer like any other."""
    certificate = make_certificate(tmp_path)
    with talker(break_encryption(server_context(certificate))) as address:
        assert _fail_at(address, verify=str(certificate)).in_doubt


def test_a_handshake_that_is_cut_off_leaves_no_doubt():
    """A server that hangs up before the connection is encrypted has been sent nothing."""
    with talker(lambda connection: connection.recv(1)) as address:
        assert not _fail_at(address).in_doubt


def _fail_at(address, verify=True, reason=None):
    schedules = TriggerSchedules(f"https://{address[0]}:{address[1]}", "key")
    schedules._client.verify = verify
    return fail_at(schedules, "sched_x", seconds=1, reason=reason)


# What is sent


@pytest.mark.parametrize(
    "schedule_id",
    [
        "a/b",
        "/",
        "//evil.test/x",
        "sched_x/../y",
        "../../runs",
        "sched_%2e%2e",
        "sched_x?y=1",
        "sched_x#y",
        "sched_x y",
        "sched_x\r\nHost: evil.test\r\n\r\n",
        "\x00",
        "sched_ü\N{PILE OF POO}",
        ".",
        "..",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_text_that_no_schedule_could_be_called_is_not_sent(standin, cancel, schedule_id):
    """Whatever a row holds, it changes neither the host nor the route nor another header."""
    assert cancel(schedule_id).missing
    assert [r.path for r in standin.requests] == [f"{ROOT}/{TASK_ID}"]


def test_an_id_that_is_too_long_for_the_server_is_refused(fail):
    """A server that won't read the address has done nothing."""
    report = fail("sched_" + "x" * 100_000)
    assert (report.upstream_statuses[-1], report.in_doubt) == (414, False)


@pytest.mark.parametrize("ending", ["", "/", "//"])
def test_a_slash_at_the_end_of_the_address_makes_no_difference(standin, ending):
    """Both ways to write the address lead to the same route."""
    schedules = TriggerSchedules(standin.url + ending, standin.secret_key)
    schedules.cancel(cancellation(standin.add(TASK_ID)))
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
    schedules.cancel(cancellation(standin.add(TASK_ID)))
    assert standin.schedules == {}


def test_a_proxy_of_the_settings_is_used(standin):
    """With a proxy set, the request goes to it, addressed to Trigger.dev."""
    standin.always(Fault.status(200, b'{"id": "sched_x"}'))
    schedules = TriggerSchedules("http://trigger.test", "key", proxy_url=standin.url)
    schedules.cancel(cancellation(None))
    assert [r.path for r in standin.requests] == [f"http://trigger.test{ROOT}/{TASK_ID}"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_cannot_be_reached_leaves_no_doubt(standin, scheme):
    """What never got to the proxy never got to Trigger.dev."""
    standin.stop()
    schedules = TriggerSchedules(f"{scheme}://trigger.test", "key", proxy_url=standin.url)
    report = fail_at(schedules, "sched_x", seconds=0.5)
    standin.start()
    assert not report.in_doubt


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", b"220 smtp.example\r\n"]
)
def test_a_proxy_that_refuses_the_tunnel_leaves_no_doubt(said):
    """A request that waits for its tunnel has not been sent."""
    with talker(answer_with(said)) as (host, port):
        schedules = TriggerSchedules("https://trigger.test", "k", proxy_url=f"http://{host}:{port}")
        report = fail_at(schedules, "sched_x", seconds=0.5)
    assert not report.in_doubt


@pytest.mark.parametrize("fault", [Fault.close(), Fault.reset()], ids=str)
def test_a_proxy_that_loses_the_answer_leaves_doubt(standin, fault):
    """It may have passed the request on, and Trigger.dev may have acted."""
    schedules = TriggerSchedules("http://trigger.test", "key", proxy_url=standin.url)
    standin.fail(fault)
    standin.always(Fault.status(401))
    assert fail_at(schedules, "sched_x").in_doubt


def test_a_tunnel_that_breaks_after_the_request_leaves_doubt(tmp_path):
    """The proxy saw nothing of it but bytes."""
    certificate = make_certificate(tmp_path)
    context = server_context(certificate)

    def pass_on(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with context.wrap_socket(connection, server_side=True) as encrypted:
            encrypted.recv(65536)

    with talker(pass_on) as (host, port):
        proxy = {"proxy_url": f"http://{host}:{port}", "ca_bundle": str(certificate)}
        schedules = TriggerSchedules("https://127.0.0.1", "k", **proxy)
        report = fail_at(
            schedules, "sched_x", seconds=0.5, reason="the connection broke off before an answer"
        )
    assert report.in_doubt


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
def test_the_secret_key_is_in_no_report_and_no_error(standin, schedules, fault):
    """What is logged of a failure, its traceback included, tells nobody the key."""
    standin.always(fault)
    cancelling = cancellation("sched_x", seconds=0.5)
    with pytest.raises(CancelFailed) as caught:
        schedules.cancel(cancelling)
    trace = "".join(traceback.format_exception(caught.value))
    told = trace + repr(caught.value) + repr(cancelling) + repr(schedules)
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
    all_of_them = [
        Cancellation(task_id, standin.add(task_id), Deadline(30), list) for task_id in task_ids
    ]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(schedules.cancel, all_of_them))
    assert all(one.report.upstream_statuses == [200] for one in all_of_them)
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
    """2xx is done, temporary failures are tried again, and anything else is refused."""
    verdicts = {status: judge(Answer(status, {}, b"")) for status in range(100, 600)}

    def statuses(verdict):
        return {status for status, of_it in verdicts.items() if of_it is verdict}

    assert statuses(Verdict.SUCCESS) == set(range(200, 300))
    assert statuses(Verdict.RETRY) == {408, 409, 429, *range(100, 200), *range(500, 600)}
    assert statuses(Verdict.MISSING) == set()


def test_every_status_leaves_doubt_or_not():
    """No final answer, a success in other words, and what a proxy or the database may have lost."""
    doubtful = {status for status in range(100, 600) if may_have_acted(Answer(status, {}, b""))}
    assert doubtful == {*range(100, 300), 422, *range(500, 600)}


def test_a_request_for_one_schedule_is_told_its_id_or_tried_again():
    """A 422 is any error of the server's database, and a 2xx without an id proves nothing."""

    def means(status, body, **headers):
        return judge_schedule(Answer(status, headers, body), TASK_ID)

    assert means(200, b'{"id": "sched_x"}') is Verdict.SUCCESS
    for body in (b"", b"{}", b"[]", b'{"id": 1}', b'{"id": "x"}', b'{"id": "sched_"}', b"<html>"):
        assert means(200, body) is Verdict.RETRY
    for advice in ({}, {"x-should-retry": "true"}, {"x-should-retry": "maybe"}):
        assert means(422, b"", **advice) is Verdict.RETRY
    assert means(422, b"", **{"x-should-retry": "false"}) is Verdict.REFUSED


def test_the_words_of_a_missing_schedule_count_in_a_404_only():
    """No other status becomes a success by what its body says."""
    missing = [s for s in range(200, 600) if judge(Answer(s, {}, NOT_FOUND)) is Verdict.MISSING]
    assert missing == [404]


@pytest.mark.parametrize("advice", ["true", "false"])
def test_advice_on_retries_changes_no_success(advice):
    """What is settled is not tried again."""
    headers = {"x-should-retry": advice}
    assert judge(Answer(200, headers, b"")) is Verdict.SUCCESS
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
