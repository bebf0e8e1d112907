"""gunicorn's settings; plain `gunicorn` in this folder finds them. See docs/deployment.md."""

import os as _os
import shutil as _shutil
import tempfile as _tempfile
from pathlib import Path as _Path

from recoup.config import Config as _Config
from recoup.config import ConfigError as _ConfigError

try:
    _config = _Config.load()
except _ConfigError as _error:
    raise SystemExit(f"Error: {_error.message}") from None

wsgi_app = "wsgi:app"

# A port that is named is for others to reach; behind a proxy on this machine none need be.
bind = f"0.0.0.0:{_config.port}" if _config.port else "127.0.0.1:8000"

workers = _config.web_concurrency
threads = _config.web_threads
# gthread, but no client holds a thread for ever.
worker_class = "recoup.web.worker.Worker"

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


def when_ready(server):
    """Make a folder for the workers, which start next, to count in; see recoup/metrics.py."""
    # In memory, unless told otherwise: writing to a mapped file kills the worker if a disk is full.
    memory = "/dev/shm"  # noqa: S108
    in_memory = "TMPDIR" not in _os.environ and _os.access(memory, _os.W_OK)
    parent = _Path(memory if in_memory else _tempfile.gettempdir())
    for old in parent.glob("recoup-metrics-*-*"):
        if not _Path("/proc", old.name.split("-")[2]).exists():
            _shutil.rmtree(old, ignore_errors=True)  # its master was killed
    folder = _tempfile.mkdtemp(prefix=f"recoup-metrics-{server.pid}-", dir=parent)
    _os.chown(folder, server.cfg.uid, server.cfg.gid)
    _os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder


def pre_fork(server, worker):
    """Choose the core that the fewest workers have."""
    taken = [other.core for other in server.WORKERS.values()]
    worker.core = min(_cores, key=taken.count)


def post_fork(server, worker):
    """Keep to that core, where the cores come out even."""
    if len(_cores) > 1 and server.num_workers % len(_cores) == 0:
        _os.sched_setaffinity(0, {worker.core})


def post_worker_init(worker):
    """Complete what crashes have left, now and on and on."""
    # Not before `when_ready`: what counts looks for its folder as it is imported.
    from recoup.deletion.sweep import start_sweeper

    start_sweeper(worker.wsgi.extensions["recoup"].deleter)


def on_exit(server):
    """Remove what the workers have counted, as counting begins anew with the next start."""
    _shutil.rmtree(_os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
