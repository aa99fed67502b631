"""The tree stays one that a stranger finds his way in. Circles are refused by `lint-imports`."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MOST_MODULES = 20
MOST_AT_THE_TOP = 5
FOLDERS = sorted(
    {path.parent for top in ("lima", "jobs", "k8s", "tests") for path in (ROOT / top).rglob("*.py")}
)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_can_be_taken_in_at_a_glance(folder: Path) -> None:
    modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES, modules


def test_the_study_reads_like_a_table_of_contents() -> None:
    files = [path.name for path in (ROOT / "lima").iterdir() if path.is_file()]
    assert len(files) <= MOST_AT_THE_TOP, files


@pytest.mark.parametrize("package", ["lima", "k8s/lima_k8s"])
def test_a_folder_says_what_it_holds(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        first = (path.parent / "__init__.py").read_text("utf-8")
        assert first.startswith('"""'), path.parent
