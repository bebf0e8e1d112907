"""The service's gunicorn settings for the bare application, which has nothing to sweep."""

import runpy as _runpy

_settings = _runpy.run_path("gunicorn.conf.py")
del _settings["post_worker_init"]
globals().update(_settings)
