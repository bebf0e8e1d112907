"""Mutants: small changes to the core, one at a time, each of which some test should notice.

    python -m tests.mutants [recoup/deletion/staged.py …]

First the tests run once, to see which of them comes by which line. Then, for each mutant, a child
of this process takes it into the code that is loaded and runs the tests that come by its line, the
quickest first, until one fails. Prints the mutants that no test noticed, and of each file the
share that one did. It is no gate: some mutants change nothing that counts.
"""

import ast
import copy
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import click
import coverage
import pytest
from _pytest.runner import runtestprotocol

CORE = (
    "recoup/deletion/*.py recoup/trigger/cancel.py recoup/trigger/answers.py"
    " recoup/trigger/route.py recoup/http/deadline.py recoup/database/statements.py"
    " recoup/database/queries.py recoup/database/mark_queries.py"
)
TESTS = (
    "tests/deletion tests/trigger tests/http tests/database tests/model tests/auth"
    " tests/commands/test_delete.py tests/test_metrics.py tests/web/test_tasks.py"
)
# They take long, and come by no line that others don't.
LEFT_OUT = ("test_death", "test_torture", "test_pool", "test_histories", "test_prepare")
MOST_SECONDS = 120

SWAPPED: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


class Mutant(NamedTuple):
    """A changed file: `line` is where, `text` how it reads."""

    line: int
    text: str
    tree: ast.Module


def mutants_of(source: str) -> Iterator[Mutant]:
    """Return each change of one place in a file's functions and constants."""
    tree = ast.parse(source)
    for n, node in enumerate(_places(tree)):
        for v in range(len(_variants(node))):
            changed = copy.deepcopy(tree)
            old = list(_places(changed))[n]
            new = ast.copy_location(_variants(old)[v], old)
            ast.fix_missing_locations(_Replace(old, new).visit(changed))
            text = f"{ast.unparse(old)}  ->  {ast.unparse(new)}"
            yield Mutant(old.lineno, " ".join(text.split())[:150], changed)


def _places(tree: ast.AST) -> Iterator[Any]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            for statement in node.body:
                yield from _inside(statement)
        elif isinstance(node, ast.ClassDef):
            yield from _places(node)
        elif isinstance(node, ast.Assign) and isinstance(tree, ast.Module):
            yield from _inside(node.value)


def _inside(node: ast.AST) -> Iterator[Any]:
    """Return a node and those below it, but for text that is not compared with any."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.AnnAssign):
        yield from _inside(node.value) if node.value else ()
        return
    yield node
    for child in ast.iter_child_nodes(node):
        in_text = isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)
        if not in_text and not isinstance(child, ast.arguments):
            yield from _inside(child)


def _variants(node: Any) -> list[ast.AST]:  # noqa: C901
    match node:
        case ast.Compare(left, [op], right) if type(op) in SWAPPED:
            return [ast.Compare(left, [SWAPPED[type(op)]()], right)]
        case ast.BoolOp(op, values):
            return [ast.BoolOp(SWAPPED[type(op)](), values)]
        case ast.BinOp(left, op, right) if type(op) in SWAPPED:
            return [ast.BinOp(left, SWAPPED[type(op)](), right)]
        case ast.UnaryOp(_, operand):
            return [operand]
        case ast.Constant(bool() as value):
            return [ast.Constant(not value)]
        case ast.Constant(int() | float() as value):
            return [ast.Constant(value + 1)]
        case ast.Constant(str() as value):
            return [ast.Constant(f"XX{value}")]
        case ast.Constant(bytes() as value):
            return [ast.Constant(b"XX" + value)]
        case ast.IfExp(test, body, orelse):
            return [ast.IfExp(test, orelse, body)]
        case ast.If(test, body, orelse):
            return [ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)]
        case ast.While(test, body, orelse):
            return [ast.While(ast.UnaryOp(ast.Not(), test), body, orelse)]
        case ast.Return(value) if value and not isinstance(value, ast.Constant):
            return [ast.Return(ast.Constant(None))]
        case ast.Expr(ast.Call()) | ast.Raise() | ast.AugAssign():
            return [ast.Pass()]
        case ast.Continue():
            return [ast.Break()]
        case ast.Break():
            return [ast.Continue()]
    return []


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def take_in(mutant: Mutant, module: ModuleType) -> None:
    """Put a mutant's code into the functions of the module, and its constants in their place."""
    from recoup.database import built

    built._build.cache_clear()
    changed = compile(mutant.tree, str(module.__file__), "exec")
    codes = {(c.co_qualname, c.co_firstlineno): c for c in _codes(changed)}
    for function in _functions(module):
        code = function.__code__
        function.__code__ = codes.get((code.co_qualname, code.co_firstlineno), code)
    _take_in_constants(changed, module)


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _functions(holder: Any) -> Iterator[FunctionType]:
    name = getattr(holder, "__module__", holder.__name__)
    for value in list(vars(holder).values()):
        value = getattr(value, "fget", None) or getattr(value, "_build", value)
        value = getattr(value, "__wrapped__", getattr(value, "__func__", value))
        if isinstance(value, FunctionType) and value.__module__ == name:
            yield value
        elif isinstance(value, type) and value.__module__ == name:
            yield from _functions(value)


