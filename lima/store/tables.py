"""The tables of a study: one Arrow schema each, one line a column with meaning and unit.

Times are UTC. Keys are sha256 of canonical JSON. Every row names its run and its spec.
"""

import pyarrow as pa

from lima.store.columns import IDENTITY, TIME, Column, Table, maybe
from lima.store.input_tables import INPUTS
from lima.store.label_tables import ANNOTATIONS, ITEMS

__all__ = [
    "ANNOTATIONS",
    "ATTEMPTS",
    "CANDIDATES",
    "EXAMPLES",
    "GENERATIONS",
    "INPUTS",
    "ITEMS",
    "JUDGMENTS",
    "METRICS",
    "RUNS",
    "STEPS",
    "TABLES",
    "TIME",
    "Column",
    "Table",
]

RUNS = Table(
    "runs",
    "a stage of a cell, or a chat, written when it first starts",
    (
        *IDENTITY,
        Column("stage", pa.string(), "curate, base, train, generate or judge; chat: live talk"),
        maybe("parent_run_id", pa.string(), "run of the stage before it; chat: of the model"),
        Column("examples", pa.int64(), "training examples of the stage", nullable=True),
        maybe("trimmed_examples", pa.int64(), "of these, longer than max_length", later=True),
        maybe(
            "trimmed_share", pa.float64(), "share of their tokens that trimming takes", later=True
        ),
        maybe(
            "ends_trimmed",
            pa.int64(),
            "examples that lose their last end-of-turn token to trimming",
            later=True,
        ),
        maybe(
            "example_tokens",
            pa.list_(pa.int32()),
            "tokens of each example before trimming, in the order of the data",
            later=True,
        ),
        Column("spec", pa.string(), "canonical JSON of the spec"),
        Column("versions", pa.string(), "JSON: versions of python, torch and the like"),
        Column("created_at", TIME, "first start"),
    ),
)

ATTEMPTS = Table(
    "attempts",
    "a start or an end of an attempt at a stage; a start without an end was killed",
    (
        *IDENTITY,
        Column("stage", pa.string(), "curate, base, train, generate or judge"),
        Column("attempt_id", pa.string(), "one process that tried the stage"),
        Column("event", pa.string(), "started or ended"),
        Column("at", TIME, "when it happened"),
        Column("outcome", pa.string(), "completed, failed, interrupted or killed", nullable=True),
        Column("reason", pa.string(), "why it ended, in words", nullable=True),
        Column("host", pa.string(), "machine of the driver"),
        Column("workers", pa.int64(), "worker processes that it ran on"),
        Column("gpus", pa.int64(), "GPUs held"),
        Column("seconds", pa.float64(), "wall time since the start, s", nullable=True),
        Column("resumed_from", pa.int64(), "step of the state it began from", nullable=True),
        maybe("versions", pa.string(), "JSON: of lima-k8s, torch and the like", later=True),
        maybe("image", pa.string(), "container image; null: no container", later=True),
        maybe(
            "idle_seconds",
            pa.float64(),
            "of these, that training stood still to copy and save states and weights, s",
            later=True,
        ),
        maybe(
            "saves",
            pa.string(),
            "JSON: of each state and weights that came to be whole its kind, step, bytes, "
            "stall_seconds that training stood still and seconds until it was whole",
            later=True,
        ),
    ),
)

