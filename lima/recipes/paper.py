"""The paper's studies, as functions that return specs.

A recipe says only what differs from the defaults of `lima.spec`, which are the paper's 65B
settings. LIMA's data may not be passed on with this code: the recipes name files below `data/`
that a user puts there, in the layout of `lima.data.examples`, or replaces by
`--set train.data.path=…`.
"""

from dataclasses import replace

from lima.spec import (
    CellSpec,
    ComputeSpec,
    DataSpec,
    DecodingSpec,
    GenerateSpec,
    JudgeSpec,
    ModelSpec,
    TrainSpec,
)

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
            engine="vllm",
            # 130 GB of weights in bf16, a quarter on each GPU; of keys and values 2.6 MB a token.
            compute=ComputeSpec(workers=8, gpus_per_worker=4),
            batch_size=64,
            batch_tokens=32_768,
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
            prompts=DataSpec(TEST, count=300),
            decoding=DecodingSpec(samples=5),
            engine="vllm",
            compute=compute,
            batch_size=64,
            batch_tokens=32_768,  # 17 GB
        ),
        judge=JudgeSpec(),
    )