def _take_in_constants(code: CodeType, module: ModuleType) -> None:
    new = dict(vars(module))
    exec(code, new)
    loaded = [m for name, m in list(sys.modules.items()) if name.startswith("recoup")]
    for name, old in list(vars(module).items()):
        if name.isupper() and repr(new[name]) != repr(old):
            for one in loaded:
                if getattr(one, name, None) is old:
                    setattr(one, name, new[name])


class Trace:
    """A plugin that notes how long each test takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration


class Hunt:
    """A plugin that runs the collected tests on each mutant instead of once."""

    def __init__(self, files: list[Path], by_line: dict[str, dict[int, set[str]]]) -> None:
        self.files, self.by_line = files, by_line
        self.lines: list[str] = []

    def pytest_runtestloop(self, session: Any) -> bool:
        items = {item.nodeid: item for item in session.items}
        _start_postgres(session.items)
        for file in self.files:
            module = importlib.import_module(str(file)[:-3].replace("/", "."))
            tests = self.by_line.get(str(file.resolve()), {})
            outcomes = [
                self._hunt(file, mutant, module, [items[t] for t in items if t in tests_of])
                for mutant in mutants_of(file.read_text())
                for tests_of in [tests.get(mutant.line) or set().union(*tests.values())]
            ]
            if outcomes:
                share = sum(outcomes) / len(outcomes)
                self.lines.append(f"{share:5.0%} of {len(outcomes):3}  {file}")
                click.echo(self.lines[-1])
        session._setupstate.teardown_exact(None)
        return True

    def _hunt(self, file: Path, mutant: Mutant, module: ModuleType, tests: list[Any]) -> bool:
        """Return whether a test noticed."""
        child = os.fork()
        if child == 0:
            _live(mutant, module, tests)
        noticed = _wait(child)
        if not noticed:
            click.echo(f"{file}:{mutant.line}: {mutant.text}")
        return noticed


def _start_postgres(items: list[Any]) -> None:
    """Run one test that wants it, so that each child finds it running."""
    first = next(
        item for item in items if "test_staged.py" in item.nodeid and "[postgres" in item.nodeid
    )
    another = next(item for item in items if item.path != first.path)
    runtestprotocol(first, nextitem=another, log=False)


def _live(mutant: Mutant, module: ModuleType, tests: list[Any]) -> None:
    """Be the mutant, and end with 1 where a test notices."""
    from tests import conftest

    conftest._numbers = count(os.getpid() * 1000)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    try:
        take_in(mutant, module)
        for item, following in zip(tests, [*tests[1:], tests[-1]], strict=True):
            if any(report.failed for report in runtestprotocol(item, False, following)):
                os._exit(1)
    except BaseException:
        os._exit(1)
    os._exit(0)


def _wait(child: int) -> bool:
    end = time.monotonic() + MOST_SECONDS
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status != 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def trace(arguments: list[str], folder: str) -> None:
    """Run the tests once in a child, and leave there how long each took, and its lines."""
    child = os.fork()
    if child == 0:
        os.environ["COVERAGE_FILE"] = f"{folder}/coverage"
        plugin = Trace()
        options = ["--cov=recoup", "--cov-context=test", "--cov-report="]
        pytest.main([*arguments, *options], plugins=[plugin])
        Path(folder, "seconds").write_text(json.dumps(plugin.seconds))
        os._exit(0)
    os.waitpid(child, 0)


def read_lines(folder: str) -> dict[str, dict[int, set[str]]]:
    """Return of each file which tests come by its lines."""
    data = coverage.CoverageData(f"{folder}/coverage")
    data.read()
    return {
        file: {
            line: {context.rpartition("|")[0] for context in contexts}
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }


@click.command()
@click.argument("files", nargs=-1)
@click.option("--traced", type=click.Path(), help="A folder that keeps what was traced.")
def main(files: tuple[str, ...], traced: str | None) -> None:
    """Look for mutants of FILES, or of the core, that no test notices."""
    chosen = " and ".join(f"not {name}" for name in LEFT_OUT)
    arguments = [*TESTS.split(), "-q", "-p", "no:cacheprovider", "-k", chosen]
    folder = traced or tempfile.mkdtemp()
    if not Path(folder, "seconds").exists():
        trace(arguments, folder)
    seconds = json.loads(Path(folder, "seconds").read_text())
    paths = [p for text in files or CORE.split() for p in sorted(Path().glob(text))]
    hunt = Hunt(paths, read_lines(folder))
    pytest.main(arguments, plugins=[hunt, _Quickest(seconds)])
    click.echo("\n".join(hunt.lines))


class _Quickest:
    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: self.seconds.get(item.nodeid, 0))


if __name__ == "__main__":
    main()