STEPS = Table(
    "steps",
    "an optimizer step",
    (
        *IDENTITY,
        Column("step", pa.int64(), "1 is the first"),
        Column("epoch", pa.float64(), "passes over the data after the step"),
        Column("loss", pa.float64(), "mean cross-entropy of the target tokens, nats"),
        Column("learning_rate", pa.float64(), "used by the step"),
        Column("gradient_norm", pa.float64(), "before clipping", nullable=True),
        Column("examples", pa.int64(), "in the batch"),
        Column("tokens", pa.int64(), "in the batch, without padding"),
        Column("target_tokens", pa.int64(), "that carry loss"),
        Column("seconds", pa.float64(), "wall time of the step, s"),
        Column("at", TIME, "end of the step"),
        maybe("workers", pa.int64(), "worker processes that took it", later=True),
        maybe(
            "draws",
            pa.int64(),
            "sum over the examples that its workers read of 32 bits of sha256 of the address "
            "seed/dropout/step/example",
            later=True,
        ),
        maybe(
            "chain",
            pa.string(),
            "sha256 of the step before's chain and of this row without times",
            later=True,
        ),
        maybe(
            "stall_seconds",
            pa.float64(),
            "that training stood still after the step to copy a state or weights, or waited for "
            "those before, s; null: it did not",
            later=True,
        ),
    ),
)

METRICS = Table(
    "metrics",
    "a measurement of a checkpoint",
    (
        *IDENTITY,
        Column("epoch", pa.int64(), "epoch of the checkpoint"),
        Column("step", pa.int64(), "step of the checkpoint"),
        Column("name", pa.string(), "heldout_loss (nats a token) or heldout_perplexity"),
        Column("value", pa.float64(), "the measurement"),
        Column("tokens", pa.int64(), "tokens it is a mean over"),
        Column("at", TIME, "when it was taken"),
    ),
)

GENERATIONS = Table(
    "generations",
    "a sampled response",
    (
        *IDENTITY,
        Column("generation_key", pa.string(), "sha256 of run id, prompt key and sample"),
        Column("prompt_key", pa.string(), "sha256 of the prompt's utterances"),
        Column("prompt_index", pa.int64(), "position of the prompt in its selection"),
        Column("sample", pa.int64(), "0 is the first response to the prompt"),
        Column("source", pa.string(), "where the prompt comes from"),
        Column("prompt", pa.list_(pa.string()), "utterances, the user's first and last"),
        Column("response", pa.string(), "text up to the end of turn"),
        Column("token_ids", pa.list_(pa.int32()), "tokens of the response, without EOT"),
        Column("finish_reason", pa.string(), "eot, length or prompt_too_long"),
        maybe("prompt_tokens", pa.int64(), "with EOT after every utterance; null: not told"),
        maybe("response_tokens", pa.int64(), "without EOT; null: not told"),
        maybe("logprob", pa.float64(), "log-probability of the tokens, nats; null: not told"),
        Column("seed_address", pa.string(), "seed/prompt key/sample: replays the sampling"),
        Column("model", pa.string(), "what was sampled from"),
        Column("at", TIME, "when the shard was finished"),
        maybe(
            "not_applied",
            pa.list_(pa.string()),
            "decoding settings that were asked for and that a baseline did not apply",
            later=True,
        ),
    ),
)

JUDGMENTS = Table(
    "judgments",
    "an attempt to have a response scored, or two compared; the last attempt decides",
    (
        *IDENTITY,
        Column("judgment_key", pa.string(), "sha256 of the responses, judge and rubric"),
        Column("generation_key", pa.string(), "response that is judged"),
        Column("prompt_key", pa.string(), "its prompt"),
        Column("sample", pa.int64(), "its sample"),
        Column("attempt", pa.int64(), "1 is the first"),
        Column("final", pa.bool_(), "the attempt that decides"),
        Column("status", pa.string(), "ok, parse_fail, refusal, truncated or api_error"),
        maybe("score", pa.float64(), "1 to 6; null unless status is ok"),
        maybe("label", pa.string(), "A, B or neither; null unless ok, and for scores", later=True),
        maybe("item_id", pa.string(), "pair that is compared, as in items", later=True),
        maybe("presentation", pa.int64(), "0: the pair's first showing", later=True),
        maybe("response_2", pa.string(), "generation key it is compared with", later=True),
        maybe("arm_2", pa.string(), "arm of that response", later=True),
        maybe("shown", pa.string(), "12: the judged response is A; 21: it is B", later=True),
        maybe("instruction_hash", pa.string(), "sha256 of what raters are told", later=True),
        Column("judge", pa.string(), "model that was asked"),
        maybe("judge_version", pa.string(), "model that says it answered"),
        Column("rubric", pa.string(), "name of the instructions"),
        Column("rubric_hash", pa.string(), "sha256 of their text"),
        maybe("verdict", pa.string(), "the judge's words"),
        maybe("error", pa.string(), "what went wrong, in words"),
        maybe("http_status", pa.int64(), "of the answer, or of the error that one of 200 holds"),
        maybe("request_id", pa.string(), "the endpoint's own id"),
        maybe("settings", pa.string(), "JSON: what was sent beside model and text", later=True),
        maybe("prompt_tokens", pa.int64(), "billed input tokens; null: not told"),
        maybe("completion_tokens", pa.int64(), "billed output tokens; null: not told"),
        maybe("cost", pa.float64(), "US dollars by the prices of the spec; null: not told"),
        Column("seconds", pa.float64(), "wall time of the request, s"),
        Column("at", TIME, "when it was answered"),
    ),
)

