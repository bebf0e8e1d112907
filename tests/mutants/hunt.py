"""Runs the tests on each mutant: a pytest plugin that runs what was collected in its own way."""

import importlib
import inspect
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from _pytest.runner import runtestprotocol

from tests import conftest
from tests.mutants.changes import Mutant, mutants_of
from tests.mutants.loaded import take_in
from tests.mutants.traced import Traced

# The tests mostly wait.
AT_ONCE = 3


class Hunt:
    """Runs the tests on each mutant of each file, and prints those that none noticed."""

    def __init__(self, files: list[Path], traced: Traced) -> None:
        self.files, self.traced = files, traced
        self.scores: list[str] = []
        # The children add each test that noticed a mutant.
        self._noticed_by = Path(tempfile.mkstemp()[1])

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leave out what fails without any mutant or would disturb others."""
        seconds = self.traced.seconds
        items[:] = [i for i in items if i.nodeid in seconds and not _has_the_server(i)]

    def pytest_runtestloop(self, session: Any) -> bool:
        """Hunt in each file; see pytest's hook of this name."""
        _start_postgres(session.items)
        for file in self.files:
            self._hunt_in(file, session.items)
        self._doubt_tests(session.items)
        session._setupstate.teardown_exact(None)
        self._noticed_by.unlink()
        return True

    def _hunt_in(self, file: Path, items: list[Any]) -> None:
        module = importlib.import_module(".".join(file.with_suffix("").parts))
        mutants = list(mutants_of(file.read_text()))
        children: dict[int, Mutant] = {}
        survived = 0
        for mutant in [*mutants, *[None] * AT_ONCE]:
            if len(children) == AT_ONCE or not mutant:
                survived += _end_of_one(children, file)
            if mutant:
                tests = self.traced.tests_of(file, mutant.lines)
                chosen = [item for item in items if item.nodeid in tests]
                child = self._start(self._likeliest_first(chosen), mutant, module)
                children[child] = mutant
        if mutants:
            share = 1 - survived / len(mutants)
            self.scores.append(f"{share:5.0%} of {len(mutants):3}  {file}")
            click.echo(self.scores[-1])

    def _likeliest_first(self, items: list[Any]) -> list[Any]:
        """Put first what is quick and has noticed many mutants."""
        noticed, seconds = Counter(self._noticed_by.read_text().splitlines()), self.traced.seconds
        return sorted(items, key=lambda i: seconds[i.nodeid] / (1 + 9 * noticed[i.nodeid]))

    def _doubt_tests(self, items: list[Any]) -> None:
        """Name the tests that noticed a mutant and now fail on the code as it is."""
        noticed = set(self._noticed_by.read_text().splitlines())
        for item in items:
            if item.nodeid in noticed:
                _, status = os.waitpid(self._start([item]), 0)
                if status:
                    self.scores.append(f"can't be relied on: {item.nodeid}")

    def _start(
        self, tests: list[Any], mutant: Mutant | None = None, module: ModuleType | None = None
    ) -> int:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            try:
                self._live(tests, mutant, module)
            finally:
                os._exit(1)
        return child

    def _live(
        self, tests: list[Any], mutant: Mutant | None = None, module: ModuleType | None = None
    ) -> None:
        """Be the mutant, and end with 0 if no test notices."""
        conftest._numbers = count(os.getpid() * 1000)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if mutant and module:
            take_in(mutant, module)
        for first in tests[:1]:
            first.session._setupstate.teardown_exact(first)
        for item, following in zip(tests, [*tests[1:], None], strict=False):
            signal.alarm(int(30 + 10 * self.traced.seconds[item.nodeid]))
            after = following or next(other for other in item.session.items if other is not item)
            # One failure may be chance, on a busy machine.
            if _fails(item, after) and _fails(item, after):
                with self._noticed_by.open("a") as file:
                    file.write(f"{item.nodeid}\n")
                os._exit(1)
        os._exit(0)


def _fails(item: Any, following: Any) -> bool:
    return any(report.failed for report in runtestprotocol(item, False, following))


def _has_the_server(item: Any) -> bool:
    """Whether a test stops Postgres or makes roles, in a server that the children share."""
    return "postgres" in inspect.signature(item.function).parameters


def _end_of_one(children: dict[int, Mutant], file: Path) -> bool:
    """Wait for one of the children; return whether no test noticed."""
    while children:
        for child, mutant in children.items():
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                del children[child]
                if status == 0:
                    click.echo(f"{file}:{mutant.line}: {mutant.text}")
                return status == 0
        time.sleep(0.02)
    return False


def _start_postgres(items: list[Any]) -> None:
    """Run one test that wants it, so that each child finds it running."""
    first = next(i for i in items if "test_staged.py" in i.nodeid and "[postgres" in i.nodeid)
    another = next(item for item in items if item.path != first.path)
    runtestprotocol(first, nextitem=another, log=False)
