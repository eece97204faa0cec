"""A form of Python source that ignores comments, docstrings, layout and names of local variables."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
# load or store, type comments, u"" prefixes and return annotations change nothing that a program computes
IGNORED = frozenset({"ctx", "type_comment", "type_ignores", "kind", "returns"})
NAMING_FIELDS = frozenset({"id", "name", "names"})


def normalised(source: str) -> str:
    """Source code as text that differs only where the code computes something else.

    The text is the syntax tree without positions, docstrings, return and argument annotations. Local
    variables of a function are numbered in the order of their appearance; parameters keep their names, since
    callers may use them. Empty fields are left out, so that the text does not depend on the version of Python
    that parses it.

    Args:
        source: a whole module.

    Returns:
        The normalised text, which is not Python.

    Raises:
        SyntaxError: the source is not valid Python.
    """
    return _text(ast.parse(source), {})


def _text(node: Any, names: Mapping[str, str]) -> str:
    """The text of a node, a list of nodes or a constant. names: the local names of the function around it."""
    if isinstance(node, list):
        return f"[{','.join(_text(child, names) for child in node if not _is_docstring(child))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, FUNCTIONS) and not names:
        # the name of the outermost function belongs to its module; all inside is its own
        names = _numbered_locals(node)
    fields = []
    for field, value in ast.iter_fields(node):
        annotation = isinstance(node, ast.arg) and field == "annotation"
        if field in IGNORED or annotation or value is None or value == []:
            continue
        if field in NAMING_FIELDS and isinstance(value, str):
            value = names.get(value, value)
        elif field in NAMING_FIELDS and isinstance(node, ast.Global | ast.Nonlocal):
            value = [names.get(name, name) for name in value]
        fields.append(f"{field}={_text(value, names)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _is_docstring(node: Any) -> bool:
    """Whether a statement is a bare string, which does nothing wherever it stands."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _numbered_locals(function: ast.AST) -> dict[str, str]:
    """New names of all that a function binds inside itself, in the order in which the names appear."""
    bound: dict[str, None] = {}
    kept: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            kept.add(node.arg)
        elif isinstance(node, ast.Global):
            kept.update(node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound[node.id] = None
        elif node is not function and isinstance(node, ast.FunctionDef | ast.ExceptHandler) and node.name:
            bound[node.name] = None
    local = [name for name in bound if name not in kept]
    return {name: f"local {i}" for i, name in enumerate(local)}
