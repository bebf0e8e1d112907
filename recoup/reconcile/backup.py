"""A file of schedules that are about to be deleted, from which they can be made again."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from marshmallow import ValidationError

from recoup.trigger.schedule import Schedule, ScheduleSchema


def write_backup(path: Path, schedules: Sequence[Schedule]) -> None:
    """Write a new file that only its owner may read, and wait until it is on disk.

    Raises:
        OSError: also if the file exists already.
    """
    content = json.dumps([schedule.raw for schedule in schedules], indent=2)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(content + "\n")
        file.flush()
        os.fsync(descriptor)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    """Wait until the file's name is on disk, too."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_backup(path: Path) -> list[Schedule]:
    """Return the schedules of a backup.

    Raises:
        OSError: it can't be read.
        ValueError: it is not a backup.
    """
    content = path.read_bytes()
    try:
        schedules: list[Schedule] = ScheduleSchema(many=True).load(json.loads(content))
    except (ValidationError, RecursionError) as error:
        raise ValueError("not a backup of schedules") from error
    return schedules
