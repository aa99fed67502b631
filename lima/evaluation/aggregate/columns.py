"""The columns of the aggregate: what its rows can be grouped by, and what they say."""

import pyarrow as pa

from lima.evaluation.labels.contests import CONTEST
from lima.spec import STAGES
from lima.store.tables import Column

AGAINST = "against"
BY: tuple[Column, ...] = (
    Column("experiment", pa.string(), "study"),
    Column("arm", pa.string(), "what the cells vary"),
    Column("seed", pa.int64(), "seed of the cell"),
    Column("run_id", pa.string(), "last run of the cell"),
    Column("generation", pa.string(), "run that gave its responses; before it, the last run"),
    Column(
        "epoch",
        pa.int64(),
        "epoch that responses are from; null: not one of the cell's own",
        nullable=True,
    ),
    Column("source", pa.string(), "where the prompts come from", nullable=True),
    Column("judge", pa.string(), "model that was asked", nullable=True),
    Column("rubric", pa.string(), "its instructions", nullable=True),
    Column(AGAINST, pa.string(), "arm it was compared with: rows are pairs of arms then"),
)
"""What rows can be grouped by."""

OF_PAIRS = {c.name for c in BY} & {c.name for c in CONTEST}

BEFORE_JUDGES = STAGES[: STAGES.index("judge")]
DEFAULT_BY = ("experiment", "arm", "seed", "run_id")

MEASURES: tuple[Column, ...] = (
    Column("cells", pa.int64(), "cells in the row: last runs, finished or not"),
    Column("prompts", pa.int64(), "different prompts that were answered"),
    Column("responses", pa.int64(), "sampled responses"),
    Column("judged", pa.int64(), "responses whose last attempt at a judgment is known"),
    Column("scored", pa.int64(), "judgments that gave a score"),
    Column("parse_fail", pa.int64(), "judgments without a readable score"),
    Column("refusal", pa.int64(), "judgments that the judge refused"),
    Column("truncated", pa.int64(), "judgments that were cut off"),
    Column("api_error", pa.int64(), "judgments that the endpoint failed to give"),
    Column("not_judged", pa.int64(), "responses without a final judgment"),
    Column("score", pa.float64(), "mean of the scores, 1 to 6"),
    Column(
        "ci_low", pa.float64(), "lower end of the 95 % interval, clustered by prompt, within 1 to 6"
    ),
    Column("ci_high", pa.float64(), "upper end of that interval"),
    Column("bound_low", pa.float64(), "mean if every unscored response deserved a 1"),
    Column("bound_high", pa.float64(), "mean if every unscored response deserved a 6"),
    Column("response_tokens", pa.float64(), "mean length of a response, tokens"),
    Column("eot", pa.float64(), "share of responses that ended by themselves"),
    Column("length", pa.float64(), "share cut off at the longest length"),
    Column("prompt_too_long", pa.float64(), "share not sampled: no room after the prompt"),
    Column("perplexity", pa.float64(), "held-out, of the epoch sampled from, else the last; mean"),
    Column("best_perplexity", pa.float64(), "held-out, lowest over epochs; mean over runs"),
    Column("loss", pa.float64(), "training loss of the last epoch, nats a token; mean over runs"),
    Column("examples", pa.int64(), "training examples; null if the runs differ"),
    Column("steps", pa.float64(), "optimizer steps; mean over training runs"),
    Column("cost", pa.float64(), "paid to the judge, all attempts, US dollars; null: not told"),
    Column("stage_starts", pa.int64(), "starts of stages: one for each stage, and the retries"),
    Column("retries", pa.int64(), "starts of a stage after its first"),
    Column("failed", pa.int64(), "attempts that ended with an error"),
    Column("interrupted", pa.int64(), "attempts that were asked to stop"),
    Column("killed", pa.int64(), "attempts without an end that a later one followed"),
    Column("open", pa.int64(), "attempts without an end so far: running, or killed"),
    Column("gpu_hours", pa.float64(), "GPUs times hours, of attempts that ended"),
    Column("wall_hours", pa.float64(), "hours of attempts that ended, one after the other"),
)
"""What a row says. A run that several rows share (one training, two judges) counts in each."""
