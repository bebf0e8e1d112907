"""`python -m recoup`, which is `make run`: the service, or a demo where no key is set."""

import os
import sys
from pathlib import Path

from click import ClickException

from recoup.config import Config, read_environment
from recoup.database.connection import connect, is_postgres, release
from recoup.database.migrations import upgrade

GUNICORN = str(Path(sys.executable).with_name("gunicorn"))


def main() -> None:
    """Serve what the environment says; without `TRIGGER_SECRET_KEY`, a demo."""
    try:
        environ = read_environment()
        if environ.get("TRIGGER_SECRET_KEY"):
            _serve()
        # Not imported by a server that has work to do.
        from recoup.demo.run import run

        sys.exit(run(GUNICORN, environ.get("PORT") or "8000"))
    except ClickException as error:
        error.show()
        sys.exit(1)


def _serve() -> None:
    connect(Config.load())
    if not is_postgres():
        upgrade()
        release()
    os.execv(GUNICORN, [GUNICORN])


if __name__ == "__main__":
    main()
