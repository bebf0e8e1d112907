"""`/metrics`: what is counted, and that no worker's count is lost."""

import json
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import uuid4

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from recoup import log
from recoup.app import create_app
from recoup.counts import counts
from recoup.database.connection import execute, fetch, release
from recoup.database.migrations import upgrade
from recoup.deletion.sweep import sweep
from recoup.demo.standin import Fault, StandIn
from recoup.web.limit import Overloaded
from tests.conftest import close_database, make_config
from tests.factories import World, delete
from tests.pod import Pod, skip_without_pods
from tests.server import Server
from tests.waiting import wait_for

SECONDS = 30


def read(text):
    """Return the samples of an exposition: `{(name, *values of the labels): value}`."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


@pytest.fixture(name="scrape")
def _scrape(client):
    return lambda: read(client.get("/metrics").text)


@pytest.fixture(name="counted")
def _counted(scrape):
    """Return what was counted since the test began, without the scrapes."""
    before = scrape()

    def since():
        grown = {name: value - before.get(name, 0) for name, value in scrape().items()}
        return {
            name: value
            for name, value in grown.items()
            if value and "/metrics" not in name and not name[0].endswith("_sum")
        }

    return since


def test_it_is_in_the_text_format_of_prometheus(client):
    """Each metric has a type and a sentence of help."""
    response = client.get("/metrics")
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    families = [
        family
        for family in text_string_to_metric_families(response.text)
        if not family.name.endswith("_created")
    ]
    assert {family.name: family.type for family in families} == {
        "recoup_requests": "counter",
        "recoup_deletion_seconds": "histogram",
        "recoup_cancel_attempts": "counter",
        "recoup_schedules_missing": "counter",
        "recoup_recoveries": "counter",
        "recoup_doubts_settled": "counter",
        "recoup_orphans_collected": "counter",
        "recoup_refusals": "counter",
        "recoup_log_lines_dropped": "counter",
        "recoup_places": "gauge",
        "recoup_places_in_use": "gauge",
        "recoup_connections_waiting": "gauge",
        "recoup_database_up": "gauge",
        "recoup_marks": "gauge",
        "recoup_oldest_mark_seconds": "gauge",
        "recoup_doubts": "gauge",
        "recoup_oldest_doubt_seconds": "gauge",
        "recoup_orphans": "gauge",
        "recoup_oldest_orphan_seconds": "gauge",
        "recoup_guard": "gauge",
    }
    assert all(family.documentation.endswith(".") for family in families)


def test_requests_are_counted_by_route_and_status(client, counted):
    """By the route, never the path, because anybody can make up paths."""
    client.get("/healthz")
    client.get(f"/{uuid4()}")
    client.open("/healthz", method="BREW")
    assert counted() == {
        ("recoup_requests_total", "/healthz", "200"): 1,
        ("recoup_requests_total", "unknown", "404"): 1,
        ("recoup_requests_total", "unknown", "405"): 1,
    }


def test_a_preflight_is_no_deletion(client, counted):
    """It is counted among the requests alone."""
    client.options("/api/tasks")
    assert counted() == {("recoup_requests_total", "/api/tasks", "200"): 1}


def expected(status, outcome, *, missing=0, **attempts):
    """Return what one deletion adds; *attempts* by their status, as in `s200=1`."""
    counts = {
        ("recoup_requests_total", "/api/tasks", str(status)): 1,
        ("recoup_deletion_seconds_count", outcome): 1,
        ("recoup_schedules_missing_total",): missing,
        **{("recoup_cancel_attempts_total", s.lstrip("s")): n for s, n in attempts.items()},
    }
    return {name: count for name, count in counts.items() if count}


def test_a_task_that_was_deleted(client, world, counted):
    """One attempt was enough."""
    owner = world.account()
    delete(client, world.task(owner), world.key(owner))
    assert counted() == expected(200, "deleted", s200=1)


def test_each_attempt_is_counted_by_its_status(client, world, counted):
    """Those that were tried again, and one without an answer, too."""
    world.standin.fail(Fault.status(503), Fault.reset())
    owner = world.account()
    delete(client, world.task(owner), world.key(owner))
    assert counted() == expected(200, "deleted", s503=1, none=1, s200=1)


def test_a_schedule_that_was_missing(client, world, counted):
    """The task's key and the schedule that its row names are both unknown to Trigger.dev."""
    owner = world.account()
    task = world.task(owner, schedule=False, trigger_schedule_id="sched_gone")
    delete(client, task, world.key(owner))
    assert counted() == expected(200, "deleted", missing=1, s404=2)


def test_a_task_that_was_kept(client, world, counted):
    """Trigger.dev refused."""
    world.standin.fail(Fault.status(401))
    owner = world.account()
    delete(client, world.task(owner), world.key(owner))
    assert counted() == expected(500, "kept", s401=1)


