"""`make limits`: how the service grows, ages, and bears more than it has room for.

`python -m benchmarks.limits [growth] [memory] [overload] [sizing] [guard]`, all if none is named;
each prints a table of its own.
"""

import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from urllib.request import urlopen

from benchmarks.harness import SERVICE, Server, Standin, children, database, out
from benchmarks.seed import (
    count_tasks,
    execute,
    plain_connection,
    remove_tasks,
    switch_guard,
    task_ids,
)

SIZES = (1_000, 30_000, 1_000_000)
KINDS = ("postgres", "sqlite")


def table(*head):
    """Begin a table."""
    out("\n| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")


def row(*cells):
    out("| " + " | ".join(str(cell) for cell in cells) + " |")


def growth(standin, rounds=7, requests=500):
    """Compare databases of all sizes, in turn: as many tasks as keys as members."""
    table("database", "tasks, keys, members", "rps", "of the smallest", "min-max", "CPU µs", "p99")
    for kind in KINDS:
        with ExitStack() as stack:
            sized = [_Sized(stack, standin, kind, size, requests) for size in SIZES]
            runs = [[one.round() for one in sized] for _ in range(rounds)]
        for size, results in zip(SIZES, zip(*runs, strict=True), strict=True):
            shares = [a["rps"] / turn[0]["rps"] for a, turn in zip(results, runs, strict=True)]
            rps, cpu, p99 = (median(r[key] for r in results) for key in ("rps", "cpu_us", "p99"))
            spread = f"{min(shares):.2f}-{max(shares):.2f}"
            row(
                kind,
                size,
                f"{rps:.0f}",
                f"{median(shares):.2f}",
                spread,
                f"{cpu:.0f}",
                f"{p99:.0f}",
            )


class _Sized:
    """A database of one size, some of whose tasks are deleted and put back again and again."""

    def __init__(self, stack, standin, kind, size, requests):
        self.url = stack.enter_context(database(kind, size, size))
        self.ids = task_ids(self.url)[:requests]
        names = ", ".join(f"'{one}'" for one in self.ids)
        copy = f"CREATE TABLE copies AS SELECT * FROM scheduled_actions WHERE id IN ({names})"
        execute(self.url, copy)
        self.server = Server(stack, SERVICE, self.url, standin)
        self.round()

    def round(self):
        result = self.server.load(self.ids, 16, 60)
        assert result["statuses"] == {"200": len(self.ids)}, result
        execute(self.url, "INSERT INTO scheduled_actions SELECT * FROM copies")
        return result


def memory(standin):
    """Look at the memory of a worker now and then."""
    table("database", "requests", "resident MiB", "rps")
    for kind in KINDS:
        with database(kind, 101_000) as url, ExitStack() as stack:
            server = Server(stack, SERVICE, url, standin, WEB_CONCURRENCY="1")
            ids, (worker,) = task_ids(url), children(server.pid)
            done = 0
            for requests in (1_000, 9_000, 40_000, 50_000):
                result = server.load(ids[done : done + requests], 16, 600)
                assert result["statuses"] == {"200": requests}, result
                done += requests
                row(kind, done, f"{_resident(worker) / 1024:.1f}", f"{result['rps']:.0f}")


