"""The table of what the stages of a study read."""

import pyarrow as pa

from lima.store.columns import IDENTITY, TIME, Column, Table, maybe

INPUTS = Table(
    "run_inputs",
    "an input of a run, as it was when the run first started",
    (
        *IDENTITY,
        Column("stage", pa.string(), "curate, base, train or generate"),
        Column("role", pa.string(), "what it is to the stage, as the spec names it"),
        Column("name", pa.string(), "what it is called, without folders"),
        maybe("fingerprint", pa.string(), "of its content; null: not known"),
        maybe("promised", pa.string(), "fingerprint in the spec; null: the run is named by paths"),
        maybe("bytes", pa.int64(), "size; null: not looked at where the driver runs"),
        maybe("rows", pa.int64(), "examples in it, before any are chosen; null: it holds none"),
        Column("read_at", pa.string(), "paths or URIs that were read"),
        maybe("files", pa.map_(pa.string(), pa.string()), "fingerprints of its files by name"),
        Column("at", TIME, "when it was looked at"),
    ),
)
