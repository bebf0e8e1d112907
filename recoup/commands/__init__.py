"""The command line `recoup`, for operators.

It is the top layer and may use everything below. Nothing imports it: Flask finds the commands by
the entry points in `setup.cfg`. Begin with `main.py`.
"""
