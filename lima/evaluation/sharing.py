"""A trained model for a hub: its files, a card that says what it is, and whence its data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lima import __version__
from lima.evaluation.aggregate.table import aggregate_rows
from lima.inputs.fingerprint import short
from lima.model.checkpoint_manifest import check_weights, weights_path
from lima.runs.lineage import read_spec
from lima.runs.shown_settings import shown_settings
from lima.store.scan import Tables
from lima.store.storage import Entry, Storage
from lima.store.tables import INPUTS, RUNS

CARD = "README.md"
LEDGERS = ("attribution.md", "attribution.csv")
"""That curation writes beside its data sets; the licences of their texts ask for it."""
RESULTS = {
    "responses": "responses",
    "eot": "share that ended by themselves",
    "response_tokens": "tokens a response, mean",
    "loss": "training loss of the last epoch, nats a token",
    "perplexity": "held-out perplexity",
    "score": "score by the judge, 1 to 6, mean",
    "scored": "responses scored",
}
"""Measures of `aggregate` that a card shows."""


@dataclass(frozen=True)
class Shared:
    """A model of a storage as it goes to a hub.

    Args:
        storage: Where it lies.
        run: The run that trained it.
        epoch: Which of its exports.

    """

    storage: Storage
    run: str
    epoch: int

    def files(self) -> dict[str, Entry]:
        """Return the exported files but the card, by their names.

        Raises:
            ModelError: one is missing or cut short.

        """
        check_weights(self.storage, self.run, self.epoch)
        folder = weights_path(self.run, self.epoch)
        found = {e.path.removeprefix(f"{folder}/"): e for e in self.storage.entries(folder)}
        return {name: entry for name, entry in sorted(found.items()) if name != CARD}

    def ledgers(self) -> dict[str, bytes]:
        """Return the attribution of the training data, where curation wrote some beside it."""
        path = str(_model_part(self.spec).get("data", {}).get("path", ""))
        folder = path.rpartition("/")[0]
        if not folder:
            return {}
        home = Storage(folder)
        return {name: home.read(name) for name in LEDGERS if home.exists(name)}

    @property
    def row(self) -> dict[str, Any]:
        """The row of the run."""
        rows = Tables(self.storage).read(RUNS, ["run_id", *_ROW]).to_pylist()
        return next(row for row in rows if row["run_id"] == self.run)

    @property
    def spec(self) -> dict[str, Any]:
        """The settings of the run."""
        return read_spec(self.run, self.row["spec"])

    def card(self, licence: str | None, ledgers: Sequence[str] = ()) -> str:
        """Return the model card as Markdown, with the front matter that hubs read.

        Args:
            licence: Of the model, as the hub names it; None: none is claimed.
            ledgers: Files of attribution that go along.

        """
        row, spec = self.row, self.spec
        parts = [
            *_front(licence, row),
            f"# {row['experiment']}: {row['arm']}, seed {row['seed']}\n",
            f"Trained by lima-k8s {__version__}: run `{self.run}`, weights of epoch "
            f"{self.epoch}.\n",
            "```python",
            "tokenizer.apply_chat_template(messages, add_generation_prompt=True)",
            "```\n",
            "gives the tokens that the model was trained on; a response ends with "
            f"`{_model_part(spec)['model'].get('eot_token')}`.\n",
            "## Results\n",
            *_table(("measure", "value"), self._results(row)),
            "## Data\n",
            *_table(("role", "name", "fingerprint", "examples"), self._inputs()),
            *(["Authors, links and licences: " + ", ".join(ledgers) + ".\n"] if ledgers else []),
            "## Settings\n",
            *_table(("setting", "value"), _settings(_model_part(spec))),
        ]
        return "\n".join(parts)

    def _results(self, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the measures of the cells that stand on the run."""
        rows = [
            r
            for r in aggregate_rows(self.storage, experiment=row["experiment"], note=lambda _: None)
            if (r["arm"], r["seed"]) == (row["arm"], row["seed"])
        ]
        return [
            (words, f"{r[name]:,.4g}")
            for r in rows
            for name, words in RESULTS.items()
            if r.get(name) is not None
        ]

    def _inputs(self) -> list[tuple[str, str, str, str]]:
        columns = ["run_id", "role", "name", "fingerprint", "rows"]
        rows = Tables(self.storage).read(INPUTS, columns).to_pylist()
        return [
            (r["role"], r["name"], short(r["fingerprint"]), str(r["rows"] or ""))
            for r in rows
            if r["run_id"] == self.run
        ]


_ROW = ("experiment", "arm", "seed", "stage", "spec")


def _model_part(spec: Mapping[str, Any]) -> dict[str, Any]:
    return dict(spec.get("train") or spec.get("base") or {})


def _front(licence: str | None, row: Mapping[str, Any]) -> list[str]:
    model = str(_model_part(json.loads(row["spec"]))["model"]["path"])
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    lines += [f"license: {licence}"] if licence else []
    # Of a hub: what people can follow; other paths are of one machine.
    is_hub = model.count("/") == 1 and ":" not in model and not model.startswith((".", "/", "~"))
    lines += [f"base_model: {model}"] if is_hub else []
    return [*lines, "tags: [lima-k8s]", "---\n"]


def _settings(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    flat = shown_settings(document)
    return [(path, json.dumps(value, ensure_ascii=False)) for path, value in flat.items()]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["None is known.\n"]
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(map(_cell, line))} |" for line in lines), ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
