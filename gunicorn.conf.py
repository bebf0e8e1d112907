"""gunicorn's settings; plain `gunicorn` in this folder finds them. See docs/deployment.md."""

import os as _os
import resource as _resource
from contextlib import suppress as _suppress

from recoup.config import Config as _Config
from recoup.config import ConfigError as _ConfigError
from recoup.config import find_doubts as _find_doubts
from recoup.config import read_environment as _read_environment

# Imported by the master, so that its workers count in the same memory.
from recoup.counts import ROWS as _ROWS
from recoup.counts import counts as _counts
from recoup.web import serving as _serving

try:
    _environ = _read_environment()
    _config = _Config.load(_environ)
except _ConfigError as _error:
    raise SystemExit(f"Error: {_error.message}") from None

wsgi_app = "wsgi:app"

# Without a port that is named, this machine alone can reach it, as a proxy on it does.
bind = _serving.find_addresses(_config.host, _config.port)

workers = _config.web_concurrency
threads = _config.web_threads
# What each worker has open beside its clients: with each thread a connection to Trigger.dev, one to
# Privy and a poll of its client, SQLite's three files with each connection, and some of its own.
_beside = 3 * threads + 3 * _config.database_pool_size + 32
_open_files = _resource.getrlimit(_resource.RLIMIT_NOFILE)[0]
_room = 1000 if _open_files == _resource.RLIM_INFINITY else _open_files - _beside
worker_connections = max(threads, min(1000, _room))
# gthread, but no client holds a thread for ever.
worker_class = "recoup.web.worker.Worker"
logger_class = "recoup.web.logger.Logger"

# Seconds. A worker whose main thread stops answering for this long is replaced; a request may
# take longer than that.
timeout = 60
# Seconds that a stopping worker waits for requests in hand; above the longest of them.
graceful_timeout = int(_config.trigger_deadline_seconds) + 22
keepalive = 5

# Python runs on one core at a time, and threads that take turns wake each other faster on one core
# than across several. A worker keeps to one where that leaves every core with as many.
_cores = sorted(_os.sched_getaffinity(0)) if hasattr(_os, "sched_getaffinity") else [0]

# Each worker opens its own pool, which wouldn't survive a fork.
preload_app = False
# It would write below $HOME at each start, and nobody uses it.
control_socket_disable = True


def on_starting(server):
    """Outlive a reload that can't be done."""
    _serving.keep_serving(server)
    on_reload(server)


def on_reload(server):
    """Name what looks like a mistake."""
    for doubt in _find_doubts(_environ):
        server.log.warning(doubt)


def pre_fork(server, worker):
    """Choose the core that the fewest workers have, and a row of counts that none has."""
    others = server.WORKERS.values()
    worker.core = min(_cores, key=[other.core for other in others].count)
    free = set(range(1, _ROWS)) - {other.row for other in others}
    # More workers than that share the last row, where a count may get lost.
    worker.row = min(free, default=_ROWS - 1)


def post_fork(server, worker):
    """Count in that row, with the settings that were checked; keep to that core, if even."""
    _counts.take_row(worker.row)
    _serving.config = _config
    if len(_cores) > 1 and server.num_workers % len(_cores) == 0:
        with _suppress(OSError):  # it may be gone, and a worker that can't boot ends the server
            _os.sched_setaffinity(0, {worker.core})


def child_exit(server, worker):
    """Take off what the worker had in hand, however it has ended."""
    _counts.clear_gauges(worker.row)


def post_worker_init(worker):
    """Complete what crashes have left, now and on and on."""
    # Not for the master, which has no use for it.
    from recoup.deletion.sweep import start_sweeper

    start_sweeper(worker.wsgi.extensions["recoup"].deleter)
