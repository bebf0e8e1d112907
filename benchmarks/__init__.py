"""Measurements of the service beside the least that could do the same; see docs/performance.md."""
