"""Live conversation (section 6): a checkpoint, or an endpoint, answers one turn at a time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from msgspec import Meta

from lima.endpoints.attempt import Attempt
from lima.endpoints.keys import KeyOf
from lima.endpoints.peer import Peer
from lima.errors import LimaError
from lima.generation.addressed_noise import seed_address
from lima.generation.engine import Request
from lima.generation.transformers_engine import TransformersEngine
from lima.model.end_of_turn import encode_prompt
from lima.model.loading import load_for_inference
from lima.spec import ComputeSpec, DecodingSpec, ModelSpec
from lima.spec.codec import RUN_ID_LENGTH, encode, sha256_key
from lima.spec.endpoints import EndpointSpec
from lima.store.storage import Storage

PATIENCE = EndpointSpec(concurrency=1, attempts=4, timeout_s=120.0)
"""With an endpoint, while somebody waits for the answer."""


@dataclass(frozen=True)
class ChatSpec:
    """Who is talked to, and how they answer; its hash is the run id of the conversations."""

    experiment: Annotated[str, Meta(min_length=1, description="Study they belong to.")]
    arm: Annotated[str, Meta(min_length=1, description="What the model is called in the tables.")]
    model: Annotated[ModelSpec, Meta(description="A model; of an endpoint, the name it knows.")]
    decoding: Annotated[DecodingSpec, Meta(description="How answers are sampled.")]
    base_url: Annotated[
        str | None, Meta(description="Root of an OpenAI-compatible endpoint; null: load the model.")
    ] = None
    seed: Annotated[int, Meta(ge=0, description="Of the sampling.")] = 0

    @property
    def document(self) -> dict[str, Any]:
        """The spec as plain data, as the table of runs holds it."""
        written: dict[str, Any] = encode(self)
        if self.model.chat_template == ModelSpec.chat_template:
            del written["model"]["chat_template"]  # younger than conversations that exist
        return written

    @property
    def identity(self) -> dict[str, Any]:
        """The columns that name the run."""
        digest = sha256_key(self.document)
        run = {"run_id": digest[:RUN_ID_LENGTH], "spec_hash": digest}
        return {**run, "experiment": self.experiment, "arm": self.arm, "seed": self.seed}

    @property
    def model_name(self) -> str:
        """What answers, for people."""
        version = f"epoch {self.model.epoch}" if self.model.epoch else self.model.revision
        name = f"{self.model.path}@{version}" if version else self.model.path
        return f"{name} at {self.base_url}" if self.base_url else name


@dataclass(frozen=True)
class Reply:
    """An answer; what the endpoint does not tell is None."""

    text: str
    finish_reason: str
    token_ids: list[int]
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    logprob: float | None = None
    seed_address: str = ""


class Responder(Protocol):
    """Answers the user's last utterance."""

    def reply(self, prompt: Sequence[str]) -> Reply:
        """Return the next answer; utterances take turns, the user's first and last."""
        ...


class CheckpointResponder:
    """Samples from a model in this process; the same conversation has the same answer."""

    def __init__(self, spec: ChatSpec, storage: Storage, compute: ComputeSpec) -> None:
        """Load the model.

        Raises:
            ModelError: it cannot be loaded.

        """
        self.seed = spec.seed
        self.loaded = load_for_inference(spec.model, storage, compute)
        self.engine = TransformersEngine(
            self.loaded.model, self.loaded.eot_id, spec.decoding, spec.seed, batch_size=1
        )

    def reply(self, prompt: Sequence[str]) -> Reply:
        """See `Responder.reply`."""
        key = sha256_key(list(prompt))
        tokenizer = self.loaded.tokenizer
        ids = encode_prompt(tokenizer, prompt, self.loaded.eot_id)
        response = self.engine.generate([Request(ids, key, 0)])[0]
        return Reply(
            tokenizer.decode(response.token_ids, clean_up_tokenization_spaces=False),
            response.finish_reason,
            response.token_ids,
            len(ids),
            len(response.token_ids),
            response.logprob,
            seed_address(self.seed, key, 0),
        )


class EndpointResponder:
    """Asks an OpenAI-compatible endpoint, as a baseline is asked.

    What its interface lacks is not sent and stays at the value that changes nothing in the
    spec: the repetition penalty and top-k, unless they were asked for.
    """

    def __init__(self, spec: ChatSpec, key_variable: str = "OPENAI_API_KEY") -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            spec: Who is asked, and how.
            key_variable: Environment variable that holds the key; empty: none is sent.

        Raises:
            InputError: the key is missing, or the address is not one.

        """
        self.spec, self.peer = spec, _peer(spec, key_variable)
        self.peer.key.find()

    def reply(self, prompt: Sequence[str]) -> Reply:
        """See `Responder.reply`.

        Raises:
            LimaError: the endpoint gives no answer.

        """
        attempt = asyncio.run(self._ask(prompt))[-1]
        if attempt.verdict is None or not attempt.verdict.strip() or attempt.status == "refusal":
            raise LimaError(f"{self.spec.base_url} gives no answer: {attempt.error}")
        return Reply(
            attempt.verdict,
            "length" if attempt.status == "truncated" else "eot",
            [],
            attempt.prompt_tokens,
            attempt.completion_tokens,
        )

    async def _ask(self, prompt: Sequence[str]) -> list[Attempt]:
        from lima.generation import asking as endpoint  # it takes the libraries of the jobs

        decoding = self.spec.decoding
        # A person stops it, not a file.
        client = endpoint.ResponseClient(self.peer, PATIENCE, decoding, stopped=lambda: False)
        async with client:
            return await client.ask(endpoint.with_seed(prompt, self.spec.seed))


def _peer(spec: ChatSpec, key_variable: str) -> Peer:
    return Peer(
        name="the endpoint",
        key=KeyOf("generate", spec.base_url or "", "--base-url", key_variable, "--api-key-env"),
        model=spec.model.path,
        model_setting="--model",
        limits="",
        length_setting="--max-new-tokens",
        kept="what was said is kept",
    )


def best_device() -> Literal["cpu", "cuda"]:
    """Return where a model is best loaded on this machine."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
