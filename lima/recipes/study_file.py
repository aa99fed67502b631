"""A study as a file, JSON or YAML: all of its runs, or what it changes of another study.

`{"runs": [...]}`, as `lima-k8s show` writes it; or `{extends: RECIPE, …}`, see
`lima.recipes.extending`.
"""

import contextlib
import json
from collections.abc import Sequence
from typing import Any

from lima.common.encoding import not_utf8
from lima.common.paths import expanded
from lima.errors import SpecError
from lima.recipes.extending import Recipes, extended
from lima.spec import CellSpec
from lima.spec.codec import decode, shortened, unknown_key

FOR_READERS = ("run_ids", "inputs")
"""Keys that `lima-k8s show` writes, and that are not read back."""
KEYS = ("runs", *FOR_READERS)


def read_study(
    path: str, recipe: Recipes, extensions: Sequence[str] = ()
) -> tuple[CellSpec, ...] | None:
    """Return the runs of a file; None if there is no such file.

    Args:
        path: Of the file.
        recipe: Returns the runs of what a study extends, a recipe or another file.
        extensions: Python files whose names it may have beside those that it lists.

    Raises:
        SpecError: it cannot be read, or is not a study.

    """
    name = shortened(path)
    try:
        data = expanded(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SpecError(f"{name}: cannot be read ({error.strerror})") from None
    if problem := not_utf8(data):
        raise SpecError(f"{name}: {problem}")
    document = _parse(data.decode("utf-8"), name)
    if isinstance(document, dict) and "extends" in document:
        return extended(document, name, recipe, extensions)
    runs = document.get("runs") if isinstance(document, dict) else None
    if not isinstance(runs, list) or not runs:
        raise SpecError(
            f'{name}: not a study; expected {{"runs": [...]}} with at least one run, as '
            "`lima-k8s show RECIPE --format json` writes it, or {extends: RECIPE, …}, as "
            "`lima-k8s init` does"
        )
    for key in document:
        if key not in KEYS:
            raise unknown_key(str(key), KEYS, name)
    return tuple(
        decode(CellSpec, run, f"{name}: runs[{i}]", extensions) for i, run in enumerate(runs)
    )


def _parse(text: str, name: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return _parse_yaml(text, name)
    try:
        return json.loads(text)
    except RecursionError:
        raise SpecError(f"{name}: not a study (nested too deeply)") from None
    except json.JSONDecodeError as error:
        with contextlib.suppress(SpecError):  # `{extends: tiny}` is YAML
            return _parse_yaml(text, name)
        raise SpecError(f"{name}: not JSON ({error})") from None
    except ValueError:
        raise SpecError(f"{name}: not a study (a number has thousands of digits)") from None


def _parse_yaml(text: str, name: str) -> Any:
    import yaml

    from lima.spec.yamltext import load_yaml

    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{name}: not YAML ({' '.join(str(error).split())})") from None
