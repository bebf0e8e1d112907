"""A pytest plugin for the first run: queries are built anew in each test.

They are built once in a process, so otherwise only one test would be seen to run their lines.
"""

from recoup.database import built


def pytest_runtest_setup() -> None:
    """See pytest's hook of this name."""
    built._build.cache_clear()
