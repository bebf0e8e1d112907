"""`python -m recoup`, which is `make run`: the service, or a demo if no key is set."""

import os
import sys
from pathlib import Path

import click

from recoup import __version__
from recoup.config import SETTINGS, Config, read_environment
from recoup.database.connection import connect, is_postgres, release
from recoup.database.migrations import upgrade

GUNICORN = str(Path(sys.executable).with_name("gunicorn"))


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"Settings: {', '.join(SETTINGS)}. `recoup --help` has the commands to operate it.",
)
@click.version_option(__version__, prog_name="recoup", message="%(prog)s %(version)s")
def main() -> None:
    """Serve DELETE /api/tasks, or show a demo of it.

    With TRIGGER_SECRET_KEY it runs the service: gunicorn, on PORT. First it makes or upgrades a
    SQLite database.

    Without TRIGGER_SECRET_KEY it runs a demo, with its own database and a stand-in for
    Trigger.dev. The demo uses PORT and no other setting.

    Settings come from the environment, or else from .env in the current folder. docs/settings.md
    and .env.example say what each one means.
    """
    environ = read_environment()
    if environ.get("TRIGGER_SECRET_KEY"):
        _serve()
    # The service itself doesn't need it.
    from recoup.demo.run import run

    sys.exit(run(GUNICORN, environ.get("PORT") or "8000"))


def _serve() -> None:
    connect(Config.load())
    if not is_postgres():
        upgrade()
        release()
    os.execv(GUNICORN, [GUNICORN])


if __name__ == "__main__":
    main()
