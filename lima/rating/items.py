"""What raters are asked about: responses, alone or in pairs, in a seeded order.

People and models are asked about the same items. Everything that chance decides (which prompts,
in which order, which response is shown first) follows from the seed and the keys of the item
itself, so that more items or another baseline leave the others as they are.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Annotated, Any, Literal

from msgspec import Meta

from lima.errors import DataError
from lima.rating.instructions import A_BETTER, B_BETTER, Kind
from lima.rating.responses import Response, Responses, item_id, read_responses
from lima.spec import AtLeastOne
from lima.spec.codec import RUN_ID_LENGTH, encode, sha256_key
from lima.store.scan import Tables
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ITEMS, RUNS

Shown = Literal["12", "21"]
OURS_FIRST: Shown = "12"
OTHER_FIRST: Shown = "21"
TIE = "tie"


@dataclass(frozen=True)
class EvaluationSpec:
    """What raters are asked; its hash is the run id of the rows of `items` and `annotations`."""

    experiment: Annotated[str, Meta(min_length=1, description="Study that the labels belong to.")]
    arm: Annotated[str, Meta(min_length=1, description="Arm that is rated.")]
    kind: Annotated[Kind, Meta(description="What is asked.")]
    run: Annotated[str, Meta(description="Run of generation whose responses are rated.")]
    others: Annotated[
        tuple[str, ...], Meta(description="Runs of generation that they are compared with.")
    ] = ()
    sources: Annotated[
        tuple[str, ...], Meta(description="Only prompts whose source matches a glob; empty: all.")
    ] = ()
    count: Annotated[
        AtLeastOne | None, Meta(description="Prompts to draw; null: all. Fewer are a subset.")
    ] = None
    shared: Annotated[
        int, Meta(ge=0, description="Items that every rater is asked about (section 4.1: 50).")
    ] = 50
    repeats: Annotated[int, Meta(ge=0, description="Items shown twice, to measure drift.")] = 0
    both_orders: Annotated[bool, Meta(description="Show every pair both ways round.")] = False
    seed: Annotated[int, Meta(ge=0, description="Of the draw and of the orders.")] = 0


@dataclass(frozen=True)
class Item:
    """One showing of a response, or of a pair, to a rater."""

    item_id: str
    presentation: int
    position: int
    kind: Kind
    shared: bool
    shown: Shown
    first: Response
    second: Response | None = None

    @property
    def responses(self) -> tuple[Response, ...]:
        """The responses as they are shown, A first."""
        if self.second is None:
            return (self.first,)
        pair = (self.first, self.second)
        return pair if self.shown == OURS_FIRST else pair[::-1]

    def row(self) -> dict[str, Any]:
        """Return the row of `items`; the columns with the same names fill one of `annotations`."""
        other = self.second
        return {
            **{k: v for k, v in vars(self).items() if k not in ("first", "second")},
            "prompt_key": self.first.prompt_key,
            "source": self.first.source,
            "response_1": self.first.key,
            "response_2": other and other.key,
            "arm_1": self.first.arm,
            "arm_2": other and other.arm,
        }


def evaluation_identity(spec: EvaluationSpec) -> dict[str, Any]:
    """Return the columns that name the run of an evaluation."""
    digest = sha256_key(encode(spec))
    run = {"run_id": digest[:RUN_ID_LENGTH], "spec_hash": digest}
    return {**run, "experiment": spec.experiment, "arm": spec.arm, "seed": spec.seed}


def generation_runs(storage: Storage, experiment: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the run of generation that each name means.

    A name is a run id, else an arm of the experiment, else an arm of any other experiment.

    Raises:
        DataError: there is none, or an arm has several.

    """
    tables = Tables(storage)
    rows = tables.read(RUNS, ["run_id", "experiment", "arm", "stage"]).to_pylist()
    tables.require_readable()
    generated = [row for row in rows if row["stage"] == "generate"]
    here, anywhere = dict[str, set[str]](), dict[str, set[str]]()
    for row in generated:
        known = here if row["experiment"] == experiment else anywhere
        known.setdefault(row["arm"], set()).add(row["run_id"])
    arms = {**anywhere, **here, **{row["run_id"]: {row["run_id"]} for row in generated}}
    for name in names:
        found = sorted(arms.get(name, ()))
        if len(found) != 1:
            raise DataError(
                f"{storage.uri}: {name!r} has {f'{len(found)} runs' if found else 'no run'} of "
                f"generation; name one run: {', '.join(found or sorted(arms))}"
                f"{'' if found else ', or let the arm answer first (`lima-k8s submit generate`)'}"
            )
    return tuple(run for name in names for run in arms[name])


