"""The variables of the environment: one home, one table in the docs, the same in the charts."""

import re
from pathlib import Path

from lima.common import variables

ROOT = Path(__file__).parents[3]
KNOWN = {value for name, value in vars(variables).items() if name.isupper()}


def test_the_docs_tell_all_of_them() -> None:
    told = set(re.findall(r"`(LIMA_[A-Z_]+)`", (ROOT / "docs/operations.md").read_text("utf-8")))
    assert told == KNOWN


def test_no_other_module_has_one() -> None:
    packages = (ROOT / folder for folder in ("lima", "jobs", "k8s"))
    files = [file for package in packages for file in package.rglob("*.py")]
    found = {file.name for file in files if re.search(r"[\"']LIMA_[A-Z_]+[\"']", file.read_text())}
    assert found == {"variables.py"}


def test_charts_and_images_set_what_is_read() -> None:
    files = [*(ROOT / "charts").rglob("*.tpl"), *(ROOT / "charts").rglob("templates/*.yaml")]
    files += (ROOT / "images").glob("Containerfile*")
    text = "\n".join(file.read_text("utf-8") for file in files)
    named = set(re.findall(r"\bLIMA_[A-Z_]+\b", text))
    assert {variables.STOP_FILE, variables.VLLM_PYTHON} <= named <= KNOWN
