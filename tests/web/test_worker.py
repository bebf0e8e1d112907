"""A worker is made in the master, which ends if that fails."""

import tempfile

import pytest
from gunicorn.config import Config

from recoup.web.worker import Worker


@pytest.fixture(name="make")
def _make(tmp_path, monkeypatch):
    """Make a worker where the temporary folder that was found is this one."""

    def make(folder):
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        worker = Worker(0, 0, [], None, 30, Config(), None)
        worker.tmp.close()

    return make


def test_a_full_disk_costs_no_worker(make, tmp_path, monkeypatch):
    """Python writes to a folder to see whether it will do; the heartbeat's file stays empty."""

    def find_none():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "_get_default_tempdir", find_none)
    make(tmp_path)


def test_a_temporary_folder_that_is_gone_costs_no_worker(make, tmp_path):
    """There is another one."""
    make(tmp_path / "gone")
