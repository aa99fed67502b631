"""Strict decoding, canonical JSON, run ids and the JSON Schema."""

import json
import typing
from dataclasses import replace
from types import UnionType
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from lima.errors import SpecError
from lima.recipes.demo import tiny
from lima.recipes.overrides import apply_overrides
from lima.spec import CellSpec, DataSpec, GenerateSpec, JudgeSpec, ModelSpec, TrainSpec
from lima.spec.codec import (
    canonical_json,
    decode,
    encode,
    field_types,
    json_schema,
    run_id,
    spec_hash,
    spec_type,
    type_text,
)
from lima.spec.names import Names, names_of

PINNED = CellSpec(
    "pinned", "arm", generate=GenerateSpec(prompts=DataSpec("p.jsonl"), model=ModelSpec("m"))
)
TRAIN = {"model": {"path": "m"}, "data": {"path": "d"}}


def cell(**stages: Any) -> dict[str, Any]:
    return {"experiment": "e", "arm": "a", **stages}


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Any value that the type of a field allows."""
    metadata = getattr(annotation, "__metadata__", ())
    if metadata:
        bare, names = typing.get_args(annotation)[0], names_of(metadata)
        return st.sampled_from([*names]) if names else bounded(bare, metadata)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, UnionType):
        return st.one_of(*(values(a) for a in arguments))
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    kind = spec_type(annotation)
    if kind:
        return st.builds(kind, **{k: values(v) for k, v in field_types(kind).items()})
    plain = {type(None): st.none(), bool: st.booleans(), str: st.text()}
    return {**plain, float: st.floats(allow_nan=False, allow_infinity=False)}[annotation]


def bounded(kind: Any, metadata: tuple[Meta, ...]) -> st.SearchStrategy[Any]:
    bounds = {
        name: next((getattr(m, name) for m in metadata if getattr(m, name) is not None), None)
        for name in ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern")
    }
    if kind is int:
        most = bounds["le"] if bounds["lt"] is None else bounds["lt"] - 1
        return st.integers(bounds["ge"], 2**40 if most is None else most)
    if kind is float:
        low, high = (
            bounds[a] if bounds[a] is not None else bounds[b]
            for a, b in (("ge", "gt"), ("le", "lt"))
        )
        return st.floats(
            low,
            high,
            exclude_min=bounds["gt"] is not None,
            exclude_max=bounds["lt"] is not None,
            allow_nan=False,
            allow_infinity=False,
        )
    if kind is str and bounds["pattern"]:
        # Before an @ stood a name or a password, which no spec may hold.
        return st.from_regex(bounds["pattern"]).filter(lambda text: "@" not in text)
    if kind is str:
        return st.text(min_size=bounds["min_length"] or 0, max_size=bounds["max_length"])
    if typing.get_origin(kind) is tuple:
        items = values(typing.get_args(kind)[0])
        return st.lists(items, min_size=bounds["min_length"] or 0, max_size=3).map(tuple)
    return values(kind)


CELLS: st.SearchStrategy[CellSpec] = values(CellSpec)


@given(CELLS)
def test_json_holds_all_of_a_spec(spec: CellSpec) -> None:
    text = canonical_json(spec)
    again = decode(CellSpec, json.loads(text))
    assert again == spec
    assert canonical_json(again) == text


@given(CELLS)
def test_the_schema_accepts_every_spec(spec: CellSpec) -> None:
    jsonschema.Draft202012Validator(json_schema(CellSpec)).validate(
        json.loads(canonical_json(spec))
    )


def test_a_run_id_never_changes() -> None:
    # Another id than this one would have every finished run of every user computed again.
    assert run_id(PINNED) == "adda5d4ffe2d2b2f"
    assert spec_hash(PINNED).startswith(run_id(PINNED))


def test_a_field_that_was_added_later_counts_once_it_is_used() -> None:
    # PINNED, whose id is above, was given one before there was `max_turns`.
    assert PINNED.generate is not None
    for turns, is_same in ((None, True), (1, False), (2, False)):
        prompts = replace(PINNED.generate.prompts, max_turns=turns)
        other = replace(PINNED, generate=replace(PINNED.generate, prompts=prompts))
        assert (run_id(other) == run_id(PINNED)) is is_same
        assert decode(CellSpec, encode(other)) == other


def test_canonical_json_is_one_text() -> None:
    assert canonical_json(DataSpec("é", ("b", "a"))) == (
        '{"count":null,"fingerprint":null,"max_turns":null,"path":"é","seed":0,"sources":["b","a"]}'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": float("nan")})


def test_key_order_defaults_and_whole_floats_do_not_change_the_run_id() -> None:
    full = encode(CellSpec("e", "a", train=TrainSpec(ModelSpec("m"), DataSpec("d"))))
    turned = json.loads(json.dumps(full), object_pairs_hook=lambda pairs: dict(pairs[::-1]))
    short = cell(train={**TRAIN, "optimizer": {"gradient_clip": 1}})
    assert len({run_id(decode(CellSpec, spec)) for spec in (full, turned, short)}) == 1
    other = cell(train={**TRAIN, "epochs": 14})
    assert run_id(decode(CellSpec, other)) != run_id(decode(CellSpec, short))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({**cell(), "sed": 1}, "spec: unknown key 'sed'; did you mean 'seed'?"),
        (
            cell(train={**TRAIN, "optimizer": {"lr_strat": 1}}),
            "train.optimizer: unknown key 'lr_strat'; did you mean 'lr_start'?",
        ),
        (
            cell(train={**TRAIN, "checkpoints": {"qqq": 1}}),
            "train.checkpoints: unknown key 'qqq'; known keys: first_epoch, keep_states, "
            "last_epoch, state_every_steps",
        ),
        ({"arm": "a"}, "spec: the key 'experiment' is missing"),
        (cell(train={"model": {"path": "m"}}), "train: the key 'data' is missing"),
        (cell(train={**TRAIN, "epochs": 0}), "train.epochs: expected integer >= 1, got 0"),
        (cell(train={**TRAIN, "epochs": 2.0}), "train.epochs: expected integer >= 1, got 2.0"),
        (cell(train={**TRAIN, "epochs": True}), "train.epochs: expected integer >= 1, got true"),
        (
            cell(train={**TRAIN, "residual_dropout": 1}),
            "train.residual_dropout: expected number >= 0 and < 1, got 1",
        ),
        (
            cell(train={**TRAIN, "compute": {"device": "tpu"}}),
            'train.compute.device: expected one of "cpu", "cuda", got "tpu"',
        ),
        (
            cell(train={**TRAIN, "data": {"path": "d", "sources": ["a", 3]}}),
            "train.data.sources[1]: expected text, got 3",
        ),
        (
            cell(train={**TRAIN, "data": {"path": "d", "count": "all"}}),
            'train.data.count: expected integer >= 1 or null, got "all"',
        ),
        (cell(judge=[]), "judge: expected mapping or null, got []"),
        (
            cell(judge={"base_url": "x"}),
            'judge.base_url: expected text matching ^https?://, got "x"',
        ),
        (
            cell(judge={"timeout_s": float("inf")}),
            "judge.timeout_s: expected a finite number, got inf",
        ),
        ({**cell(), "arm": ""}, 'arm: expected text of 1 to 100 characters, got ""'),
        (
            {**cell(), "seed": 2**31},
            "seed: expected integer >= 0 and < 2147483648, got 2147483648",
        ),
        ({**cell(), "arm": "\ud800"}, "arm: '\\ud800' is not Unicode text"),
        ("x", 'spec: expected mapping, got "x"'),
    ],
)
def test_what_is_refused_and_how(value: Any, message: str) -> None:
    with pytest.raises(SpecError) as error:
        decode(CellSpec, value)
    assert str(error.value) == message


def test_a_path_begins_where_the_value_stands() -> None:
    with pytest.raises(SpecError, match=r"^study\.json: runs\[2\]\.train\.epochs: expected"):
        decode(CellSpec, cell(train={**TRAIN, "epochs": 0}), "study.json: runs[2]")


def test_long_values_are_shortened() -> None:
    with pytest.raises(SpecError) as error:
        decode(CellSpec, {**cell(), "arm": "x" * 5000})
    assert len(str(error.value)) < 150


@pytest.mark.parametrize(
    "value",
    [
        {**cell(), "sed": 1},
        {"arm": "a"},
        cell(train={**TRAIN, "epochs": 0}),
        cell(train={**TRAIN, "compute": {"device": "tpu"}}),
        cell(train={**TRAIN, "residual_dropout": 1}),
        cell(judge={"base_url": "x"}),
    ],
)
def test_the_schema_refuses_what_decoding_refuses(value: Any) -> None:
    assert not jsonschema.Draft202012Validator(json_schema(CellSpec)).is_valid(value)
    with pytest.raises(SpecError):
        decode(CellSpec, value)


def test_every_field_can_be_put_into_words() -> None:
    def check(kind: type) -> int:
        nested = [spec_type(a) for a in field_types(kind).values()]
        assert all(type_text(a) for a in field_types(kind).values())
        return len(nested) + sum(check(k) for k in nested if k)

    assert check(CellSpec) > 100


def test_a_field_that_became_operational_leaves_run_ids_as_they_were() -> None:
    cell = tiny()[0]
    assert cell.train
    assert encode(cell, operational=False)["train"]["checkpoints"]["keep_states"] == 2
    for kept in (1, 2, 5, None):
        checkpoints = replace(cell.train.checkpoints, keep_states=kept)
        other = replace(cell, train=replace(cell.train, checkpoints=checkpoints))
        assert run_id(other) == run_id(cell)
        assert decode(CellSpec, encode(other)) == other


def test_operational_fields_are_no_part_of_the_identity() -> None:
    cell = CellSpec("e", "a", judge=JudgeSpec())
    slower = replace(cell, judge=JudgeSpec(concurrency=1, timeout_s=5.0))
    other = replace(cell, judge=JudgeSpec(temperature=1.0))
    assert run_id(slower) == run_id(cell) != run_id(other)
    assert encode(slower) != encode(cell)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("judge.base_url", "https://me:topsecret@host/v1"),
        ("judge.base_url", "http://topsecret@host/v1"),
        ("train.data.path", "s3://KEY:topsecret@bucket/data.jsonl"),
        ("generate.model.path", "endpoint:https://me:topsecret@host/v1#model"),
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(path: str, address: str) -> None:
    with pytest.raises(SpecError, match=f"^{path}: an address with a name or a password") as told:
        apply_overrides(tiny(), [f"{path}={address}"])
    assert "topsecret" not in str(told.value)


def test_a_container_in_an_address_is_no_password() -> None:
    container = "abfs://container@account.dfs.core.windows.net/data.jsonl"
    [cell, *_] = apply_overrides(tiny(), [f"train.data.path={container}"])
    assert cell.train
    assert cell.train.data.path == container


def test_a_name_that_nobody_registered_is_refused() -> None:
    told = r"judge\.rubric: expected one of .*\"likert-6\", \"preference\".*, got \"likert-7\""
    with pytest.raises(SpecError, match=told):
        decode(CellSpec, cell(judge={"rubric": "likert-7"}))


def test_the_bare_name_of_a_file_is_no_name_that_it_adds() -> None:
    given = cell(judge={"rubric": "mine"}) | {"extensions": [{"path": "mine.py"}]}
    with pytest.raises(SpecError, match=r'judge\.rubric: expected one of .*, got "mine"'):
        decode(CellSpec, given)


def test_a_name_of_others_says_whose_it_is() -> None:
    with pytest.raises(ValueError, match=r"tens: write PACKAGE\.NAME"):
        Names("rubrics", "likert-6").add("tens")
