"""Live conversation (section 6): a checkpoint, or an endpoint, answers one turn at a time."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from msgspec import Meta

from lima.codec import RUN_ID_LENGTH, encode, sha256_key
from lima.errors import LimaError
from lima.generation.engine import Request, TransformersEngine
from lima.generation.philox import seed_address
from lima.judging.key import NO_KEY
from lima.model.loading import load_for_inference
from lima.model.tokens import encode_prompt
from lima.spec import ComputeSpec, DecodingSpec, ModelSpec
from lima.storage import Storage

FINISHED = {"stop": "eot", "length": "length"}
"""Reasons of endpoints for the end of an answer, in the words of the table."""
ENDPOINT_TIMEOUT_S = 120.0


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
    def identity(self) -> dict[str, Any]:
        """The columns that name the run."""
        digest = sha256_key(encode(self))
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
    """Asks an OpenAI-compatible endpoint.

    What its interface lacks is not sent and stays at the value that changes nothing in the
    spec: the repetition penalty and top-k, unless they were asked for.
    """

    def __init__(self, spec: ChatSpec, key: str) -> None:
        """Prepare to ask; nothing is sent yet."""
        import openai

        self.spec = spec
        self.client = openai.OpenAI(
            base_url=spec.base_url, api_key=key, max_retries=3, timeout=ENDPOINT_TIMEOUT_S
        )

    def reply(self, prompt: Sequence[str]) -> Reply:
        """See `Responder.reply`.

        Raises:
            LimaError: the endpoint gives no answer.

        """
        import openai

        try:
            answer = self.client.chat.completions.create(**self._body(prompt))
        except openai.OpenAIError as error:
            raise LimaError(f"{self.spec.base_url} gives no answer: {error}") from error
        choice = answer.choices[0]
        usage = answer.usage
        return Reply(
            choice.message.content or "",
            FINISHED.get(choice.finish_reason, choice.finish_reason),
            [],
            usage.prompt_tokens if usage else None,
            usage.completion_tokens if usage else None,
        )

    def _body(self, prompt: Sequence[str]) -> dict[str, Any]:
        decoding, roles = self.spec.decoding, ("user", "assistant")
        rare = {"repetition_penalty": decoding.repetition_penalty, "top_k": decoding.top_k}
        neutral = {"repetition_penalty": 1.0, "top_k": 0}
        return {
            "model": self.spec.model.path,
            "messages": [{"role": roles[i % 2], "content": t} for i, t in enumerate(prompt)],
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "max_tokens": decoding.max_new_tokens,
            "seed": self.spec.seed,
            "extra_body": {k: v for k, v in rare.items() if not math.isclose(v, neutral[k])},
        }


def endpoint_key(variable: str) -> str:
    """Return the key of an endpoint from the environment; without one, the endpoint decides."""
    return os.environ.get(variable, "").strip() or NO_KEY


def best_device() -> Literal["cpu", "cuda"]:
    """Return where a model is best loaded on this machine."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
