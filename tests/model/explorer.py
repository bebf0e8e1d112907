"""Every order in which a few actors, faults, time and another program can meet.

From each state all that may come next is tried, breadth first, so that the trace that is found
when a promise breaks is among the shortest.
"""

from collections import deque
from functools import partial
from typing import Any, NamedTuple

from tests.model import promises
from tests.model.actors import Node, Seen, install
from tests.model.moves import World
from tests.model.state import FOREIGN, TASK, Broken, State, Tables, is_own, make_row, pass_time
from tests.model.world import KEY, Database, Trigger


class Scope(NamedTuple):
    """What may happen, and how often.

    `actors`: a letter each, see `actors.PROGRAMS`; `others`: what another program does, at any
    moment, once each; `leases` and `ages`: how often a lease ends, and a doubt or a record gets
    old; `named` and `alive`: what the row names and Trigger.dev has at first.
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


class Explorer:
    """Explores scopes, with one database in `folder`; `patch` is pytest's monkeypatch."""

    def __init__(self, folder: Any, patch: Any) -> None:
        self.database, self.trigger = Database(folder, patch), Trigger()
        self._world = World(self.database, self.trigger)
        install(patch)
        self._first_nodes: dict[str, Node] = {}
        self._settled: set[Any] = set()

    def explore(self, scope: Scope) -> Found:
        """Try all that can happen, up to what first breaks a promise."""
        self.trigger.key = scope.key
        first = self._begin(scope)
        parents: dict[State, State | None] = {first: None}
        waiting = deque([first])
        while waiting:
            state, label = waiting.popleft(), "the end"
            try:
                self._check_end(state)
                for label, move in self._world.moves(state):  # noqa: B007
                    after = move()
                    if after not in parents:
                        promises.check(after)
                        parents[after] = state
                        waiting.append(after)
            except Broken as broken:
                return Found(len(parents), str(broken), (*self._trace(parents, state), label))
        return Found(len(parents))

    def _begin(self, scope: Scope) -> State:
        actors = tuple(self._node(f"{kind}{n}") for n, kind in enumerate(scope.actors))
        owned = frozenset(filter(is_own, scope.alive))
        budgets = scope.faults, scope.crashes, scope.leases, scope.ages
        tables = Tables(make_row(TASK, scope.named))
        return State(tables, actors, owned | {FOREIGN}, owned, scope.others, *budgets)

    def _node(self, actor: str) -> Node:
        if actor not in self._first_nodes:
            self._first_nodes[actor] = Node(actor)
        return self._first_nodes[actor]

    def _trace(self, parents: dict[State, State | None], state: State) -> list[str]:
        before = parents[state]
        if before is None:
            return []
        label = next(label for label, move in self._world.moves(before) if move() == state)
        return [*self._trace(parents, before), label]

    def _check_end(self, state: State) -> None:
        """Where no actor works any more, let time pass, and see all settle by itself."""
        what = state._replace(faults=0, crashes=0, leases=0, ages=0, others=(), flying=(), late=())
        if any(state.actors) or what in self._settled:
            return
        self._settled.add(what)
        self.trigger.key, key = KEY, self.trigger.key
        # The first may leave another look, at a task that named no schedule, for the second.
        for _ in range(2):
            _, what = self._alone("s", what._replace(tables=pass_time(what.tables)))
            promises.check(what)
        promises.check_settled(what)
        promises.check_gone(*self._alone("d", what))
        self.trigger.key = key

    def _alone(self, actor: str, state: State) -> tuple[str | None, State]:
        """Let an actor work to its end with nothing in its way; return its outcome."""
        node = self._node(actor)
        while node.step:
            node, state = self._world.do(state, node.step, partial(_see, node))
        return node.outcome, state


def _see(node: Node, state: State, seen: Seen) -> tuple[Node, State]:
    return node.after(seen), state
