"""A short `tests.torture`: kills at random moments under load."""

import pytest

from tests.torture import CUT_OFF, Torture


@pytest.mark.alone
def test_nothing_is_lost_when_workers_are_killed_under_load(database_url):
    """After the recovery, row and schedule of each task agree with what its callers were told."""
    report = Torture(database_url, seed=3).run(kills=12, hurry=True)
    assert report.violations == []
    assert report.kills >= 12
    # Else the kills came when nothing was going on.
    assert report.answers[CUT_OFF]
    assert report.recovered
