"""`docs/security.md`: every line names a test that is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
NAMED = re.compile(r"`(tests/[\w/]+\.py|…)::(test_\w+)`")


def test_every_test_that_is_named_is_there() -> None:
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    file, found = "", 0
    for path, name in NAMED.findall(text):
        file = file if path == "…" else path
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text("utf-8"), re.M), (file, name)
        found += 1
    assert found == text.count("::test_") > 20


def test_every_line_of_a_table_names_one() -> None:
    lines = (ROOT / "docs" / "security.md").read_text("utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.endswith("| test |")]
    bare = [r for r in rows if "::test_" not in r and not r.endswith("| the same |")]
    assert rows
    assert bare == []
