"""Residual dropout by layer (section 3)."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lima.errors import ModelError
from lima.model.residual_dropout import (
    Place,
    ResidualDropout,
    decoder_layers,
    layer_rates,
)
from tests.helpers.models import make_base


@pytest.fixture
def model(tmp_path: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(make_base(tmp_path, layers=4))


def rows(count: int, length: int) -> list[Place]:
    return [Place(row, 0, length, f"example {row}") for row in range(count)]


def test_rates_rise_linearly_from_zero() -> None:
    assert layer_rates(4, 0.3) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert layer_rates(80, 0.3)[0] == 0
    assert layer_rates(80, 0.3)[-1] == pytest.approx(0.3)


def test_measured_rates_on_both_branches(model: Any) -> None:
    dropout = ResidualDropout(model, 0.3)
    model.train()
    seen: list[list[torch.Tensor]] = []
    for layer in decoder_layers(model):
        outputs: list[torch.Tensor] = []
        seen.append(outputs)
        # Runs after the dropout's own hook, on what is added to the residual stream.
        layer.self_attn.register_forward_hook(lambda m, i, o, out=outputs: out.append(o[0]))
        layer.mlp.register_forward_hook(lambda m, i, o, out=outputs: out.append(o))
    dropout.place(rows(16, 200))
    model(input_ids=torch.randint(5, 300, (16, 200)))
    for outputs, rate in zip(seen, layer_rates(4, 0.3), strict=True):
        assert len(outputs) == 2
        for output in outputs:
            measured = (output == 0).float().mean().item()
            assert measured == pytest.approx(rate, abs=0.01)


def drawn(seed: int, *, rate: float = 0.3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return the factors of a row of examples of 301 tokens in a layer of ones."""
    layer = torch.nn.Identity()
    dropout = ResidualDropout(Layers(layer), rate)
    dropout.place([Place(0, 0, 301, f"example {seed}")])
    found: torch.Tensor = layer.train()(torch.ones((1, 301, 33), dtype=dtype))
    return found[0]


class Layers(torch.nn.Module):
    """A model of one layer, whose attention is given."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.model = torch.nn.Module()
        block = torch.nn.Module()
        block.self_attn, block.mlp = layer, torch.nn.Identity()
        self.model.layers = torch.nn.ModuleList([block])


def test_all_precisions_drop_the_same() -> None:
    for rate in (0.1, 0.3):
        exact = drawn(1, rate=rate)
        for dtype in (torch.bfloat16, torch.float16):
            assert torch.equal(drawn(1, rate=rate, dtype=dtype), exact.to(dtype))


@pytest.mark.parametrize("rate", [1e-6, 0.3, 0.5, 1 - 1e-7])
def test_the_mean_is_kept_exactly(rate: float) -> None:
    """What is kept is scaled by the inverse of its share of the values that 16 bits may have."""
    found = drawn(1, rate=rate)
    kept = found[found != 0]
    scale = kept[0].item() if len(kept) else 2.0**16
    assert torch.equal(kept, torch.full_like(kept, scale))
    counted = 2**16 / scale
    assert counted == pytest.approx(round(counted), rel=1e-6)
    assert 1 - counted / 2**16 == pytest.approx(rate, abs=2**-16)


def test_draws_know_nothing_of_each_other() -> None:
    """What is dropped together is as often as by chance: of neighbours, and of two addresses."""
    rate, one, other = 0.3, drawn(1) == 0, drawn(2) == 0
    flat = one.flatten()
    allowed = 4 * (rate / len(flat)) ** 0.5
    for step in (1, 2, 3, 4, 33):  # four elements share a draw, 33 a row
        together = (flat[step:] & flat[:-step]).float().mean().item()
        assert together == pytest.approx(rate**2, abs=allowed)
    assert (one & other).float().mean().item() == pytest.approx(rate**2, abs=allowed)
    assert flat.float().mean().item() == pytest.approx(rate, abs=allowed)


def test_nothing_is_dropped_in_evaluation_and_names_stay(model: Any) -> None:
    names = list(model.state_dict())
    ids = torch.randint(5, 300, (2, 20))
    model.eval()
    before = model(input_ids=ids).logits
    ResidualDropout(model, 0.3)
    assert list(model.state_dict()) == names
    assert torch.equal(model(input_ids=ids).logits, before)


def test_gradient_checkpointing_gives_the_same_gradients(model: Any) -> None:
    dropout = ResidualDropout(model, 0.3)
    dropout.place(rows(2, 20))
    ids = torch.randint(5, 300, (2, 20))

    def gradients() -> list[torch.Tensor]:
        model.train().zero_grad()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        return [p.grad.clone() for p in model.parameters()]

    plain = gradients()
    model.activation_checkpointing_enable({"use_reentrant": False})
    for a, b in zip(plain, gradients(), strict=True):
        assert torch.equal(a, b)


def test_another_architecture_is_refused() -> None:
    with pytest.raises(ModelError, match="LLaMA family"):
        ResidualDropout(torch.nn.Linear(2, 2), 0.3)
