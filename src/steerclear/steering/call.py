"""What a pipeline's own `__call__` takes, names and encodes, read from its class."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import CodeType
from typing import Any, ParamSpec, TypeVar

ENCODERS = ("encode_prompt", "_encode_prompt")  # the methods by which diffusers' pipelines read a prompt


@dataclass(frozen=True, eq=False, kw_only=True)
class Encoding:
    """One call of `encode_prompt` in a pipeline's `__call__`.

    Attributes:
        method: its name.
        returned: for each thing that it returns, the variable that takes it.
        alone: whether it is taken as one thing, and not unpacked.
        arguments: by the method's parameter, what it is given.
        constants: local variables of `__call__` that only ever hold one constant.
        assigned: variables that `__call__` sets itself, parameters included.
    """

    method: str
    returned: tuple[str, ...]
    alone: bool
    arguments: Mapping[str, ast.expr]
    constants: Mapping[str, Any]
    assigned: frozenset[str]


P = ParamSpec("P")
R = TypeVar("R")


def _cached(function: Callable[P, R]) -> Callable[P, R]:
    """`functools.cache`, whose type forgets the function's arguments."""
    return cache(function)  # type: ignore[return-value]


@_cached
def parameters_of(cls: type) -> Mapping[str, inspect.Parameter]:
    """The parameters of a pipeline's `__call__`, by name.

    Those of its base classes are among them where it hands its `**kwargs` on to them.
    """
    calls = _calls(cls)
    parameters: dict[str, inspect.Parameter] = {}
    for number, call in enumerate(calls, 1):
        for name, parameter in inspect.signature(call).parameters.items():
            handed_on = parameter.kind is inspect.Parameter.VAR_KEYWORD and number < len(calls)
            if not handed_on:
                parameters.setdefault(name, parameter)
    return parameters


@_cached
def call_names(cls: type, method: str = "__call__") -> frozenset[str]:
    """Every attribute, method, string and local variable that the code of a pipeline's `__call__` names.

    Args:
        cls: the pipeline's class.
        method: another method, in the place of `__call__`.
    """
    names: set[str] = set()
    for call in _calls(cls) if method == "__call__" else [getattr(cls, method)]:
        code: CodeType = inspect.unwrap(call).__code__
        names.update(code.co_names, code.co_varnames, code.co_cellvars)
        names.update(constant for constant in code.co_consts if isinstance(constant, str))
    return frozenset(names)


@_cached
def encodings(cls: type) -> tuple[Encoding, ...]:
    """Every call of `encode_prompt` in a pipeline's `__call__`; none where its source cannot be read."""
    for call in _calls(cls):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(call))))
        except (OSError, SyntaxError):  # made in a console, or from a string
            continue
        if calls := _encodings(cls, tree):
            return calls
    return ()


@_cached
def returned_names(cls: type, method: str) -> tuple[str, ...]:
    """What a method calls the things that it returns, by its last `return`; none where unreadable."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(getattr(cls, method)))))
    except (OSError, SyntaxError):
        return ()
    returns = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    last = returns[-1] if returns else None
    parts = last.elts if isinstance(last, ast.Tuple) else [last]
    # `a if b else None` is called a
    return tuple(_name(part.body if isinstance(part, ast.IfExp) else part) for part in parts)


@_cached
def _calls(cls: type) -> tuple[Callable[..., Any], ...]:
    """The class's `__call__`, and those of its base classes as far as each hands on what it is given."""
    calls: list[Callable[..., Any]] = []
    for base in cls.__mro__:
        call = vars(base).get("__call__")
        if call is None:
            continue
        calls.append(call)
        takes_more = any(
            p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(call).parameters.values()
        )
        if not takes_more or "super" not in inspect.unwrap(call).__code__.co_names:
            break
    return tuple(calls)


def _encodings(cls: type, tree: ast.AST) -> tuple[Encoding, ...]:
    """The calls of `encode_prompt` in the tree of one `__call__`, in their order."""
    assignments = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    values: dict[str, list[ast.expr]] = {}
    for node in assignments:
        for target in node.targets:
            for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                values.setdefault(_name(part), []).append(node.value)
    constants = {
        name: value.value
        for name, (value, *more) in values.items()
        if not more and isinstance(value, ast.Constant)
    }
    calls = []
    for node in sorted(assignments, key=lambda node: node.lineno):
        call, target = node.value, node.targets[0]
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        method = call.func.attr
        if method not in ENCODERS or _name(call.func.value) != "self" or not hasattr(cls, method):
            continue
        names = [name for name in inspect.signature(getattr(cls, method)).parameters if name != "self"]
        arguments = dict(zip(names, call.args, strict=False))
        arguments.update({keyword.arg: keyword.value for keyword in call.keywords if keyword.arg})
        parts = target.elts if isinstance(target, ast.Tuple) else [target]
        calls.append(
            Encoding(
                method=method,
                returned=tuple(map(_name, parts)),
                alone=not isinstance(target, ast.Tuple),
                arguments=arguments,
                constants=constants,
                assigned=frozenset(values),
            )
        )
    return tuple(calls)


def _name(node: ast.AST | None) -> str:
    """The variable that an expression is; "" for anything else."""
    return node.id if isinstance(node, ast.Name) else ""
