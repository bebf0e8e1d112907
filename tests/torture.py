"""Kills workers at random moments under load, and then looks for anything that was lost.

    python -m tests.torture --kills 200

Clients delete tasks at a real gunicorn; the stand-in of Trigger.dev fails in every way it knows;
workers, and now and then the whole server, get a SIGKILL. In the end all faults are lifted, the
marks that the dead have left are recovered, the doubts are settled, and each task is held against
what its caller was told. Exits with 1 if anything is not as promised.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import requests

from recoup.app import create_app
from recoup.database.connection import connect, database, release
from recoup.database.expressions import clock, clock_plus
from recoup.database.migrations import upgrade
from recoup.database.models import TaskDeletion
from recoup.deletion.outcomes import DeletionRolledBack
from recoup.demo.messages import Request
from recoup.demo.standin import Fault, StandIn
from recoup.web.errors import FAILURES
from tests.conftest import close_database, make_config, make_host_database
from tests.factories import World
from tests.postgres import PostgresServer, find_binaries
from tests.server import Executed

SETTINGS = {"TRIGGER_DEADLINE_SECONDS": "1", "WEB_CONCURRENCY": "3", "DATABASE_POOL_SIZE": "30"}
CLIENTS = 12
# How often a client asks for one task, and how often two ask at the same time.
MOST_ASKED = 4
SHARED_ONE_IN = 8
SERVER_KILLED_ONE_IN = 20
SECONDS_BETWEEN_KILLS = (0.1, 1.0)
# The lease is 16 s at this deadline, a doubt is looked at after 60 s, and the sweep comes every 24
# to 36 s.
RECOVERY_SECONDS = 240

CUT_OFF = "no answer"
DELETED = "200 success"
NOT_FOUND = "404 Task not found"
KEPT = f"500 {FAILURES[DeletionRolledBack]}"
KNOWN = {DELETED, NOT_FOUND, *(f"500 {sentence}" for sentence in FAILURES.values())}

# What a cancel meets, and how often, in percent; the rest meets no fault. In LOST are those by
# which Trigger.dev may act and the answer not arrive.
FAULTS = [
    (Fault.status(500), 6),
    (Fault.status(502), 3),
    (Fault.status(400), 6),
    (Fault.rate_limited(0.2), 2),
    (Fault.rate_limited(60), 2),
    (Fault.reset(), 5),
    (Fault.hang(2), 3),
]
LOST = [
    (Fault.delay(0.2), 8),
    (Fault.delay(0.7), 3),
    (Fault.reset(act=True), 8),
    (Fault.half_body(act=True), 2),
    (Fault.hang(2, act=True), 5),
]


class Moody(StandIn):
    """A stand-in of which each request may meet any fault, until it is calmed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.calm = False
        self._random = random.Random(seed)
        faults, percents = zip(*FAULTS, *LOST, strict=True)
        self._faults = [*faults, None]
        self._weights = [*percents, 100 - sum(percents)]

    def receive(self, request: Request) -> Fault | None:
        with self._lock:
            fault = self._random.choices(self._faults, self._weights)[0]
        if fault and not self.calm:
            self.fail(fault, schedule_id=request.schedule_id, method=request.method)
        return super().receive(request)


@dataclass
class Task:
    """A task, its row as it was made, and what was answered whenever its deletion was asked for.

    *shared*: two callers ask at the same time.
    """

    id: str
    row: dict[str, Any]
    shared: bool
    answers: list[str] = field(default_factory=list)

    @property
    def schedule(self) -> str:
        return str(self.row["trigger_schedule_id"])


@dataclass
class Report:
    """The figures, and every way in which the promise was broken."""

    kills: int = 0
    servers: int = 0
    tasks: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    marks_left: int = 0
    recovered: int = 0
    settled: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def text(self) -> str:
        """Return a screenful."""
        answered = sum(self.answers.values())
        lines = [
            f"kills        {self.kills} workers, some in {self.servers} kills of the server",
            f"tasks        {self.tasks}",
            f"requests     {answered}, the slowest {self.slowest:.1f} s",
            *(f"  {count:8}  {answer}" for answer, count in self.answers.most_common()),
            f"faults       {sum(self.faults.values())} of calls to Trigger.dev",
            f"  {', '.join(f'{kind} {count}' for kind, count in self.faults.most_common())}",
            f"recoveries   {self.recovered}; {self.marks_left} marks stood when the load ended",
            f"kept         {self.kept} tasks until they were asked for once more",
            f"doubts       {self.settled['kept']} found whole, {self.settled['deleted']} completed",
            f"violations   {len(self.violations)}",
            *(f"  {violation}" for violation in self.violations[:20]),
            f"({self.seconds:.0f} s)",
        ]
        return "\n".join(lines)


