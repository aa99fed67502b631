"""Writes the reference pages from the code: `python -m lima_k8s.codegen.reference docs/reference`.

A test compares the pages in the repository with what this module renders.
"""

import dataclasses
import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from lima.curation.sources.wikihow_files import COLUMNS
from lima.data.layouts import LAYOUTS
from lima.recipes.registry import RECIPES, describe
from lima.spec import CellSpec, DataSpec
from lima.spec.codec import encode, field_types, json_schema, spec_type, type_text
from lima.store.tables import TABLES
from lima_k8s.codegen import settings
from lima_k8s.codegen.tables import default_of, markdown_table, meaning
from lima_k8s.main import COMMANDS, cli, command_named
from lima_k8s.profile.cluster_spec import ClusterSpec
from lima_k8s.profile.queue_spec import QueueSpec

NOTICE = "<!-- Made from the code by `make docs`; changes here are lost. -->"
WIDTH = 90


def render() -> dict[str, str]:
    """Return every reference page: file name and content."""
    pages = {
        "spec.md": _spec(),
        "recipes.md": _recipes(),
        "tables.md": _tables(),
        "layouts.md": _layouts(),
        "values.md": _values(),
        "cli.md": _cli(),
    }
    texts = {name: "\n".join([NOTICE, *lines, ""]) for name, lines in pages.items()}
    schema = json.dumps(json_schema(CellSpec), indent=2, ensure_ascii=False)
    return {**texts, "spec.schema.json": f"{schema}\n"}


def write(folder: Path) -> None:
    """Write all pages into a folder, and the table of docs/cluster.md beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        (folder / name).write_text(text, "utf-8")
    settings.write(folder.parent / "cluster.md")


def _spec() -> Iterator[str]:
    yield "# Specs\n"
    yield (
        "Everything about a run, as `lima-k8s show` writes it and `--set PATH=VALUE` changes it. "
        "A path joins the keys with dots: `train.optimizer.lr_start`. Keys that are left out "
        "have their default; unknown keys are refused. The same in JSON Schema: "
        "[spec.schema.json](spec.schema.json)."
    )
    yield from _spec_tables(CellSpec)


def _values() -> Iterator[str]:
    yield "# Values of the charts\n"
    yield (
        "What a profile or a values file says below `cluster:`, for the runs and for lima-queue, "
        "and below `queue:`, for lima-queue alone. A path joins the keys with dots: "
        "`cluster.pods.head.annotations`. What the pods of runs have goes there; what they may "
        "have together, and who may have it, is the queue's.\n\n"
        "| below | for |\n| --- | --- |\n"
        "| [`cluster:`](#clusterspec) | where a run runs: images, storage, sizes, nodes, pods |\n"
        "| [`queue:`](#queuespec) | quota, kinds of GPUs, priorities, rights, policies, network |"
    )
    for kind in (ClusterSpec, QueueSpec):
        yield from _spec_tables(kind)


def _spec_tables(of: type) -> Iterator[str]:
    for kind in _spec_types(of):
        yield f"\n## {kind.__name__}\n\n{inspect.getdoc(kind)}\n"
        yield from markdown_table(("key", "type", "default", "meaning"), _spec_rows(kind))


def _spec_types(kind: type) -> list[type]:
    """Return a spec type and all below it, each once, in the order of their first use."""
    found = [kind]
    for annotation in field_types(kind).values():
        nested = spec_type(annotation)
        if nested:
            found += [k for k in _spec_types(nested) if k not in found]
    return found


def _spec_rows(kind: type) -> Iterator[Sequence[str]]:
    annotations = field_types(kind)
    for field in dataclasses.fields(kind):
        annotation = annotations[field.name]
        nested = spec_type(annotation)
        kind_text = type_text(annotation)
        if nested:
            link = f"[{nested.__name__}](#{nested.__name__.lower()})"
            kind_text = kind_text.replace("mapping", link)
        yield f"`{field.name}`", kind_text, _default(field), meaning(annotation, nested)


def _default(field: "dataclasses.Field[object]") -> str:
    default = default_of(field)
    if default is dataclasses.MISSING:
        return "required"
    if dataclasses.is_dataclass(default):
        changed = _differences(default)
        return (
            ", ".join(f"`{key}: {json.dumps(value)}`" for key, value in changed) or "its defaults"
        )
    return f"`{json.dumps(encode(default), ensure_ascii=False)}`"


def _differences(spec: object) -> list[tuple[str, object]]:
    """Return the values of a spec that are not its type's defaults."""
    return [
        (field.name, encode(getattr(spec, field.name)))
        for field in dataclasses.fields(spec)  # type: ignore[arg-type]
        if getattr(spec, field.name) != default_of(field)
    ]


