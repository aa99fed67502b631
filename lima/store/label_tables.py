"""The tables of people's labels: what raters are asked about, and what they said."""

import pyarrow as pa

from lima.store.columns import IDENTITY, TIME, Column, Table, maybe

ITEMS = Table(
    "items",
    "a response, or a pair, that raters are asked about: the seeded ledger of their orders",
    (
        *IDENTITY,
        Column("item_id", pa.string(), "sha256 of kind, prompt and responses, whatever the order"),
        Column("presentation", pa.int64(), "0: first showing; others repeat or turn it round"),
        Column("position", pa.int64(), "place in the seeded order, 0 is the first"),
        Column("kind", pa.string(), "preference, absolute, safety, dialogue or checkpoint"),
        Column("shared", pa.bool_(), "every rater is asked, so that agreement can be measured"),
        Column("shown", pa.string(), "12: response_1 is shown as A; 21: response_2 is"),
        Column("prompt_key", pa.string(), "prompt that is answered"),
        Column("source", pa.string(), "where the prompt comes from"),
        Column("response_1", pa.string(), "generation key of the study's own response"),
        maybe("response_2", pa.string(), "generation key of the other; null: none"),
        Column("arm_1", pa.string(), "arm of response_1"),
        maybe("arm_2", pa.string(), "arm of response_2"),
    ),
)

ANNOTATIONS = Table(
    "annotations",
    "an event of a rater at an item; the last event that nothing supersedes decides",
    (
        *IDENTITY,
        Column("annotation_id", pa.string(), "of the event: random, or a hash of what is imported"),
        Column("event", pa.string(), "labelled, skipped (no label can be given) or undone"),
        maybe("supersedes", pa.string(), "annotation id that it takes the place of"),
        Column("item_id", pa.string(), "item, as in items"),
        Column("presentation", pa.int64(), "which showing of it, as in items"),
        Column("kind", pa.string(), "preference, absolute, safety, dialogue or checkpoint"),
        Column("rater", pa.string(), "who labelled: a pseudonym, or the name of a model"),
        Column("rater_group", pa.string(), "crowd, author or model"),
        maybe(
            "label",
            pa.string(),
            "A, B or neither as shown; fail, pass or excellent; safe or unsafe",
        ),
        Column("shown", pa.string(), "12: response_1 was A; 21: response_2 was; unknown: 1 is A"),
        Column("prompt_key", pa.string(), "prompt that is answered"),
        Column("response_1", pa.string(), "generation key, or the importer's name of the response"),
        maybe("response_2", pa.string(), "the other response; null: none"),
        Column("arm_1", pa.string(), "arm of response_1"),
        maybe("arm_2", pa.string(), "arm of response_2"),
        maybe("conversation_id", pa.string(), "dialogue that it belongs to"),
        maybe("turn", pa.int64(), "answer in it, 1 is the first; null: the whole"),
        maybe("malicious", pa.bool_(), "whether the prompt means harm; null: not said"),
        maybe(
            "out_of_distribution",
            pa.bool_(),
            "whether no training example is like it",
        ),
        maybe("instruction_hash", pa.string(), "sha256 of the instructions; null: not known"),
        maybe("comment", pa.string(), "the rater's words"),
        maybe("imported_from", pa.string(), "file and its sha256; null: labelled here"),
        maybe("started_at", TIME, "when the item was shown"),
        maybe("ended_at", TIME, "when the event was made; imported: null"),
        Column("written_at", TIME, "when the row was written"),
    ),
)
