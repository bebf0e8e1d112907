"""The changes: what a file of the core is made into, one place at a time.

Not changed is what no caller depends on: docstrings, type hints, the sentences of errors and of the
log. A sentence is text with a space in it that nothing is compared with, and every f-string.
"""

import ast
import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

SWAPPED: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


class Mutant(NamedTuple):
    """A changed file: `line` is where, `text` says what, and `lines` are those that see it."""

    line: int
    text: str
    lines: set[int]
    tree: ast.Module


def mutants_of(source: str) -> Iterator[Mutant]:
    """Return each change of one place in a file's functions and constants."""
    tree = ast.parse(source)
    for n, node in enumerate(_places(tree)):
        for v in range(len(_variants(node))):
            changed = copy.deepcopy(tree)
            old = list(_places(changed))[n]
            new = ast.copy_location(_variants(old)[v], old)
            text = f"{_first_line(old)}  ->  {_first_line(new)}"
            ast.fix_missing_locations(_Replace(old, new).visit(changed))
            yield Mutant(old.lineno, text, _uses(tree, old.lineno) or {old.lineno}, changed)


def _uses(tree: ast.Module, line: int) -> set[int]:
    """Return the lines that use the constant of this line; none if it has none."""
    names = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and node.lineno <= line <= (node.end_lineno or 0)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load)
    }


def _first_line(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(node)).strip().splitlines()[0][:100]


def _places(tree: ast.AST) -> Iterator[Any]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            for statement in node.body:
                yield from _inside(statement)
        elif isinstance(node, ast.ClassDef):
            yield from _places(node)
        elif isinstance(node, ast.Assign) and isinstance(tree, ast.Module):
            yield from _inside(node.value)


def _inside(node: ast.AST) -> Iterator[Any]:
    """Return a node and those below it, but for what is not changed."""
    match node:
        case ast.Expr(ast.Constant()) | ast.JoinedStr(values=[ast.Constant()]) | ast.arguments():
            return
        case ast.AnnAssign():
            yield from _inside(node.value) if node.value else ()
            return
    yield node
    for child in ast.iter_child_nodes(node):
        if not (_is_sentence(child) and not isinstance(node, ast.Compare)):
            yield from _inside(child)


def _is_sentence(node: ast.AST) -> bool:
    match node:
        case ast.Constant(str() as text):
            return " " in text
        case ast.JoinedStr():
            return True
    return False


def _variants(node: Any) -> list[ast.AST]:  # noqa: C901
    match node:
        case ast.Compare(left, ops, right):
            return [
                ast.Compare(left, [*ops[:n], SWAPPED[type(op)](), *ops[n + 1 :]], right)
                for n, op in enumerate(ops)
            ]
        case ast.BoolOp(op, values):
            return [ast.BoolOp(SWAPPED[type(op)](), values)]
        case ast.BinOp(left, op, right) if type(op) in SWAPPED:
            return [ast.BinOp(left, SWAPPED[type(op)](), right)]
        case ast.UnaryOp(_, operand):
            return [operand]
        case ast.Constant(bool() as value):
            return [ast.Constant(not value)]
        case ast.Constant(int() | float() as value):
            return [ast.Constant(value * 2 + 1)]
        case ast.Constant(str() as value):
            return [ast.Constant(f"XX{value}")]
        case ast.Constant(bytes() as value):
            return [ast.Constant(b"XX" + value)]
        case ast.IfExp(test, body, orelse):
            return [ast.IfExp(test, orelse, body)]
        case ast.If(test, body, orelse) if not _is_turned_itself(test):
            return [ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)]
        case ast.While(test, body, orelse) if not _is_turned_itself(test):
            return [ast.While(ast.UnaryOp(ast.Not(), test), body, orelse)]
        case ast.Return(value) if value and not isinstance(value, ast.Constant):
            return [ast.Return(ast.Constant(None))]
        case ast.ExceptHandler(caught, name, _):
            return [ast.ExceptHandler(caught, name, [ast.Raise()])]
        case ast.Expr(ast.Call()) | ast.Raise() | ast.AugAssign():
            return [ast.Pass()]
        case ast.Assign([ast.Attribute()]):
            return [ast.Pass()]
        case ast.Continue():
            return [ast.Break()]
        case ast.Break():
            return [ast.Continue()]
    return []


def _is_turned_itself(test: ast.AST) -> bool:
    """Whether one of the other changes has the same effect as `not` before it."""
    match test:
        case ast.Compare(ops=[ast.Eq() | ast.NotEq() | ast.Is() | ast.IsNot()]):
            return True
    return isinstance(test, ast.UnaryOp | ast.Constant)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)
