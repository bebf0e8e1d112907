"""Secrets of the tests, which nothing that the service says may contain.

`conftest.py` looks through what each test made the service write; `Server` and `delete` look
through the logs of real servers and through answers.
"""

import re

# The HMAC secret, Trigger.dev's key, and any API key that a test has made.
CANARIES = re.compile(r"secret-of-the-tests|tr_dev_standin|recoup_sk_[0-9a-f]{32}")


def assert_no_canary(text, where):
    """Fail if a secret is in *text*."""
    found = CANARIES.search(text)
    assert found is None, f"{found.group()} is in {where}"
