"""Every order in which a few actors, faults, time and another program can meet.

From each state all that may come next is tried, breadth first, so that the first trace that
breaks a promise is among the shortest.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import requests
import urllib3

from recoup.database.connection import AnswerLost, DatabaseFailed
from tests.model import promises
from tests.model.actors import LONG, Node, Seen, Step, install
from tests.model.programs import PROGRAMS
from tests.model.world import (
    KEY,
    TASK,
    Broken,
    Database,
    State,
    Tables,
    Trigger,
    is_own,
    make_row,
)

Moves = Iterator[tuple[str, Callable[[], State]]]
Go = Callable[[State, Seen], State]


class Scope(NamedTuple):
    """What may happen, and how often.

    `actors`: a letter each, see `actors.PROGRAMS`; `others`: what another program does, at any
    moment, once each; `leases` and `ages`: how often a lease ends, and a doubt gets old;
    `named` and `alive`: what the row names and Trigger.dev has at first.
    """

    actors: str
    others: tuple[str, ...] = ()
    faults: int = 0
    crashes: int = 0
    leases: int = 1
    ages: int = 1
    named: str | None = "sched_first"
    alive: tuple[str, ...] = ("sched_first",)
    key: str = KEY


class Found(NamedTuple):
    """How many states there are; and which promise broke, with the trace to it."""

    states: int
    broken: str | None = None
    trace: tuple[str, ...] = ()


def _no_connection() -> Exception:
    reason = urllib3.exceptions.NewConnectionError(None, "refused")
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, "", reason))


# What a request may meet besides an answer. The first acts all the same, the last at any moment
# from then on, or never.
LOST = Seen((422, b'{"error": "Internal Server Error"}'))
REFUSED = Seen((401, b'{"error": "Invalid or Missing API key"}'))
MISREAD = Seen((200, b"<html>maintenance</html>"))
UNCONNECTED = Seen(_no_connection)
UNANSWERED = Seen(requests.ReadTimeout)


class Explorer:
    """Explores scopes, with one database in `folder`; `patch` is pytest's monkeypatch."""

    def __init__(self, folder: Any, patch: Any) -> None:
        self.database, self.trigger = Database(folder, patch), Trigger()
        install(patch)
        self._roots: dict[str, Node] = {}
        self._settled: set[Any] = set()

    def explore(self, scope: Scope) -> Found:
        """Try all that can happen, up to what first breaks a promise."""
        self.trigger.key = scope.key
        self._settled.clear()
        first = self._begin(scope)
        parents: dict[State, State | None] = {first: None}
        waiting = deque([first])
        while waiting:
            state, label = waiting.popleft(), ""
            try:
                for label, move in self._moves(state):  # noqa: B007  # the trace ends with it
                    after = move()
                    if after not in parents:
                        promises.check(after)
                        parents[after] = state
                        waiting.append(after)
                label = "what is left settles"
                self._check_end(state)
            except Broken as broken:
                trace = (*self._trace(parents, state), label)
                return Found(len(parents), str(broken), trace)
        return Found(len(parents))

    def _begin(self, scope: Scope) -> State:
        actors = tuple(self._root(f"{kind}{n}") for n, kind in enumerate(scope.actors))
        alive = frozenset({*scope.alive, "sched_other"})
        owned = frozenset(filter(is_own, alive))
        tables = Tables(make_row(TASK, scope.named), None)
        budgets = scope.faults, scope.crashes, scope.leases, scope.ages
        return State(tables, alive, owned, actors, scope.others, *budgets)

    def _root(self, actor: str) -> Node:
        if actor not in self._roots:
            self._roots[actor] = Node(actor)
        return self._roots[actor]

    def _trace(self, parents: dict[State, State | None], state: State) -> list[str]:
        before = parents[state]
        if before is None:
            return []
        label = next(label for label, move in self._moves(before) if move() == state)
        return [*self._trace(parents, before), label]

    # What may come next

    def _moves(self, state: State) -> Moves:
        for place, node in enumerate(state.actors):
            if node and not _is_later(state, place, node):
                yield from self._turn(state, place, node)
        for n, (key, by) in enumerate(state.flying):
            rest = state._replace(flying=_without(state.flying, n))
            yield f"a late DELETE {key} acts", partial(self._delete, rest, key, by)
        for n, step in enumerate(state.late):
            rest = state._replace(late=_without(state.late, n))
            yield f"a late {step.name} acts", partial(self._run, rest, step, lambda s, _: s)
        for n, name in enumerate(state.others):
            rest = state._replace(others=_without(state.others, n))
            yield f"another program {name}", partial(PROGRAMS[name], self.database, rest)
        yield from self._time(state)

    def _time(self, state: State) -> Moves:
        mark = state.tables.mark
        if mark and mark.leased and state.leases:
            over = state.tables._replace(mark=mark._replace(leased=False))
            yield "the lease ends", partial(state._replace, tables=over, leases=state.leases - 1)
        if mark and mark.doubt == "young" and state.ages:
            # What was sent before has acted by now, or never will.
            old = state.tables._replace(mark=mark._replace(doubt="old"))
            ages = state.ages - 1
            yield "the doubt gets old", partial(state._replace, tables=old, flying=(), ages=ages)

    def _turn(self, state: State, place: int, node: Node) -> Moves:
        """Let one actor do its step, well or not, or die."""
        step, go = node.step, partial(_go, place, node)
        name = f"{node.actor}: {step.name}"
        if step.how == "wait":
            back = _put(state, place, node.before)
            yield f"{name}s and asks again", lambda: back
            yield f"{name}s for too long", partial(go, state, Seen(None, LONG))
        elif step.statement:
            yield name, partial(self._run, state, step, go)
        else:
            for seconds in (0.0, LONG):
                yield (
                    f"{name} in {seconds:.0f} s",
                    partial(self._ask, state, step, go, node.actor, seconds),
                )
        if state.faults and step.how != "wait":
            failing = state._replace(faults=state.faults - 1)
            faults = self._bad_statement if step.statement else self._bad_request
            for fault, move in faults(failing, node, go):
                yield f"{name} {fault}", move
        if state.crashes and node.seen:
            yield f"{name} and dies", partial(_die, state, place, node)

    def _bad_statement(self, state: State, node: Node, go: Go) -> Moves:
        yield "fails", partial(go, state, Seen(DatabaseFailed))
        if node.step.how == "execute":
            lost = state._replace(late=(*state.late, node.step))
            yield "loses its answer", partial(go, lost, Seen(AnswerLost))

    def _bad_request(self, state: State, node: Node, go: Go) -> Moves:
        [key] = node.step.values
        yield "is refused", partial(go, state, REFUSED)
        for seconds in (0.0, LONG):
            after = f" after {seconds:.0f} s"
            yield "gets other words" + after, partial(go, state, MISREAD._replace(seconds=seconds))
            if node.step.how == "DELETE":
                bad = UNCONNECTED._replace(seconds=seconds)
                yield "finds no connection" + after, partial(go, state, bad)
                flying = state._replace(flying=(*state.flying, (key, node.actor)))
                bad = UNANSWERED._replace(seconds=seconds)
                yield "gets no answer" + after, partial(go, flying, bad)
                bad = LOST._replace(seconds=seconds)
                yield "acts and gets 422" + after, partial(self._act, state, node, go, bad)

    # What comes of it

    def _run(self, state: State, step: Step, go: Go) -> State:
        value, tables = self.database.run(state.tables, step)
        return go(state._replace(tables=tables), Seen(value))

    def _ask(self, state: State, step: Step, go: Go, by: str = "", seconds: float = 0.0) -> State:
        said, alive = self.trigger.answer(state.alive, step.how, *step.values)
        killed = state.killed | {(id, by) for id in state.alive - alive}
        return go(state._replace(alive=alive, killed=killed), Seen(said, seconds))

    def _act(self, state: State, node: Node, go: Go, seen: Seen) -> State:
        [key] = node.step.values
        return go(self._delete(state, key, node.actor), seen)

    def _delete(self, state: State, key: str, by: str) -> State:
        _, alive = self.trigger.answer(state.alive, "DELETE", key)
        killed = state.killed | {(id, by) for id in state.alive - alive}
        return state._replace(alive=alive, killed=killed)

    # The end

    def _check_end(self, state: State) -> None:
        """Where no actor works any more, let time pass, and see all settle by itself."""
        what = state.tables, state.alive, state.owned
        if any(state.actors) or what in self._settled:
            return
        self._settled.add(what)
        self.trigger.key, key = KEY, self.trigger.key
        mark = state.tables.mark
        passed = mark and mark._replace(leased=False, doubt=mark.doubt and "old")
        state = state._replace(tables=state.tables._replace(mark=passed))
        _, state = self._alone("s", state)
        promises.check(state)
        promises.check_settled(state)
        outcome, state = self._alone("d", state)
        promises.check_gone(outcome, state)
        self.trigger.key = key

    def _alone(self, actor: str, state: State) -> tuple[str | None, State]:
        """Let an actor work to its end, well and undisturbed; return its outcome."""
        node = self._root(actor)
        while node.step:
            do = self._run if node.step.statement else self._ask
            node, state = do(state, node.step, partial(_see, node))
        return node.outcome, state


