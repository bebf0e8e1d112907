"""Mutants: changes of one place in the core, each of which some test should notice.

`changes.py` makes them, `loaded.py` puts one into the code that is loaded, `traced.py` knows which
tests run a line, and `hunt.py` runs those tests on each mutant. Begin with `__main__.py`.
"""