def test_a_task_that_is_in_doubt(client, world, counted):
    """Trigger.dev may have acted, and never said so."""
    world.standin.fail(Fault.reset(act=True), Fault.status(401))
    owner = world.account()
    delete(client, world.task(owner), world.key(owner))
    counts = counted()
    assert counts.pop(("recoup_doubts",)) == 1
    counts.pop(("recoup_oldest_doubt_seconds",), None)
    assert counts == expected(500, "in doubt", none=1, s401=1)


def test_a_doubt_that_is_settled(app, client, world, counted):
    """By what was found: the schedule exists, so the task is whole."""
    world.standin.fail(Fault.reset(), Fault.status(401))
    owner = world.account()
    task = world.task(owner)
    delete(client, task, world.key(owner))
    counted()
    execute("UPDATE task_deletions SET doubtful_since = ?", "2020-01-01T00:00:00.000Z")
    release()
    list(sweep(app.extensions["recoup"].deleter))
    counts = counted()
    assert counts[("recoup_doubts_settled_total", "kept")] == 1


def test_a_task_that_is_marked(client, world, counted):
    """A mark that was taken over is never rolled back."""
    world.standin.fail(Fault.status(401))
    owner = world.account()
    task = world.task(owner)
    world.place_mark(task, lease_seconds=-1)
    delete(client, task, world.key(owner))
    counts = counted()
    assert counts.pop(("recoup_oldest_mark_seconds",)) > 0
    assert counts == {**expected(500, "marked", s401=1), ("recoup_marks",): 1}


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_request_that_was_refused(client, world, counted, status):
    """Nothing was changed, by the caller's fault."""
    owner, stranger = world.account(), world.account()
    task_id, key = {
        400: ("no-uuid", world.key(owner)),
        401: (world.task(owner), "nobodys"),
        403: (world.task(owner), world.key(stranger)),
        404: (str(uuid4()), world.key(owner)),
    }[status]
    delete(client, task_id, key)
    assert counted() == expected(status, "refused")


def refused(reason):
    """Return the name that a refusal is counted by."""
    return ("recoup_refusals_total", reason)


def test_a_deletion_that_finds_no_place(app, client, world, counted, capsys):
    """All places are taken by others, and the line says so too."""
    log.configure(sys.stdout)
    owner = world.account()
    limit = app.extensions["recoup"].limit
    with ExitStack() as others:
        with suppress(Overloaded):
            while True:
                others.enter_context(limit.place())
        delete(client, world.task(owner), world.key(owner))
    counts = counted()
    assert counts == {**expected(500, "failed"), refused("no place"): 1}
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    assert [line["refused"] for line in lines if "refused" in line] == ["no place"]


def test_a_deletion_that_is_not_possible(client, world, counted):
    """The database lacks a table."""
    owner = world.account()
    task = world.task(owner)
    execute("ALTER TABLE account_emails RENAME TO elsewhere")
    release()
    delete(client, task, world.key(owner))
    assert counted() == {**expected(500, "failed"), refused("not possible"): 1}


def test_a_key_that_knows_no_schedule(client, world, counted):
    """Neither this task's nor another's."""
    owner = world.account()
    world.task(owner)
    task = world.task(owner)
    world.standin.schedules.clear()
    delete(client, task, world.key(owner))
    assert counted() == {**expected(500, "kept", s404=3), refused("unproven key"): 1}


def test_a_recovery_with_such_a_key(app, world, counted):
    """It is refused as a request is."""
    owner = world.account()
    world.task(owner)
    task = world.task(owner)
    world.place_mark(task, lease_seconds=-1)
    world.standin.schedules.clear()
    list(sweep(app.extensions["recoup"].deleter))
    assert counted()[refused("unproven key")] == 1


def test_a_database_that_is_gone(tmp_path, standin, capsys):
    """A deletion fails; the scrape goes on, without what is read from there."""
    app = create_app(make_config(f"sqlite:///{tmp_path}", TRIGGER_API_URL=standin.url))
    client = app.test_client()
    before = read(client.get("/metrics").text)
    assert delete(client, str(uuid4()), "some-key").status_code == 500
    response = client.get("/metrics")
    after = read(response.text)
    close_database()
    failed = ("recoup_deletion_seconds_count", "failed")
    assert after[failed] - before.get(failed, 0) == 1
    assert response.status_code == 200
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (line["level"], line["route"]) == ("warning", "/metrics")
    assert "unable to open database file" in line["error"]
    assert not {("recoup_marks",), ("recoup_oldest_mark_seconds",)} & after.keys()
    assert after[("recoup_database_up",)] == 0


def test_a_database_that_answers(scrape):
    """It is up."""
    assert scrape()[("recoup_database_up",)] == 1


