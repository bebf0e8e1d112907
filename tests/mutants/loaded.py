"""Puts a mutant into the code that this process has loaded."""

import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from recoup.database import built
from tests.mutants.changes import Mutant


def take_in(mutant: Mutant, module: ModuleType) -> None:
    """Give the module's functions the mutant's code, and its constants the mutant's values."""
    built._build.cache_clear()
    changed = compile(mutant.tree, str(module.__file__), "exec")
    codes = {(c.co_qualname, c.co_firstlineno): c for c in _codes(changed)}
    for function in _functions(module):
        code = function.__code__
        function.__code__ = codes.get((code.co_qualname, code.co_firstlineno), code)
    _take_in_constants(changed, module)


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _functions(holder: Any) -> Iterator[FunctionType]:
    name = getattr(holder, "__module__", holder.__name__)
    for value in list(vars(holder).values()):
        value = getattr(value, "fget", None) or getattr(value, "_build", value)
        value = getattr(value, "__wrapped__", getattr(value, "__func__", value))
        if isinstance(value, FunctionType) and value.__module__ == name:
            yield value
        elif isinstance(value, type) and value.__module__ == name:
            yield from _functions(value)


def _take_in_constants(code: CodeType, module: ModuleType) -> None:
    """Replace constants wherever they were imported to; not those that are a default value."""
    new = dict(vars(module))
    exec(code, new)
    loaded = [m for name, m in list(sys.modules.items()) if name.split(".")[0] == "recoup"]
    for name, old in list(vars(module).items()):
        if name.isupper() and repr(new[name]) != repr(old):
            for one in loaded:
                if getattr(one, name, None) is old:
                    setattr(one, name, new[name])
