"""Drift, as text for a person or JSON for a program."""

import json

import click

from recoup.reconcile.drift import Drift

# What is shown of a mismatch.
_NAMES = ("schedule_id", "task_id")
# What a person does about what --fix leaves. Upstream makes a schedule for an enabled task that
# names none; where it names one that is gone, the new one would get a key that isn't the task's.
_ADVICE = {
    "dead_tasks": """\
A dead task never runs. Delete it (recoup tasks delete TASK), or have its
schedule made again: set trigger_schedule_id in its row to NULL, then PATCH
/api/tasks with its id, "enabled": true and its "timezone", which is lost.
""",
    "duplicates": """\
A duplicate makes its task run twice. Delete that schedule in Trigger.dev's
dashboard. If all of a task's schedules are listed, keep one of them.
""",
}


def as_json(drift: Drift) -> str:
    """Return one object on one line; names without a value are left out."""
    known = {
        kind: [
            {name: id_ for name, id_ in zip(_NAMES, m, strict=False) if id_ is not None}
            for m in mismatches
        ]
        for kind, mismatches in drift.items()
    }
    return json.dumps(known)


def as_table(drift: Drift, count: int) -> str:
    """Return a table of the mismatches, advice, and a last line that counts them."""
    lines = [
        f"{click.style(_words(kind, 1).ljust(9), fg='yellow')}  "
        f"{_text(m.schedule_id, 27)}  {_text(m.task_id)}"
        for kind, mismatches in drift.items()
        for m in mismatches
    ]
    heading = [f"{'DRIFT':9}  {'SCHEDULE':27}  TASK"] if lines else []
    counts = count_kinds(drift) or "No drift"
    compared = f"{count} {_words('schedules', count)} compared."
    advice = [text for kind, text in _ADVICE.items() if drift[kind]]
    blank = [""] if advice else []
    return "\n".join([*heading, *lines, *blank, *advice, f"{counts}; {compared}"])


def count_kinds(drift: Drift) -> str:
    """Return the counts of the kinds that occur."""
    counts = {kind: len(mismatches) for kind, mismatches in drift.items() if mismatches}
    return ", ".join(f"{count} {_words(kind, count)}" for kind, count in counts.items())


def _words(plural: str, count: int) -> str:
    """Return a kind's name as people write it, singular or plural."""
    return (plural.removesuffix("s") if count == 1 else plural).replace("_", " ")


def _text(value: str | None, width: int = 0) -> str:
    """Return a column's text; it is escaped where not ASCII, because anybody may have set it."""
    return (value or "-").encode("unicode_escape").decode().ljust(width)