def _resident(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def overload(standin, seconds=20):
    """Come with as many clients as there is room for, and with ten times as many."""
    table("database", "clients", "200 a second", "500 a second", "p50", "p99", "longest", *LAST)
    standin.set_latency(300)
    for kind in KINDS:
        with database(kind, 60_000) as url, ExitStack() as stack:
            server = Server(stack, SERVICE, url, standin)
            for clients in (112, 1_120):
                ids = task_ids(url)
                with _health(server.port) as health:
                    result = server.load(ids, clients, seconds)
                _report(kind, clients, result, len(ids) - count_tasks(url), health)


LAST = ("health check, longest", "rows gone")


def _report(kind, clients, result, gone, health):
    statuses, took = result["statuses"], result["seconds"]
    rates = [f"{statuses.get(status, 0) / took:.0f}" for status in ("200", "500")]
    times = [f"{result['of']['200'][key]:.0f}" for key in ("p50", "p99", "max")]
    verified = "as many" if gone == statuses["200"] else f"{gone}, not {statuses['200']}"
    row(kind, clients, *rates, *times, f"{max(health) * 1000:.0f}", verified)
    assert set(statuses) <= {"200", "500"}, statuses


@contextmanager
def _health(port):
    """Collect how many seconds health checks take meanwhile, ten a second at the most."""
    took, end = [], threading.Event()

    def check():
        while not end.wait(0.1):
            started = time.perf_counter()
            urlopen(f"http://127.0.0.1:{port}/healthz").close()
            took.append(time.perf_counter() - started)

    thread = threading.Thread(target=check)
    thread.start()
    yield took
    end.set()
    thread.join()


# With the places that recoup/app.py makes of them.
EXAMPLE_THREADS = ((25, 44), (10, 18))
IN_ALL = ("500 in all", "closed in all")


def sizing(standin, seconds=20):
    """Check the worked example of docs/sizing.md, and settings that are too small for it."""
    table("threads", "places", "wanted a second", "200 a second", *IN_ALL, "p50", "p99")
    standin.set_latency(300)
    with database("postgres", 40_000) as url:
        for threads, places in EXAMPLE_THREADS:
            with ExitStack() as stack:
                settings = {"WEB_THREADS": str(threads), "DATABASE_POOL_SIZE": "4"}
                server = Server(stack, SERVICE, url, standin, **settings)
                result = server.load(task_ids(url), 256, seconds, rate=100)
            statuses, good = result["statuses"], result["of"]["200"]
            rate = statuses["200"] / result["seconds"]
            others = statuses.get("500", 0), statuses.get("closed", 0)
            times = f"{good['p50']:.0f}", f"{good['p99']:.0f}"
            row(threads, places, 100, f"{rate:.0f}", *others, *times)


def guard(standin, rounds=21, requests=400):
    """Compare deletes with and without the guard, in turn: ours, and another program's."""
    table("database", "delete", "without, µs", "with, µs", "of that", "min-max")
    for kind in KINDS:
        with database(kind, 10_000) as url, ExitStack() as stack:
            server = Server(stack, SERVICE, url, standin, WEB_CONCURRENCY="1")
            ours, theirs = _Ours(server, url, requests), _Theirs(url)
            for name, measure in (
                ("the service's request", ours.measure),
                ("the service's, its last statement", ours.measure_last_statement),
                ("one row", partial(theirs.measure, 1, 200)),
                ("10,000 rows in a statement", partial(theirs.measure, 10_000, 1)),
            ):
                measure()
                runs = [_without_and_with(url, measure, n % 2 == 1) for n in range(rounds)]
                shares = [on / off for off, on in runs]
                off, on = (median(run[n] for run in runs) for n in (0, 1))
                spread = f"{min(shares):.2f}-{max(shares):.2f}"
                row(kind, name, f"{off:.0f}", f"{on:.0f}", f"{median(shares):.2f}", spread)


def _without_and_with(url, measure, first):
    took = {}
    for on in (first, not first):
        switch_guard(url, on=on)
        took[on] = measure()
    return took[False], took[True]


class _Ours:
    """Deletions by the service of tasks that are put back each time."""

    def __init__(self, server, url, requests):
        self.server, self.url, self.ids = server, url, task_ids(url)[:requests]
        names = ", ".join(f"'{one}'" for one in self.ids)
        execute(
            url, f"CREATE TABLE copies AS SELECT * FROM scheduled_actions WHERE id IN ({names})"
        )

    def measure(self):
        """Return the microseconds in which it answers a request, of 16 clients at a time."""
        result = self.server.load(self.ids, 16, 60)
        assert result["statuses"] == {"200": len(self.ids)}, result
        self._put_back()
        return 1e6 / result["rps"]

    def measure_last_statement(self):
        """Return the microseconds that the statement takes which deletes the row."""
        took = remove_tasks(self.url, self.ids)
        self._put_back()
        return median(took) * 1e6

    def _put_back(self):
        execute(self.url, "INSERT INTO scheduled_actions SELECT * FROM copies")


class _Theirs:
    """Deletes by another program, in transactions that are rolled back."""

    def __init__(self, url):
        self.url = url

    def measure(self, rows, times):
        """Return the microseconds that a delete takes."""
        connection = plain_connection(self.url)
        named = connection.execute(f"SELECT id FROM scheduled_actions LIMIT {rows}").fetchall()
        only = f" WHERE id = '{named[0][0]}'" if rows == 1 else ""
        connection.commit()
        took = []
        for _ in range(times):
            connection.execute("BEGIN") if self.url.startswith("sqlite") else None
            started = time.perf_counter()
            connection.execute(f"DELETE FROM scheduled_actions{only}")
            took.append(time.perf_counter() - started)
            connection.rollback()
        connection.close()
        return median(took) * 1e6


def main():
    named = sys.argv[1:] or ["growth", "memory", "overload", "sizing", "guard"]
    with ExitStack() as stack:
        standin = Standin(stack)
        for name in named:
            standin.set_latency(0)
            globals()[name](standin)


if __name__ == "__main__":
    main()
