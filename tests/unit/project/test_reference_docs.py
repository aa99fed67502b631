"""The reference pages are what the code says."""

import json
from pathlib import Path

import pytest

from lima.store.tables import TABLES
from lima_k8s.codegen.reference import render
from lima_k8s.codegen.settings import with_table
from lima_k8s.main import COMMANDS

PAGES = render()
FOLDER = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == PAGES[name], "run `make docs`"


def test_the_table_of_what_can_be_set_is_up_to_date() -> None:
    page = (FOLDER.parent / "cluster.md").read_text("utf-8")
    assert page == with_table(page), "run `make docs`"
    for value in ("cluster.pods.ROLE.affinity", "queue.flavors[].nodeLabels"):
        assert f"| `{value}` | " in page


def test_there_are_no_other_pages() -> None:
    assert {p.name for p in FOLDER.iterdir()} == set(PAGES)


def test_nothing_is_left_out() -> None:
    fields = {
        name
        for definition in json.loads(PAGES["spec.schema.json"])["$defs"].values()
        for name in definition["properties"]
    }
    assert all(f"| `{name}` |" in PAGES["spec.md"] for name in fields)
    columns = {column.name for table in TABLES.values() for column in table.columns}
    assert all(f"| `{name}` |" in PAGES["tables.md"] for name in columns)
    assert all(f"  {name} " in PAGES["cli.md"] for name in COMMANDS)