class Torture:
    """One run on one database, which is upgraded and nobody else's."""

    def __init__(self, database_url: str, seed: int) -> None:
        self.report = Report()
        self._seed = seed
        self._random = random.Random(seed)
        self._standin = Moody(seed)
        self._database_url = database_url
        self._tasks: list[Task] = []
        self._seconds: list[float] = []
        self._over = threading.Event()

    def run(self, kills: int, seconds: float = 0.0, *, hurry: bool = False) -> Report:
        """Kill that often, and for that long at least; then recover, and check everything.

        In a *hurry* every lease, of the dead and of the living, is ended after each kill, and
        every doubt is old.
        """
        self._hurry = hurry
        started = time.monotonic()
        with self._standin:
            settings = {**SETTINGS, "TRIGGER_API_URL": self._standin.url}
            self._world = World(
                create_app(make_config(self._database_url, **settings)), self._standin
            )
            self._account = self._world.account()
            self._key = self._world.key(self._account)
            with Executed(self._database_url, **settings) as self._server:
                self._load(kills, started + seconds)
                self._recover()
                self._check()
                self._converge()
        self.report.answers = Counter(answer for task in self._tasks for answer in task.answers)
        self.report.slowest = max(self._seconds)
        self.report.seconds = time.monotonic() - started
        return self.report

    # -- the load

    def _load(self, kills: int, end: float) -> None:
        with ThreadPoolExecutor(CLIENTS) as clients:
            try:
                running = [clients.submit(self._client, n) for n in range(CLIENTS)]
                while self.report.kills < kills or time.monotonic() < end:
                    time.sleep(self._random.uniform(*SECONDS_BETWEEN_KILLS))
                    self._kill()
                    self._end_leases()
            finally:
                self._over.set()
        for client in running:
            client.result()
        self._standin.calm = True
        self._standin.clear()
        self.report.tasks = len(self._tasks)

    def _kill(self) -> None:
        """Kill a worker that serves, or the whole server; if none does, wait for one."""
        serving = self._server.serving()
        if serving and self._random.randrange(SERVER_KILLED_ONE_IN) == 0:
            self._server.kill()
            self.report.kills += len(serving)
            self.report.servers += 1
            self._server.start()
        elif serving:
            self._server.kill_worker(self._random.choice(serving))
            self.report.kills += 1

    def _end_leases(self) -> None:
        if self._hurry:
            TaskDeletion.update(lease_expires_at=clock_plus(-1)).execute()
            doubtful = TaskDeletion.doubtful_since.is_null(False)
            TaskDeletion.update(doubtful_since=clock_plus(-3600)).where(doubtful).execute()
            release()

    def _client(self, number: int) -> None:
        chance = random.Random(f"{self._seed}, client {number}")
        while not self._over.is_set():
            shared = chance.randrange(SHARED_ONE_IN) == 0
            task_id = self._world.task(self._account, model="some/model")
            task = Task(task_id, self._world.row(task_id), shared)
            self._tasks.append(task)
            for _ in range(chance.randint(1, MOST_ASKED)):
                if shared:
                    with ThreadPoolExecutor(2) as pair:
                        list(pair.map(self._ask, [task, task]))
                elif self._ask(task) == NOT_FOUND:
                    break

    def _ask(self, task: Task) -> str:
        """Ask for a task once, and check at once what can be checked at once."""
        started = time.monotonic()
        try:
            response = self._server.delete(task.id, self._key)
        except requests.Timeout:
            self._violation(task, "was asked for and nothing was ever answered")
            return CUT_OFF
        except requests.RequestException:
            # Nothing, or an answer that broke off in the middle.
            task.answers.append(CUT_OFF)
            # A server that is just coming back would only refuse the next ones.
            time.sleep(0.1)
            return CUT_OFF
        self._seconds.append(time.monotonic() - started)
        answer = f"{response.status_code} {_sentence(response)}"
        task.answers.append(answer)
        if answer not in KNOWN:
            self._violation(task, "was answered what nobody may be told")
        if answer in (DELETED, NOT_FOUND) and self._rest(task):
            self._violation(task, f"was said to be gone, and its {self._rest(task)} is there")
        if answer == KEPT and not task.shared and self._world.row(task.id) != task.row:
            self._violation(task, f"was said to be kept, and is now {self._world.row(task.id)}")
        return answer

    def _rest(self, task: Task) -> str:
        row = "row" if self._world.row(task.id) else ""
        return row or ("schedule" if task.schedule in self._standin.schedules else "")

    # -- the end

    def _recover(self) -> None:
        """Start the server anew, and wait until no mark is left, doubtful or not."""
        self._server.kill()
        self.report.marks_left = self._count_marks()
        self._end_leases()
        while self._count_marks(TaskDeletion.lease_expires_at > clock()):
            time.sleep(0.2)
        self._server.start()
        end = time.monotonic() + RECOVERY_SECONDS
        while (left := self._count_marks()) and time.monotonic() < end:
            time.sleep(0.2)
        if left:
            self.report.violations.append(f"{left} marks were not settled")
        states = Counter((line["event"], line.get("state")) for line in self._server.log_lines())
        self.report.recovered = states["recovery", "deleted"]
        self.report.settled = Counter({s: states["doubt", s] for s in ("kept", "deleted")})

    def _count_marks(self, *conditions: Any) -> int:
        marks = TaskDeletion.select()
        count = (marks.where(*conditions) if conditions else marks).count()
        release()
        return count

    def _check(self) -> None:
        """Hold each task against what its callers were told."""
        rows = _all_rows()
        for task in self._tasks:
            alive = task.schedule in self._standin.schedules
            if task.id not in rows:
                self._check_deleted(task, alive)
            else:
                self.report.kept += 1
                self._check_kept(task, rows[task.id], alive)
        self.report.faults = Counter(r.fault for r in self._standin.requests if r.fault)
        if any("traceback" in line for line in self._server.log_lines()):
            self.report.violations.append("the log has a traceback")

    def _check_deleted(self, task: Task, alive: bool) -> None:
        if alive:
            self._violation(task, "has a schedule and no row")
        if task.answers[-1] == KEPT and not task.shared:
            self._violation(task, "was said to be kept, and is gone")

    def _check_kept(self, task: Task, row: dict[str, Any], alive: bool) -> None:
        if row != task.row:
            self._violation(task, f"was kept and changed: {row}")
        if {DELETED, NOT_FOUND} & set(task.answers):
            self._violation(task, "was said to be deleted, and is there")
        if not alive:
            self._violation(task, "has a row and no schedule")

    def _converge(self) -> None:
        """Ask once more for all that was kept: it goes, and is not found from then on."""
        left = [task for task in self._tasks if task.id in _all_rows()]
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(self._ask, left))
            list(clients.map(self._ask, left))
        for task in left:
            if task.answers[-2:] != [DELETED, NOT_FOUND]:
                self._violation(task, "did not converge")
        if _all_rows() or self._standin.schedules or self._count_marks():
            self.report.violations.append("something is left when all is deleted")

    def _violation(self, task: Task, text: str) -> None:
        self.report.violations.append(f"{task.id} {text} ({', '.join(task.answers)})")