def _see(node: Node, state: State, seen: Seen) -> tuple[Node, State]:
    return node.after(seen), state


def _is_later(state: State, place: int, node: Node) -> bool:
    """Whether an actor of its kind, which is no other, has to begin before it."""
    before = state.actors[place - 1] if place else None
    alike = before is not None and before.actor[0] == node.actor[0]
    return alike and not node.seen and not before.seen


def _without(items: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    return items[:n] + items[n + 1 :]


def _put(state: State, place: int, node: Node | None) -> State:
    actors = (*state.actors[:place], node, *state.actors[place + 1 :])
    return state._replace(actors=actors)


def _go(place: int, node: Node, state: State, seen: Seen) -> State:
    """Let an actor see what came of its step."""
    after = node.after(seen)
    if after.step:
        return _put(state, place, after)
    promises.judge(after, state)
    return _forget(_put(state, place, None), after.actor)


def _die(state: State, place: int, node: Node) -> State:
    """End an actor in the middle of its step, which may act yet."""
    step = node.step
    if step.how == "DELETE":
        state = state._replace(flying=(*state.flying, (step.values[0], node.actor)))
    elif step.how == "execute":
        state = state._replace(late=(*state.late, step))
    return _forget(_put(state, place, None), node.actor)


def _forget(state: State, actor: str) -> State:
    """Have nobody to answer any more for what an actor did."""
    killed = frozenset((id, by if by != actor else "") for id, by in state.killed)
    flying = tuple(sorted((key, by if by != actor else "") for key, by in state.flying))
    return state._replace(killed=killed, flying=flying)
