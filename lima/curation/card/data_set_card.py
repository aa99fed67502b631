"""The dataset card: what is in a data set, whence, under which terms, and what was left out.

Written as the README.md of a folder of JSONL files, with the front matter that the Hugging Face
hub and `datasets.load_dataset(FOLDER, ARM)` read.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lima.curation.arms.assembly import Assembly, Rejection
from lima.curation.arms.licence_policy import Licence, licences
from lima.curation.candidates.candidate import Candidate
from lima.curation.candidates.losses import Losses
from lima.curation.card.attribution import escaped
from lima.curation.card.table1 import Row, to_markdown
from lima.curation.text.style import style_warnings
from lima.data.plain_text import one_line

EVIDENCE = 20
"""Rejections shown a reason, and doubts about style; the table `candidates` holds them all."""
TITLE = 70
HUB_LICENCES = {
    *(f"cc-{terms}-{v}" for terms in ("by", "by-sa", "by-nc", "by-nc-sa") for v in ("3.0", "4.0")),
    *("apache-2.0", "mit", "cc0-1.0", "cc-by-sa-2.5"),
}
"""Licences that the hub knows by name."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


@dataclass(frozen=True)
class Arm:
    """A data set of a run."""

    name: str
    split: str
    examples: Sequence[Candidate]
    """In the order of its lines, those of the arms it extends first."""
    assembly: Assembly


def dataset_card(
    title: str,
    arms: Sequence[Arm],
    *,
    run: str,
    rows: Sequence[Row],
    tokenizer: str | None,
    pools: Mapping[str, Losses],
    damage: Mapping[str, Any],
) -> str:
    """Return the card as Markdown.

    Args:
        title: Name of the data set.
        arms: What the run wrote, a JSONL file each.
        run: Id of the run, to write the same again.
        rows: Table 1.
        tokenizer: What its lengths were counted with.
        pools: What the filters did to each pool.
        damage: What could not be read, as `Damage.to_json` tells it.

    """
    every = list({c.key: c for arm in arms for c in arm.examples}.values())
    parts = [
        _front_matter(title, arms, every),
        f"# {escaped(title)}",
        _about(arms, run),
        "## Table 1\n\n" + to_markdown(rows, tokenizer),
        "## Licences\n\n" + _licence_table(every),
        "## Filters\n\n" + _filter_table(pools),
        "## Assembly\n\n" + "\n\n".join(_assembly(arm) for arm in arms),
        "## Style\n\n" + _style(every),
        "## Damaged input\n\n" + _damage(damage),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _front_matter(title: str, arms: Sequence[Arm], every: Sequence[Candidate]) -> str:
    import yaml

    names = {found.name for c in every for found in licences(c.provenance.licence)}
    hub_name = names.pop().lower().replace(" ", "-") if len(names) == 1 else ""
    terms = (
        {"license": hub_name}
        if hub_name in HUB_LICENCES
        else {"license": "other", "license_name": "mixed", "license_link": "attribution.md"}
    )
    largest = max((len(arm.examples) for arm in arms), default=0)
    values = {
        "pretty_name": title,
        **terms,
        "task_categories": ["text-generation"],
        "size_categories": [next((s for n, s in SIZES if largest < n), "100K<n<1M")],
        "configs": [
            {
                "config_name": arm.name,
                "data_files": [{"split": _hub_split(arm.split), "path": f"{arm.name}.jsonl"}],
            }
            for arm in arms
        ],
    }
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---"


def _about(arms: Sequence[Arm], run: str) -> str:
    lines = [
        "Alignment data curated as in section 2 of “LIMA: Less Is More for Alignment”. A line of a "
        'file is `{"conversations": [user, assistant, …], "source": …}`; a line of a test or '
        "development set may end with the user.",
        "",
        "| file | split | examples |",
        "|---|---|---:|",
        *(f"| {arm.name}.jsonl | {arm.split} | {len(arm.examples)} |" for arm in arms),
        "",
        f"Written by run `{run}`. Authors, links, licences and changes of every line: "
        "attribution.md and attribution.csv. All candidates, kept or not, with the value of every "
        "filter: the table `candidates` of that run.",
    ]
    return "\n".join(lines)


def _licence_table(every: Sequence[Candidate]) -> str:
    counts = Counter(found for c in every for found in licences(c.provenance.licence))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0].name))
    lines = [
        "| licence | examples | attribution | share alike | non-commercial |",
        "|---|---:|---|---|---|",
        *(
            f"| {escaped(found.name)} | {count} | {_yes(found.attribution)} "
            f"| {_asks(found, found.share_alike)} | {_asks(found, found.non_commercial)} |"
            for found, count in ranked
        ),
    ]
    return "\n".join([*lines, *_terms([found for found, _ in ranked])])


