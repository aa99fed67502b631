"""wikiHow, Super-Natural Instructions and Alpaca."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lima.curation.reading.damage import Damage
from lima.curation.sources import alpaca, superni, wikihow


def _write(path: Path, *records: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return str(path)


def _unpacked(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def _strict() -> Damage:
    return Damage(strict=True)


# wikiHow


ARTICLE = {
    "title": "How to Make a Paper MP3 Stand",
    "category": "Category:Hobbies and Crafts:Paper",
    "url": "https://www.wikihow.com/Make-a-Paper-MP3-Stand",
    "authors": ["Ada", "Grace"],
    "introduction": "Paper is strong. This wikiHow teaches you how to fold it [[Image:x.jpg]].",
    "sections": [
        {
            "heading": "Folding",
            "steps": [
                {"headline": "Fold [the sheet](https://x.org/a)", "text": "Twice.\n\nSlowly."},
                "Press. Read this article to learn more. Wait.",
            ],
        },
        {"heading": "Tips", "steps": ["Use card."]},
        {"heading": "References", "text": "https://x.org"},
    ],
}


def test_an_article_becomes_a_question_and_a_clean_answer(tmp_path: Path) -> None:
    (found,) = wikihow.read([_write(tmp_path / "a.jsonl", ARTICLE)], damage=_strict())
    assert found.conversation == (
        "How to make a paper MP3 stand?",
        "Paper is strong. The following answer teaches you how to fold it.\n\n"
        "## Folding\n\n1. Fold the sheet. Twice.\n\n\tSlowly.\n2. Press. Wait.",
    )
    assert (found.category, found.source, found.reasons) == ("Hobbies and Crafts", "wikihow", ())
    assert found.source_id == "Make a Paper MP3 Stand"
    assert found.provenance.authors == ("Ada", "Grace")
    assert found.measures["sections_pruned"] == 2
    assert found.measures["pointers_pruned"] == 1


def test_csv_rows_are_steps_of_articles(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(
        "title,category,overview,sectionLabel,headline,text\n"
        'How to Boil an Egg,Food and Entertaining,"This article is short.",Steps,Boil water.,Hot.\n'
        "How to Boil an Egg,Food and Entertaining,,Steps,Add the egg,Wait.\n"
        "How to Boil an Egg,Food and Entertaining,,Warnings,Hot!,Careful.\n"
        "How to Nap,Sleep,,,Lie down,\n"
    )
    egg, nap = wikihow.read([str(path)], damage=_strict())
    assert egg.conversation[0] == "How to boil an egg?"
    assert egg.conversation[1] == (
        "The following answer is short.\n\n## Steps\n\n1. Boil water. Hot.\n2. Add the egg. Wait."
    )
    assert nap.reasons == ("other_category",)
    assert nap.conversation[1] == "1. Lie down."


def test_categories_may_come_in_a_file_of_their_own(tmp_path: Path) -> None:
    text = {"title": "How to Nap", "text": "Lie down."}
    _write(tmp_path / "a.jsonl", text, {"title": "How to Run", "text": "Go."})
    (tmp_path / "categories.csv").write_text(
        "url,category\nhttps://www.wikihow.com/Nap,Health\nhttps://www.wikihow.com/Fly,Travel\n"
    )
    found = list(wikihow.read([str(tmp_path)], damage=_strict()))
    assert [c.category for c in found] == ["Health", ""]
    assert [c.reasons for c in found] == [(), ()]


def test_real_sections_become_articles(shared_data: Path) -> None:
    path = shared_data / "wikihow"
    lines = gzip.decompress((path / "wikihow.jsonl.gz").read_bytes()).splitlines()
    addresses = {json.loads(line)["url"] for line in lines}
    steps = Counter[str]()
    for line in lines:
        steps[json.loads(line)["url"]] += len(json.loads(line)["step_texts"])
    found = list(wikihow.read([str(path)], damage=_strict()))
    assert {c.provenance.url for c in found} == addresses
    for candidate in found:
        numbered = [
            line
            for line in candidate.conversation[1].split("\n")
            if line.partition(". ")[0].isdigit()
        ]
        assert len(numbered) == steps[candidate.provenance.url]
        assert candidate.conversation[0].startswith("How to ")
        assert "://w" not in candidate.conversation[1]
        assert " ’ s " not in candidate.conversation[1]


def test_there_are_19_categories() -> None:
    assert len(set(wikihow.CATEGORIES)) == 19
    assert wikihow.top_category("Cars & Other Vehicles") == "Cars and Other Vehicles"
    assert wikihow.top_category("Categories > Health > Sleep") == "Health"
    assert wikihow.top_category("wikiHow") == ""


def test_wikihow_damage(tmp_path: Path) -> None:
    same = {"title": "How to Nap", "text": "Lie down."}
    path = _write(tmp_path / "a.jsonl", same, {"title": "How to Run"}, same, {"text": "x"})
    damage = Damage()
    found = list(wikihow.read([path], damage=damage))
    assert [c.reasons for c in found] == [(), ("no_response",)]
    assert damage.counts == {
        "rows of an article that do not follow each other": 1,
        "an article has neither a title nor a url": 1,
    }


# Super-Natural Instructions


def _task(**changes: Any) -> dict[str, Any]:
    return {
        "Categories": ["Paraphrasing"],
        "Definition": ["Say it", "in other words."],
        "Input_language": ["English"],
        "Output_language": ["English"],
        "Positive Examples": [{"input": "one", "output": "1"}],
        "Instances": [
            {"id": f"t-{i}", "input": word, "output": [f"answer {i}", "other"]}
            for i, word in enumerate(["one", "two", "three", "four", "five"])
        ],
        "Contributors": ["Ada"],
        "Instance License": ["CC BY 4.0"],
        **changes,
    }


def test_both_schemas_give_the_same_examples(tmp_path: Path) -> None:
    early = _task(Definition="Say it\nin other words.")
    for key in ("Input_language", "Output_language", "Instance License"):
        del early[key]
    early["Instances"] = [
        {"input": i["input"], "output": i["output"][0]} for i in reversed(early["Instances"])
    ]
    conversations = []
    for name, task in (("early", early), ("final", _task())):
        path = tmp_path / name / "task001_x.json"
        path.parent.mkdir()
        path.write_text(json.dumps(task))
        found = list(superni.read([str(path)], damage=_strict(), seed=3, instances=9))
        conversations.append([(c.source_id, c.conversation) for c in found])
    assert conversations[0] == conversations[1]
    assert len(conversations[0]) == 5
    assert conversations[0][0][1][0].startswith("Say it\nin other words.\n\n")


def test_one_seeded_example_a_task(tmp_path: Path) -> None:
    for number in range(8):
        _write(tmp_path / f"task{number}_x.json", _task())
    chosen = [
        tuple(
            c.conversation[0].rpartition("\n")[2]
            for c in superni.read([str(tmp_path)], damage=_strict(), seed=seed, instances=1)
        )
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(chosen[0]) == 8
    assert len(set(chosen[0])) > 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Categories": ["Sentiment Analysis"]}, "not_generation"),
        ({"Output_language": ["Hindi"]}, "not_english"),
        ({"Positive Examples": [{"input": "two", "output": "2"}]}, "shown_example"),
        ({"Instances": [{"input": "two", "output": [" "]}]}, "no_response"),
    ],
)
def test_tasks_that_are_dropped(tmp_path: Path, changes: Any, reason: str) -> None:
    path = _write(tmp_path / "task1_x.json", _task(**changes))
    found = list(superni.read([path], damage=_strict(), seed=0, instances=9))
    assert any(c.reasons == (reason,) for c in found)


def test_real_tasks_of_both_schemas(shared_data: Path) -> None:
    path = shared_data / "natural_instructions"
    found = list(superni.read([str(path)], damage=_strict(), seed=0, instances=1))
    assert len(found) == len(list(path.glob("task*")))
    assert all(c.keep for c in found)
    by_task = {c.category: c for c in found}
    original = json.loads((path / "task062_bigbench_repeat_copy_logic.json").read_text())
    final = by_task["task062_bigbench_repeat_copy_logic"]
    assert final.measures["instances"] == 29
    given = final.conversation[0].removeprefix(original["Definition"][0]).strip()
    assert [given, final.conversation[1]] in [
        [i["input"].strip(), i["output"][0].strip()] for i in original["Instances"]
    ]


def test_a_file_that_is_no_task(tmp_path: Path) -> None:
    (tmp_path / "task1.json").write_text("{")
    _write(tmp_path / "task2.json", {"Definition": "x"})
    _write(
        tmp_path / "task3.json", _task(Instances=[{"input": "x"}, {"input": "a", "output": "b"}])
    )
    damage = Damage()
    assert len(list(superni.read([str(tmp_path)], damage=damage, seed=0))) == 1
    assert damage.counts == {
        "not a JSON document": 1,
        "not a task of Super-Natural Instructions": 2,
        "an instance without input or output": 1,
    }


# Alpaca


def test_alpaca_joins_instruction_and_input(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "a.jsonl",
        {"instruction": "Sum up.", "input": "A text.", "output": "Short."},
        {"instruction": "Tell a joke.", "input": "<noinput>", "output": "Ha."},
        {"instruction": "Be silent.", "input": "", "output": " "},
        {"instruction": "No output."},
    )
    damage = Damage()
    found = list(alpaca.read([path], damage=damage))
    assert [c.conversation[0] for c in found] == [
        "Sum up.\n\nA text.",
        "Tell a joke.",
        "Be silent.",
    ]
    assert [c.reasons for c in found] == [(), (), ("no_response",)]
    assert damage.counts == {"not in Alpaca's layout": 1}


def test_real_alpaca(shared_data: Path) -> None:
    found = list(alpaca.read([str(shared_data / "alpaca")], damage=_strict()))
    records = _unpacked(shared_data / "alpaca" / "alpaca_en_demo.json.gz")
    assert len(found) == len(records)
    assert len({c.key for c in found}) == len(found)
    assert all(c.provenance.licence == "CC BY-NC 4.0" for c in found)
    assert sum("\n\n" in c.conversation[0] for c in found) >= sum(bool(r["input"]) for r in records)
