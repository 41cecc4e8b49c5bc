"""A person's own aggregate as source: its class found in the file where it stands, cleaned, and looked through for what may not occur.

A replica never executes the project file; it makes the class from this source, whose names mean the same there.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from twofold.algebra.own import BUILTINS, FREE_NAMES, Aggregate, free_value
from twofold.errors import DefinitionError, did_you_mean
from twofold.versions import syntax_content

_PUBLIC = frozenset({"Aggregate", "Item", "Window", "OVERFLOW"})
"""Names that may also be written with the package before them, as in `tw.OVERFLOW`."""
_DECORATORS = frozenset({"property", "staticmethod"})
_REFUSED: dict[type[ast.AST], str] = {
    ast.FunctionDef: "a function in a method",
    ast.AsyncFunctionDef: "a function in a method",
    ast.ClassDef: "a class in the class",
    ast.Import: "import",
    ast.ImportFrom: "import",
    ast.Global: "global",
    ast.Nonlocal: "nonlocal",
    ast.Await: "await",
    ast.Yield: "yield",
    ast.YieldFrom: "yield",
    ast.With: "with",
    ast.Delete: "del",
    ast.Set: "a set, which has no order that stays; write a tuple, or a dict",
    ast.SetComp: "a set, which has no order that stays; write a tuple, or a dict",
}
_IMPURE = {
    ("np", "random"): "is random",
    ("np", "load"): "reads a file",
    ("np", "save"): "writes a file",
    ("datetime", "now"): "is a clock",
}


def own_source(cls: type[Aggregate[Any]]) -> str:
    """The text of a class that a replica makes it from; raises DefinitionError where there is none."""
    return ast.unparse(_cleaned(class_tree(cls)))


def class_content(cls: type[Aggregate[Any]]) -> dict[str, Any]:
    """The meaning of a class as JSON values: each of its names with the syntax that gives it; its own name and place apart."""
    content: dict[str, Any] = {}
    for node in _cleaned(class_tree(cls)).body:
        if isinstance(node, ast.FunctionDef):
            content[node.name] = [[ast.unparse(item) for item in node.decorator_list], syntax_content(node)]
        elif isinstance(node, ast.Assign):
            content |= {target.id: syntax_content(node.value) for target in node.targets if isinstance(target, ast.Name)}
    return content


def class_tree(cls: type) -> ast.ClassDef:
    """The syntax tree of a class, from the file that it stands in; raises DefinitionError where it is not there any more."""
    functions = [item for item in map(_function_of, vars(cls).values()) if item is not None]
    if not functions:
        raise DefinitionError(f"{cls.__name__} defines no method; write zero, add, merge and result in it")
    code = functions[0].__code__
    linecache.checkcache(code.co_filename)
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename, functions[0].__globals__)))
    except SyntaxError:
        tree = ast.Module([], [])
    lines = {(function.__name__, function.__code__.co_firstlineno) for function in functions}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__ and lines <= set(_methods(node)):
            return node
    raise DefinitionError(f"the source of {cls.__name__} is not where it was; define it in the project file, and load the file anew")


def _function_of(item: Any) -> FunctionType | None:
    item = item.fget if isinstance(item, property) else item.__func__ if isinstance(item, staticmethod | classmethod) else item
    return item if isinstance(item, FunctionType) and "<" not in item.__code__.co_name else None


def _methods(node: ast.ClassDef) -> Iterator[tuple[str, int]]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            yield item.name, min([item.lineno, *(decorator.lineno for decorator in item.decorator_list)])


class _Cleaner(ast.NodeTransformer):
    """Without docstrings and annotations; `tw.OVERFLOW` as `OVERFLOW`."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        is_public = isinstance(node.value, ast.Name) and node.value.id in ("tw", "twofold") and node.attr in _PUBLIC
        return ast.copy_location(ast.Name(node.attr, ast.Load()), node) if is_public else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        node.body = [item for item in node.body if not _is_text(item)] or [ast.Pass()]
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        return None if node.value is None else ast.copy_location(ast.Assign([node.target], node.value), node)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _cleaned(node: ast.ClassDef) -> ast.ClassDef:
    """The class as a replica has it: a subclass of `Aggregate`, without docstrings and annotations."""
    copy = ast.parse(ast.unparse(node)).body[0]
    assert isinstance(copy, ast.ClassDef)
    body = [found for item in copy.body if not _is_text(item) if (found := _Cleaner().visit(item)) is not None]
    copy.bases, copy.keywords, copy.decorator_list, copy.body = [ast.Name("Aggregate", ast.Load())], [], [], body
    return ast.fix_missing_locations(copy)