def _asks(found: Licence, term: bool) -> str:
    return _yes(term) if found.known or term else "?"


def _terms(found: Sequence[Licence]) -> list[str]:
    told = []
    if any(licence.non_commercial for licence in found):
        told.append("Parts are for non-commercial use only.")
    if any(licence.share_alike for licence in found):
        told.append("Parts must be passed on under the licence they came with.")
    if unknown := [escaped(licence.name) for licence in found if not licence.known]:
        told.append(f"No open licence is known for: {', '.join(unknown)}.")
    return ["", " ".join(told)] if told else []


def _filter_table(pools: Mapping[str, Losses]) -> str:
    lines = ["| pool | candidates | filter | dropped | by it alone |", "|---|---:|---|---:|---:|"]
    for name, losses in pools.items():
        if not losses.dropped:
            lines.append(f"| {name} | {losses.seen} | – | 0 | 0 |")
        lines += [
            f"| {name} | {losses.seen} | {reason} | {count} | {losses.only[reason]} |"
            for reason, count in sorted(losses.dropped.items(), key=lambda i: (-i[1], i[0]))
        ]
    return "\n".join(lines)


def _assembly(arm: Arm) -> str:
    lines = [f"### {arm.name}", ""]
    lines += [f"* SHORT: {shortage}" for shortage in arm.assembly.shortages]
    lines += [
        f"* {pool}: {abs(difference)} {'fewer' if difference < 0 else 'more'} of {category!r} than "
        "its share, since a category ran out"
        for pool, category, difference in arm.assembly.moved
    ]
    by_reason: dict[str, list[Rejection]] = {}
    for rejection in arm.assembly.rejected:
        by_reason.setdefault(rejection.objection.reason, []).append(rejection)
    for reason, rejections in sorted(by_reason.items()):
        lines.append(f"* {len(rejections)} turned away: {reason}")
        lines += [f"  * {_evidence(rejection)}" for rejection in rejections[:EVIDENCE]]
    if len(lines) == 2:
        lines.append("* Nothing was turned away, nothing is missing.")
    return "\n".join(lines)


def _evidence(rejection: Rejection) -> str:
    candidate = rejection.candidate
    title = escaped(one_line(candidate.conversation[0])[:TITLE])
    name = escaped(f"{candidate.source} {candidate.source_id}")
    return f"{name} “{title}”: {escaped(rejection.objection.evidence)}"


def _style(every: Iterable[Candidate]) -> str:
    doubts = [(c, warning) for c in every for warning in style_warnings(c)]
    if not doubts:
        return "No authored example asks for a second look."
    lines = [f"* {escaped(c.source)} {escaped(c.source_id)}: {warning}" for c, warning in doubts]
    return "\n".join(["Authored examples that ask for a second look:", "", *lines])


def _damage(damage: Mapping[str, Any]) -> str:
    if not damage:
        return "All input could be read."
    lines = ["| what | how often | for example |", "|---|---:|---|"]
    lines += [
        f"| {escaped(what)} | {entry['count']} | {escaped('; '.join(entry['examples'][:2]))} |"
        for what, entry in damage.items()
    ]
    return "\n".join(lines)


def _hub_split(split: str) -> str:
    return "validation" if split == "dev" else split


def _yes(value: bool) -> str:
    return "yes" if value else "no"
