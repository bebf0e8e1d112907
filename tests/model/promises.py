"""What has to hold: the promises of docs/reliability.md, by their numbers there."""

from recoup.database.connection import AnswerLost
from tests.model.actors import Node
from tests.model.state import FOREIGN, Broken, State, is_own

# This call has changed nothing.
NOTHING_CHANGED = ("DeletionRolledBack", "DeletionPending", "DatabaseFailed", "AnswerLost")


def check(state: State) -> None:
    """Hold at every moment.

    Raises:
        Broken: it doesn't.
    """
    row, mark, orphans, _ = state.tables
    killed = {id for id, by in state.killed if not by}
    if row and not mark and state.tables.named in killed and not any(map(is_own, state.alive)):
        raise Broken("2: the row is kept, its schedule is cancelled, and no mark says so")
    if not row and not orphans and state.owned & state.alive:
        raise Broken("3: a schedule is alive without its row")
    if FOREIGN not in state.alive:
        raise Broken("6: another task's schedule was cancelled")


def judge(node: Node, state: State) -> None:
    """Hold what an actor says against the state in which it says it.

    Raises:
        Broken: it is not true.
    """
    if state.remade:
        return  # it may speak of the row before
    row, mark, orphans, _ = state.tables
    asked = node.actor[0] == "d"
    if (asked and node.outcome == "done") or node.state == "deleted":
        if row:
            raise Broken("1: deleted, and the row is there")
        if state.owned & state.alive and not (state.taken and orphans):
            raise Broken("1: deleted, and a schedule is alive")
    if node.outcome == "TaskNotFound" and row:
        raise Broken("4: not found, and the row is there")
    if asked:
        _check_unchanged(node, state)
    unknown = callable(node.seen[-1].value) or any(seen.value is AnswerLost for seen in node.seen)
    may_be_marked = mark or state.late or unknown
    if node.outcome == "DeletionUnfinished" and row and not may_be_marked:
        raise Broken("2: to be completed later, and there is no mark")


def _check_unchanged(node: Node, state: State) -> None:
    changed = any(by == node.actor for _, by in state.killed)
    if (node.outcome in NOTHING_CHANGED or node.state == "kept") and changed:
        raise Broken(f"2: {node.outcome}, and this call has cancelled a schedule")
    mark = state.tables.mark
    ours = mark and mark.token.startswith(f"{node.actor}/")
    if node.outcome in NOTHING_CHANGED and ours and not mark.doubt:
        raise Broken(f"2: {node.outcome}, and the mark is this call's")


def check_settled(state: State) -> None:
    """Hold when time has passed, and sweeps have been over what was left.

    Raises:
        Broken: something is left.
    """
    row, mark, orphans, collector = state.tables
    if mark or orphans or (collector and collector.leased):
        raise Broken("a mark, a doubt or a record is left for ever")
    if not row and (state.owned | state.strays) & state.alive:
        raise Broken("3: a schedule is left without its row for ever")


def check_gone(outcome: str | None, state: State) -> None:
    """Hold when the deletion was asked for once more, and nothing failed.

    Raises:
        Broken: it has not come to an end.
    """
    if outcome not in ("done", "TaskNotFound") or state.tables.row or state.tables.mark:
        raise Broken(f"4: another deletion does not converge: {outcome}")
    if state.owned & state.alive:
        raise Broken("4: a schedule is alive after another deletion")
