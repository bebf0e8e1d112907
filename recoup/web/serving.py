"""What gunicorn's master does for its workers: settings, addresses, and a reload that may fail.

`gunicorn.conf.py` uses it; gunicorn runs that at the start and again at each reload.
"""

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from recoup.config import Config

# The settings that the master has checked. A worker doesn't read them again, because the files may
# have changed since. None without a master.
config: Config | None = None


class _NotReloaded(Exception):
    """The message says why."""


def find_addresses(host: str | None, port: int | None) -> list[str]:
    """Return where to serve. If a port is set, others shall reach it, so at every address."""
    if host is None and port is not None:
        return [f"{address}:{port}" for address in _all_addresses()]
    host = host or "127.0.0.1"
    return [f"[{host}]:{port or 8000}" if ":" in host else f"{host}:{port or 8000}"]


def _all_addresses() -> list[str]:
    """Return the names for every address of this machine, with IPv6 if it has it."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
            alone = probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        return ["0.0.0.0"]  # noqa: S104
    return ["[::]", "0.0.0.0"] if alone else ["[::]"]  # noqa: S104


def keep_serving(server: Any) -> None:
    """Make a reload that fails change nothing; gunicorn by itself would end."""
    server.reload = partial(_reload, server, server.reload)
    server.app.reload = partial(_load_settings, server, server.app.reload)


def _reload(server: Any, reload: Callable[[], None]) -> None:
    try:
        reload()
    except _NotReloaded as error:
        server.log.error("Not reloaded, so the old settings and workers go on serving. %s", error)


def _load_settings(server: Any, load: Callable[[], None]) -> None:
    """Run `gunicorn.conf.py` again; if it fails, keep the old settings."""
    before = dict(vars(server.app))
    try:
        load()
        if server.app.cfg.address != server.cfg.address:
            # gunicorn would give up the old address first, and end if it can't get the new one.
            raise SystemExit("Another HOST or PORT takes a restart.")
    except SystemExit as error:
        vars(server.app).update(before)
        reason = error.code if isinstance(error.code, str) else "The lines above say why."
        raise _NotReloaded(reason) from None