def _recipes() -> Iterator[str]:
    yield "# Recipes\n"
    yield (
        "A recipe is a function in `lima/recipes` that returns the specs of a study. "
        "`lima-k8s show RECIPE` prints them in full, `lima-k8s lint RECIPE` judges them.\n\n"
        "LIMA's data is licensed for non-commercial use and does not ship with this code; nor do "
        "the data of the baseline and of the ablations. The recipes name files below `data/`, "
        "relative to where the command is started. Put yours there, or name it: "
        "`--set train.data.path=FILE`, a local file or a storage URI. A line of LIMA's files is "
        '`{"conversations": ["prompt", "response", …], "source": "name"}`; others '
        "[are read too](layouts.md). `tiny` has "
        "all that it needs; `smol` wants a package of Python besides, which `make demo` installs."
    )
    for name, recipe in RECIPES.items():
        cells = recipe()
        text = (inspect.getdoc(recipe) or "").partition("\n")[2].strip()
        yield f"\n## {name}\n\n{describe(recipe)}\n\n{text}\n"
        yield from markdown_table(
            ("arm", "seeds", "training data", "epochs", "batch", "workers", "responses a prompt"),
            _arm_rows(cells),
        )
        files = sorted({path for cell in cells for path in _data_files(cell)})
        if files:
            yield f"\nFiles to bring: {', '.join(f'`{file}`' for file in files)}."


def _arm_rows(cells: Sequence[CellSpec]) -> Iterator[Sequence[str]]:
    for arm in dict.fromkeys(cell.arm for cell in cells):
        same = [cell for cell in cells if cell.arm == arm]
        seeds = ", ".join(str(cell.seed) for cell in same)
        train, generate = same[0].train, same[0].generate
        trained = ("", "", "", "")
        if train:
            count = f"{train.data.count} of " if train.data.count else ""
            trained = (
                f"{count}`{train.data.path}`",
                str(train.epochs),
                str(train.batch_size),
                str(train.compute.workers),
            )
        yield f"`{arm}`", seeds, *trained, str(generate.decoding.samples) if generate else ""


def _data_files(cell: CellSpec) -> Iterator[str]:
    """Yield the files on a user's disk that a cell reads."""
    specs: list[DataSpec | None] = [cell.generate.prompts if cell.generate else None]
    for stage in (cell.base, cell.train):
        specs += [stage.data, stage.heldout] if stage else []
    yield from (spec.path for spec in specs if spec and spec.path.startswith("data/"))


def _layouts() -> Iterator[str]:
    yield "# Layouts of examples\n"
    yield (
        "What `train.data`, `train.heldout` and `generate.prompts` may name, in JSONL, a JSON list "
        "or Parquet, and what sources of the kinds `examples` and `authored` may hold, in JSONL or "
        "a JSON list. A record is read whole or refused, named by its file and line (curation "
        "counts it as damaged and goes on): so is one with two responses, a system prompt, tools "
        "or pictures, one marked as not to be learned from (`label: false`, `weight: 0`, "
        "`train: false`), or with text under keys that no layout has beside a lone prompt. Other "
        "keys, as an `id`, are passed over; `source` is kept, and curation keeps `category`, "
        "`licence` and `url`.\n"
    )
    rows = (
        (
            layout.name + (", with `chosen: true`" if layout.chosen else ""),
            f"`{json.dumps(layout.record)}`",
            f"`{json.dumps(layout.conversation)}`",
        )
        for layout in LAYOUTS
    )
    yield from markdown_table(("layout", "a record", "is read as"), rows)
    yield (
        "\n## wikiHow as CSV\n\nRows of an article follow each other. `wikihowSep.csv` has a row a "
        "step, `wikihowAll.csv` a row a part of an article, with the number of the part at the "
        "end of the title. A file with other columns is damaged as a whole.\n"
    )
    yield from markdown_table(
        ("column", "holds"), ((f"`{n}`", text) for n, text in COLUMNS.items())
    )


def _tables() -> Iterator[str]:
    yield "# Tables\n"
    yield (
        "Parquet below `STORAGE/<table>/<experiment>/<run id>/<shard>.parquet`. A shard is never "
        "changed, and holds all columns of its table: any reader takes the folder of a table. The "
        "meaning of a column is also in the metadata of its Arrow field."
    )
    for table in TABLES.values():
        yield f"\n## {table.name}\n\nA row is {table.row}.\n"
        rows = [
            (f"`{c.name}`", str(c.type), "yes" if c.nullable else "", c.meaning)
            for c in table.columns
        ]
        yield from markdown_table(("column", "type", "null", "meaning"), rows)


def _cli() -> Iterator[str]:
    yield "# Command line\n"
    yield f"{cli.help}\n\nInstalled as `lima-k8s` and as the plugin `kubectl lima`."
    yield from _help("lima-k8s", cli)
    for name in COMMANDS:
        yield f"\n## lima-k8s {name}"
        yield from _help(f"lima-k8s {name}", command_named(name))


def _help(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(
        command, info_name=name, terminal_width=WIDTH, help_option_names=["-h", "--help"]
    )
    yield f"\n```text\n{command.get_help(context)}\n```"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
