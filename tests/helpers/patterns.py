"""The regular expressions of the project, how each is used, and texts that are hard for it."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import lima
import lima_jobs
import lima_k8s

PACKAGES = (lima, lima_jobs, lima_k8s)
IN_VLLM = "lima.generation.vllm.processor"
"""Imported by vLLM's own environment alone; it has no pattern."""
METHODS = ("match", "fullmatch", "search", "findall", "finditer", "sub", "subn", "split")
PIECES = 6
"""Literal parts of a pattern that texts are made of."""
FILLERS = ("a", " ", "\n", "0", "a.", "! ")


@dataclass(frozen=True)
class Use:
    """A pattern, and a method of `re` that the code calls with it."""

    where: str
    pattern: re.Pattern[Any]
    method: str

    def on(self, text: str) -> None:
        """Do what the code does, on all of a text."""
        given: Any = text.encode() if isinstance(self.pattern.pattern, bytes) else text
        if self.method in ("sub", "subn"):
            getattr(self.pattern, self.method)(given[:0], given)
        elif self.method == "finditer":
            for _ in self.pattern.finditer(given):
                pass
        else:
            getattr(self.pattern, self.method)(given)


def uses() -> list[Use]:
    """Return every pattern with every method that it is used by."""
    trees = list(_trees())
    everywhere = [call for _, tree in trees for call in _calls(tree)]
    found: dict[tuple[Any, int, str], Use] = {}
    for module, tree in trees:
        compiled = _compiled(module, tree, list(_calls(tree)), everywhere)
        for where, pattern, method in [*_inline(module, tree), *compiled]:
            key = (pattern.pattern, pattern.flags, method)
            found.setdefault(key, Use(where, pattern, method))
    return list(found.values())


def hostile(pattern: re.Pattern[Any], size: int) -> Iterator[str]:
    """Yield texts of `size` characters that begin what the pattern seeks and never end it."""
    source = pattern.pattern
    source = source.decode("latin-1") if isinstance(source, bytes) else source
    parsed = re._parser.parse(source, pattern.flags)  # type: ignore[attr-defined]
    pieces = list(dict.fromkeys(_literals(parsed)))[:PIECES]
    repeated = [piece + end for piece in pieces for end in ("", "a", " ")]
    for text in dict.fromkeys([*repeated, *FILLERS]):
        yield (text * (size // len(text) + 1))[:size]
    for piece in pieces:
        for filler in (" ", pieces[-1]):
            yield (piece + filler * size)[:size]


def _literals(parsed: Any) -> Iterator[str]:
    """Yield the runs of literal characters of a parsed pattern, and the members of its sets."""
    run = ""
    for operator, argument in parsed:
        if str(operator) == "LITERAL":
            run += chr(argument)
            continue
        if run:
            yield run
            run = ""
        for part in _parts(argument):
            yield from _literals(part)
    if run:
        yield run


def _parts(argument: Any) -> Iterator[Any]:
    if hasattr(argument, "data"):
        yield argument
    elif isinstance(argument, list):
        for item in argument:
            if isinstance(item, tuple) and len(item) == 2 and str(item[0]) == "LITERAL":
                yield [item]
            else:
                yield from _parts(item)
    elif isinstance(argument, tuple):
        for item in argument:
            yield from _parts(item)


def _trees() -> Iterator[tuple[ModuleType, ast.Module]]:
    for package in PACKAGES:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__") and found.name != IN_VLLM:
                module = importlib.import_module(found.name)
                yield module, ast.parse(Path(str(module.__file__)).read_text("utf-8"))


def _calls(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield `(name, method)` of calls that may be of a compiled pattern."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            value = node.value
            name = value.id if isinstance(value, ast.Name) else getattr(value, "attr", "")
            yield str(name), node.attr


def _inline(module: ModuleType, tree: ast.Module) -> Iterator[tuple[str, Any, str]]:
    """Yield what is called as `re.sub(PATTERN, …)`."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        value = node.func.value
        if not (isinstance(value, ast.Name) and value.id == "re" and node.func.attr in METHODS):
            continue
        where = f"{module.__name__}:{node.lineno}"
        try:
            source = eval(compile(ast.Expression(node.args[0]), where, "eval"), vars(module))
        except NameError:  # of a pattern that is passed on: found where it is made
            continue
        ignore = any("IGNORECASE" in ast.unparse(k.value) for k in node.keywords)
        yield where, re.compile(source, re.IGNORECASE if ignore else 0), node.func.attr


def _compiled(
    module: ModuleType,
    tree: ast.Module,
    here: list[tuple[str, str]],
    everywhere: list[tuple[str, str]],
) -> Iterator[tuple[str, Any, str]]:
    """Yield the patterns that a module keeps, by themselves or in tuples and functions."""
    own = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for name, value in vars(module).items():
        if name not in own:
            continue
        for pattern in _patterns(value):
            methods = {m for n, m in here if n == name} or {m for n, m in everywhere if n == name}
            for method in sorted(methods or {"sub"}):
                yield f"{module.__name__}.{name}", pattern, method


def _patterns(value: Any) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        yield from _patterns(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _patterns(item)
