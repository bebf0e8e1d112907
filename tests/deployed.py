"""The service as it is deployed: plain `gunicorn` in a folder of its own, with a `.env`.

with Deployed(tmp_path / "deployed", database_url) as server:
    server.write(WEB_THREADS="8")
    server.reload()
"""

import shutil
from pathlib import Path

from tests.server import REPOSITORY, Server

NOBODY = "0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10"


class Deployed(Server):
    """A server whose settings are in its `.env`, but for `WEB_CONCURRENCY`, which is 1."""

    def __init__(self, folder: Path, database_url: str, **settings: str) -> None:
        super().__init__(database_url, WEB_CONCURRENCY="1")
        names = ("DATABASE_URL", "TRIGGER_SECRET_KEY", "PRIVY_PROJECT_SECRET")
        usual = {name: self._environ.pop(name) for name in names}
        self._settings = {**usual, "PORT": str(self.port), **settings}
        self.folder = folder
        folder.mkdir()
        for name in ("gunicorn.conf.py", "wsgi.py"):
            shutil.copy(REPOSITORY / name, folder)
        self.write()

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        host = self._settings.get("HOST", "127.0.0.1")
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def arguments(self) -> list[str]:
        """Return what gunicorn is started with: nothing, as all is in the folder."""
        return []

    def write(self, **settings: str | None) -> None:
        """Write `.env`: the settings that it was made with, and instead what is given.

        None leaves one out.
        """
        given = {**self._settings, **settings}
        lines = [f"{name}={value}\n" for name, value in given.items() if value is not None]
        self.folder.joinpath(".env").write_text("".join(lines))

    def knows(self, key: str) -> bool:
        """Whether it takes the key, whose hash it finds with the secret that it has."""
        return {404: True, 401: False}[self.delete(NOBODY, key).status_code]
