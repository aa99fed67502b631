"""YAML as people write it, by the rules of YAML 1.2: `1e-5` is a number, `no` is a word.

Only what JSON has: tags like `!!set` and `!!binary`, whose values have no JSON, are refused.
"""

import re
from collections.abc import Callable
from typing import Any, ClassVar

import yaml

from lima.spec.codec import shortened

_CORE_SCHEMA = (
    ("null", ["~", "n", "N", ""], r"~|null|Null|NULL|"),
    ("bool", [*"tTfF"], r"true|True|TRUE|false|False|FALSE"),
    ("int", [*"-+0123456789"], r"[-+]?[0-9]+"),
    ("float", [*"-+.0123456789"], r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
    ("float", [*"-+."], r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
)
_KINDS = ("null", "bool", "int", "float", "str", "seq", "map")
MOST_VALUES = 1_000_000
"""Values of a document with its aliases written out: a few lines can stand for billions."""


class _Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, which reads `1e-5` as text, `no` as false and `010` as 8."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    yaml_constructors: ClassVar[dict[str | None, Callable[[Any, Any], Any]]] = {
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in _KINDS
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node; PyYAML lets the errors of Python's own types through."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, TypeError, IndexError):
            kind, value = node.tag.rpartition(":")[2], "a list or mapping"
            if isinstance(node, yaml.ScalarNode):
                value = repr(shortened(node.value, 60))
            problem = f"{value} cannot be read as {kind}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


for _tag, _first, _pattern in _CORE_SCHEMA:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
# Not of YAML 1.2, but people write it: `<<: *common` takes the keys of another mapping.
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("^<<$"), ["<"])
_Loader.add_constructor("tag:yaml.org,2002:merge", lambda _, node: str(node.value))


def load_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        yaml.YAMLError: it is not YAML, or stands for more than a machine can hold.

    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    finally:
        loader.dispose()


def _count(node: yaml.Node, counted: dict[int, int | None]) -> int:
    """Return how many values a node is with its aliases written out.

    `counted` holds the nodes that were met: their values, None while they are being counted.
    """
    if id(node) in counted:
        known = counted[id(node)]
        if known is None:
            problem = "an alias stands within what it names"
            raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
        return known
    counted[id(node)] = None
    total = 1 + sum(_count(child, counted) for child in _children(node))
    if total > MOST_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES:,} values")
    counted[id(node)] = total
    return total


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