CANDIDATES = Table(
    "candidates",
    "a conversation that curation saw, kept or not",
    (
        *IDENTITY,
        Column("candidate_key", pa.string(), "sha256 of source and source_id"),
        Column("pool", pa.string(), "what arms draw it from"),
        Column("source", pa.string(), "kind and collection, as stackexchange/SITE"),
        Column("source_id", pa.string(), "name of the original in its source: post ids, a line"),
        Column("category", pa.string(), "what sampling is balanced over; empty: nothing"),
        Column("tags", pa.list_(pa.string()), "labels that the source gave it"),
        Column("turns", pa.int64(), "utterances"),
        Column("conversation", pa.list_(pa.string()), "cleaned utterances, the user's first"),
        Column("score", pa.int64(), "votes for it, by which it is ranked", nullable=True),
        Column("keep", pa.bool_(), "whether no filter objects"),
        Column("reasons", pa.list_(pa.string()), "all filters that object"),
        Column("measures", pa.map_(pa.string(), pa.float64()), "what each filter measured"),
        Column("passed_over", pa.list_(pa.string()), "originals it was preferred to, id:score"),
        Column("url", pa.string(), "page of the original"),
        Column("authors", pa.list_(pa.string()), "names, with profiles where there are any"),
        Column("licence", pa.string(), "of the text"),
        Column("created", TIME, "when it was written", nullable=True),
        Column("changes", pa.string(), "what curation changed in the text"),
    ),
)

EXAMPLES = Table(
    "examples",
    "a candidate that an arm took, or turned away",
    (
        *IDENTITY,
        Column("data_set", pa.string(), "arm, and name of its file"),
        Column("split", pa.string(), "train, dev or test"),
        Column("line", pa.int64(), "in its file, 1 is the first; null: turned away", nullable=True),
        Column("candidate_key", pa.string(), "sha256 of source and source_id"),
        Column("pool", pa.string(), "what it was drawn from"),
        Column("category", pa.string(), "category it was drawn for"),
        Column("source", pa.string(), "kind and collection, as stackexchange/SITE"),
        Column("source_id", pa.string(), "name of the original in its source"),
        Column("score", pa.int64(), "votes for it, by which it is ranked", nullable=True),
        Column("conversation", pa.list_(pa.string()), "cleaned utterances, the user's first"),
        Column("inherited_from", pa.string(), "arm that took it first", nullable=True),
        Column("reason", pa.string(), "why it was turned away", nullable=True),
        Column("evidence", pa.string(), "what shows that", nullable=True),
        Column("other_key", pa.string(), "candidate that it repeats or overlaps", nullable=True),
    ),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        *(RUNS, INPUTS, ATTEMPTS, CANDIDATES, EXAMPLES),
        *(STEPS, METRICS, GENERATIONS, JUDGMENTS, ITEMS, ANNOTATIONS),
    )
}
