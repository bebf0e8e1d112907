"""gunicorn's settings; plain `gunicorn` in this folder finds them. See docs/deployment.md."""

import os as _os
import resource as _resource
from contextlib import suppress as _suppress

# The master imports all code: its workers share the memory, count in the same place, and start in
# half the time. So a new version takes a restart.
import recoup.app as _app  # noqa: F401
from recoup.config import Config as _Config
from recoup.config import ConfigError as _ConfigError
from recoup.config import find_warnings as _find_warnings
from recoup.config import read_environment as _read_environment
from recoup.counts import ROWS as _ROWS
from recoup.counts import counts as _counts
from recoup.deletion.sweep import start_sweeper as _start_sweeper
from recoup.web import serving as _serving

try:
    _environ = _read_environment()
    _config = _Config.load(_environ)
except _ConfigError as _error:
    raise SystemExit(f"Error: {_error.message}") from None

wsgi_app = "wsgi:app"

# Without a port, only this machine can reach it, for example a proxy on it.
bind = _serving.find_addresses(_config.host, _config.port)

workers = _config.web_concurrency
threads = _config.web_threads
# A worker's open files besides its clients. Each thread has a connection to Trigger.dev, one to
# Privy and a poll of its client. Each connection to SQLite has three files. The worker has some.
_beside = 3 * threads + 3 * _config.database_pool_size + 32
_open_files = _resource.getrlimit(_resource.RLIMIT_NOFILE)[0]
_room = 1000 if _open_files == _resource.RLIM_INFINITY else _open_files - _beside
worker_connections = max(threads, min(1000, _room))
# gthread, with a limit to how long a client holds a thread.
worker_class = "recoup.web.worker.Worker"
logger_class = "recoup.web.logger.Logger"

# What proxies say of the scheme and the path means nothing here. If two of them disagree, gunicorn
# would refuse the request.
secure_scheme_headers = {}
forwarder_headers = ""

# Seconds. A worker whose main thread doesn't respond for this long is replaced. A request may take
# longer.
timeout = 60
# Seconds that a stopping worker waits for its requests; more than the longest takes.
graceful_timeout = int(_config.trigger_deadline_seconds) + 22
keepalive = 5

# Python runs on one core at a time, and threads wake each other faster on one core than across
# several. A worker stays on one core if all cores then have the same number of workers.
_cores = sorted(_os.sched_getaffinity(0)) if hasattr(_os, "sched_getaffinity") else [0]

# Each worker opens its own pool, because a pool doesn't survive a fork.
preload_app = False
# It would write below $HOME at each start, and nobody uses it.
control_socket_disable = True


def on_starting(server):
    """Survive a reload that fails."""
    _serving.keep_serving(server)
    on_reload(server)


def on_reload(server):
    """Warn of likely mistakes in the settings."""
    for warning in _find_warnings(_environ):
        server.log.warning(warning)


def pre_fork(server, worker):
    """Choose the core with the fewest workers, and a free row of counts."""
    others = server.WORKERS.values()
    worker.core = min(_cores, key=[other.core for other in others].count)
    free = set(range(1, _ROWS)) - {other.row for other in others}
    # If there are more workers, they share the last row, where a count may get lost.
    worker.row = min(free, default=_ROWS - 1)


def post_fork(server, worker):
    """Use that row, the checked settings, and that core if the cores are evenly used."""
    _counts.take_row(worker.row)
    _serving.config = _config
    if len(_cores) > 1 and server.num_workers % len(_cores) == 0:
        with _suppress(OSError):  # it may be gone, and a worker that can't boot ends the server
            _os.sched_setaffinity(0, {worker.core})


def child_exit(server, worker):
    """Subtract what the worker was doing, however it ended."""
    _counts.clear_gauges(worker.row)


def post_worker_init(worker):
    """Start the sweep, which settles what crashes have left."""
    _start_sweeper(worker.wsgi.extensions["recoup"].deleter)
