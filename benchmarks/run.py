"""`make bench`: the service and the bare application, in turn, and what each run cost.

`python -m benchmarks.run [--rounds 5] [--seconds 1] [--databases …] [--latencies …] [--clients …]`
prints a table and writes `docs/performance.json`, from which `benchmarks.plot` draws.
"""

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.harness import BARE, ROOT, SERVICE, Server, Standin, database, load, out
from benchmarks.seed import count_tasks, task_ids

APPS = {"service": SERVICE, "bare": BARE}
TASKS = 300_000
MOST_A_SECOND = 4_000
# A round is at least so many latencies long, as its first and last are never full.
LATENCIES = 15


class Bench:
    """One database with both applications serving it."""

    def __init__(self, stack, url, standin):
        self.url = url
        self.servers = {name: Server(stack, app, url, standin) for name, app in APPS.items()}
        self.ids = task_ids(url)

    def round(self, name, clients, seconds):
        """Run one application once, and check by SQL that rows gone are answers 200."""
        ids = self.ids[: int(seconds * MOST_A_SECOND)]
        before = count_tasks(self.url)
        result = self.servers[name].load(ids, clients, seconds)
        gone = before - count_tasks(self.url)
        result["verified"] = result["statuses"] == {"200": gone}
        del self.ids[: sum(result["statuses"].values())]
        return result

    def cell(self, clients, rounds, seconds):
        """Return the medians of both applications, run in turn, and those of their ratios."""
        runs = {name: [] for name in APPS}
        for _ in range(rounds):
            for name in APPS:
                runs[name].append(self.round(name, clients, seconds))
        ratios = [a["rps"] / b["rps"] for a, b in zip(runs["service"], runs["bare"], strict=True)]
        return {
            name: {key: median(r[key] for r in results) for key in MEDIANS}
            | {"verified": all(r["verified"] for r in results)}
            for name, results in runs.items()
        } | {"ratio": median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}


MEDIANS = ("rps", "mean", "p50", "p99", "max", "cpu_us", "load_share", "standin_share")
HEAD = (
    "| database | ms | clients | rps | of bare | min-max | by mean | of clients/ms | p50 | p99 |"
    " CPU µs | bare CPU µs | load, stand-in CPU | verified |"
)


def row(database, latency, clients, result):
    service, bare = result["service"], result["bare"]
    ideal = f"{latency / service['mean']:.2f}" if latency else "-"
    return (
        f"| {database} | {latency} | {clients} | {service['rps']:.0f} | {result['ratio']:.2f}"
        f" | {result['ratio_min']:.2f}-{result['ratio_max']:.2f}"
        f" | {bare['mean'] / service['mean']:.2f} | {ideal}"
        f" | {service['p50']:.1f} | {service['p99']:.1f} | {service['cpu_us']:.0f}"
        f" | {bare['cpu_us']:.0f} | {service['load_share']:.2f}, {service['standin_share']:.2f}"
        f" | {'yes' if service['verified'] and bare['verified'] else 'NO'} |"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--databases", nargs="+", default=["postgres", "sqlite"])
    parser.add_argument("--latencies", nargs="+", type=int, default=[0, 20, 100, 300])
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 16, 64])
    options = parser.parse_args()
    results = []
    out(HEAD)
    out("|---" * HEAD.count(" | ") + "|---|")
    with ExitStack() as outer:
        standin = Standin(outer)
        for kind in options.databases:
            with database(kind, TASKS) as url, ExitStack() as stack:
                bench = Bench(stack, url, standin)
                for latency in options.latencies:
                    standin.set_latency(latency)
                    seconds = max(options.seconds, LATENCIES * latency / 1000)
                    for clients in options.clients:
                        result = bench.cell(clients, options.rounds, seconds)
                        results.append([kind, latency, clients, result])
                        out(row(*results[-1]))
        out(f"\nGenerator and stand-in alone: {ceiling(standin)} requests a second.")
    Path(ROOT, "docs", "performance.json").write_text(json.dumps(results, indent=1))


def ceiling(standin):
    """Return how many requests a second the generator and the stand-in do with nothing between."""
    standin.set_latency(0)
    result = load(standin.port, ["0" * 36] * 200_000, 64, 2)
    return round(sum(result["statuses"].values()) / result["seconds"])


if __name__ == "__main__":
    main()
