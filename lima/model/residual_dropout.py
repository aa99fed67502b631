"""Residual dropout that rises linearly over the layers (section 3, after Ouyang et al. 2022).

What is dropped of an example is a function of its address (seed, step, example), the layer and the
branch: the same in whatever row, micro-batch or worker the example is read.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lima.common.addresses import address_seed
from lima.errors import ModelError

VALUES = 2**16
"""Of the bits that an element is drawn with."""
LEAST = -(2**63)
"""Value of a draw: all of its 64 bits are drawn."""


def layer_rates(layers: int, top: float) -> list[float]:
    """Return the rate of each layer: 0 at the bottom, `top` at the last."""
    if layers == 1:
        return [top]
    return [top * index / (layers - 1) for index in range(layers)]


class Place(NamedTuple):
    """Where an example lies in a batch (rows, tokens, width), and the address of its draws."""

    row: int
    start: int
    stop: int
    address: str


class ResidualDropout:
    """Drops what attention and feed-forward add to the residual stream, while training.

    Forward hooks leave the names of the weights unchanged, run inside the recomputation of
    gradient checkpointing, and work on whatever ZeRO-3 has gathered.
    """

    def __init__(self, model: nn.Module, top: float) -> None:
        """Drop in `model`, at rate `top` in the last layer.

        Raises:
            ModelError: the model's layers do not have LLaMA's two branches.

        """
        self._places: Sequence[Place] = ()
        self._spaces: dict[torch.device, Tensor] = {}
        self._generators: dict[torch.device, torch.Generator] = {}
        layers = decoder_layers(model)
        for index, rate in enumerate(layer_rates(len(layers), top)):
            if rate > 0:
                for branch in ("self_attn", "mlp"):
                    hook = self._hook(rate, f"{index}/{branch}")
                    getattr(layers[index], branch).register_forward_hook(hook)

    def place(self, places: Sequence[Place]) -> None:
        """Say where the examples lie in what the model reads from now on."""
        self._places = places

    def _hook(self, rate: float, branch: str) -> Any:
        def drop(module: nn.Module, _inputs: Any, output: Any) -> Any:
            if not module.training:
                return output
            if isinstance(output, Tensor):
                return self._drop(output, rate, branch)
            return (self._drop(output[0], rate, branch), *output[1:])

        return drop

    def _drop(self, output: Tensor, rate: float, branch: str) -> Tensor:
        rows, tokens, width = output.shape
        # Four elements share a draw, 16 bits each. What belongs to no example is kept.
        shape = (rows, tokens, -(-width // 4))
        covered = sum(stop - start for _, start, stop, _ in self._places) == rows * tokens
        draws = self._space(shape, output.device)
        if not covered:
            draws.zero_()
        generator = self._generator(output.device)
        for row, start, stop, address in self._places:
            generator.manual_seed(address_seed(f"{address}/{branch}"))
            draws[row, start:stop].random_(LEAST, None, generator=generator)
        return output * factors(draws.view(torch.int16)[..., :width], rate, output.dtype)

    def _space(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Return memory for draws, the same each time: new memory is slow to write to."""
        space, size = self._spaces.get(device), math.prod(shape)
        if space is None or space.numel() < size:
            space = self._spaces[device] = torch.empty(size, dtype=torch.int64, device=device)
        return space[:size].view(shape)

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device)
        return self._generators[device]


def factors(draws: Tensor, rate: float, dtype: torch.dtype) -> Tensor:
    """Return 0 for what is dropped, and for the others what keeps the mean as it is.

    The same in all precisions and, unlike torch's own Bernoulli draws, on processors of all makers.

    Args:
        draws: A draw of 16 bits for each element, so that a rate is a multiple of 1/65536; not
            draws any more afterwards.
        rate: Probability of a 0.
        dtype: Of the result.

    """
    dropped = min(round(rate * VALUES), VALUES - 1)
    # In place: a CPU compares to 16 bits five times as fast as to booleans, and converts them so.
    kept = draws.ge_(dropped - VALUES // 2)
    return kept.to(dtype).mul_(VALUES / (VALUES - dropped))


def decoder_layers(model: nn.Module) -> list[Any]:
    """Return the decoder layers of a LLaMA-family model, bottom first."""
    layers = list(getattr(getattr(model, "model", None), "layers", []))
    if not layers or not all(hasattr(x, "self_attn") and hasattr(x, "mlp") for x in layers):
        raise ModelError(
            f"{type(model).__name__} is not of the LLaMA family: its layers must have "
            "`self_attn` and `mlp` for residual dropout"
        )
    return layers