def test_the_duration_is_in_seconds(client, world, scrape):
    """A wait of a second is in the sum, and in the bucket above it."""
    before = scrape()
    world.standin.fail(Fault.delay(0.9))
    owner = world.account()
    delete(client, world.task(owner), world.key(owner))
    name = ("recoup_deletion_seconds_sum", "deleted")
    assert scrape()[name] - before[name] >= 0.9
    assert scrape()[name] - before[name] < SECONDS


def test_the_oldest_mark_is_the_one_that_tells_the_age(world, scrape):
    """Marks are counted in the database, whoever placed them."""
    owner = world.account()
    assert {scrape()[("recoup_marks",)], scrape()[("recoup_oldest_mark_seconds",)]} == {0}
    world.place_mark(world.task(owner), lease_seconds=60)
    time.sleep(0.1)
    first = scrape()
    world.place_mark(world.task(owner), lease_seconds=60)
    second = scrape()
    assert (first[("recoup_marks",)], second[("recoup_marks",)]) == (1, 2)
    ages = [scraped[("recoup_oldest_mark_seconds",)] for scraped in (first, second)]
    assert 0.1 <= ages[0] <= ages[1] < SECONDS


def test_recoveries_are_counted_by_what_became_of_them(app, world, counted):
    """One is completed, one can't be, and their attempts count like any other."""
    owner = world.account()
    stuck, done = world.task(owner), world.task(owner)
    world.standin.fail(Fault.status(403), schedule_id=stuck)
    for task in (stuck, done):
        world.place_mark(task, lease_seconds=-1)
    list(sweep(app.extensions["recoup"].deleter))
    counts = counted()
    assert counts.pop(("recoup_oldest_mark_seconds",)) > 0
    assert counts == {
        ("recoup_recoveries_total", "deleted"): 1,
        ("recoup_recoveries_total", "marked"): 1,
        ("recoup_cancel_attempts_total", "200"): 1,
        ("recoup_cancel_attempts_total", "403"): 1,
        ("recoup_marks",): 1,
    }


def test_a_recovery_that_another_worker_was_faster_at(app, world, counted, monkeypatch):
    """It had seen the mark as expired, and came too late to take it over."""
    task = world.task(world.account())
    world.place_mark(task, lease_seconds=60)
    monkeypatch.setattr("recoup.database.statements.expired_marks", lambda limit: [task])
    list(sweep(app.extensions["recoup"].deleter))
    assert counted()[("recoup_recoveries_total", "overtaken")] == 1


def test_what_may_happen_is_there_before_it_does(sqlite_url, standin):
    """A rate doesn't see an event that begins its series; so each series begins with 0."""
    with Server(sqlite_url, TRIGGER_API_URL=standin.url) as server:
        samples = scrape_server(server)
    for outcome in ("deleted", "kept", "in doubt", "marked", "refused", "failed"):
        assert samples[("recoup_deletion_seconds_count", outcome)] == 0
    for outcome in ("deleted", "marked", "overtaken"):
        assert samples[("recoup_recoveries_total", outcome)] == 0
    assert samples[("recoup_schedules_missing_total",)] == 0


def scrape_server(server):
    """Return the samples that a server shows, whichever of its workers answers."""
    answer = requests.get(f"{server.url}/metrics", headers={"Connection": "close"}, timeout=SECONDS)
    return read(answer.text)


def test_totals_are_those_of_all_workers_and_survive_each_of_them(sqlite_url, standin):
    """Every worker that has counted is killed in turn; its successors show what it has counted."""
    world = World(create_app(make_config(sqlite_url, TRIGGER_API_URL=standin.url)), standin)
    owner = world.account()
    key = world.key(owner)
    deleted = ("recoup_deletion_seconds_count", "deleted")
    with Server(sqlite_url, TRIGGER_API_URL=standin.url) as server:
        for generation in (1, 2):
            for task in [world.task(owner) for _ in range(10)]:
                assert server.delete(task, key).status_code == 200
            assert scrape_server(server)[deleted] == 10 * generation
            for pid in server.workers():
                server.kill_worker(pid)
                wait_for(lambda: len(server.workers()) == 2, server.stderr)
            samples = scrape_server(server)
            assert samples[deleted] == 10 * generation
            assert samples[("recoup_cancel_attempts_total", "200")] == 10 * generation
            assert samples[("recoup_requests_total", "/api/tasks", "200")] == 10 * generation


HEALTH = ("recoup_requests_total", "/healthz", "200")


def replace_all_workers(server):
    """Kill each worker, and wait for its successor."""
    for pid in server.workers():
        server.kill_worker(pid)
        server.wait_until_ready()


IN_USE, PLACES = ("recoup_places_in_use",), ("recoup_places",)


