"""The demo: the service against a stand-in of Trigger.dev, with no account needed.

The tests speak to the same stand-in, and its faults are for them.
"""
