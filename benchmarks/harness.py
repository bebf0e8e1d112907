"""What every benchmark stands on: servers, load on them, and what it cost."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from benchmarks.seed import KEY, SECRET, seed
from tests.postgres import PostgresServer, find_binaries, free_port

ROOT = Path(__file__).parent.parent
SERVICE = ("gunicorn.conf.py", "wsgi:app")
BARE = ("benchmarks/bare_conf.py", "benchmarks.bare:app")
TICKS = os.sysconf("SC_CLK_TCK")
# What the tests turn off, as nothing of theirs outlives them.
DURABLE = {"fsync": "on", "full_page_writes": "on"}


@contextmanager
def process(*command, **environ):
    """Run a program from the project's folder until the block ends."""
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
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS + sum(map(cpu_seconds, children(pid)))


def children(pid):
    """Return the process ids of a process' children."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


class Standin:
    """The Trigger.dev of the benchmarks; see `benchmarks/standin.py`."""

    def __init__(self, stack):
        self.port = free_port()
        command = [sys.executable, "-m", "benchmarks.standin", str(self.port)]
        self.pid = stack.enter_context(process(*command)).pid
        self.url = f"http://127.0.0.1:{self.port}"
        wait_for(f"{self.url}/latency/0")

    def set_latency(self, milliseconds):
        """Answer so long after each request."""
        urlopen(f"{self.url}/latency/{milliseconds}").close()


class Server:
    """The service, or the bare application, under gunicorn."""

    def __init__(self, stack, app, database_url, standin, **environ):
        self.port, self.standin = free_port(), standin
        environ |= {
            "DATABASE_URL": database_url,
            "TRIGGER_API_URL": standin.url,
            "TRIGGER_SECRET_KEY": "tr_dev_benchmark",
            "PRIVY_PROJECT_SECRET": SECRET,
        }
        conf, name = app
        gunicorn = [sys.executable, "-m", "gunicorn", "--log-level", "error", "--config", conf]
        command = [*gunicorn, "--bind", f"127.0.0.1:{self.port}", name]
        self.pid = stack.enter_context(process(*command, **environ)).pid
        time.sleep(3)

    def load(self, ids, clients, seconds, rate=0):
        """Delete tasks; return the generator's figures and everybody's CPU."""
        before, standin_before = cpu_seconds(self.pid), cpu_seconds(self.standin.pid)
        result = load(self.port, ids, clients, seconds, rate)
        answered, took = sum(result["statuses"].values()), result["seconds"]
        result["rps"] = answered / took
        result["cpu_us"] = (cpu_seconds(self.pid) - before) / answered * 1e6
        result["load_share"] = result["cpu"] / took
        result["standin_share"] = (cpu_seconds(self.standin.pid) - standin_before) / took
        return result


def load(port, ids, clients, seconds, rate=0):
    """Run the load generator; see `benchmarks/load.py`."""
    options = [str(option) for option in (port, KEY, clients, seconds, rate)]
    command = [sys.executable, "-m", "benchmarks.load", *options]
    stdin = "\n".join(ids).encode()
    output = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, cwd=ROOT, check=True)
    return json.loads(output.stdout)


@contextmanager
def database(kind, tasks, members=1_000):
    """Make and fill a database; yield its URL."""
    with ExitStack() as stack:
        if kind == "sqlite":
            folder = stack.enter_context(TemporaryDirectory())
            url = f"sqlite:///{folder}/benchmark.sqlite3"
        else:
            server = stack.enter_context(PostgresServer(find_binaries(), **DURABLE))
            server.create_database("benchmark")
            url = server.url("benchmark")
        seed(url, tasks, members)
        yield url


def out(line):
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
