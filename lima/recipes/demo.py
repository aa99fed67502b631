"""The study of `make demo`: small enough for two CPU cores, with a base model of its own."""

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
