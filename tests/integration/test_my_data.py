"""The pages "My data, my model" and "From Python", typed as they stand, on a small model."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lima.spec.yamltext import load_yaml
from tests.helpers.hub_server import fake_hub
from tests.helpers.models import make_base

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parents[2] / "docs"
CONTEXT = 256
PROMPTS = [f"How do I do {i}?" for i in range(12)]
RESPONSE = "Begin, and then go on."


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """Return the commands of a page; a backslash goes on in the next line."""
    text = (DOCS / page).read_text("utf-8").replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^    (lima-k8s .*)$", text, re.MULTILINE)]


def type_in(folder: Path, *arguments: str, hub: str = "http://127.0.0.1:1") -> str:
    program = [str(Path(sys.executable).parent / arguments[0]), *arguments[1:]]
    own = {"HF_ENDPOINT": hub, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        program,
        cwd=folder,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's folder: a model and some examples."""
    here = tmp_path_factory.mktemp("mine")
    make_base(here / "models" / "mine", max_position_embeddings=CONTEXT)
    lines = [json.dumps({"conversations": [prompt, RESPONSE]}) for prompt in PROMPTS]
    (here / "my.jsonl").write_text("\n".join(lines))
    return here


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    """A hub with the data set of the page, of which no one here has the real one."""
    roles = ("user", "assistant")
    rows = [
        {"messages": [{"role": r, "content": t} for r, t in zip(roles, turns, strict=True)]}
        for turns in ((prompt, RESPONSE) for prompt in PROMPTS)
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    with fake_hub() as server:
        server.files["GAIR/lima"] = {
            "data/train-00000-of-00001.parquet": sink.getvalue().to_pybytes()
        }
        yield server.url


def test_the_pages_as_they_stand(folder: Path, hub: str) -> None:
    init, lint, submit, aggregate, responses, report, chat, of_hub = commands("my-data.md")
    type_in(folder, *init)
    file = folder / "study.yaml"
    (shown,) = blocks("my-data.md", "yaml")
    expected = load_yaml(shown.replace("2048", str(CONTEXT)))
    assert load_yaml(file.read_text()) == expected
    assert "tokens an example, trimmed to 256" in type_in(folder, *lint)
    assert "tokens an example, trimmed to 256" in type_in(folder, *of_hub, hub=hub)
    # Only so that it is quick: a GPU, where there is one, would need more. The hub is asked by
    # `lint` alone: from then on its files are here.
    quick = {
        "train.data.path": "hub:GAIR/lima",
        "train.epochs": 1,
        "generate.prompts.count": 2,
        "generate.decoding.max_new_tokens": 8,
    }
    expected["set"] |= quick
    file.write_text(json.dumps(expected))
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
