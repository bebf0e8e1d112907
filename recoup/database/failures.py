"""What an operator is told of a database that fails: no name of it, and what to do."""

import re

# What the drivers say, and a sentence for it.
_SENTENCES = {
    "Connection refused": "Connection refused: nothing listens there; start the database, or "
    "correct host and port in DATABASE_URL",
    "failed to resolve host|could not translate host": "its host is not known here; correct it in "
    "DATABASE_URL",
    "timeout expired": "it can't be reached in time; is the host in DATABASE_URL right, and is no "
    "firewall in between?",
    "password authentication failed|no password supplied|no such user|role .* does not exist": "it "
    "refuses the user or the password; correct them in DATABASE_URL, with what is special in them "
    "percent-encoded, such as # as %23",
    "database .* does not exist|no such database": "it has no database of the name in DATABASE_URL",
    "unable to open database file": "unable to open database file: it isn't there, or this user "
    "may not; `recoup db upgrade` makes it; with three slashes in DATABASE_URL it is sought below "
    "the current folder, with four below /",
    "file is not a database": "file is not a database: DATABASE_URL names another kind of file",
}


def explain(error: Exception) -> str:
    """Return in one line what is wrong and, where that is known, what to do.

    What a driver puts in quotes may be any part of DATABASE_URL, unless it is the server's word
    on a statement, which has an SQLSTATE.
    """
    text = " ".join(str(error).split())
    if isinstance(error, OSError) or getattr(getattr(error, "orig", error), "sqlstate", None):
        return text
    for pattern, sentence in _SENTENCES.items():
        if re.search(pattern, text):
            return sentence
    return re.sub(r"""(["']).*?\1""", "…", text)
