"""Which tests run a line, and how long they take; from one run of the tests beforehand."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import pytest


class Traced(NamedTuple):
    """What the run has shown: of each file the tests by line, and of each test that passed its
    seconds.
    """

    tests: dict[str, dict[int, set[str]]]
    seconds: dict[str, float]

    def tests_of(self, file: Path, lines: set[int]) -> set[str]:
        """Return the tests that run one of the lines; if none does, those that run the file."""
        by_line = self.tests.get(str(file.resolve()), {})
        found = set().union(*(by_line.get(line, set()) for line in lines)) - {""}
        return found or set().union(*by_line.values())


def trace(arguments: list[str], folder: Path) -> Traced:
    """Run the tests once in a child, unless the folder has what an earlier run has left there."""
    if not (folder / "seconds.json").exists():
        child = os.fork()
        if child == 0:
            _run(arguments, folder)
        os.waitpid(child, 0)
    data = coverage.CoverageData(str(folder / "coverage"))
    data.read()
    tests = {
        file: {
            line: {context.rpartition("|")[0] for context in contexts}
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    return Traced(tests, json.loads((folder / "seconds.json").read_text()))


def _run(arguments: list[str], folder: Path) -> None:
    os.environ["COVERAGE_FILE"] = str(folder / "coverage")
    plugin = _Seconds()
    options = "-p tests.mutants.building -n 3 --cov=recoup --cov-context=test --cov-report="
    pytest.main([*arguments, *options.split()], plugins=[plugin])
    passed = {test: s for test, s in plugin.seconds.items() if test not in plugin.failed}
    (folder / "seconds.json").write_text(json.dumps(passed))
    os._exit(0)


class _Seconds:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration
        if not report.passed:
            self.failed.add(report.nodeid)
