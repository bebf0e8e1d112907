"""What an operator reads when the database fails: what to do, and no part of DATABASE_URL."""

import re
from typing import Any

# What the drivers say, and our sentence for it.
_SENTENCES = {
    "Connection refused": "Connection refused: nothing listens there; start the database, or "
    "correct host and port in DATABASE_URL",
    "failed to resolve host|could not translate host": "the host's name is not known; "
    "correct it in DATABASE_URL",
    "timeout expired": "it can't be reached in time; check the host in DATABASE_URL, and firewalls",
    "password authentication failed|no password supplied|no such user|role .* does not exist": "it "
    "refuses the user or the password; correct them in DATABASE_URL, and percent-encode special "
    "characters in them, such as # as %23",
    "database .* does not exist|no such database": "it has no database with the "
    "name in DATABASE_URL",
    "unable to open database file": "unable to open database file: it doesn't exist, or this user "
    "may not open it; `recoup db upgrade` makes it. With three slashes in DATABASE_URL the path "
    "begins in the current folder, with four at /",
    "file is not a database": "file is not a database: DATABASE_URL names another kind of file",
}


def explain(error: Exception) -> str:
    """Return in one line what is wrong and, where that is known, what to do.

    What a driver puts in quotes may be a part of DATABASE_URL, unless it is the server's answer to
    a statement, which has an SQLSTATE. Of that answer only the first part is shown: its details may
    be a row of the host's, with what nobody may read.
    """
    server: Any = getattr(error, "orig", error)
    if getattr(server, "sqlstate", None):
        return " ".join((server.diag.message_primary or str(error)).split())
    text = " ".join(str(error).split())
    if isinstance(error, OSError):
        return text
    for pattern, sentence in _SENTENCES.items():
        if re.search(pattern, text):
            return sentence
    return re.sub(r"""(["']).*?\1""", "…", text)
