"""Residual dropout that rises linearly over the layers (section 3, after Ouyang et al. 2022)."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from lima.errors import ModelError


def layer_rates(layers: int, top: float) -> list[float]:
    """Return the rate of each layer: 0 at the bottom, `top` at the last."""
    if layers == 1:
        return [top]
    return [top * index / (layers - 1) for index in range(layers)]


def add_residual_dropout(model: nn.Module, top: float) -> None:
    """Drop what attention and feed-forward add to the residual stream, while training.

    Forward hooks leave the names of the weights unchanged, run inside the recomputation of
    gradient checkpointing, and work on whatever ZeRO-3 has gathered.

    Raises:
        ModelError: the model's layers do not have LLaMA's two branches.

    """
    layers = decoder_layers(model)
    for layer, rate in zip(layers, layer_rates(len(layers), top), strict=True):
        if rate > 0:
            layer.self_attn.register_forward_hook(_dropout_hook(rate))
            layer.mlp.register_forward_hook(_dropout_hook(rate))


def decoder_layers(model: nn.Module) -> list[Any]:
    """Return the decoder layers of a LLaMA-family model, bottom first."""
    layers = list(getattr(getattr(model, "model", None), "layers", []))
    if not layers or not all(hasattr(x, "self_attn") and hasattr(x, "mlp") for x in layers):
        raise ModelError(
            f"{type(model).__name__} is not of the LLaMA family: its layers must have "
            "`self_attn` and `mlp` for residual dropout"
        )
    return layers


def _dropout_hook(rate: float) -> Any:
    def drop(module: nn.Module, _inputs: Any, output: Any) -> Any:
        if not module.training:
            return output
        if isinstance(output, Tensor):
            return functional.dropout(output, rate)
        return (functional.dropout(output[0], rate), *output[1:])

    return drop