def plan_items(spec: EvaluationSpec, storage: Storage) -> list[Item]:
    """Return all showings in the order in which raters meet them, the shared ones first.

    A pair needs a response from both sides: a prompt that one side did not answer has no item,
    and is missing from every rate.

    Raises:
        DataError: a run has no responses, or nothing is left to be shown.

    """
    from lima.rating.dialogues import read_dialogues

    whole = spec.kind == "dialogue" and spec.others  # not their turns, which differ in prompt
    read = read_dialogues if whole else read_responses
    runs = [read(storage, run) for run in (spec.run, *spec.others)]
    wanted = drawn_prompts(spec, runs[0].values())
    sides = _sides(spec.kind, runs)
    shown = [
        _item(spec, [responses[key] for responses in side])
        for side in sides
        for key in wanted
        if all(key in responses for responses in side)
    ]
    items = _in_order(spec, shown)
    if not items:
        raise DataError(
            f"{storage.uri}: nothing to show: no prompt of run {spec.run} is answered by all; "
            "check the runs that are compared, and `sources`"
        )
    return items


def drawn_prompts(spec: EvaluationSpec, responses: Iterable[Response]) -> list[str]:
    """Return the prompts that the seed draws, by its order; fewer are a subset of more."""
    keys = [
        r.prompt_key
        for r in responses
        if not spec.sources or any(fnmatchcase(r.source, glob) for glob in spec.sources)
    ]
    ordered = sorted(keys, key=lambda key: sha256_key([spec.seed, "prompt", key]))
    return ordered[: spec.count]


def shown_order(seed: int, item_id: str) -> Shown:
    """Return which response is shown as A at the first showing of a pair: a seeded coin."""
    return OTHER_FIRST if int(sha256_key([seed, "shown", item_id])[-1], 16) % 2 else OURS_FIRST


def turned(shown: Shown) -> Shown:
    """Return the other way round."""
    return OURS_FIRST if shown == OTHER_FIRST else OTHER_FIRST


def winner(label: str, shown: str) -> str:
    """Return what a label of a pair says of the responses: "1", "2" or a tie.

    Where it is not known how they were shown, A names response_1.
    """
    if label not in (A_BETTER, B_BETTER):
        return TIE
    order = shown if shown in (OURS_FIRST, OTHER_FIRST) else OURS_FIRST
    return order[0 if label == A_BETTER else 1]


def write_items(
    spec: EvaluationSpec, storage: Storage, items: Sequence[Item], shard: str = "items"
) -> None:
    """Write the ledger of an evaluation, or of what was added to it, once."""
    rows = [item.row() for item in items]
    RunTable.of(storage, ITEMS, evaluation_identity(spec)).write(shard, rows)


def _sides(kind: Kind, runs: Sequence[Responses]) -> Sequence[Sequence[Responses]]:
    """Return what is shown together: ours with each other run, checkpoints all with all."""
    if len(runs) == 1:
        return [runs]
    if kind == "checkpoint":
        return list(combinations(runs, 2))
    return [(runs[0], other) for other in runs[1:]]


def _item(spec: EvaluationSpec, responses: Sequence[Response]) -> Item:
    name = item_id(spec.kind, responses[0].prompt_key, [response.key for response in responses])
    shown = shown_order(spec.seed, name) if len(responses) > 1 else OURS_FIRST
    return Item(name, 0, 0, spec.kind, False, shown, *responses)


def _in_order(spec: EvaluationSpec, items: Sequence[Item]) -> list[Item]:
    """Shuffle by the seed, the shared ones first; second showings come after all first ones."""
    first = sorted(items, key=lambda item: sha256_key([spec.seed, "item", item.item_id]))
    shared = {item.item_id for item in first[: spec.shared]}
    other_way = [replace(i, shown=turned(i.shown)) for i in first if spec.both_orders and i.second]
    showings = [*first, *other_way, *first[: spec.repeats]]
    seen: Counter[str] = Counter()
    for position, item in enumerate(showings):
        number, seen[item.item_id] = seen[item.item_id], seen[item.item_id] + 1
        showings[position] = replace(
            item, presentation=number, position=position, shared=item.item_id in shared
        )
    return showings
