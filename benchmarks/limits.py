"""`make limits`: how the service grows, ages, and bears more than it has room for.

`python -m benchmarks.limits [growth] [memory] [overload] [sizing]`, all four if none is named;
each prints a table of its own.
"""

import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from urllib.request import urlopen

from benchmarks.harness import SERVICE, Server, Standin, children, database, out
from benchmarks.seed import count_tasks, execute, task_ids

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


def main():
    named = sys.argv[1:] or ["growth", "memory", "overload", "sizing"]
    with ExitStack() as stack:
        standin = Standin(stack)
        for name in named:
            standin.set_latency(0)
            globals()[name](standin)


if __name__ == "__main__":
    main()
