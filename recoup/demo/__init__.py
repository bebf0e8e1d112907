"""The demo: the service against a local stand-in of Trigger.dev, with no account needed."""
