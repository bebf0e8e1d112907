"""How long the database is waited for."""

# Each single wait (for a free connection, a lock, an answer) ends after this long.
WAIT_SECONDS = 3