def test_places_are_those_of_the_workers_that_there_are(sqlite_url):
    """Each worker knows all places that are taken, and a killed worker holds none."""
    with (
        StandIn() as standin,
        ThreadPoolExecutor() as callers,
        Server(sqlite_url, TRIGGER_API_URL=standin.url, WEB_THREADS="4") as server,
    ):
        world = World(create_app(make_config(sqlite_url, TRIGGER_API_URL=standin.url)), standin)
        owner = world.account()
        key = world.key(owner)
        standin.always(Fault.hang(SECONDS))
        for task in [world.task(owner) for _ in range(3)]:
            callers.submit(server.delete, task, key)
        wait_for(lambda: scrape_server(server)[IN_USE] == 3, server.stderr)
        assert scrape_server(server)[PLACES] == 6
        replace_all_workers(server)
        samples = scrape_server(server)
        assert (samples[PLACES], samples[IN_USE]) == (6, 0)


def test_a_reload_makes_no_place_more(sqlite_url):
    """Those of the old workers go with them."""
    with Server(sqlite_url) as server:
        old, places = server.workers(), scrape_server(server)[PLACES]
        server.reload()
        wait_for(lambda: not set(old) & set(server.workers()), server.stderr)
        server.wait_until_ready()
        wait_for(lambda: scrape_server(server)[PLACES] == places, server.stderr)


def test_who_waits_for_a_connection_is_told(postgres_url, standin):
    """While others have all that there are."""
    config = make_config(postgres_url, TRIGGER_API_URL=standin.url, DATABASE_POOL_SIZE="1")
    app = create_app(config)
    upgrade()
    fetch("SELECT 1")
    waiting = ("recoup_connections_waiting",)
    with ThreadPoolExecutor() as others:
        other = others.submit(lambda: (fetch("SELECT 1"), release()))
        wait_for(lambda: counts.totals()[waiting] == 1)
        release()
        other.result(SECONDS)
    assert read(app.test_client().get("/metrics").text)[waiting] == 0
    close_database()


def test_counts_outlive_the_folders_that_a_server_was_started_with(sqlite_url, tmp_path):
    """Clearing them ends no worker, and no number is lost."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with Server(sqlite_url, TMPDIR=str(folder)) as server:
        before = scrape_server(server)[HEALTH]
        shutil.rmtree(folder)
        replace_all_workers(server)
        assert scrape_server(server)[HEALTH] >= before + 2


def test_counts_are_kept_in_no_file(sqlite_url, tmp_path):
    """A full disk is nothing to them, and a server that is killed leaves none behind."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with Server(sqlite_url, TMPDIR=str(folder)) as server:
        scrape_server(server)
        assert list(folder.iterdir()) == []
        for pid in server.workers():
            maps = Path(f"/proc/{pid}/maps").read_text()
            shared = set(re.findall(r" rw-s .* (/.*)", maps))
            assert {name for name in shared if "sqlite3" not in name} == {"/dev/zero (deleted)"}


def test_a_reload_loses_no_count(sqlite_url):
    """The new workers count in other rows, beside the old ones that still answer."""
    with Server(sqlite_url) as server:
        old = server.workers()
        before = scrape_server(server)[HEALTH]
        server.reload()
        wait_for(lambda: not set(old) & set(server.workers()), server.stderr)
        server.wait_until_ready()
        assert scrape_server(server)[HEALTH] >= before + 1


def test_a_start_counts_anew(sqlite_url):
    """A counter may begin at 0 again, and must not continue an old server's numbers."""
    with Server(sqlite_url) as server:
        for _ in range(50):
            requests.get(f"{server.url}/metrics", timeout=SECONDS)
        server.kill()
        server.start()
        assert scrape_server(server).get(("recoup_requests_total", "/metrics", "200"), 0) == 0


def test_a_server_in_other_namespaces_takes_nothing_away(sqlite_url, tmp_path):
    """It shares the folder, doesn't know the others' process ids, and is PID 1 itself."""
    skip_without_pods()
    folder = str(tmp_path)
    with Server(sqlite_url, TMPDIR=folder) as outside, Pod(sqlite_url, TMPDIR=folder) as inside:
        before = scrape_server(outside)[HEALTH]
        inside.kill()
        inside.start()
        for server in (outside, inside):
            replace_all_workers(server)
        assert scrape_server(outside)[HEALTH] >= before + 2
        assert scrape_server(inside)[HEALTH] > 0


def test_full_shared_memory_ends_no_worker(sqlite_url):
    """A container may have little of it, and other programs use it."""
    skip_without_pods()
    with Pod(sqlite_url, TMPDIR="/dev/shm") as pod:
        before = scrape_server(pod)[HEALTH]
        pod.fill_shared_memory()
        replace_all_workers(pod)
        workers = pod.workers()
        assert scrape_server(pod)[HEALTH] >= before + 2
        assert pod.workers() == workers
