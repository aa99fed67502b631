"""YAML as people write it, by the rules of YAML 1.2: `1e-5` is a number, `no` is a word."""

import re
from typing import Any

import yaml

_CORE_SCHEMA = (
    ("null", ["~", "n", "N", ""], r"~|null|Null|NULL|"),
    ("bool", [*"tTfF"], r"true|True|TRUE|false|False|FALSE"),
    ("int", [*"-+0123456789"], r"[-+]?[0-9]+"),
    ("float", [*"-+.0123456789"], r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
    ("float", [*"-+."], r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
)


class _Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, which reads `1e-5` as text, `no` as false and `010` as 8."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _first, _pattern in _CORE_SCHEMA:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))


def load_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        yaml.YAMLError: it is not YAML.

    """
    return yaml.load(text, _Loader)
