"""`recoup doctor --rehearse`: does Trigger.dev answer as deletions rely on?"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from recoup.commands.findings import Finding, show
from recoup.config import Config
from recoup.trigger.rehearsal import Rehearsal


def rehearse_deletions(config: Config) -> bool:
    """Make and cancel schedules at Trigger.dev, showing each step; return whether all went well."""
    rehearsal = Rehearsal.of(
        config,
        task=config.trigger_task_identifier,
        call_seconds=config.trigger_deadline_seconds,
        tell=lambda verdict, text: show(Finding(verdict, "rehearsal", text)),
    )
    with _ending_as_interrupt():
        return rehearsal.run()


@contextmanager
def _ending_as_interrupt() -> Iterator[None]:
    """Treat signals that end the process like Ctrl-C, which leaves time to clear up."""
    signals = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
