"""The table of docs/cluster.md: what can be set where. `make docs` writes it."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from lima.spec.codec import field_types, spec_type
from lima_k8s.codegen.tables import default_of, markdown_table, meaning
from lima_k8s.profile.cluster_spec import ClusterSpec, PodSpec, PodsSpec
from lima_k8s.profile.queue_spec import QueueSpec

BEGIN, END = "<!-- begin: made by `make docs` -->", "<!-- end -->"
ROLE = "ROLE"
"""Stands for each of those whose pods may have something."""


def with_table(page: str) -> str:
    """Return docs/cluster.md with the table as the code has it now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [*_rows("cluster", ClusterSpec), *_rows("queue", QueueSpec)]
    lines = markdown_table(("value", "what it sets"), rows)
    return "\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"])


def write(page: Path) -> None:
    """Write the table into docs/cluster.md."""
    page.write_text(with_table(page.read_text("utf-8")), "utf-8")


def _rows(path: str, kind: type) -> Iterator[Sequence[str]]:
    """Yield each value that may be set below `path`; what pods have stands once for all roles."""
    annotations = field_types(kind)
    if kind is PodsSpec:
        yield from _rows(f"{path}.{ROLE}", PodSpec)
        return
    for field in dataclasses.fields(kind):
        annotation = annotations[field.name]
        nested, where = spec_type(annotation), f"{path}.{field.name}"
        if nested is None:
            yield f"`{where}`", meaning(annotation, None)
        else:
            of_each = "" if dataclasses.is_dataclass(default_of(field)) else "[]"
            yield from _rows(f"{where}{of_each}", nested)
