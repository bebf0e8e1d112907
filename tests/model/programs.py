"""What another program does to a task meanwhile, each in one step."""

from collections.abc import Callable

from tests.model.state import FOREIGN, TASK, State, is_keyed, make_row
from tests.model.world import Database


def _name(database: Database, state: State, schedule: str | None) -> State:
    """Have the row, if it is there, name a schedule, which is then what has to go with it."""
    sql = "UPDATE scheduled_actions SET trigger_schedule_id = ? WHERE id = ?"
    tables = database.change(state.tables, sql, schedule, TASK)
    if not tables.row:
        return state
    owned = {*filter(is_keyed, state.owned), schedule} - {None, FOREIGN}
    return state._replace(tables=tables, owned=frozenset(owned))


def _make(state: State, schedule: str) -> State:
    killed = frozenset((id, by) for id, by in state.killed if id != schedule)
    return state._replace(alive=state.alive | {schedule}, killed=killed)


def names_a_new_schedule(database: Database, state: State) -> State:
    """Make one under a key of its own."""
    return _name(database, _make(state, "sched_host"), "sched_host")


def upserts(database: Database, state: State) -> State:
    """Have Trigger.dev make a schedule under the task's key, unless there is one; name it."""
    found = next(filter(is_keyed, sorted(state.alive)), None)
    state = state if found else _make(state, "sched_again")
    return _name(database, state, found or "sched_again")


def replaces(database: Database, state: State) -> State:
    """Delete the schedule that the row names, and make another under the task's key."""
    return upserts(database, state._replace(alive=state.alive - {state.tables.named}))


def makes_a_schedule(_database: Database, state: State) -> State:
    """Make one under the task's key, which is named nowhere yet.

    For a row that named none it is waited for, though only for a minute.
    """
    if any(map(is_keyed, state.alive)):
        return state
    young = any(not one.due and not one.attempts for one in state.tables.orphans)
    waited_for = not state.tables.named and (state.tables.row or young)
    strays = state.strays | {"sched_stray"} if waited_for else state.strays
    return _make(state, "sched_stray")._replace(strays=strays)


def unnames(database: Database, state: State) -> State:
    """Forget the schedule."""
    return _name(database, state, None)


def names_anothers(database: Database, state: State) -> State:
    """Name a schedule of another task."""
    return _name(database, state, FOREIGN)


def deletes_the_schedule(_database: Database, state: State) -> State:
    """Leave the row as it is."""
    return state._replace(alive=state.alive - {state.tables.named})


def disables(database: Database, state: State) -> State:
    """Have the task not run for now."""
    sql = "UPDATE scheduled_actions SET enabled = 0 WHERE id = ?"
    return state._replace(tables=database.change(state.tables, sql, TASK))


def deletes_the_row(database: Database, state: State) -> State:
    """Leave the schedule to whoever finds it."""
    sql = "DELETE FROM scheduled_actions WHERE id = ?"
    tables = database.change(state.tables, sql, TASK)
    return state._replace(tables=tables, taken=state.taken or bool(state.tables.row))


def makes_the_row_again(database: Database, state: State) -> State:
    """Put back a row that is gone, with a new schedule under the task's key.

    Not while a request of ours is under way, which would act on that: it has the same key.
    """
    asking = any(node and node.step.how == "DELETE" for node in state.actors)
    if state.tables.row or state.flying or asking:
        return state
    state = state._replace(tables=state.tables._replace(row=make_row(TASK, None)), remade=True)
    return upserts(database, state)


PROGRAMS: dict[str, Callable[[Database, State], State]] = {
    program.__name__: program
    for program in (
        names_a_new_schedule, upserts, replaces, makes_a_schedule, unnames, names_anothers,
        deletes_the_schedule, disables, deletes_the_row, makes_the_row_again,
    )
}  # fmt: skip
