"""What may come next from a state: a step of an actor, well or not, or its death; what was given
up acts late; another program; time.

Each is a line for the trace, and what makes the next state of it.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import requests
import urllib3

from recoup.database.connection import AnswerLost, DatabaseFailed
from tests.model import promises
from tests.model.actors import LONG, Node, Seen, Step
from tests.model.programs import PROGRAMS
from tests.model.state import State
from tests.model.world import Database, Trigger

Moves = Iterator[tuple[str, Callable[[], State]]]
# Goes on with what came of a step.
Go = Callable[[State, Seen], Any]


def _no_connection() -> Exception:
    reason = urllib3.exceptions.NewConnectionError(None, "refused")
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, "", reason))


REFUSED = (401, b'{"error": "Invalid or Missing API key"}')
MISREAD = (200, b"<html>maintenance</html>")
CONFUSED = (422, b'{"error": "Internal Server Error"}')


class World:
    """Makes the moves in one database, with one Trigger.dev."""

    def __init__(self, database: Database, trigger: Trigger) -> None:
        self.database, self.trigger = database, trigger

    def moves(self, state: State) -> Moves:
        """Return all that may come next."""
        for place, node in enumerate(state.actors):
            if node and not _has_to_wait(state, place, node):
                yield from self._turn(state, place, node)
        for n, (key, by) in enumerate(state.flying):
            rest = state._replace(flying=_without(state.flying, n))
            yield f"a late DELETE {key} acts", partial(self._cancel, rest, key, by)
        for n, step in enumerate(state.late):
            rest = state._replace(late=_without(state.late, n))
            yield f"a late {step.name} acts", partial(self._run, rest, step, lambda state, _: state)
        for n, name in enumerate(state.others):
            rest = state._replace(others=_without(state.others, n))
            yield f"another program {name}", partial(PROGRAMS[name], self.database, rest)
        yield from _time(state)

    def do(self, state: State, step: Step, go: Go, by: str = "", seconds: float = 0.0) -> Any:
        """Do a statement or a request, with nothing in its way."""
        if step.call:
            return self._run(state, step, go)
        said, alive = self.trigger.answer(state.alive, step.how, *step.values)
        return go(_killed(state, alive, by), Seen(said, seconds))

    def _run(self, state: State, step: Step, go: Go) -> Any:
        value, tables = self.database.run(state.tables, step)
        return go(state._replace(tables=tables), Seen(value))

    def _cancel(self, state: State, key: str, by: str) -> State:
        _, alive = self.trigger.answer(state.alive, "DELETE", key)
        return _killed(state, alive, by)

    def _turn(self, state: State, place: int, node: Node) -> Moves:
        step, go = node.step, partial(_go, place, node)
        name = " ".join((f"{node.actor}: {step.name}", *([] if step.call else step.values)))
        if step.how == "wait":
            again = _put(state, place, node.before)
            yield f"{name}s, and asks again", lambda: again
            yield f"{name}s for too long", partial(go, state, Seen(None, LONG))
            return
        for seconds in (0.0,) if step.call else (0.0, LONG):
            slowly = ", slowly" if seconds else ""
            yield name + slowly, partial(self.do, state, step, go, node.actor, seconds)
        if state.faults:
            failing = state._replace(faults=state.faults - 1)
            for fault, move in self._faults(failing, node, go):
                yield f"{name} {fault}", move
        if state.crashes and node.seen:
            yield f"{name} and dies", partial(_die, state, place, node)

    def _faults(self, state: State, node: Node, go: Go) -> Moves:
        step = node.step
        if step.call:
            yield "fails", partial(go, state, Seen(DatabaseFailed))
        else:
            yield "is refused", partial(go, state, Seen(REFUSED))
            yield from self._bad_answers(state, node, go)
        if step.how == "execute":
            late = state._replace(late=(*state.late, step))
            yield "loses its answer", partial(go, late, Seen(AnswerLost))

    def _bad_answers(self, state: State, node: Node, go: Go) -> Moves:
        """What is tried again: with time left, or with none."""
        [key] = node.step.values
        for seconds in (0.0, LONG):
            end = ", slowly" if seconds else ""
            yield f"gets other words{end}", partial(go, state, Seen(MISREAD, seconds))
            if node.step.how != "DELETE":
                continue
            yield f"finds no connection{end}", partial(go, state, Seen(_no_connection, seconds))
            flying = state._replace(flying=(*state.flying, (key, node.actor)))
            yield f"gets no answer{end}", partial(go, flying, Seen(requests.ReadTimeout, seconds))
            confused = partial(self._confuse, state, node, go, Seen(CONFUSED, seconds))
            yield f"acts, and gets a 422{end}", confused

    def _confuse(self, state: State, node: Node, go: Go, seen: Seen) -> State:
        [key] = node.step.values
        return go(self._cancel(state, key, node.actor), seen)


def _time(state: State) -> Moves:
    mark, collector, orphans = state.tables.mark, state.tables.collector, state.tables.orphans
    if state.leases:
        less = partial(state._replace, leases=state.leases - 1)
        if mark and mark.leased:
            over = state.tables._replace(mark=mark._replace(leased=False))
            yield "the lease ends", partial(less, tables=over)
        if collector and collector.leased:
            over = state.tables._replace(collector=collector._replace(leased=False))
            yield "the collector's lease ends", partial(less, tables=over)
    if state.ages:
        less = partial(state._replace, ages=state.ages - 1)
        if mark and mark.doubt == "young":
            # What was sent before has acted by now, or never will.
            old = state.tables._replace(mark=mark._replace(doubt="old"))
            yield "the doubt gets old", partial(less, tables=old, flying=())
        # No statement takes a minute.
        under_way = (*(node.step for node in state.actors if node), *state.late)
        deleting = any(step.name == "remove_task" for step in under_way)
        if not deleting and not all(orphan.due for orphan in orphans):
            due = tuple(orphan._replace(due=True) for orphan in orphans)
            yield "records get due", partial(less, tables=state.tables._replace(orphans=due))


def _has_to_wait(state: State, place: int, node: Node) -> bool:
    """Whether another actor of its kind, which is as good, is to begin before it."""
    before = state.actors[place - 1] if place else None
    return bool(before and before.actor[0] == node.actor[0] and not before.seen)


def _without(items: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    return items[:n] + items[n + 1 :]


def _put(state: State, place: int, node: Node | None) -> State:
    actors = (*state.actors[:place], node, *state.actors[place + 1 :])
    return state._replace(actors=actors)


def _killed(state: State, alive: frozenset[str], by: str) -> State:
    killed = state.killed | {(id, by) for id in state.alive - alive}
    return state._replace(alive=alive, killed=killed)


def _go(place: int, node: Node, state: State, seen: Seen) -> State:
    """Let an actor see what came of its step; hold it to its word if that was the last."""
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
    """Have nobody answer any more for what an actor did."""
    killed = frozenset((id, by if by != actor else "") for id, by in state.killed)
    flying = tuple(sorted((key, by if by != actor else "") for key, by in state.flying))
    return state._replace(killed=killed, flying=flying)
