"""The plan of a training run: batches, epochs and learning rates (section 3)."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima.recipes.overrides import apply_overrides
from lima.recipes.registry import RECIPES
from lima.spec import CheckpointSpec, DataSpec, ModelSpec, OptimizerSpec, TrainSpec
from lima.training.schedule import Plan, exported_epochs, learning_rate

PLANS = st.builds(
    Plan,
    examples=st.integers(1, 60),
    epochs=st.integers(1, 6),
    batch_size=st.integers(1, 90),
    seed=st.integers(0, 3),
)


def test_the_paper_makes_469_steps() -> None:
    plan = Plan(examples=1000, epochs=15, batch_size=32, seed=0)
    assert plan.steps_per_epoch == 31.25
    assert plan.total_steps == 469
    assert len(plan.batch(469)) == 24


@given(PLANS)
def test_every_example_is_seen_once_an_epoch(plan: Plan) -> None:
    stream = [i for s in range(1, plan.total_steps + 1) for i in plan.batch(s)]
    for epoch in range(plan.epochs):
        part = stream[epoch * plan.examples : (epoch + 1) * plan.examples]
        assert Counter(part) == Counter(range(plan.examples))
    assert len(stream) == plan.epochs * plan.examples


@given(PLANS)
def test_every_epoch_ends_once_and_the_last_with_the_last_step(plan: Plan) -> None:
    ended = [e for s in range(1, plan.total_steps + 1) for e in plan.epochs_ending_at(s)]
    assert ended == list(range(1, plan.epochs + 1))
    assert plan.epochs in plan.epochs_ending_at(plan.total_steps)
    assert plan.epoch_after(plan.total_steps) == plan.epochs


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = {tuple(Plan(50, 2, 50, seed).batch(step)) for seed in (0, 1) for step in (1, 2)}
    assert len(orders) == 4


@pytest.mark.parametrize("steps", [2, 3, 469, 480, 24375])
def test_the_learning_rate_reaches_both_ends_exactly(steps: int) -> None:
    spec = OptimizerSpec()
    rates = [learning_rate(spec, step, steps) for step in range(1, steps + 1)]
    assert rates[0] == 1e-5
    assert rates[-1] == 1e-6
    assert all(a > b for a, b in pairwise(rates))


def test_the_recipe_of_the_paper_uses_the_paper_s_numbers() -> None:
    (cell,) = RECIPES["lima_65b"]()
    assert cell.train is not None
    assert (cell.train.epochs, cell.train.batch_size, cell.train.max_length) == (15, 32, 2048)
    assert (cell.train.optimizer.beta1, cell.train.optimizer.beta2) == (0.9, 0.95)
    assert (cell.train.optimizer.weight_decay, cell.train.residual_dropout) == (0.1, 0.3)


@given(st.integers(1, 20), st.integers(1, 12), st.integers(0, 12))
def test_some_weights_are_always_exported(epochs: int, first: int, more: int) -> None:
    spec = TrainSpec(
        ModelSpec("m"),
        DataSpec("d"),
        epochs=epochs,
        checkpoints=CheckpointSpec(first_epoch=first, last_epoch=first + more),
    )
    asked = [epoch for epoch in range(1, epochs + 1) if first <= epoch <= first + more]
    assert list(exported_epochs(spec)) == (asked or [epochs])


@pytest.mark.parametrize(
    ("epochs", "exported"), [(3, [3]), (5, [5]), (7, [5, 6, 7]), (15, [5, 6, 7, 8, 9, 10])]
)
def test_other_epochs_than_the_paper_s_simply_work(epochs: int, exported: list[int]) -> None:
    (cell,) = apply_overrides(RECIPES["lima_65b"](), [f"train.epochs={epochs}"])
    assert cell.train is not None
    assert list(exported_epochs(cell.train)) == exported
