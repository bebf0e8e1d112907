"""gunicorn's own log, in the form of ours; a slow reader doesn't hold it up, either."""

import sys
from typing import Any

from gunicorn.glogging import Logger as GunicornLogger

from recoup import log


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn has no types
    """Writes to standard error as gunicorn does, unless `errorlog` names a file."""

    def __init__(self, cfg: Any) -> None:
        self._handler = log.make_handler(sys.stderr)
        super().__init__(cfg)

    def setup(self, cfg: Any) -> None:
        """Follow the settings; called again with each reload."""
        super().setup(cfg)
        if cfg.errorlog == "-":
            self.error_log.handlers = [self._handler]
