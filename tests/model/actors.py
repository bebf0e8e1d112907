"""Actors: the real deletion, recovery and look at a doubt, one step at a time.

An actor's code runs from its beginning each time. At each step it is told what came of that step,
as long as that is known, and stopped at the first that is new. So an actor is no more than what
it has seen, and may be set forth from any moment, any number of times.
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

from recoup import log
from recoup.database import statements
from recoup.database.built import Statement
from recoup.database.connection import Bound
from recoup.deletion import doubt, guard, marks, recovery, staged
from recoup.deletion.staged import Deleter
from recoup.deletion.sweep import sweep
from recoup.http import deadline
from recoup.http.client import Answer
from recoup.trigger import cancel, route
from recoup.trigger.cancel import TriggerSchedules
from tests.model.state import TASK

DEADLINE_SECONDS = 8.0
# More than a deadline, and more than any wait within one.
LONG = 60.0


class Step(NamedTuple):
    """What an actor is about to do: `how` is `fetch`, `execute`, `GET`, `DELETE` or `wait`.

    `call`: a statement's function and its arguments; `values`: what is asked for.
    """

    how: str
    name: str
    values: tuple[Any, ...] = ()
    call: tuple[Any, ...] = ()


class Seen(NamedTuple):
    """What came of a step: a value, or what raises instead of it; and how long it took."""

    value: Any
    seconds: float = 0.0


class _Stopped(BaseException):
    """There is nothing yet that came of this step."""


class Node:
    """A moment of an actor: what it has seen so far, and its next step or its outcome."""

    def __init__(self, actor: str, before: "Node | None" = None, *seen: Seen) -> None:
        self.actor, self.before = actor, before
        self.seen: tuple[Seen, ...] = (*(before.seen if before else ()), *seen)
        self._later: dict[Seen, Node] = {}
        self.step, self.outcome, self.state = Player(actor, self.seen).play()

    def after(self, seen: Seen) -> "Node":
        """Return the moment when it has seen this too."""
        if seen not in self._later:
            self._later[seen] = Node(self.actor, self, seen)
        return self._later[seen]


class Player:
    """Runs one actor's code on what it has seen, with a clock and tokens of its own."""

    current: "Player"

    def __init__(self, actor: str, seen: tuple[Seen, ...]) -> None:
        self.actor, self._seen = actor, seen
        self._met = self._tokens = 0
        self._clock = 0.0
        self._step: Step | None = None

    def play(self) -> tuple[Step | None, str | None, str | None]:
        """Return its next step, or its outcome and the `state` that its line in the log has."""
        Player.current = self
        deleter = Deleter(_SCHEDULES, DEADLINE_SECONDS)
        deleter.schedules._seen_at = deleter.readiness._good_until = float("inf")
        deleter.schedules._seen_at *= -1
        deleter.readiness._problems = []
        try:
            with log.record("actor") as notes:
                PROGRAMS[self.actor[0]](deleter)
            return None, "done", notes.get("state")
        except _Stopped:
            return self._step, None, notes.get("state")
        except Exception as error:
            return None, type(error).__name__, notes.get("state")

    def meet(self, step: Step) -> Any:
        """Return or raise what came of this step; stop if that isn't known yet."""
        if self._met == len(self._seen):
            self._step = step
            raise _Stopped
        value, seconds = self._seen[self._met]
        self._met += 1
        self._clock += seconds
        if callable(value):
            raise value()
        return value

    def sleep(self, seconds: float) -> None:
        self._clock += seconds

    def monotonic(self) -> float:
        return self._clock

    def uuid4(self) -> str:
        self._tokens += 1
        return f"{self.actor}/{self._tokens}"


_SCHEDULES = TriggerSchedules("http://trigger.invalid", "tr_dev_model")
PROGRAMS = {
    "d": lambda deleter: deleter.delete(TASK, None),
    "r": lambda deleter: recovery.recover(deleter, TASK),
    "l": lambda deleter: doubt.settle(deleter, TASK),
    "s": lambda deleter: list(sweep(deleter)),
}


_REAL = Statement.fetch, Statement.execute, statements.execute_both


def _fetch(statement: Statement, *values: object) -> list[Any]:
    call = (_REAL[0], statement, *values)
    return list(Player.current.meet(Step("fetch", statement._build.__name__, values, call)))


def _execute(statement: Statement, *values: object) -> Any:
    call = (_REAL[1], statement, *values)
    return Player.current.meet(Step("execute", statement._build.__name__, values, call))


def _execute_both(first: Bound, second: Bound) -> Any:
    """Stand in for the one transaction there is: it removes a task."""
    both = tuple((sql, tuple(params)) for sql, params in (first, second))
    return Player.current.meet(Step("execute", "remove_task", both[0][1], (_REAL[2], *both)))


def _send(_self: Any, method: str, path: tuple[str, ...], *_: object, **__: object) -> Answer:
    status, body = Player.current.meet(Step(method, method, path))
    return Answer(status, {}, body)


def install(patch: Any) -> None:
    """Have the real code come to its actor with each step, for the clock and for tokens."""
    patch.setattr(Statement, "fetch", _fetch)
    patch.setattr(Statement, "execute", _execute)
    patch.setattr(statements, "execute_both", _execute_both)
    patch.setattr(route.SchedulesRoute, "_send", _send)
    # Whether the database would let a deletion be finished doesn't change here.
    patch.setattr("recoup.database.readiness.Readiness.refresh", lambda _: None)
    clock = SimpleNamespace(
        monotonic=lambda: Player.current.monotonic(),
        time=lambda: 0.0,
        # A pause between two attempts changes nothing for others; a poll does wait for them.
        sleep=lambda seconds: Player.current.sleep(seconds),
    )
    for module in (cancel, route, deadline, guard):
        patch.setattr(module, "time", clock)
    waiting = SimpleNamespace(sleep=lambda _: Player.current.meet(Step("wait", "wait")))
    patch.setattr(staged, "time", waiting)
    patch.setattr(route, "random", SimpleNamespace(uniform=max))
    for module in (marks, statements, guard):
        patch.setattr(module, "uuid4", lambda: Player.current.uuid4())
    for logger in (log.logger, log._audit_logger):
        patch.setattr(logger, "disabled", True)
