"""Packed batches against padded ones: the same examples, the same gradients (section 3)."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lima.model.attention import attend_within_examples
from lima.model.end_of_turn import Encoded
from lima.model.families import FAMILIES, is_packable
from lima.model.residual_dropout import Place, ResidualDropout
from lima.spec import ComputeSpec, DataSpec, ModelSpec, TrainSpec
from lima.training.batches import (
    MicroBatch,
    PackedBatches,
    PaddedBatches,
    packed_inputs,
    total_loss,
)
from lima.training.crossentropy import predict_from_head
from lima.training.packing import pack

VOCABULARY = 97
CPU = torch.device("cpu")
SPEC = TrainSpec(
    ModelSpec("base"),
    DataSpec("data"),
    max_length=48,
    compute=ComputeSpec(device="cpu", precision="fp32", micro_batch_size=3),
)


@given(
    lengths=st.lists(st.integers(1, 50), max_size=40),
    budget=st.integers(50, 200),
    world=st.integers(1, 5),
)
def test_every_example_once_within_the_budget_and_as_many_parts_everywhere(
    lengths: list[int], budget: int, world: int
) -> None:
    steps = pack(lengths, budget, world)
    assert all(len(workers) == world for workers in steps)
    bins = [members for workers in steps for members in workers]
    assert sorted(i for members in bins for i in members) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in members) <= budget for members in bins)
    # Two bins of first fit are never together below the budget.
    assert len(bins) <= 2 * sum(lengths) / budget + 1 + world


def test_workers_of_a_step_read_about_as_much() -> None:
    draw = random.Random(0)
    lengths = [min(int(draw.lognormvariate(6.2, 0.8)), 2048) for _ in range(32)]
    for workers in pack(lengths, 4 * 2048, 4):
        tokens = [sum(lengths[i] for i in members) for members in workers]
        assert max(tokens) - min(tokens) < 0.05 * sum(lengths)


def tiny_model(family: str, **settings: Any) -> Any:
    """Return a model of random weights of a family of transformers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family,
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "intermediate_size": 48,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
        }
        | settings,
    )
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config(config).train()


def some_examples(draw: random.Random) -> list[Encoded]:
    def example() -> Encoded:
        length = draw.randint(2, SPEC.max_length)
        ids = [draw.randrange(1, VOCABULARY) for _ in range(length)]
        return Encoded(ids, [draw.random() < 0.6 for _ in range(length)])

    return [example() for _ in range(draw.randint(5, 12))]


def places(micro: MicroBatch) -> list[Place]:
    return [Place(*span[:3], str(span.example)) for span in micro.spans]


def gradients(
    model: Any, parts: Sequence[MicroBatch], dropout: ResidualDropout | None
) -> dict[str, torch.Tensor]:
    """Return the gradients of the summed loss, and the loss itself as `loss`."""
    model.zero_grad()
    summed = torch.zeros(())
    for micro in parts:
        if dropout:
            dropout.place(places(micro))
        if micro.packed:
            loss = model(**packed_inputs(micro, CPU))
        else:
            loss = total_loss(
                model(input_ids=micro.input_ids, use_cache=False).logits, micro.labels
            )
        loss.backward()
        summed += loss.detach()
    return {"loss": summed} | {n: p.grad.clone() for n, p in model.named_parameters()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    size = torch.stack([v.norm() for v in one.values()]).norm()
    for name, value in one.items():
        assert (value - other[name]).norm() <= 1e-6 * max(value.norm(), 1e-2 * size), name


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        *((family, {}) for family in sorted(FAMILIES)),
        ("mistral", {"sliding_window": 9}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}),
        ("llama", {"tie_word_embeddings": True}),
    ],
)
def test_gradients_are_those_of_padded_batches(
    family: str, settings: dict[str, Any], rate: float, checkpointing: bool
) -> None:
    model = tiny_model(family, **settings)
    assert is_packable(model)
    dropout = ResidualDropout(model, rate) if rate else None
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    encoded = some_examples(random.Random(f"{family}{settings}"))
    arguments: Any = (encoded, replace(SPEC, loss_on="responses"), 0)
    indices = list(range(len(encoded)))
    random.Random(3).shuffle(indices)
    padded = PaddedBatches(*arguments, batch_size=len(encoded)).build(indices, 0, 1)
    expected = gradients(model, padded.micro_batches, dropout)
    attend_within_examples(model)
    predict_from_head(model)
    packed = PackedBatches(*arguments, batch_size=len(encoded)).build(indices, 0, 1)
    assert len(packed.micro_batches) <= len(padded.micro_batches)
    assert packed.target_tokens == padded.target_tokens
    assert_same(expected, gradients(model, packed.micro_batches, dropout))


def test_dropout_of_an_example_does_not_depend_on_where_it_lies() -> None:
    model = tiny_model("llama")
    dropout = ResidualDropout(model, 0.5)
    seen: list[torch.Tensor] = []
    model.model.layers[-1].mlp.register_forward_hook(lambda m, i, o: seen.append(o == 0))
    dropout.place([Place(0, 0, 7, "a"), Place(1, 0, 5, "b")])
    model(input_ids=torch.ones((2, 7), dtype=torch.long))
    dropout.place([Place(0, 0, 5, "b"), Place(0, 5, 12, "a")])
    model(input_ids=torch.ones((1, 12), dtype=torch.long))
    assert torch.equal(seen[0][0], seen[1][0, 5:])
    assert torch.equal(seen[0][1, :5], seen[1][0, :5])
    assert not torch.equal(seen[0][0, :5], seen[0][1, :5])


@pytest.mark.parametrize("family", ["gemma2", "granite", "cohere"])
def test_other_families_are_not_packed(family: str) -> None:
    assert not is_packable(tiny_model(family, hidden_activation="silu"))