# What may not occur


def source_refusals(cls: type[Aggregate[Any]]) -> Iterator[tuple[str, int]]:
    """What a class says that a replica could not carry out, each with the line in its file."""
    node = class_tree(cls)
    if node.decorator_list or node.keywords:
        yield "it is decorated, so its source is not its meaning; write it without", node.lineno
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            yield from _method_refusals(cls, item)
        elif not (isinstance(item, ast.Assign | ast.AnnAssign | ast.Pass) or _is_text(item)):
            yield f"{type(item).__name__.lower()} is no statement of its body; write assignments and methods", item.lineno
        elif isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
            allowed = ast.Set if "accepts" in ast.unparse(item).split("=")[0] else ()
            yield from _node_refusals(cls, item.value, frozenset(_assigned(node)), "a class", allowed)


def _assigned(node: ast.ClassDef) -> Iterator[str]:
    for item in node.body:
        targets = item.targets if isinstance(item, ast.Assign) else [item.target] if isinstance(item, ast.AnnAssign) else []
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _method_refusals(cls: type[Aggregate[Any]], method: ast.FunctionDef) -> Iterator[tuple[str, int]]:
    for decorator in method.decorator_list:
        if not (isinstance(decorator, ast.Name) and decorator.id in _DECORATORS):
            yield f"{method.name} is decorated by {ast.unparse(decorator)}; only property and staticmethod may stand there", method.lineno
    local = {node.arg for node in ast.walk(method) if isinstance(node, ast.arg)}
    local |= {node.id for node in ast.walk(method) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    local |= {node.name for node in ast.walk(method) if isinstance(node, ast.ExceptHandler) and node.name}
    for part in [*method.body, *method.args.defaults, *(item for item in method.args.kw_defaults if item is not None)]:
        yield from _node_refusals(cls, part, frozenset(local), method.name)


def _node_refusals(
    cls: type[Aggregate[Any]], part: ast.AST, local: frozenset[str], where: str, allowed: type | tuple[()] = ()
) -> Iterator[tuple[str, int]]:
    attributes = {id(node.value) for node in ast.walk(part) if isinstance(node, ast.Attribute) and node.attr in _PUBLIC}
    for node in ast.walk(part):
        line = getattr(node, "lineno", 0)
        if type(node) in _REFUSED and not isinstance(node, allowed):
            yield f"{where} holds {_REFUSED[type(node)]}", line
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in local:
            if not (id(node) in attributes and node.id in ("tw", "twofold")) and (text := _name_refusal(cls, node.id)) is not None:
                yield f"{where} {text}", line
        elif isinstance(node, ast.Attribute) and (text := _attribute_refusal(node, where)) is not None:
            yield f"{where} {text}", line


def _attribute_refusal(node: ast.Attribute, where: str) -> str | None:
    base = node.value.id if isinstance(node.value, ast.Name) else None
    if isinstance(node.ctx, ast.Store) and where != "__init__":
        return f"sets {ast.unparse(node)}; an aggregate keeps nothing but its parameters, only __init__ may set what they give"
    if node.attr.startswith("_") and base != "self" and node.attr != "__init__":
        return f"reads {ast.unparse(node)}, which begins with an underscore"
    for (module, prefix), why in _IMPURE.items():
        if base == module and node.attr.startswith(prefix):
            return f"reads {ast.unparse(node)}, which {why}; an aggregate gives the same everywhere"
    return None


def _name_refusal(cls: type[Aggregate[Any]], name: str) -> str | None:
    """Why a free name may not occur, or None: a replica must have it, and it must mean the same in the person's file."""
    if name not in FREE_NAMES and name not in BUILTINS:
        known = sorted({*FREE_NAMES, *BUILTINS})
        nearest = did_you_mean(name, known)
        return f"reads {name!r}, which a replica does not have; there are {', '.join(sorted(FREE_NAMES))} and plain builtins.{nearest}"
    found = next((item.__globals__ for item in map(_function_of, vars(cls).values()) if item is not None), {})
    if name in found and name in FREE_NAMES and found[name] is not free_value(name):
        return f"reads {name!r}, which is {found[name]!r} in its file, and {free_value(name)!r} in a replica"
    if name in found and name not in FREE_NAMES:
        return f"reads {name!r}, a builtin that its file gives another meaning"
    return None
