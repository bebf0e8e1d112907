"""Explore the large scopes, or those whose line contains an argument: some ten minutes."""

import gc
import sys
import tempfile
import time
from multiprocessing import Pool

import click
import pytest

from tests.model.explorer import Explorer, Found, Scope
from tests.model.scopes import LARGE


def explore(scope: Scope) -> tuple[Scope, Found, float]:
    """Explore one scope, and measure how many seconds it takes."""
    gc.disable()  # there is nothing to collect, and more and more to look through
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        explorer = Explorer(folder, patch)
        found = explorer.explore(scope)
        explorer.database.close()
    return scope, found, time.monotonic() - began


def main(words: list[str]) -> int:
    """Print a line for each scope, and the trace to what breaks; return how many do."""
    scopes = [scope for scope in LARGE if all(word in str(scope) for word in words)]
    states = violations = 0
    with Pool(maxtasksperchild=1) as pool:
        for scope, found, seconds in pool.imap_unordered(explore, scopes, chunksize=1):
            click.echo(f"{found.states:,} states, {seconds:.0f} s: {scope}")
            if found.broken:
                click.echo("\n    ".join([f"  {found.broken}", *found.trace]))
            states, violations = states + found.states, violations + bool(found.broken)
    click.echo(f"{states:,} states, {violations} violations")
    return violations


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
