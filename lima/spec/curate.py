"""Specs of curation: what is read, which filters judge it, which arms are drawn (section 2)."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from lima.spec import names
from lima.spec.identity import LATER, Fingerprint, stands_for

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True)
class SourceSpec:
    """Files of one kind that become candidates."""

    kind: Annotated[
        str,
        names.SOURCES.meta(
            "What the files are: `stackexchange` (dumps: .7z archives, or folders of XML), "
            "`wikihow`, `writingprompts` and `askreddit` (Pushshift files), "
            "`natural_instructions` (a folder of tasks), `alpaca` (Stanford's file), `authored` "
            "(JSONL or Markdown), `examples` (any layout of docs/reference/layouts.md)."
        ),
    ]
    paths: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="Files and folders, local or storage URIs; read in the order of names.",
        ),
    ]
    pool: Annotated[
        str,
        Meta(
            description="Name under which arms draw these; empty: the kind. Stack Exchange makes "
            "its own: stackexchange-stem, stackexchange-other, stackexchange-dialogues."
        ),
    ] = ""
    picks: Annotated[
        str | None,
        Meta(description="File of `lima-k8s curate pick`; only what is picked there is kept."),
    ] = None
    patches: Annotated[
        str | None, Meta(description="File of edits that are applied to the texts.")
    ] = None
    licence: Annotated[str, Meta(description="Licence where the files do not name one.")] = ""
    chosen: Annotated[
        bool,
        Meta(
            description="Of `examples` with a `chosen` and a `rejected` response, take the chosen; "
            "false: they are damaged."
        ),
    ] = field(default=False, metadata=LATER)
    fingerprint: Fingerprint = field(default=None, metadata=stands_for("paths"))
    picks_fingerprint: Fingerprint = field(default=None, metadata=stands_for("picks"))
    patches_fingerprint: Fingerprint = field(default=None, metadata=stands_for("patches"))


@dataclass(frozen=True)
class FilterSpec:
    """What keeps a Stack Exchange answer out of the filtered arms (section 2.1)."""

    min_score: Annotated[int, Meta(description="Least score of the answer.")] = 10
    min_characters: Annotated[
        int, Meta(ge=0, description="Shortest answer, in characters of cleaned text.")
    ] = 1200
    max_characters: Annotated[
        int, Meta(ge=1, description="Longest answer, in characters of cleaned text.")
    ] = 4096
    max_first_person: Annotated[
        int, Meta(ge=0, description="Most words of the first person (I, my), outside code.")
    ] = 0
    max_references: Annotated[
        int,
        Meta(ge=0, description="Most references to other answers or to the site, outside code."),
    ] = 0
    max_dangling: Annotated[
        int,
        Meta(ge=0, description="Most places that pointed to a link's address: `here`, notes."),
    ] = 0
    max_images: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Most images in the answer; null: any, and all are taken out."),
    ] = None
    self_contained_titles: Annotated[
        bool, Meta(description="Keep only questions whose title says all.")
    ] = True
    description_share: Annotated[
        float,
        Meta(ge=0, le=1, description="Share of prompts that are the description, not the title."),
    ] = 0.5
    max_description: Annotated[
        int,
        Meta(ge=0, description="Longest description, in characters; else the title is the prompt."),
    ] = 1000
    min_dialogue_turns: Annotated[
        int,
        Meta(ge=2, description="Fewest comments by turns after the answer, for a dialogue."),
    ] = 4


@dataclass(frozen=True)
class LimitSpec:
    """What input may ask of this machine before it counts as damaged."""

    max_row_bytes: Annotated[
        int, Meta(ge=1024, description="Longest row of a dump; a post has 30,000 characters.")
    ] = 1 << 20
    max_expansion: Annotated[
        int, Meta(ge=2, description="Largest ratio of unpacked to packed bytes of a file.")
    ] = 200
    max_bytes: Annotated[int, Meta(ge=1024, description="Largest unpacked file, in bytes.")] = (
        1 << 40
    )


@dataclass(frozen=True)
class PartSpec:
    """What an arm draws from one pool."""

    pool: Annotated[str, Meta(min_length=1, description="Pool to draw from.")]
    count: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="How many; null: all that are kept.")
    ] = None
    filtered: Annotated[
        bool,
        Meta(description="Only what passed all filters; false: anything that has a response."),
    ] = True
    order: Annotated[
        Literal["score", "random"], Meta(description="Which come first within a category.")
    ] = "random"
    balance: Annotated[
        Literal["none", "equal", "temperature"],
        Meta(
            description="Shares of the categories (a site, a wikiHow category, a task): `none`, "
            "`equal`, or by `temperature`."
        ),
    ] = "none"
    temperature: Annotated[
        float,
        Meta(ge=1, description="The share of a category is its size to the power 1/temperature."),
    ] = 3.0
    per_category: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Most from one category.")
    ] = None


@dataclass(frozen=True)
class ArmSpec:
    """A data set that is written: a selection from the candidates, in the order of its parts."""

    name: Annotated[
        str,
        Meta(min_length=1, max_length=80, pattern="^[A-Za-z0-9._-]+$", description="File name."),
    ]
    parts: Annotated[tuple[PartSpec, ...], Meta(description="What is drawn from where.")]
    split: Annotated[
        Split, Meta(description="train: kept apart from all dev and test prompts.")
    ] = "train"
    extends: Annotated[
        tuple[str, ...], Meta(description="Earlier arms whose examples come first, unchanged.")
    ] = ()
    exact: Annotated[
        bool, Meta(description="A shortage fails the run; false: it is said, and the rest written.")
    ] = True


@dataclass(frozen=True)
class AssemblySpec:
    """How selections are kept apart and described."""

    near_duplicate: Annotated[
        float,
        Meta(gt=0, le=1, description="Estimated Jaccard similarity from which texts are the same."),
    ] = 0.7
    overlap_words: Annotated[
        int,
        Meta(ge=3, description="Words in a row shared with a dev or test prompt that exclude."),
    ] = 8
    refuse_licences: Annotated[
        tuple[str, ...], Meta(description="Globs of licences that no arm may hold.")
    ] = ()
    tokenizer: Annotated[
        str | None,
        Meta(description="Folder, file or hub name whose tokens table 1 counts; null: no table."),
    ] = None
    tokenizer_fingerprint: Fingerprint = field(default=None, metadata=stands_for("tokenizer"))


@dataclass(frozen=True)
class CurateSpec:
    """Alignment data from its sources (section 2): candidates, filters, arms."""

    sources: Annotated[tuple[SourceSpec, ...], Meta(min_length=1, description="What is read.")]
    arms: Annotated[tuple[ArmSpec, ...], Meta(min_length=1, description="What is written.")]
    root: Annotated[
        str, Meta(description="Folder or storage URI that relative paths stand below; empty: here.")
    ] = ""
    filters: FilterSpec = FilterSpec()
    assembly: AssemblySpec = AssemblySpec()
    limits: LimitSpec = LimitSpec()
    sites: Annotated[
        str | None,
        Meta(description="YAML that divides the exchanges; null: the one that ships here."),
    ] = None
    seed: Annotated[int, Meta(ge=0, description="Of prompts, random orders and ties.")] = 0
    strict: Annotated[bool, Meta(description="Stop at the first damaged record.")] = False
    sites_fingerprint: Fingerprint = field(default=None, metadata=stands_for("sites"))
