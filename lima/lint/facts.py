"""What can be known about data and models on this machine; a hub is asked for data alone."""

import contextlib
import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from lima.common.paths import expanded, is_here
from lima.data.examples import Loader
from lima.errors import HubError, InputError
from lima.inputs.example_names import HUB
from lima.inputs.model_files import is_gguf
from lima.inputs.shipped import AUTHORED, PYDOC
from lima.model.context import context_length
from lima.model.end_of_turn import EOS, PAD
from lima.model.loading import EARLIER_STAGES, RUN, SCRATCH
from lima.spec import CellSpec, DataSpec, ModelSpec, TrainSpec

T = TypeVar("T")


@dataclass(frozen=True)
class DataFacts:
    """Examples that a selection can be sampled from; None if that cannot be known here."""

    available: int | None = None
    missing: bool = False
    problem: str = ""
    away: str = ""
    """Why a hub cannot be asked from here."""


@dataclass(frozen=True)
class ModelFacts:
    """A model as it can be loaded; None is unknown."""

    name: str
    context: int | None = None
    eos: str | None = None
    pad: str | None = None
    template: str = ""
    """Its chat template, if it has one."""
    is_here: bool = True
    is_gguf: bool = False
    """A file that is here and takes too long to look into."""


class Facts:
    """Looks at every file once."""

    def __init__(self) -> None:
        self._data: dict[tuple[DataSpec, Loader], DataFacts] = {}
        self._known: dict[Hashable, Any] = {}

    def known(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return what `find` returns; it is called once for a key."""
        if key not in self._known:
            self._known[key] = find()
        found: T = self._known[key]
        return found

    def data(self, spec: DataSpec, load: Loader) -> DataFacts:
        """Return the facts of a selection that a stage loads with `load`."""
        key = (replace(spec, count=None, seed=0, fingerprint=None), load)
        if key not in self._data:
            self._data[key] = _data_facts(*key)
        return self._data[key]

    def model(self, spec: ModelSpec, cell: CellSpec) -> ModelFacts | None:
        """Return the facts of a model of `cell`; None if no stage makes it."""
        origin = _origin(spec, cell)
        if origin is None:
            return None
        spec = origin
        if spec.path == SCRATCH:
            context = spec.shape.context_length if spec.shape else None
            return ModelFacts(SCRATCH, context, EOS, PAD)
        if is_gguf(spec.path) and is_here(spec.path):
            return ModelFacts(spec.path, is_gguf=True)
        if is_here(f"{spec.path}/config.json"):
            return _local_model(expanded(spec.path))
        return ModelFacts(spec.path, is_here=False)


def earlier_stage(spec: ModelSpec) -> str | None:
    """Return the stage of this cell that makes the model; None if it comes from elsewhere."""
    name = spec.path.removeprefix(RUN)
    return name if spec.path.startswith(RUN) and name in EARLIER_STAGES else None


def model_of(spec: TrainSpec, cell: CellSpec) -> TrainSpec | None:
    """Return the stage of `cell` whose model comes from elsewhere, from which `spec` starts.

    None: no stage makes the model.
    """
    for _ in EARLIER_STAGES:
        stage = earlier_stage(spec.model)
        if stage is None:
            return spec
        before: TrainSpec | None = getattr(cell, stage)
        if before is None:
            return None
        spec = before
    return None if earlier_stage(spec.model) else spec  # stages that start from each other


def _origin(spec: ModelSpec, cell: CellSpec) -> ModelSpec | None:
    stage = earlier_stage(spec)
    if stage is None:
        return spec
    trained: TrainSpec | None = getattr(cell, stage)
    found = model_of(trained, cell) if trained else None
    return found.model if found else None


def is_remote(path: str) -> bool:
    """Say whether data or a model lies on an object store."""
    return "://" in path


def _data_facts(spec: DataSpec, load: Loader) -> DataFacts:
    if is_remote(spec.path):
        return DataFacts()
    named = spec.path == PYDOC or spec.path.startswith((AUTHORED, HUB))
    if not named and not is_here(spec.path):
        return DataFacts(missing=True)
    try:
        return DataFacts(len(load(spec)))
    except InputError as error:
        return DataFacts(problem=str(error))
    except HubError as error:
        return DataFacts(away=str(error))


def _local_model(folder: Path) -> ModelFacts:
    tokens = _json(folder / "tokenizer_config.json")
    return ModelFacts(
        str(folder),
        context_length(_json(folder / "config.json")),
        token_of(tokens, "eos_token"),
        token_of(tokens, "pad_token"),
        _template(folder, tokens),
    )


def _template(folder: Path, tokens: dict[str, Any]) -> str:
    """Return the chat template of a saved tokenizer; empty: it has none."""
    with contextlib.suppress(OSError, ValueError):
        return (folder / "chat_template.jinja").read_text("utf-8")
    found = tokens.get("chat_template")
    return found if isinstance(found, str) else str(found or "")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def token_of(settings: dict[str, Any], name: str) -> str | None:
    """Return a special token of a saved tokenizer: a text, or a mapping with its content."""
    value = settings.get(name)
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
