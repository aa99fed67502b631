"""Residual dropout by layer (section 3)."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lima.errors import ModelError
from lima.model.residual_dropout import Place, ResidualDropout, decoder_layers, layer_rates
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
