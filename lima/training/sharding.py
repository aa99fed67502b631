"""Weights for transformers, gathered a few at a time: no worker ever holds the model.

Every file is gathered on all workers and kept by one of them, round robin, which then writes it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lima.training.world import World

FILE_BYTES = 1 << 30
"""Of a file of weights, which workers gather at once; a larger weight has a file of its own."""
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""Names that transformers looks for: of the one file, or of what names several."""
_LAYER = re.compile(r"^.*?\.layers\.\d+\.")


@dataclass(frozen=True)
class Shards:
    """This worker's files of weights, in the memory of the host.

    `places` and `size` are the whole model's: where each weight lies, and the bytes of all.
    """

    files: dict[str, dict[str, Tensor]]
    places: dict[str, str]
    parameters: int
    size: int

    @property
    def index(self) -> bytes | None:
        """What transformers reads of several files; None: there is one."""
        if set(self.places.values()) == {WHOLE}:
            return None
        metadata = {"total_parameters": self.parameters, "total_size": self.size}
        content = {"metadata": metadata, "weight_map": self.places}
        return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def gather_shards(engine: Any, world: World, file_bytes: int) -> Shards:
    """Gather the weights of a DeepSpeed engine (ZeRO-3), in the type that they are trained in.

    Args:
        engine: Of the model; all workers take part.
        world: The workers.
        file_bytes: Most that is gathered at once, unless one weight is larger.

    Returns:
        The files that this worker is to write.

    """
    import deepspeed

    model = engine.module
    groups = list(_grouped(model, file_bytes))
    files: dict[str, dict[str, Tensor]] = {}
    places: dict[str, str] = {}
    size = 0
    engine.optimizer.checkpoint_event_prologue()
    for number, names in enumerate(groups):
        with deepspeed.zero.GatheredParameters([model.get_parameter(n) for n in names]):
            found = _as_saved(model, names, buffers=number == 0)
            file = _name(number, len(groups))
            places.update(dict.fromkeys(found, file))
            size += sum(t.numel() * t.element_size() for t in found.values())
            if number % world.size == world.rank:
                files[file] = {name: t.detach().cpu().clone() for name, t in found.items()}
    engine.optimizer.checkpoint_event_epilogue()
    return Shards(files, places, sum(int(w.ds_numel) for w in model.parameters()), size)


def _name(number: int, count: int) -> str:
    return WHOLE if count == 1 else f"model-{number + 1:05d}-of-{count:05d}.safetensors"


def _grouped(model: Any, file_bytes: int) -> Iterator[list[str]]:
    """Yield the names of the weights of one file after another."""
    group: list[str] = []
    size = 0
    for names in _units(model):
        more = sum(_bytes(model.get_parameter(name)) for name in names)
        if group and size + more > file_bytes:
            yield group
            group, size = [], 0
        group, size = [*group, *names], size + more
    yield group


def _bytes(weight: Any) -> int:
    return int(weight.ds_numel) * int(weight.element_size())


def _units(model: Any) -> Iterable[Sequence[str]]:
    """Return names of weights that must lie in one file together.

    transformers writes some models otherwise than it holds them (experts, one by one): a layer of
    these stays together. Of a tied weight the name counts under which it is looked for.
    """
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    names = [n for n in names if n not in tied and n not in (model._keys_to_ignore_on_save or ())]
    if not _is_converted(model):
        return [[name] for name in names]
    units: dict[str, list[str]] = {}
    for name in names:
        layer = _LAYER.match(name)
        units.setdefault(layer[0] if layer else name, []).append(name)
    return list(units.values())


def _is_converted(model: Any) -> bool:
    from transformers.core_model_loading import WeightConverter

    conversions = getattr(model, "_weight_conversions", None) or ()
    return any(isinstance(conversion, WeightConverter) for conversion in conversions)


def _as_saved(model: Any, names: Sequence[str], *, buffers: bool) -> dict[str, Tensor]:
    """Return gathered weights as transformers saves them."""
    from transformers.core_model_loading import revert_weight_conversion

    found = {name: model.get_parameter(name) for name in names}
    if buffers:
        found |= dict(_kept_buffers(model))
    return dict(revert_weight_conversion(model, found))


def _kept_buffers(model: Any) -> Iterator[tuple[str, Tensor]]:
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                yield (f"{prefix}.{name}" if prefix else name), buffer
