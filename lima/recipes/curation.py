"""Recipes of curation: LIMA's data set, the arms of its ablations, and small ones.

They read what a user has below `data/curation` (or `--set curate.root=…`): folders of Stack
Exchange dumps, of a wikiHow snapshot, of Pushshift files, and so on. See docs/curation.md.
"""

from dataclasses import replace

from lima.spec import CellSpec
from lima.spec.curate import ArmSpec, CurateSpec, PartSpec, SourceSpec

ROOT = "data/curation"
STEM, OTHER = "stackexchange-stem", "stackexchange-other"
DIALOGUES = "stackexchange-dialogues"
STACK_EXCHANGE = SourceSpec("stackexchange", ("stackexchange",))
WIKIHOW = SourceSpec("wikihow", ("wikihow",))


def curate_lima() -> tuple[CellSpec, ...]:
    """LIMA's data set: 1,000 training, 50 development and 300 test examples, 1,030 and 1,006.

    Section 2, section 6 and appendix E. WritingPrompts and AskReddit are picked by hand, see
    `lima-k8s curate pick`; authored examples are the user's own.
    """
    train = ArmSpec(
        "train",
        (
            *_stack_exchange(200, 200),
            PartSpec("wikihow", 200, balance="equal"),
            PartSpec("writingprompts", 150),
            PartSpec("natural_instructions", 50, balance="equal", per_category=1),
            PartSpec("authored", 187),
            PartSpec("authored-safety", 13),
        ),
    )
    arms = (
        train,
        ArmSpec("dev", (PartSpec("authored-dev", 50),), split="dev"),
        ArmSpec(
            "test",
            (
                PartSpec("askreddit", 70),
                PartSpec("authored-test", 200),
                PartSpec("authored-test-safety", 30),
            ),
            split="test",
        ),
        ArmSpec(
            "train-dialogue",
            (PartSpec("authored-dialogue", 10), PartSpec(DIALOGUES, 20, order="score")),
            extends=("train",),
        ),
        ArmSpec("train-structure", (PartSpec("authored-structure", 6),), extends=("train",)),
    )
    return (_cell("curate_lima", CurateSpec(sources=_sources(), arms=arms, root=ROOT)),)


def curate_ablations() -> tuple[CellSpec, ...]:
    """The arms of section 5: filtered Stack Exchange 2,000 to 32,000, unfiltered, wikiHow.

    Half of each comes from the STEM exchanges, as in the training set. A larger arm holds the
    smaller ones.
    """
    sizes = (2000, 4000, 8000, 16000, 32000)
    filtered = tuple(
        ArmSpec(
            f"stackexchange-filtered-{size // 1000}k",
            _stack_exchange(size // 2, size // 2),
            extends=(f"stackexchange-filtered-{size // 2000}k",) if size > sizes[0] else (),
        )
        for size in sizes
    )
    at_random = tuple(replace(part, order="random") for part in _stack_exchange(1000, 1000))
    unfiltered = tuple(replace(part, filtered=False) for part in at_random)
    arms = (
        *filtered,
        ArmSpec("stackexchange-unfiltered-2k", unfiltered),
        ArmSpec("wikihow-2k", (PartSpec("wikihow", 2000, balance="equal"),)),
        # For the perplexity of appendix B; drawn first, so that no arm trains on it.
        ArmSpec("stackexchange-heldout", at_random, split="dev"),
    )
    spec = CurateSpec(sources=(STACK_EXCHANGE, WIKIHOW), arms=arms, root=ROOT)
    return (_cell("curate_ablations", spec),)


def curate_alpaca() -> tuple[CellSpec, ...]:
    """Alpaca's 52,000 examples in LIMA's layout, all that have an output: for `alpaca_65b`.

    Section 4. Of the 52,002 in Stanford's file 28 have no output; of what says the same in almost
    the same words the first is taken. All that is left out is named with its reason.
    """
    arm = ArmSpec("alpaca", (PartSpec("alpaca"),))
    spec = CurateSpec(sources=(SourceSpec("alpaca", ("alpaca",)),), arms=(arm,), root=ROOT)
    return (_cell("curate_alpaca", spec),)


def curate_small() -> tuple[CellSpec, ...]:
    """LIMA's data set at a twentieth of its size, from whatever is there.

    Shortages are told and do not fail the run. No picks are needed: the most upvoted are taken.
    """
    train = ArmSpec(
        "train",
        (
            *_stack_exchange(10, 10),
            PartSpec("wikihow", 10, balance="equal"),
            PartSpec("writingprompts", 8, order="score"),
            PartSpec("natural_instructions", 3, balance="equal", per_category=1),
            PartSpec("authored", 10),
        ),
        exact=False,
    )
    arms = (
        train,
        ArmSpec("dev", (PartSpec("authored-dev", 3),), split="dev", exact=False),
        ArmSpec(
            "test",
            (PartSpec("askreddit", 4, order="score"), PartSpec("authored-test", 12)),
            split="test",
            exact=False,
        ),
        ArmSpec(
            "train-dialogue",
            (PartSpec(DIALOGUES, 2, order="score"), PartSpec("authored-dialogue", 1)),
            extends=("train",),
            exact=False,
        ),
    )
    left_out = ("authored-safety", "authored-test-safety", "authored-structure")
    sources = tuple(replace(s, picks=None) for s in _sources() if s.pool not in left_out)
    return (_cell("curate_small", CurateSpec(sources=sources, arms=arms, root=ROOT)),)


def _cell(experiment: str, spec: CurateSpec) -> CellSpec:
    return CellSpec(experiment, "curation", curate=spec)


def _stack_exchange(stem: int, other: int) -> tuple[PartSpec, ...]:
    """Return the highest scored questions of the two sets, with a temperature of 3."""
    return tuple(
        PartSpec(pool, count, order="score", balance="temperature", temperature=3.0)
        for pool, count in ((STEM, stem), (OTHER, other))
    )


def _sources() -> tuple[SourceSpec, ...]:
    authored = ("safety", "dev", "test", "test-safety", "dialogue", "structure")
    return (
        STACK_EXCHANGE,
        WIKIHOW,
        SourceSpec("writingprompts", ("reddit",), picks="picks/writingprompts.jsonl"),
        SourceSpec("askreddit", ("reddit",), picks="picks/askreddit.jsonl"),
        SourceSpec("natural_instructions", ("natural_instructions",)),
        SourceSpec("authored", ("authored/train",)),
        *(
            SourceSpec("authored", (f"authored/{name}",), pool=f"authored-{name}")
            for name in authored
        ),
    )
