"""What `recoup doctor` finds, and how it is shown."""

from typing import Literal, NamedTuple

import click

COLOURS = {"ok": "green", "note": "yellow", "failed": "red"}


class Finding(NamedTuple):
    """What a check found; a note is information, and nothing is wrong."""

    verdict: Literal["ok", "note", "failed"]
    subject: str
    text: str


def show(finding: Finding) -> None:
    """Print a line."""
    verdict = click.style(finding.verdict.ljust(6), fg=COLOURS[finding.verdict])
    click.echo(f"{verdict}  {finding.subject}: {finding.text}")
