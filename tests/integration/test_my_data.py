"""The pages "My data, my model" and "From Python", typed as they stand, on a small model."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lima.spec.yamltext import load_yaml
from tests.helpers.models import make_base

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parents[2] / "docs"
CONTEXT = 256


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """Return the commands of a page; a backslash goes on in the next line."""
    text = (DOCS / page).read_text("utf-8").replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^    (lima-k8s .*)$", text, re.MULTILINE)]


def type_in(folder: Path, *arguments: str) -> str:
    program = [str(Path(sys.executable).parent / arguments[0]), *arguments[1:]]
    done = subprocess.run(
        program, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's folder: a model and some examples."""
    here = tmp_path_factory.mktemp("mine")
    make_base(here / "models" / "mine", max_position_embeddings=CONTEXT)
    lines = [
        json.dumps({"conversations": [f"How do I do {i}?", "Begin, and then go on."]})
        for i in range(12)
    ]
    (here / "my.jsonl").write_text("\n".join(lines))
    return here


def test_the_pages_as_they_stand(folder: Path) -> None:
    init, lint, submit, aggregate, responses, report, chat = commands("my-data.md")
    type_in(folder, *init)
    file = folder / "study.yaml"
    (shown,) = blocks("my-data.md", "yaml")
    expected = load_yaml(shown.replace("2048", str(CONTEXT)))
    assert load_yaml(file.read_text()) == expected
    # Only so that it is quick: a GPU, where there is one, would need more.
    quick = {"train.epochs": 1, "generate.prompts.count": 2, "generate.decoding.max_new_tokens": 8}
    expected["set"] |= quick
    file.write_text(json.dumps(expected))

    assert "tokens an example, trimmed to 256" in type_in(folder, *lint)
    # The page in Python runs the study; the command then finds it finished.
    said = type_in(folder, "python", "-c", "\n".join(blocks("python.md", "python")))
    assert re.search(r"half +(length|eot) +\d", said), said
    assert re.search(r"all +4", said), said  # 2 samples of 2 prompts
    type_in(folder, *submit)
    kept = {path.name for path in folder.glob("results/checkpoints/*/*")}
    assert kept == {"weights", "complete.json", "traces"}  # and no states
    table = type_in(folder, *aggregate)
    assert "half" in table
    assert "all" in table
    beside = type_in(folder, *responses)
    assert "half" in beside
    assert "all" in beside
    type_in(folder, *report)
    assert (folder / "report.html").stat().st_size > 10_000
    assert chat == ["lima-k8s", "chat", "results", "--run", "all/0"]
