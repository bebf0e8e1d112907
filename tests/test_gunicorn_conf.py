"""gunicorn's settings follow ours, and are such as gunicorn knows."""

import os
import resource
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from gunicorn.config import Config, make_settings
from gunicorn.workers.gthread import ThreadWorker

from recoup.auth.privy import LOOKUP_SECONDS
from recoup.counts import ROWS, counts
from recoup.database.waits import WAIT_SECONDS
from recoup.web.serving import find_addresses
from recoup.web.worker import Worker
from tests.server import Server

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "gunicorn.conf.py"
SECRETS = {"TRIGGER_SECRET_KEY": "tr_hidden", "PRIVY_PROJECT_SECRET": "hidden"}
SECONDS = 60


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Run the file under an environment; return what it sets."""
    monkeypatch.chdir(tmp_path)

    def run(**environ):
        for name in (
            "HOST",
            "PORT",
            "WEB_CONCURRENCY",
            "WEB_THREADS",
            "TRIGGER_DEADLINE_SECONDS",
            *SECRETS,
        ):
            monkeypatch.delenv(name, raising=False)
        for name, value in {**SECRETS, **environ}.items():
            monkeypatch.setenv(name, value)
        names = runpy.run_path(str(CONF))
        return SimpleNamespace(**{n: v for n, v in names.items() if not n.startswith("_")})

    return run


def test_each_setting_is_one_of_gunicorns(load):
    """gunicorn passes over a name that it doesn't know without a word."""
    assert set(vars(load())) <= set(make_settings())


def test_workers_and_threads_are_ours(load):
    """They are settings of the service, which sizes its pools by them."""
    assert (load().workers, load().threads) == (2, 64)
    conf = load(WEB_CONCURRENCY="5", WEB_THREADS="7")
    assert (conf.workers, conf.threads) == (5, 7)


@pytest.mark.parametrize(
    ("files", "connections"),
    [(resource.RLIM_INFINITY, 1000), (100_000, 1000), (1024, 785), (256, 64)],
)
def test_a_worker_takes_no_more_connections_than_it_may_open_files(
    load, monkeypatch, files, connections
):
    """But one for each thread at least, should the limit be so low."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert load().worker_connections == connections


def test_the_workers_are_ours_and_have_threads(load):
    """One that takes a request at a time would let everybody wait for Trigger.dev."""
    config = Config()
    config.set("worker_class", load().worker_class)
    assert issubclass(config.worker_class, Worker)
    assert issubclass(Worker, ThreadWorker)


def test_a_port_that_is_named_is_for_others_to_reach(load, tmp_path):
    """Named in the environment or in `.env`; without one nobody but this machine can connect."""
    assert load().bind == ["127.0.0.1:8000"]
    assert load(PORT="8017").bind == find_addresses(None, 8017)
    (tmp_path / ".env").write_text("PORT=8018")
    assert load().bind == find_addresses(None, 8018)
    assert load(HOST="127.0.0.3").bind == ["127.0.0.3:8018"]


def test_no_two_workers_count_in_one_row(load):
    """A row that a dead worker has left is the next one's; the first is the master's."""
    conf, master = load(), SimpleNamespace(WORKERS={})
    assert [fork(conf, master, number) for number in range(3)] == [1, 2, 3]
    del master.WORKERS[1]
    assert [fork(conf, master, number) for number in range(3, 5)] == [2, 4]


def fork(conf, master, number):
    """Do as gunicorn's master does, up to the fork; return the worker's row."""
    worker = SimpleNamespace()
    conf.pre_fork(master, worker)
    master.WORKERS[number] = worker
    return worker.row


def test_more_workers_than_rows_share_the_last(load):
    """They serve all the same."""
    conf, master = load(), SimpleNamespace(WORKERS={})
    rows = [fork(conf, master, number) for number in range(ROWS + 1)]
    assert rows[-3:] == [ROWS - 1] * 3


def test_a_core_that_is_gone_fails_no_worker(load, two_cores):
    """A container may be given other cores than it had; one worker that can't boot ends all."""
    worker = SimpleNamespace(core=10_000, row=1)
    load().post_fork(SimpleNamespace(num_workers=len(two_cores)), worker)
    counts.take_row(0)


@pytest.mark.parametrize("deadline", ["1", "8", "8.9", "60"])
def test_a_stopping_worker_waits_for_the_longest_request(load, deadline):
    """A token's look-up, the deadline, and a wait of the database at each step around it."""
    longest = LOOKUP_SECONDS + float(deadline) + 5 * WAIT_SECONDS
    conf = load(TRIGGER_DEADLINE_SECONDS=deadline)
    assert conf.graceful_timeout > longest
    assert isinstance(conf.graceful_timeout, int)


def test_nothing_is_shared_over_a_fork(load):
    """Neither connections nor the sweeper survive one."""
    assert load().preload_app is False


def test_the_control_socket_is_off(load):
    """It would be written below a home folder that may be read-only."""
    assert load().control_socket_disable is True


@pytest.fixture
def two_cores():
    """What this program and its children may use: two cores, where there are two."""
    all_cores = os.sched_getaffinity(0)
    cores = sorted(all_cores)[:2]
    os.sched_setaffinity(0, cores)
    yield cores
    os.sched_setaffinity(0, all_cores)


def cores_of(server):
    return sorted(sorted(os.sched_getaffinity(pid)) for pid in server.workers())


def test_a_worker_keeps_to_a_core(two_cores, sqlite_url):
    """The worker that replaces it uses the same core, not one that already has a worker."""
    workers = len(two_cores)
    with Server(sqlite_url, WEB_CONCURRENCY=str(workers)) as server:
        assert cores_of(server) == [[core] for core in two_cores]
        for worker in reversed(server.workers()):
            server.kill_worker(worker)
            server.wait_until_ready()
            assert cores_of(server) == [[core] for core in two_cores]


def test_workers_that_do_not_come_out_even_move_about(two_cores, sqlite_url):
    """Else one core would have more of them than another."""
    with Server(sqlite_url, WEB_CONCURRENCY="3") as server:
        assert cores_of(server) == [two_cores] * 3


def test_a_bad_environment_exits_with_the_list(load):
    """As plain text, and without the values."""
    with pytest.raises(SystemExit) as caught:
        load(WEB_THREADS="hidden", PRIVY_PROJECT_SECRET="")
    assert caught.value.code == (
        "Error: the configuration is not usable:\n"
        "  PRIVY_PROJECT_SECRET: is required.\n"
        "  WEB_THREADS: must be a number."
    )


def test_a_dotenv_file_serves_gunicorn_too(load, tmp_path):
    """gunicorn itself reads none."""
    (tmp_path / ".env").write_text("WEB_THREADS=9\n")
    assert load().threads == 9


def test_gunicorn_finds_the_file_and_the_app(tmp_path):
    """Plain `gunicorn` in the project's folder, as the deployment has it."""
    result = subprocess.run(
        [Path(sys.executable).with_name("gunicorn"), "--check-config"],
        cwd=ROOT,
        env={"PATH": os.defpath, "DATABASE_URL": f"sqlite:///{tmp_path}/x.db", **SECRETS},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
