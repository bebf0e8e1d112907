"""How a schedule is addressed, and how long a request is tried again."""

import pytest

from recoup.trigger.route import is_key_in_url


@pytest.mark.parametrize("key", ["0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10", "a b/c?d", "a.b", "..."])
def test_a_key_that_stays_what_it_is_can_be_asked_for(key):
    """Encoded, it is the same at the server."""
    assert is_key_in_url(key)


@pytest.mark.parametrize("key", [".", "..", "a%20b", "%2e", "sched_x"])
def test_a_key_that_would_be_taken_for_something_else_cannot_be_asked_for(key):
    """For a folder, for another key, or for an id."""
    assert not is_key_in_url(key)
