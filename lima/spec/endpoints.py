"""Endpoints that are asked: the judge of a cell, and models of others as baselines."""

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from lima.spec import names
from lima.spec.identity import LATER, OPERATIONAL, Fingerprint, stands_for


@dataclass(frozen=True)
class JudgeSpec:
    """A model as judge, through an OpenAI-compatible endpoint (section 4.1, appendix D)."""

    base_url: Annotated[
        str, Meta(pattern="^https?://", description="Root of the endpoint, up to /v1.")
    ] = "https://api.openai.com/v1"
    model: Annotated[str, Meta(min_length=1, description="Name the endpoint knows.")] = (
        "gpt-3.5-turbo"
    )
    api_key_env: Annotated[
        str, Meta(description="Environment variable that holds the key; the key is never stored.")
    ] = field(default="OPENAI_API_KEY", metadata=OPERATIONAL)
    rubric: Annotated[
        str,
        names.RUBRICS.meta(
            "likert-6: six-point helpfulness of each response. preference: which of two "
            "responses is better, ours or a baseline's."
        ),
    ] = "likert-6"
    baselines: Annotated[
        tuple[str, ...],
        Meta(
            description="For preference: what our responses are compared with, as arms (of the "
            "same experiment first, then of any other) or run ids of their generation."
        ),
    ] = field(default=(), metadata=LATER)
    baseline_runs: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Run ids of the responses that `baselines` mean. Found out when a study is "
            "submitted, and part of the run's id in their place; null: not known yet."
        ),
    ] = field(default=None, metadata=stands_for("baselines"))
    wording: Fingerprint = field(default=None, metadata=LATER)
    lowest: Annotated[
        float | None,
        Meta(
            description="Least score that the rubric gives; found out with its wording, so that "
            "results are read where the rubric is not. null: not known, or a verdict is a label."
        ),
    ] = field(default=None, metadata=OPERATIONAL)
    highest: Annotated[float | None, Meta(description="Greatest score, likewise.")] = field(
        default=None, metadata=OPERATIONAL
    )
    both_orders: Annotated[
        bool, Meta(description="For preference: ask about every pair both ways round.")
    ] = field(default=False, metadata=LATER)
    repeats: Annotated[
        int,
        Meta(ge=0, description="For preference: pairs that are asked about once more, for drift."),
    ] = field(default=0, metadata=LATER)
    temperature: Annotated[float, Meta(ge=0, le=2, description="Of the judge.")] = 0.0
    max_tokens: Annotated[int, Meta(ge=1, description="Longest verdict, in tokens.")] = 1024
    concurrency: Annotated[int, Meta(ge=1, le=4096, description="Requests in flight.")] = field(
        default=16, metadata=OPERATIONAL
    )
    attempts: Annotated[
        int, Meta(ge=1, le=20, description="Tries a response before it stays unscored.")
    ] = 4
    timeout_s: Annotated[float, Meta(gt=0, description="Seconds to wait for an answer.")] = field(
        default=60.0, metadata=OPERATIONAL
    )
    shard_rows: Annotated[int, Meta(ge=1, description="Responses a Parquet shard.")] = field(
        default=100, metadata=OPERATIONAL
    )
    input_price: Annotated[float, Meta(ge=0, description="US dollars a million prompt tokens.")] = (
        field(default=0.0, metadata=OPERATIONAL)
    )
    output_price: Annotated[
        float, Meta(ge=0, description="US dollars a million completion tokens.")
    ] = field(default=0.0, metadata=OPERATIONAL)
    budget: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(
            description="US dollars that all attempts of the run may cost; nothing is asked that "
            "could pass it. Needs prices; null: no limit.",
        ),
    ] = field(default=None, metadata=OPERATIONAL)


@dataclass(frozen=True)
class EndpointSpec:
    """How an OpenAI-compatible endpoint is asked for responses (`endpoint:` as a model)."""

    api_key_env: Annotated[
        str, Meta(description="Environment variable that holds the key; the key is never stored.")
    ] = "OPENAI_API_KEY"
    concurrency: Annotated[int, Meta(ge=1, le=4096, description="Requests in flight.")] = 8
    attempts: Annotated[
        int, Meta(ge=1, le=20, description="Tries a prompt before it stays unanswered.")
    ] = 4
    timeout_s: Annotated[float, Meta(gt=0, description="Seconds to wait for an answer.")] = 300.0
