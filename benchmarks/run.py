"""`make bench`: the service and the bare application, in turn, and what each run cost.

`python -m benchmarks.run [--rounds 5] [--seconds 2] [--databases …] [--latencies …] [--clients …]`
prints a table and writes `docs/performance.json`, from which `benchmarks.plot` draws.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from benchmarks.seed import KEY, SECRET, count_tasks, seed, task_ids
from tests.postgres import PostgresServer, find_binaries, free_port

ROOT = Path(__file__).parent.parent
APPS = {
    "service": ("gunicorn.conf.py", "wsgi:app"),
    "bare": ("benchmarks/bare_conf.py", "benchmarks.bare:app"),
}
TASKS = 300_000
MOST_A_SECOND = 4_000
TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def process(*command, **environ):
    """Run a Python module or program from the project's folder until the block ends."""
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environ, stdout=subprocess.DEVNULL
    ) as running:
        try:
            yield running
        finally:
            running.terminate()


def wait_for(url):
    """Wait until somebody answers at *url*."""
    for _ in range(100):
        try:
            return urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


def cpu_seconds(pid):
    """Return the CPU time that a process and its children have used."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS + sum(map(cpu_seconds, children))


def measure(port, pid, standin_pid, clients, seconds, ids):
    """Put load on a port; return the generator's figures and everybody's CPU."""
    before, standin_before = cpu_seconds(pid), cpu_seconds(standin_pid)
    command = [sys.executable, "-m", "benchmarks.load", str(port), KEY, str(clients), str(seconds)]
    output = subprocess.run(
        command, input="\n".join(ids).encode(), stdout=subprocess.PIPE, cwd=ROOT, check=True
    ).stdout
    result = json.loads(output)
    answered = sum(result["statuses"].values())
    result["rps"] = answered / result["seconds"]
    result["cpu_us"] = (cpu_seconds(pid) - before) / answered * 1e6
    result["load_share"] = result["cpu"] / result["seconds"]
    result["standin_share"] = (cpu_seconds(standin_pid) - standin_before) / result["seconds"]
    return result


class Bench:
    """One database with both applications serving it."""

    def __init__(self, stack, database_url, standin_port, standin_pid):
        self.url, self.standin_port, self.standin_pid = database_url, standin_port, standin_pid
        self.servers = {name: self.serve(stack, app) for name, app in APPS.items()}
        self.ids = task_ids(database_url)

    def serve(self, stack, app):
        port = free_port()
        environ = {
            "DATABASE_URL": self.url,
            "TRIGGER_API_URL": f"http://127.0.0.1:{self.standin_port}",
            "TRIGGER_SECRET_KEY": "tr_dev_benchmark",
            "PRIVY_PROJECT_SECRET": SECRET,
        }
        gunicorn = [sys.executable, "-m", "gunicorn", "--log-level", "error"]
        conf, name = app
        command = [*gunicorn, "--config", conf, "--bind", f"127.0.0.1:{port}", name]
        server = stack.enter_context(process(*command, **environ))
        time.sleep(3)
        return port, server.pid

    def round(self, name, clients, seconds):
        """Run one application once, and check by SQL that rows gone are answers 200."""
        port, pid = self.servers[name]
        ids = self.ids[: int(seconds * MOST_A_SECOND)]
        before = count_tasks(self.url)
        result = measure(port, pid, self.standin_pid, clients, seconds, ids)
        gone = before - count_tasks(self.url)
        result["verified"] = result["statuses"] == {"200": gone}
        del self.ids[: sum(result["statuses"].values())]
        return result


def set_latency(port, milliseconds):
    urlopen(f"http://127.0.0.1:{port}/latency/{milliseconds}").close()


def cell(bench, latency, clients, rounds, seconds):
    """Return the medians of both applications, run in turn, and the medians of their ratios."""
    set_latency(bench.standin_port, latency)
    runs = {name: [] for name in APPS}
    for _ in range(rounds):
        for name in APPS:
            runs[name].append(bench.round(name, clients, seconds))
    ratios = [a["rps"] / b["rps"] for a, b in zip(runs["service"], runs["bare"], strict=True)]
    return {
        name: {key: median(r[key] for r in results) for key in MEDIANS}
        | {"verified": all(r["verified"] for r in results)}
        for name, results in runs.items()
    } | {"ratio": median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}


MEDIANS = ("rps", "p50", "p99", "max", "cpu_us", "load_share", "standin_share")
HEAD = (
    "| database | ms | clients | rps | of bare | min-max | of clients/ms | p50 | p99 | CPU µs |"
    " bare CPU µs | load, stand-in CPU | verified |"
)


def row(database, latency, clients, result):
    service, bare = result["service"], result["bare"]
    ideal = f"{service['rps'] * latency / 1000 / clients:.2f}" if latency else "-"
    return (
        f"| {database} | {latency} | {clients} | {service['rps']:.0f} | {result['ratio']:.2f}"
        f" | {result['ratio_min']:.2f}-{result['ratio_max']:.2f} | {ideal}"
        f" | {service['p50']:.1f} | {service['p99']:.1f} | {service['cpu_us']:.0f}"
        f" | {bare['cpu_us']:.0f} | {service['load_share']:.2f}, {service['standin_share']:.2f}"
        f" | {'yes' if service['verified'] and bare['verified'] else 'NO'} |"
    )


@contextmanager
def database(kind):
    """Make and fill a database; yield its URL."""
    with ExitStack() as stack:
        if kind == "sqlite":
            folder = stack.enter_context(TemporaryDirectory())
            url = f"sqlite:///{folder}/benchmark.sqlite3"
        else:
            server = stack.enter_context(PostgresServer(find_binaries()))
            server.create_database("benchmark")
            url = server.url("benchmark")
        seed(url, TASKS)
        yield url


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--databases", nargs="+", default=["postgres", "sqlite"])
    parser.add_argument("--latencies", nargs="+", type=int, default=[0, 20, 100, 300])
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 16, 64])
    options = parser.parse_args()
    results = []
    out(HEAD)
    out("|---" * HEAD.count(" | ") + "|---|")
    standin_port = free_port()
    with process(sys.executable, "-m", "benchmarks.standin", str(standin_port)) as standin:
        wait_for(f"http://127.0.0.1:{standin_port}/latency/0")
        for kind in options.databases:
            with database(kind) as url, ExitStack() as stack:
                bench = Bench(stack, url, standin_port, standin.pid)
                for latency in options.latencies:
                    for clients in options.clients:
                        result = cell(bench, latency, clients, options.rounds, options.seconds)
                        results.append([kind, latency, clients, result])
                        out(row(*results[-1]))
        out(f"\nGenerator and stand-in alone: {ceiling(standin_port)} requests a second.")
    Path(ROOT, "docs", "performance.json").write_text(json.dumps(results, indent=1))


def ceiling(standin_port):
    """Return how many requests a second the generator and the stand-in do with nothing between."""
    set_latency(standin_port, 0)
    result = measure(standin_port, os.getpid(), os.getpid(), 64, 2, ["0" * 36] * 200_000)
    return round(result["rps"])


def out(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
