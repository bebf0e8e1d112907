"""gunicorn's settings; plain `gunicorn` in this folder finds them. See docs/deployment.md."""

from recoup.config import Config as _Config
from recoup.config import ConfigError as _ConfigError

try:
    _config = _Config.load()
except _ConfigError as _error:
    raise SystemExit(f"Error: {_error.message}") from None

wsgi_app = "wsgi:app"

# Bound to 127.0.0.1:8000, or to 0.0.0.0:$PORT where PORT is set, by gunicorn itself.

workers = _config.web_concurrency
threads = _config.web_threads
worker_class = "gthread"

# Seconds. A worker whose main thread stops answering for this long is replaced; a request may
# take longer than that.
timeout = 60
# Seconds that a stopping worker waits for requests in hand; above the longest of them.
graceful_timeout = int(_config.trigger_deadline_seconds) + 22
keepalive = 5

# Each worker opens its own pool and runs its own sweeper: neither survives a fork.
preload_app = False
# It would write below $HOME at each start, and nobody uses it.
control_socket_disable = True

# Seconds without a byte of a request's body before the client is given up.
_BODY_SECONDS = 5


def pre_request(worker, req):
    """Keep a body that never ends from holding a thread for ever."""
    req.unreader.sock.settimeout(_BODY_SECONDS)
