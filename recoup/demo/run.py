"""The demo: the real service on a database of its own, with a stand-in for Trigger.dev.

Nothing that is configured is used or touched, and nothing is left when it ends.
"""

import signal
from tempfile import TemporaryDirectory
from typing import NoReturn

from recoup.config import SETTINGS, Config
from recoup.demo.data import fill
from recoup.demo.introduction import database_path, introduce, write_command
from recoup.demo.outage import FailingStandIn
from recoup.demo.server import check_free, serve
from recoup.demo.standin import StandIn


def run(gunicorn: str, given_port: str) -> int:
    """Run the demo on 127.0.0.1 until Ctrl-C or the terminal's end; return the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    with TemporaryDirectory(prefix="recoup-demo-") as folder, FailingStandIn() as standin:
        environ = _environment(folder, standin, given_port)
        config = Config.load(environ)
        port = config.port or 8000
        check_free(port)
        fill(config, standin)
        write_command(folder, environ)
        try:
            with serve(gunicorn, port, folder, environ) as server:
                print(introduce(port, folder, standin), flush=True)
                return server.wait()
        except KeyboardInterrupt:
            return 0


def _end(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _environment(folder: str, standin: StandIn, port: str) -> dict[str, str]:
    """Return every setting, so that none comes from the environment or a `.env`."""
    return dict.fromkeys(SETTINGS, "") | {
        "DATABASE_URL": f"sqlite:///{database_path(folder)}",
        "TRIGGER_API_URL": standin.url,
        "TRIGGER_SECRET_KEY": standin.secret_key,
        "PRIVY_PROJECT_SECRET": "demo",
        "WEB_CONCURRENCY": "2",
        "PORT": port,
    }
