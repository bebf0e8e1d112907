"""The demo: the service with a stand-in for Trigger.dev, so that no account is needed.

The tests use the same stand-in, and its faults are for them.
"""
