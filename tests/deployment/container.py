"""The service as the `Dockerfile` has it, in namespaces of its own instead of a container.

Its file system is read-only, its user has a number only, its master is PID 1.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.pod import Pod
from tests.server import REPOSITORY, STOP_SECONDS, Server

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text().splitlines()
USER = "1000700000"
# Without the rights of root, a user namespace may give them.
_AS_ROOT = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
_UNSHARE = ["unshare", *_AS_ROOT, "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
_AS_USER = f"exec unshare --user --map-user={USER} --map-group=0"
# $1 is the image's folder, $2 the volume, and $3 where Python is: that may be below /tmp, which is
# covered. Like a runtime's, /dev has next to nothing.
_MOUNT = """
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/image /mnt/data /mnt/python /mnt/dev /mnt/dev/shm
mount --bind "$1" /mnt/image
mount --bind "$2" /mnt/data
mount --bind "$3" /mnt/python
for device in null zero random urandom; do
    touch /mnt/dev/$device
    mount --bind /dev/$device /mnt/dev/$device
done
mount --rbind /mnt/dev /dev
mount -t tmpfs -o mode=1777 tmpfs /tmp
"""
_WITH_SHARED_MEMORY = "mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm"
_WITHOUT = "rmdir /dev/shm"
_READ_ONLY = """
for folder in / /dev /mnt /mnt/image /mnt/python; do
    mount -o remount,bind,ro $folder
done
"""


def instruction(name: str) -> str:
    """Return what the last of these instructions in the `Dockerfile` says."""
    return [line for line in DOCKERFILE if line.startswith(f"{name} ")][-1].removeprefix(name)


def environment() -> dict[str, str]:
    """Return what `ENV` in the `Dockerfile` sets."""
    return dict(word.split("=", 1) for word in shlex.split(instruction("ENV")))


def copy_context(folder: Path) -> None:
    """Copy what `.dockerignore` lets into the build."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    for name in [line[1:] for line in lines if line.startswith("!")]:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)


def build(folder: Path) -> Path:
    """Return a folder that is to the image what `/opt/recoup` is there."""
    context, image = folder / "context", folder / "image"
    context.mkdir()
    image.mkdir()
    copy_context(context)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-q", "--target", image / "packages", context], check=True)
    for name in instruction("COPY").split()[:-1]:
        shutil.copy(context / name, image)
    return image


class Container(Pod):
    """A `Server` from such a folder, with a folder for its database."""

    def __init__(self, image: Path, data: Path, shared_memory: bool, **settings: str) -> None:
        super().__init__(
            "sqlite:////mnt/data/recoup.sqlite3",
            **{**environment(), "PATH": os.environ["PATH"]},
            PYTHONPATH="/mnt/image/packages",
            **settings,
        )
        self._environ["PORT"] = str(self.port)
        self._folders = (str(image), str(data), sys.prefix)
        memory = _WITH_SHARED_MEMORY if shared_memory else _WITHOUT
        python = f"/mnt/python/bin/{Path(sys.executable).name}"
        gunicorn = f"cd /mnt/image\n{_AS_USER} {python} -m gunicorn"
        self._script = "\n".join((_MOUNT, memory, _READ_ONLY, gunicorn))

    def command(self) -> list[str]:
        """Return the command, with the namespaces before it."""
        return [*_UNSHARE, "sh", "-c", self._script, "sh", *self._folders]

    def pid(self) -> int:
        """Return the process id of gunicorn's master, as it is outside."""
        [pid] = Server.workers(self)
        return pid

    def stop(self) -> None:
        """Send what `STOPSIGNAL` names, and wait for the end."""
        os.kill(self.pid(), signal.Signals[instruction("STOPSIGNAL").strip()])
        self._master().wait(STOP_SECONDS)

    def exit_code(self) -> int | None:
        """Return the exit code of gunicorn's master, None while it runs."""
        return self._master().poll()


@cache
def why_not() -> str:
    """Return why this machine can't do that; nothing if it can."""
    script = "\n".join((_MOUNT, _WITH_SHARED_MEMORY, _READ_ONLY, f"{_AS_USER} true"))
    command = [*_UNSHARE, "sh", "-c", script, "sh", "/var", "/var", "/var"]
    try:
        subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    except FileNotFoundError:
        return "no `unshare`; util-linux brings it"
    except subprocess.CalledProcessError as error:
        return f"no namespaces here: {error.stderr.strip()}"
    return ""
