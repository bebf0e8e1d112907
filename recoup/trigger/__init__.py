"""Trigger.dev's schedules API: one schedule cancelled, or all of them listed.

It makes its calls with `recoup.http` and doesn't know the database. Begin with `cancel.py` for the
deletion, and with `inventory.py` for the commands.
"""
