"""What Onefold says when something is wrong, read from its code: problems, and errors of commands.

A sentence is what stands in the code as text, with `GAP` for each part that differs from time to time.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
GAP = "…"


class Said(NamedTuple):
    """`text`, and the `fix` that the code names with it ("" when that is made elsewhere); `maker` is the class, or the
    function, that it is given to."""

    text: str
    fix: str
    maker: str
    file: str


class Maker(NamedTuple):
    """Which of its arguments says what is wrong, and which one names the fix."""

    text: int = 0
    fix: int = 1


MAKERS = {
    "Problem": Maker(fix=2),
    "Problem.of": Maker(fix=2),
    "Unknown": Maker(),
    "wrong": Maker(text=1, fix=2),
}
"""All others say what is wrong first, and then the fix."""


def said(*makers: str) -> list[Said]:
    """Every sentence that the package gives to one of `makers`, once each, in the order of its files."""
    found: dict[tuple[str, str], Said] = {}
    for file, tree in _modules():
        for scope in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            for call in (node for node in ast.walk(scope) if isinstance(node, ast.Call)):
                name = _name(call.func)
                maker = MAKERS.get(name, Maker())
                if name in makers and len(call.args) > maker.text:
                    near = _Near(call, scope, tree)
                    fix = next(near.texts(call.args[maker.fix]), "") if call.args[maker.fix :] else ""
                    for text in near.texts(call.args[maker.text]):
                        what, _, named = text.partition("; ")
                        whole = (what, fix or named) if named and not fix else (text, fix)
                        found.setdefault((name, whole[0]), Said(*whole, name, file))
    return list(found.values())


def constants(module: str) -> list[Said]:
    """The texts that a module of the package holds as they are, which name their fix behind a semicolon."""
    (tree,) = [tree for file, tree in _modules() if file == module]
    texts = [
        node.value
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for node in ast.walk(statement)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return [Said(what, fix, "", module) for what, _, fix in (text.partition("; ") for text in texts)]


@cache
def _modules() -> tuple[tuple[str, ast.Module], ...]:
    files = sorted((PROJECT / "onefold").rglob("*.py"))
    return tuple((str(file.relative_to(PROJECT)), ast.parse(file.read_text(encoding="utf-8"))) for file in files)


def _name(function: ast.expr) -> str:
    """`Problem`, `Problem.of`; of another method only its own name."""
    if isinstance(function, ast.Attribute):
        whole = f"{function.value.id}.{function.attr}" if isinstance(function.value, ast.Name) else ""
        return whole if whole in MAKERS else function.attr
    return function.id if isinstance(function, ast.Name) else ""


class _Near(NamedTuple):
    """A call, the function that it is in, and the module: where names get their values."""

    call: ast.Call
    scope: ast.AST
    tree: ast.Module

    def texts(self, value: ast.expr) -> Iterator[str]:
        """What `value` may say; nothing when that is made elsewhere."""
        match value:
            case ast.Constant(value=str(text)) if text:
                yield text
            case ast.JoinedStr(values=parts):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in parts)
            case ast.IfExp(body=one, orelse=other):
                yield from self.texts(one)
                yield from self.texts(other)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                yield from (one + other for one in self.texts(left) for other in self.texts(right))
            case ast.Name(id=name):
                for found in self._values(name):
                    yield from self.texts(found)

    def _values(self, name: str) -> list[ast.expr]:
        """What `name` was set to in the block of the call; else anywhere in the function or at the module's top."""
        blocks = [block for node in ast.walk(self.scope) for block in _blocks(node)]
        around = [block for block in blocks if block[0].lineno <= self.call.lineno <= (block[-1].end_lineno or 0)]
        for block in sorted(around, key=lambda block: -block[0].lineno):
            before = [node for node in block if node.lineno < self.call.lineno]
            if found := _assigned(name, before):
                return found[-1:]
        return _assigned(name, [*ast.walk(self.scope), *self.tree.body])


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for block in (getattr(node, field, None) for field in ("body", "orelse", "finalbody")):
        if isinstance(block, list) and block:
            yield block


def _assigned(name: str, nodes: Iterable[ast.AST]) -> list[ast.expr]:
    return [
        node.value
        for node in nodes
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets)
    ]
