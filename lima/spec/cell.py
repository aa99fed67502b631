"""Specs: frozen dataclasses that say everything about a run.

A `CellSpec` is what a user submits: up to five stages that run in order, each of which skips
what storage already holds. Field descriptions and ranges below are the one source of the
JSON Schema, the reference docs and the error messages. Sections are those of the LIMA paper.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from lima.spec import names
from lima.spec.curate import CurateSpec
from lima.spec.endpoints import EndpointSpec
from lima.spec.endpoints import JudgeSpec as JudgeSpec  # noqa: PLC0414 - a stage like the others
from lima.spec.extensions import ExtensionSpec
from lima.spec.identity import LATER, OPERATIONAL, Fingerprint, once, stands_for

Stage = Literal["curate", "base", "train", "generate", "judge"]
STAGES: tuple[Stage, ...] = ("curate", "base", "train", "generate", "judge")

AtLeastOne = Annotated[int, Meta(ge=1)]


@dataclass(frozen=True)
class ShapeSpec:
    """The shape of a LLaMA-architecture model that is made from scratch."""

    vocab_size: Annotated[int, Meta(ge=300, le=1_000_000, description="Tokens of the vocabulary.")]
    hidden_size: Annotated[int, Meta(ge=8, description="Width of the residual stream.")]
    layers: Annotated[int, Meta(ge=1, description="Decoder layers.")]
    heads: Annotated[int, Meta(ge=1, description="Attention heads.")]
    intermediate_size: Annotated[int, Meta(ge=8, description="Width of the feed-forward layers.")]
    context_length: Annotated[int, Meta(ge=16, description="Positions, in tokens.")]


@dataclass(frozen=True)
class ModelSpec:
    """Where a model and its tokenizer come from."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="A local folder, a GGUF file, a hub name, a storage URI of one of those "
            "(s3://…), `package:NAME/FILE` for a file of an installed Python package, `scratch` "
            "(made from `shape`, tokenizer trained on the data), `run:base` or `run:train` (this "
            "cell's earlier stage), or `run:RUN_ID`. To generate only: `endpoint:URL#MODEL` for "
            "an OpenAI-compatible endpoint, `responses:FILE` for responses made elsewhere.",
        ),
    ]
    epoch: Annotated[
        AtLeastOne | None,
        Meta(description="Which exported epoch of a `run:` to load; null: the last one."),
    ] = None
    revision: Annotated[
        str | None, Meta(description="Revision of a hub name; null: its default.")
    ] = None
    shape: Annotated[ShapeSpec | None, Meta(description="Only for `scratch`.")] = None
    eot_token: Annotated[
        str,
        Meta(min_length=1, description="End-of-turn token, added once if it is new (section 3)."),
    ] = "<|eot|>"
    chat_template: Annotated[
        Literal["lima", "own"],
        Meta(
            description="How a conversation is written: `lima`: its utterances, EOT after each "
            "(section 3); `own`: by the chat template of a chat-tuned model, whose end of turn is "
            "`eot_token`."
        ),
    ] = field(default="lima", metadata=LATER)
    fingerprint: Fingerprint = field(default=None, metadata=stands_for("path", "revision"))


ENDPOINT, RESPONSES = "endpoint:", "responses:"
"""Starts of the path of a model that is not sampled from here: a baseline."""


def is_baseline(model: ModelSpec) -> bool:
    """Say whether a model is not sampled from here."""
    return model.path.startswith((ENDPOINT, RESPONSES))


