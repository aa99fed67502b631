"""`--set path=value`."""

from dataclasses import replace

import pytest

from lima.errors import SpecError
from lima.recipes.demo import tiny
from lima.recipes.overrides import apply_overrides
from lima.recipes.paper import lima_65b
from lima.spec import CellSpec, DataSpec, JudgeSpec, TrainSpec
from lima.spec.codec import run_id


def apply(*texts: str) -> CellSpec:
    return apply_overrides(lima_65b(), texts)[0]


def train(cell: CellSpec) -> TrainSpec:
    assert cell.train
    return cell.train


def test_values_are_read_by_the_type_of_their_field() -> None:
    cell = apply(
        "experiment=2024",
        "arm=no",
        "train.epochs=3",
        "train.optimizer.lr_start=1e-4",
        "train.optimizer.gradient_clip=0",
        "train.data.sources=[stack*, 'wiki: how']",
        "train.compute.gradient_checkpointing=false",
        "train.model.eot_token=[EOT]",
        "train.model.revision='1.0'",
    )
    assert (cell.experiment, cell.arm) == ("2024", "no")
    assert train(cell).epochs == 3
    assert train(cell).optimizer.lr_start == 1e-4
    assert train(cell).optimizer.gradient_clip == 0
    assert train(cell).data.sources == ("stack*", "wiki: how")
    assert not train(cell).compute.gradient_checkpointing
    assert (train(cell).model.eot_token, train(cell).model.revision) == ("[EOT]", "1.0")


def test_a_value_may_hold_equals_signs_and_the_last_one_wins() -> None:
    cell = apply("train.data.path=a", "train.data.path=s3://b/x=1/y.jsonl")
    assert train(cell).data.path == "s3://b/x=1/y.jsonl"


def test_every_run_is_changed() -> None:
    cells = apply_overrides(tiny(), ["generate.decoding.samples=7"])
    assert [c.generate.decoding.samples for c in cells if c.generate] == [7] * len(tiny())


def test_nothing_to_change_changes_nothing() -> None:
    assert apply() == lima_65b()[0]
    same = apply("train.epochs=15", "train.optimizer.gradient_clip=1")
    assert run_id(same) == run_id(lima_65b()[0])


def test_null_removes_and_a_value_below_null_creates() -> None:
    assert apply("train=null").train is None
    assert apply("judge.base_url=http://127.0.0.1:8000/v1").judge == JudgeSpec(
        "http://127.0.0.1:8000/v1"
    )
    cell = apply("train.heldout=null", "train.heldout.path=x", "train.heldout.count=5")
    assert train(cell).heldout == DataSpec("x", count=5)
    assert train(apply("train.heldout={path: x}")).heldout == DataSpec("x")


def test_the_spec_given_is_not_changed() -> None:
    before = lima_65b()
    apply_overrides(before, ["train.epochs=3", "seed=9"])
    assert before == lima_65b()
    assert apply_overrides(before, ["seed=9"]) == (replace(before[0], seed=9),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.epochs", "--set 'train.epochs': write PATH=VALUE, for example train.epochs=3"),
        ("=3", "--set '=3': write PATH=VALUE, for example train.epochs=3"),
        (
            "train..epochs=3",
            "--set 'train..epochs=3': write PATH=VALUE, for example train.epochs=3",
        ),
        ("train.epoch=3", "--set train.epoch: no such path; did you mean 'train.epochs'?"),
        ("epochs=3", "--set epochs: no such path; did you mean 'base.epochs' or 'train.epochs'?"),
        (
            "generate.decodng.top_p=1",
            "--set generate.decodng.top_p: no such path; did you mean 'generate.decoding.top_p'?",
        ),
        ("q=3", "--set q: no such path; `lima-k8s show RECIPE` shows all paths"),
        ("train.epochs.x=3", "--set train.epochs.x: train.epochs is a single value, without keys"),
        (
            "curate.sources.kind=wikihow",
            "--set curate.sources.kind: curate.sources is a list; set it as a whole, or edit a "
            "file that `lima-k8s show RECIPE` wrote",
        ),
        (
            "kind=wikihow",
            "--set kind: no such path; `lima-k8s show RECIPE` shows all paths",
        ),
        (
            "train.epochs=!!bool x",
            "--set train.epochs: '!!bool x' is not YAML ('x' cannot be read as bool); expected "
            "integer >= 1",
        ),
        (
            f"train.epochs={'1' * 5000}",
            f"--set train.epochs: '{'1' * 196}... is not YAML ('{'1' * 57}...' cannot be read as "
            "int); expected integer >= 1",
        ),
        (
            f"train.epochs={'[' * 5000}",
            f"--set train.epochs: '{'[' * 196}... is not YAML (nested too deeply); expected "
            "integer >= 1",
        ),
        ("train.epochs=many", 'train.epochs: expected integer >= 1, got "many"'),
        ("train.epochs=0", "train.epochs: expected integer >= 1, got 0"),
        ("train.epochs=null", "train.epochs: expected integer >= 1, got null"),
        ("train.data.sources=a", 'train.data.sources: expected list of text, got "a"'),
        (
            "train.epochs=[3",
            "--set train.epochs: '[3' is not YAML (while parsing a flow sequence); expected "
            "integer >= 1",
        ),
        ("arm=null", "arm: expected text of 1 to 100 characters, got null"),
        ("base.epochs=3", "base: the key 'model' is missing"),
        (
            "judge.base_url=ftp://x",
            'judge.base_url: expected text matching ^https?://, got "ftp://x"',
        ),
        ("train={epoch: 3}", "train: unknown key 'epoch'; did you mean 'epochs'?"),
    ],
)
def test_what_is_refused_and_how(text: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        apply(text)
    assert str(error.value) == message
