"""The tables, the statements of a deletion, and the connections they run on.

It knows neither HTTP nor Trigger.dev. Begin with `statements.py`, which has the statements of a
deletion, then `connection.py`, which runs them.
"""
