"""The demo: the service with a stand-in for Trigger.dev, so that no account is needed.

It may use everything below. The tests use the same stand-in, and its faults are for them. Begin
with `run.py` for the demo, and with `standin.py` for the stand-in.
"""
