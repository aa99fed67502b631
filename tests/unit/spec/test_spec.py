"""What makes two runs, or two stages, the same."""

from dataclasses import replace

from lima.recipes.demo import tiny
from lima.spec import (
    STAGES,
    CellSpec,
    DecodingSpec,
    GenerateSpec,
    JudgeSpec,
    cell_stages,
    stage_cell,
)
from lima.spec.codec import field_types, run_id, spec_type

CELL = replace(tiny()[0], judge=JudgeSpec())


def test_stages_run_in_order() -> None:
    assert cell_stages(CELL) == tuple(s for s in STAGES if s != "curate")
    assert cell_stages(replace(CELL, base=None, judge=None)) == ("train", "generate")
    assert cell_stages(CellSpec("e", "a")) == ()


def test_the_run_of_a_cell_is_the_run_of_its_last_stage() -> None:
    assert run_id(CELL) == run_id(CELL, "judge")
    assert len({run_id(CELL, stage) for stage in STAGES}) == len(STAGES)


def test_a_later_stage_does_not_change_an_earlier_run() -> None:
    assert CELL.generate
    assert CELL.judge
    generate = replace(CELL.generate, decoding=DecodingSpec(temperature=0.1))
    other = replace(CELL, generate=generate, judge=replace(CELL.judge, model="another"))
    assert run_id(other, "train") == run_id(CELL, "train")
    assert run_id(other, "generate") != run_id(CELL, "generate")
    rejudged = replace(CELL, judge=replace(CELL.judge, model="another"))
    assert run_id(rejudged, "generate") == run_id(CELL, "generate")
    assert run_id(rejudged, "judge") != run_id(CELL, "judge")


def test_arms_and_seeds_share_the_base_model_and_nothing_else() -> None:
    for other in (replace(CELL, arm="another"), replace(CELL, seed=7)):
        assert run_id(other, "base") == run_id(CELL, "base")
        assert run_id(other, "train") != run_id(CELL, "train")


def test_a_stage_keeps_what_decides_it() -> None:
    kept = stage_cell(CELL, "generate")
    assert isinstance(kept.generate, GenerateSpec)
    assert (kept.base, kept.train, kept.judge) == (CELL.base, CELL.train, None)


def test_every_field_is_described_where_its_type_does_not_say_it() -> None:
    def check(kind: type) -> None:
        assert kind.__doc__
        for name, annotation in field_types(kind).items():
            nested = spec_type(annotation)
            described = any(m.description for m in getattr(annotation, "__metadata__", ()))
            assert described or nested, f"{kind.__name__}.{name}"
            if nested:
                check(nested)

    check(CellSpec)
