"""Drift between all tasks and all schedules: finding, mending, and restoring from a backup.

For commands only; it uses the database and Trigger.dev's list. Begin with `drift.py`.
"""