@dataclass(frozen=True)
class DataSpec:
    """A selection of examples."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="A file of examples or a folder of them (local or a storage URI): JSONL, "
            "a JSON list or Parquet, packed or not, in one of the layouts of "
            "docs/reference/layouts.md; or `hub:OWNER/NAME[@REVISION][#[CONFIG/]SPLIT]` for a "
            "data set of a hub, or `authored:NAME[+NAME]` for the examples that ship here, or "
            "`pydoc:topics` for the prose of Python's language reference, which differs between "
            "versions of Python.",
        ),
    ]
    sources: Annotated[
        tuple[str, ...],
        Meta(description="Keep examples whose `source` matches one of these globs; empty: all."),
    ] = ()
    count: Annotated[
        AtLeastOne | None,
        Meta(description="How many to sample; null: all. A smaller count is a subset."),
    ] = None
    seed: Annotated[int, Meta(ge=0, description="Seed of the sample.")] = 0
    max_turns: Annotated[
        AtLeastOne | None,
        Meta(description="Keep examples of at most this many turns: 1 leaves dialogues out."),
    ] = field(default=None, metadata=LATER)
    fingerprint: Fingerprint = field(default=None, metadata=stands_for("path"))


@dataclass(frozen=True)
class OptimizerSpec:
    """AdamW with a linear schedule (section 3)."""

    lr_start: Annotated[float, Meta(gt=0, le=1, description="Learning rate of step 1.")] = 1e-5
    lr_end: Annotated[float, Meta(ge=0, le=1, description="Learning rate of the last step.")] = 1e-6
    beta1: Annotated[float, Meta(ge=0, lt=1, description="AdamW beta 1.")] = 0.9
    beta2: Annotated[float, Meta(ge=0, lt=1, description="AdamW beta 2.")] = 0.95
    eps: Annotated[float, Meta(gt=0, description="AdamW epsilon.")] = 1e-8
    weight_decay: Annotated[float, Meta(ge=0, description="Decoupled weight decay.")] = 0.1
    gradient_clip: Annotated[
        float,
        Meta(ge=0, description="Largest global gradient norm; 0 clips nothing. Not reported."),
    ] = 1.0


@dataclass(frozen=True)
class CheckpointSpec:
    """Two tiers of checkpoints: state to resume, weights to use."""

    first_epoch: Annotated[
        int,
        Meta(
            ge=1,
            description="First epoch whose weights are exported (section 3: 5). A run with fewer "
            "epochs exports its last one.",
        ),
    ] = 5
    last_epoch: Annotated[
        int, Meta(ge=1, description="Last epoch whose weights are exported (section 3: 10).")
    ] = 10
    state_every_steps: Annotated[
        int, Meta(ge=0, description="Steps between saved states; 0: at the end of each epoch.")
    ] = 0
    keep_states: Annotated[
        AtLeastOne | None,
        Meta(
            description="Saved states to keep, also once the run is complete; null: the last two "
            "while it trains, and none afterwards, since its weights are all that is needed then."
        ),
    ] = field(default=None, metadata=once(2))


@dataclass(frozen=True)
class ComputeSpec:
    """What a stage computes on; part of the run, since it changes rounding."""

    workers: Annotated[int, Meta(ge=1, le=4096, description="Worker processes.")] = 1
    device: Annotated[Literal["cpu", "cuda"], Meta(description="GPUs, or none.")] = "cuda"
    gpus_per_worker: Annotated[
        int,
        Meta(
            ge=1,
            description="GPUs that the weights of one model are cut over (tensor parallelism); "
            "generation only.",
        ),
    ] = 1
    precision: Annotated[
        Literal["fp32", "bf16"], Meta(description="Of weights and activations.")
    ] = "bf16"
    offload: Annotated[
        Literal["none", "optimizer", "all"],
        Meta(description="Keep the optimizer, or the optimizer and the weights, in host memory."),
    ] = "none"
    gradient_checkpointing: Annotated[
        bool, Meta(description="Recompute activations in the backward pass.")
    ] = True
    micro_batch_size: Annotated[
        int, Meta(ge=1, description="Examples of full length that one worker holds at a time.")
    ] = 1
    batching: Annotated[
        str,
        names.BATCH_BUILDERS.meta(
            "Examples of a batch one after another, or each in a row of its own; training only."
        ),
    ] = field(default="packed", metadata=LATER)


@dataclass(frozen=True)
class TrainSpec:
    """Supervised fine-tuning with DeepSpeed ZeRO-3 (section 3)."""

    model: Annotated[ModelSpec, Meta(description="The model to start from.")]
    data: Annotated[DataSpec, Meta(description="Training examples.")]
    heldout: Annotated[
        DataSpec | None, Meta(description="Examples for perplexity after every epoch.")
    ] = None
    epochs: Annotated[int, Meta(ge=1, description="Passes over the data.")] = 15
    batch_size: Annotated[int, Meta(ge=1, description="Examples a step, over all workers.")] = 32
    max_length: Annotated[
        int, Meta(ge=8, description="Longer texts are trimmed to this many tokens.")
    ] = 2048
    residual_dropout: Annotated[
        float,
        Meta(ge=0, lt=1, description="Rate at the last layer; rises linearly from 0 at the first."),
    ] = 0.3
    loss_on: Annotated[
        Literal["responses", "all"],
        Meta(description="Which utterances carry loss. Not reported by the paper."),
    ] = "responses"
    text_format: Annotated[
        Literal["dialogue", "text"],
        Meta(description="`dialogue`: EOT after every utterance; `text`: plain documents."),
    ] = "dialogue"
    optimizer: OptimizerSpec = OptimizerSpec()
    checkpoints: CheckpointSpec = CheckpointSpec()
    compute: ComputeSpec = ComputeSpec()
    on_workers: Annotated[
        AtLeastOne | None,
        Meta(
            description="Workers that it runs on from now on; null: `compute.workers`, by which "
            "the run is named. A run goes on from its last state on any number; its losses then "
            "differ in their last digits, and its rows tell the workers of each step."
        ),
    ] = field(default=None, metadata=OPERATIONAL)
    fewest_workers: Annotated[
        AtLeastOne | None,
        Meta(
            description="On a cluster that lost machines and got no others within "
            "`cluster.waitMinutes`, go on with as few workers as this; null: the job ends."
        ),
    ] = field(default=None, metadata=OPERATIONAL)


@dataclass(frozen=True)
class DecodingSpec:
    """How responses are sampled (section 4.1)."""

    top_p: Annotated[float, Meta(gt=0, le=1, description="Nucleus mass.")] = 0.9
    temperature: Annotated[
        float, Meta(ge=0, le=100, description="Softmax temperature; 0 is greedy.")
    ] = 0.7
    repetition_penalty: Annotated[
        float, Meta(gt=0, description="Penalty on tokens of the prompt and of the response so far.")
    ] = 1.2
    top_k: Annotated[int, Meta(ge=0, description="0: no limit, as in the paper.")] = 0
    max_new_tokens: Annotated[int, Meta(ge=1, description="Longest response, in tokens.")] = 2048
    samples: Annotated[
        int, Meta(ge=1, description="Responses a prompt (section 5: 5 for ablations).")
    ] = 1


@dataclass(frozen=True)
class GenerateSpec:
    """Batch generation (section 4.1)."""

    prompts: Annotated[DataSpec, Meta(description="Examples; a last response is not shown.")]
    model: Annotated[ModelSpec, Meta(description="The model to sample from.")] = ModelSpec(
        "run:train"
    )
    decoding: DecodingSpec = DecodingSpec()
    batch_size: Annotated[int, Meta(ge=1, description="Responses decoded together.")] = 16
    batch_tokens: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="Tokens, prompts and padding included, whose keys and values a worker holds"
            " at a time; `null`: what `batch_size` responses need, or vLLM finds free on a GPU."
        ),
    ] = field(default=None, metadata=OPERATIONAL)
    shard_prompts: Annotated[
        int, Meta(ge=1, description="Prompts a Parquet shard, the unit of work and of resume.")
    ] = 16
    compute: ComputeSpec = ComputeSpec()
    endpoint: EndpointSpec = field(default=EndpointSpec(), metadata=OPERATIONAL)
    engine: Annotated[
        str, names.ENGINES.meta("What turns prompts into responses; of a model that is loaded.")
    ] = field(default="transformers", metadata=LATER)


@dataclass(frozen=True)
class CellSpec:
    """One arm and seed of a study: its stages, run in order by one job (section 5)."""

    experiment: Annotated[str, Meta(min_length=1, max_length=100, description="Study name.")]
    arm: Annotated[str, Meta(min_length=1, max_length=100, description="What this cell varies.")]
    seed: Annotated[
        int, Meta(ge=0, lt=2**31, description="Of data order, dropout, new weights and sampling.")
    ] = 0
    curate: Annotated[
        CurateSpec | None, Meta(description="Makes data sets from their sources.")
    ] = None
    base: Annotated[
        TrainSpec | None, Meta(description="Makes the base model where there is none to load.")
    ] = None
    train: Annotated[TrainSpec | None, Meta(description="Fine-tuning.")] = None
    generate: Annotated[GenerateSpec | None, Meta(description="Responses to prompts.")] = None
    judge: Annotated[JudgeSpec | None, Meta(description="Scores of the responses.")] = None
    extensions: Annotated[
        tuple[ExtensionSpec, ...],
        Meta(
            description="Python files of the study's own; part of the stages that use their names."
        ),
    ] = field(default=(), metadata=LATER)
