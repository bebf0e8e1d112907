"""Likely mistakes in an environment, though each value by itself is valid."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from recoup.config.kinds import PublicKey

# A name that begins with one of these is most likely meant for us.
PREFIXES = ("RECOUP_", "TRIGGER_", "PRIVY_", "DATABASE_", "WEB_")
# The test suite's.
OTHERS = re.compile("RECOUP_(TEST|REQUIRE)_")
# How alike two names must be, if nothing else suggests that one is a misspelling.
ALIKE = 0.9
SUPABASE = ("SUPABASE_URL", "SUPABASE_KEY")

Environment = Mapping[str, str | None]
Settings = Mapping[str, Any]


def find_problems(present: Environment, settings: Settings) -> dict[str, list[str]]:
    """Return, by name, what is certainly a mistake."""
    problems = {
        name: [text]
        for name, kind in settings.items()
        if not isinstance(kind, PublicKey) and (text := _find_wrapping(present.get(name) or ""))
    }
    if "DATABASE_URL" not in present and (names := [name for name in SUPABASE if name in present]):
        problems["DATABASE_URL"] = [
            f"is required when {names[0]} is set: the address of that database, postgresql://…, "
            "which Supabase shows under Connect."
        ]
    return problems


def _find_wrapping(value: str) -> str | None:
    if value != value.strip():
        return "has spaces at an end: remove them."
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return "is in quotes: remove them (`docker --env-file` keeps them)."
    return None


def find_misspelt(
    present: Environment, settings: Settings, problems: Mapping[str, list[str]]
) -> dict[str, list[str]]:
    """Return the problems of missing settings, each with the name that is perhaps a misspelling."""
    unknown = {name: name for name in present if name not in settings}
    return {
        name: [*problems[name], f"{like[0]} is set: is it meant for this?"]
        for name in problems
        if name not in present and (like := difflib.get_close_matches(name, unknown, 1, ALIKE))
    }


def find_warnings(environ: Environment, settings: Settings) -> Iterator[str]:
    """Yield a sentence for each name that looks like a setting but is none."""
    for name in sorted(name for name, value in environ.items() if value):
        if name in settings or OTHERS.match(name):
            continue
        ours = name.upper().startswith(PREFIXES)
        like = difflib.get_close_matches(name.upper(), settings, 1, 0.75 if ours else ALIKE)
        if ours or like:
            meant = f"; is {like[0]} meant?" if like else "."
            yield f"{name} is not a setting of this service{meant}"
