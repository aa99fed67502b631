"""The report's contents, and that it is one safe page whatever a model writes."""

import html
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from lima.evaluation.aggregate.table import aggregate_rows
from lima.evaluation.cells.lines import arms_of, series_of
from lima.evaluation.cells.settings import known_settings
from lima.evaluation.report.page import render_report
from lima.evaluation.report.sample_responses import read_samples
from lima.runs.lineage import read_chains
from lima.spec import CellSpec, stage_cell
from lima.spec.codec import run_id, sha256_key
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS, GENERATIONS, METRICS
from tests.helpers.report_pages import FIGURES, RICH, figure
from tests.helpers.synthetic import START, Arm, Study, write_shard, write_study

EVIL = "<script>alert('run')</script><img src=x onerror=alert(1)> & \"quoted\" $x^2$ \x07"


class Page(HTMLParser):
    """What a browser would make of a page: its tags, and the text of its figures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]


def page_of(folder: Path, study: Study) -> str:
    storage = Storage(str(folder))
    write_study(storage, study)
    return render_report(storage, note=pytest.fail)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, str]:
    folder = tmp_path_factory.mktemp("rich")
    return Storage(str(folder)), page_of(folder, RICH)


def test_a_full_study_has_all_figures(rich: tuple[Storage, str]) -> None:
    for name in FIGURES:
        assert "<svg" in figure(rich[1], name), name
        assert re.search(r'role="img" aria-label="[^"]{20,}"', figure(rich[1], name)), name


def test_the_numbers_are_those_of_the_aggregate(rich: tuple[Storage, str]) -> None:
    storage, page = rich
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    for row in aggregate_rows(storage, ["arm", "epoch"], note=lambda _: None):
        assert f"{row['score']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]" in text
        said = f"{row['score']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f})"
        assert said in html.unescape(figure(page, "score"))
        assert f"{row['bound_low']:.2f}, {row['bound_high']:.2f}" in text


def test_settings_and_what_arms_differ_in(rich: tuple[Storage, str]) -> None:
    _, page = rich
    for path in known_settings():
        reached = path.startswith(("base.", "train.", "generate.", "judge."))
        nested = path.endswith(
            (
                "heldout",
                "shape",
                "optimizer",
                "checkpoints",
                "compute",
                "decoding",
                "data",
                "prompts",
                "model",
                "endpoint",
            )
        )
        if reached and not nested and ".shape." not in path and ".seed" not in path:
            absent = path.startswith("base.heldout.")
            assert (f"<code>{path}</code>" in page) != absent, path
    varied = re.search(r'id="h-varied".*?</table>', page, re.DOTALL)
    assert varied
    headers = re.findall(r'<th scope="col"><code>(.*?)</code>', varied[0])
    assert headers == ["train.data.count", "train.data.path", "generate.model.epoch"]


def test_quantity_joins_only_arms_that_differ_in_nothing_else(rich: tuple[Storage, str]) -> None:
    said = html.unescape(figure(rich[1], "quantity"))
    joined = r"filtered-2k[^;]* to filtered-16k[^;]*: [\d.]+ with 2,000, [\d.]+ with 16,000"
    assert re.search(joined, said)
    assert re.search(r"wikihow-2k[^;]*: [\d.]+ with 2,000(;|\")", said)


def test_poor_study_says_what_is_missing_and_how_to_add_it(tmp_path: Path) -> None:
    study = Study(arms=(Arm("only"),), seeds=1, stages=("train",), heldout=False, gpus=0)
    page = page_of(tmp_path, study)
    hints = {
        "score": "--set judge.base_url=http://HOST/v1 --set judge.model=NAME",
        "quantity": "--set train.data.count=N",
        "checkpoints": "--set generate.model.epoch=N",
        "perplexity": "--set train.heldout.path=FILE",
        "lengths": "lima-k8s submit generate",
        "stops": "lima-k8s submit generate",
    }
    for name in FIGURES:
        assert ("<svg" in figure(page, name)) != (name in hints)
        assert hints.get(name, "") in figure(page, name)
    assert "Thin lines are seeds" not in page
    assert "Judgments</h3>" not in page


def test_a_study_like_the_demo(tmp_path: Path) -> None:
    """Two arms of one size by two seeds, held-out examples, responses and no judge."""
    study = Study(
        (Arm("diverse-32", 32), Arm("howto-32", 32, "howto.jsonl")),
        gpus=0,
        stages=("base", "train", "generate"),
    )
    page = page_of(tmp_path, study)
    names = set(re.findall(r'<figure id="(\w+)"', page))
    drawn = {"loss", "perplexity", "examples", "lengths", "stops", "attempts", "hours"}
    assert names > drawn
    for name in names:
        assert ("<svg" in figure(page, name)) == (name in drawn), name
        assert ('class="missing"' in figure(page, name)) == (name not in drawn), name
        assert name in drawn or "<code>" in figure(page, name), name  # it says how to add it
    assert 'id="h-checkpoints"' not in page


def test_quantity_falls_back_on_perplexity(tmp_path: Path) -> None:
    page = page_of(tmp_path, replace(RICH, stages=("base", "train"), checkpoints=(None,)))
    assert "Held-out perplexity after the last epoch" in figure(page, "quantity")


def test_a_page_of_its_own(rich: tuple[Storage, str]) -> None:
    """No script, nothing fetched, ids unique, every reference inside the page."""
    page = Page(rich[1])
    assert len(page.ids) == len(set(page.ids))
    assert {"script", "iframe", "object", "embed", "form"}.isdisjoint(tag for tag, _ in page.tags)
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), (tag, target)
            if target and target.startswith("#"):
                assert target[1:] in page.ids
    assert re.findall(r"url\((?!#)", rich[1]) == []
    assert "@import" not in rich[1]
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy
    assert policy.startswith("default-src 'none'")


def test_readable_without_seeing_it(rich: tuple[Storage, str]) -> None:
    page = Page(rich[1])
    assert ("html", {"lang": "en"}) in page.tags
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    labels = {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a}
    assert labels <= set(page.ids)
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(headings))


def hostile(storage: Storage, cell: CellSpec, text: str) -> None:
    """Have a response, its prompt and its source say `text`."""
    template = {
        "generation_key": [sha256_key(text)],
        "prompt_key": sha256_key("p"),
        "prompt_index": 0,
        "sample": 0,
        "source": text,
        "prompt": [[text]],
        "response": text,
        "token_ids": [[1]],
        "finish_reason": text,
        "prompt_tokens": 1,
        "response_tokens": 1,
        "logprob": -1.0,
        "seed_address": "a",
        "model": text,
        "at": START,
    }
    write_shard(storage, GENERATIONS, stage_cell(cell, "generate"), "zzz", template)


def test_text_of_models_and_users_stays_text(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    study = Study(
        arms=(Arm(EVIL, data=EVIL),),
        seeds=1,
        prompts=1,
        experiment=EVIL,
        stages=("train", "generate"),
    )
    cell = write_study(storage, study)[0]
    for file in tmp_path.glob("generations/*/*/*.parquet"):
        file.unlink()
    hostile(storage, cell, EVIL)
    page = render_report(storage, note=pytest.fail)
    tags = {tag for tag, _ in Page(page).tags}
    assert {"script", "img"}.isdisjoint(tags)
    assert "\x07" not in page
    escaped = "&lt;script&gt;alert(&#39;run&#39;)&lt;/script&gt;"
    assert page.count(escaped) >= 6  # title, heading, arm, prompt, response, settings
    assert "&lt;script&gt;" in figure(page, "lengths")


def test_samples_are_the_same_prompts_for_all_arms(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study(seeds=2, prompts=30, samples=2))
    chains = read_chains(Tables(storage))
    compared = read_samples(Tables(storage), chains)
    assert [c.turns[0][1].rsplit("question ")[1] for c in compared] == ["5)", "15)", "25)"]
    assert [len(c.turns) for c in compared] == [3, 1, 1]
    for each in compared:
        assert [sample.label for sample in each.samples] == ["diverse", "narrow"]
        assert all(f"The {s.label} arm wrote this as sample 0" in s.text for s in each.samples)
        assert all(1 <= score <= 6 for s in each.samples for score in s.scores)


def test_samples_wait_for_the_slowest_arm(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study(seeds=1))
    tables = Tables(storage)
    slow = next(c for c in read_chains(tables) if c.arm == "narrow").runs["generate"]
    for shard in tmp_path.glob(f"generations/*/{slow}/*.parquet"):
        if shard.name != "00001.parquet":
            shard.unlink()
    shown = [c.turns[0][1] for c in read_samples(tables, read_chains(tables))]
    numbers = [int(re.search(r"question (\d+)", text)[1]) for text in shown]  # type: ignore[index]
    assert all(5 <= number <= 9 for number in numbers)


def test_running_study(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study(seeds=2))
    one = replace(Study(seeds=1, arms=(Arm("late"),)), stages=("base", "train"))
    cell = write_study(storage, one)[0]
    start = {
        "stage": "train",
        "event": ["started"],
        "attempt_id": "z",
        "host": "n",
        "workers": 1,
        "gpus": 1,
        "at": START.replace(year=2031),
    }
    write_shard(storage, ATTEMPTS, stage_cell(cell, "train"), "z", start)
    for file in tmp_path.glob("attempts/*/*/*-ended.parquet"):
        if run_id(cell, "train") in str(file):
            file.unlink()
    page = render_report(storage, note=pytest.fail)
    assert "5 cells" in re.sub(r"\s+", " ", page)
    assert "1 under way or stopped" in page
    assert "running or killed" in page


def test_two_settings_of_an_arm_are_two_series(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for epochs in (3, 5):
        write_study(storage, Study(arms=(Arm("lima"), Arm("other")), epochs=epochs, seeds=2))
        if epochs == 3:
            single = series_of(read_chains(Tables(storage)))
            assert [(s.label, len(s.chains)) for s in single] == [("lima", 2), ("other", 2)]
    both = series_of(read_chains(Tables(storage)), "train")
    assert [s.label for s in both] == [
        "lima (train.epochs 3)",
        "lima (train.epochs 5)",
        "other (train.epochs 3)",
        "other (train.epochs 5)",
    ]
    assert [s.colour for s in both] == [0, 0, 1, 1]
    losses = figure(render_report(storage, note=pytest.fail), "loss")
    drawn = {
        (hue, "stroke-dasharray" in style)
        for style, hue in re.findall(r'style="([^"]*stroke: var\(--(hue-\d)\)[^"]*)"', losses)
    }
    assert drawn == {(hue, dashed) for hue in ("hue-0", "hue-1") for dashed in (True, False)}


def test_arms_are_in_the_order_of_people(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    names = ("q-16k", "q-2k", "q-500", "q-1m", "Alpha", "q-32k", "beta")
    write_study(storage, Study(arms=tuple(map(Arm, names)), seeds=1, stages=("train",)))
    assert arms_of(read_chains(Tables(storage))) == [
        "Alpha",
        "beta",
        "q-500",
        "q-2k",
        "q-16k",
        "q-32k",
        "q-1m",
    ]


def test_a_model_that_diverged(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    cell = write_study(storage, Study(seeds=1))[0]
    last = {
        "epoch": [9],
        "step": 9,
        "name": "heldout_perplexity",
        "value": math.inf,
        "tokens": 1,
        "at": START,
    }
    write_shard(storage, METRICS, stage_cell(cell, "train"), "zzz", last)
    assert "<svg" in figure(render_report(storage, note=pytest.fail), "perplexity")
