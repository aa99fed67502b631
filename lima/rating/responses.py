"""Responses that can be rated, by the prompt that they answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lima.errors import DataError
from lima.rating.instructions import Kind
from lima.spec.codec import sha256_key
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS

COLUMNS = [
    "arm",
    "generation_key",
    "prompt_key",
    "prompt_index",
    "sample",
    "source",
    "prompt",
    "response",
    "finish_reason",
]
"""Of a response, that people and models are asked about."""


@dataclass(frozen=True)
class Response:
    """A response that can be rated, and the prompt that it answers."""

    key: str
    arm: str
    prompt_key: str
    prompt_index: int
    source: str
    prompt: tuple[str, ...]
    text: str


Responses: TypeAlias = dict[str, Response]
"""The responses of a run by prompt key."""


def read_responses(storage: Storage, run: str) -> Responses:
    """Return the first response to each prompt of a run of generation, by prompt key.

    Raises:
        DataError: the run has none, or its shards cannot be read.

    """
    tables = Tables(storage)
    parts = [part for _, part in tables.map(GENERATIONS, COLUMNS, lambda p: p, runs={run})]
    tables.require_readable()
    rows = [row for part in parts for row in part.to_pylist()]
    found = {r["prompt_key"]: _response(r) for r in rows if _can_be_rated(r)}
    if not found:
        raise DataError(
            f"{storage.uri}: no responses of run {run!r}; name a run of the stage generate "
            "(`lima-k8s status` lists them)"
        )
    return found


def _can_be_rated(row: dict[str, Any]) -> bool:
    return bool(row["sample"] == 0 and row["finish_reason"] != "prompt_too_long")


def _response(row: dict[str, Any]) -> Response:
    return Response(
        key=row["generation_key"],
        arm=row["arm"],
        prompt_key=row["prompt_key"],
        prompt_index=row["prompt_index"],
        source=row["source"],
        prompt=tuple(row["prompt"]),
        text=row["response"],
    )


def item_id(kind: Kind, prompt_key: str, responses: Sequence[str]) -> str:
    """Return the id of an item; a pair has the same one whatever its order."""
    return sha256_key([kind, prompt_key, sorted(responses)])
