"""Every command of README and docs is one that there is, and every link leads somewhere.

What the commands do is the matter of other tests; this is so that none is out of date.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pytest

from lima.recipes.overrides import known_paths, parse_override
from lima.recipes.registry import RECIPES
from lima_k8s.main import COMMANDS, cli
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*|.*…")
"""What a reader replaces: RECIPE, or `NAME.…`."""
CODE = re.compile(r"^(?: {4,}|\t)(.+)$", re.MULTILINE)
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)#\[]*)(?:#([^)]+))?\)")
LIMA = "(?:lima-k8s|kubectl lima)"


def blocks(page: Path) -> list[str]:
    """Return the lines of a page's blocks of code."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    fenced = [line for block in FENCED.findall(text) for line in block.splitlines()]
    return [*fenced, *CODE.findall(FENCED.sub("", text))]


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return CODE.sub("", FENCED.sub("", page.read_text("utf-8").replace("\\\n", " ")))


def commands(lines: Iterable[str], program: str) -> Iterator[list[str]]:
    """Yield the words of each command of a program, without what follows a comment or an arrow."""
    for line in lines:
        whole = re.sub(r"(^|\s)#\s.*", "", line)
        inner = re.findall(r"\$\(([^)]*)\)", whole)
        for part in [*inner, *re.split(r"\s(?:\||&&|;)\s", re.sub(r"\$\([^)]*\)", "X", whole))]:
            typed = re.sub(r"\s>\s?.*", "", part)
            if found := re.search(rf"(?:^|[\s/]){program} (?P<words>.*)", typed):
                words = shlex.split(found["words"])
                if words and words[0] != "…":
                    yield words


def mentioned(page: Path) -> list[str]:
    """Return the code within a page's sentences."""
    return [code.replace("\n", " ") for code in INLINE.findall(prose(page))]


WRITTEN = [page for page in PAGES if page.stem != "cli"]
"""Not made by `make docs` of the command line itself, in its way of writing."""
WHOLE = [(page.name, words) for page in WRITTEN for words in commands(blocks(page), LIMA)]
"""As one would type them."""
NAMED = [(page.name, words) for page in WRITTEN for words in commands(mentioned(page), LIMA)]
"""In sentences: not always with all that they need."""


def parsed(words: list[str]) -> tuple[click.Command, dict[str, object], list[str]]:
    """Return a command, its options and arguments as given, and words that it does not take."""
    command: click.Command = cli
    context = click.Context(cli, info_name="lima-k8s")
    rest = [word for word in words if word != "…"]
    while isinstance(command, click.Group) and rest:
        while rest[0].startswith("--"):  # options of the group itself have no values
            assert any(rest[0] in param.opts for param in command.get_params(context)), rest[0]
            rest.pop(0)
            if not rest:
                return command, {}, []
        found = command.get_command(context, rest.pop(0))
        assert found is not None, words
        command = found
        context = click.Context(command, parent=context)
    left: list[str]
    given, left, _ = command.make_parser(context).parse_args(rest)
    return command, dict(given), left


@pytest.mark.parametrize(("page", "words"), WHOLE, ids=str)
def test_a_command_to_type_has_all_that_it_needs(page: str, words: list[str]) -> None:
    command, given, _ = parsed(words)
    for param in command.params:
        there = is_given(given.get(str(param.name)))
        assert there or not param.required or "…" in words, f"{page}: {param.name} is missing"


@pytest.mark.parametrize(("page", "words"), [*WHOLE, *NAMED], ids=str)
def test_all_of_a_command_is_understood(page: str, words: list[str]) -> None:
    command, given, left = parsed(words)
    assert left == [], f"{page}: not taken: {left}"
    for param in command.params:
        value = given.get(str(param.name))
        if is_given(value):
            for each in value if isinstance(value, (list, tuple)) else [value]:
                if not PLACEHOLDER.fullmatch(str(each)):
                    check(param, str(each))


def is_given(value: object) -> bool:
    """Say whether click has found a value for a parameter."""
    return isinstance(value, (str, int)) or (
        isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)
    )


def check(param: click.Parameter, value: str) -> None:
    """Refuse a choice, a setting or a recipe that there is not."""
    if not isinstance(param.type, click.Path):
        param.type.convert(value, param, None)
    if param.name == "overrides":
        path = ".".join(parse_override(value).path)
        assert PLACEHOLDER.fullmatch(path) or is_known(path), f"{path}: no such setting"
    if param.name in ("recipe", "extends") and re.fullmatch(r"[a-z0-9_]+", value):
        assert value in RECIPES


def is_known(path: str) -> bool:
    """Say whether a path is a setting, or has settings below it."""
    return any(known == path or known.startswith(f"{path}.") for known in known_paths())


def test_there_are_as_many_as_there_seem() -> None:
    text = "".join(page.read_text("utf-8") for page in WRITTEN)
    assert len(WHOLE) + len(NAMED) >= len(re.findall(rf"{LIMA} (?:{'|'.join(COMMANDS)})\b", text))
    known = {words[0] for _, words in WHOLE}
    assert known > {"submit", "annotate", "report", "prune", "push", "init", "explain"}


def test_every_target_that_the_docs_make_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    for page in WRITTEN:
        for words in commands([*blocks(page), *mentioned(page)], "make"):
            for word in words:
                if "=" not in word and word != "…":
                    assert word in targets, f"{page.name}: make {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, heading in LINK.findall(INLINE.sub("", prose(page))):
        if not re.match(r"[a-z]+:", target):
            file = page.parent / target if target else page
            assert file.exists(), target
            if heading:
                assert heading in anchors(file), f"{target}#{heading}"


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}
