"""How long to wait for the database."""

# Each single wait (for a free connection, a lock, an answer) ends after this long.
WAIT_SECONDS = 3