def _sentence(response: requests.Response) -> str:
    body = response.json()
    return str(body["status"] if response.ok else body.get("error"))


def _all_rows() -> dict[str, dict[str, Any]]:
    cursor = database.execute_sql("SELECT * FROM scheduled_actions")
    names = [description[0] for description in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    release()
    return {str(row["id"]): row for row in rows}


@contextmanager
def make_database(kind: str) -> Iterator[str]:
    """Make a database, upgraded and empty, for as long as the context lasts; give its URL."""
    if kind == "postgres":
        with PostgresServer(find_binaries()) as server:
            make_host_database(server, "torture")
            yield from _upgraded(server.url("torture"))
    else:
        with TemporaryDirectory(prefix="recoup-torture-") as folder:
            yield from _upgraded(f"sqlite:///{Path(folder, 'recoup.sqlite3')}")


def _upgraded(url: str) -> Iterator[str]:
    connect(make_config(url))
    upgrade()
    close_database()
    yield url
    close_database()


@click.command()
@click.option("--kills", default=200, show_default=True, help="At least so many workers.")
@click.option("--seconds", default=0.0, help="For at least so long.")
@click.option(
    "--database", "kinds", type=click.Choice(["sqlite", "postgres", "both"]), default="both"
)
@click.option("--seed", type=int, help="Of the random choices; the moments still differ.")
def main(kills: int, seconds: float, kinds: str, seed: int | None) -> None:
    """Kill workers at random moments under load, and look for anything that was lost."""
    seed = random.randrange(10**6) if seed is None else seed
    failed = False
    for kind in ("sqlite", "postgres") if kinds == "both" else (kinds,):
        click.echo(f"{kind}, seed {seed}")
        with make_database(kind) as url:
            report = Torture(url, seed).run(kills, seconds)
        click.echo(report.text() + "\n")
        failed |= bool(report.violations)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
