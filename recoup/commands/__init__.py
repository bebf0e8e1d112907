"""The command line `recoup`, for operators.

It stands on top and may use everything below; nothing imports it, as Flask finds the commands by
the entry points in `setup.cfg`. Begin with `main.py`.
"""
