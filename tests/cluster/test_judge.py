"""`lima-judge`: scores and preferences in a pod are those of one machine."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

from lima.data.examples import load_examples
from lima.spec import CellSpec, ComputeSpec, DataSpec, GenerateSpec, JudgeSpec, ModelSpec
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ITEMS, JUDGMENTS, Table
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.programs import run
from tests.cluster.helpers.lima import ENDS, LIMA, Lima, lima, queue, quota, write_profile
from tests.cluster.helpers.outage import proxy
from tests.cluster.helpers.s3 import S3
from tests.cluster.helpers.studies import write_study
from tests.helpers.judge_server import JudgeServer, Reply, Request, running
from tests.helpers.promised import promised

__all__ = ["lima", "queue", "quota"]
PROMPTS = DataSpec("authored:test", count=6)
KEY = "sk-of-the-judge-alone"
VOLATILE = {"at", "seconds", "request_id"}


def answer(request: Request) -> Reply:
    """Score by length; prefer the longer response. Both depend on the request alone."""
    if "BEGIN RESPONSE A" not in request.text:
        score = len(request.text) % 6 + 1
        return Reply(f"It helps.\n{score}\n{score}")
    marked = r"BEGIN RESPONSE [AB][^\n]*\n(.*?)\n[^\n]*END RESPONSE"
    first, second = (len(text) for text in re.findall(marked, request.text, re.DOTALL))
    label = "A" if first > second else "B"
    return Reply(f"It is longer.\n{label}\n{label}")


@pytest.fixture
def judge() -> Iterator[JudgeServer]:
    """Yield a judge on this machine's loopback."""
    with running(answer) as server:
        yield server


@pytest.fixture
def endpoint(cluster: Cluster, judge: JudgeServer) -> Iterator[str]:
    """Yield its address for pods and this machine alike."""
    port = int(re.findall(r":(\d+)/", judge.base_url)[0])
    with proxy(cluster.box.host_address, ("127.0.0.1", port)) as way:
        yield f"{way.endpoint}/v1"


def answered(arm: str, folder: Path, judge: JudgeSpec) -> CellSpec:
    """Return a cell with responses to the test prompts from a file, each arm's own."""
    prompts = [example.conversation[0] for example in load_examples(PROMPTS)]
    lines = [
        json.dumps({"prompt": prompt, "response": f"{arm} says: " + arm * (i % 5)})
        for i, prompt in enumerate(prompts)
    ]
    file = folder / f"{arm}.jsonl"
    file.write_text("\n".join(lines))
    compute = ComputeSpec(workers=1, device="cpu", precision="fp32")
    generate = GenerateSpec(PROMPTS, model=ModelSpec(f"responses:{file}"), compute=compute)
    return CellSpec("judged", arm, generate=generate, judge=judge)


def judged(storage: Storage, cell: CellSpec, table: Table) -> list[dict[str, Any]]:
    """Return a table's rows of a cell without the columns that tell the time."""
    rows = RunTable(storage, table, cell).read().to_pylist()
    kept = [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]
    return sorted(kept, key=lambda row: json.dumps(row, default=str))


def test_the_same_rows_as_on_one_machine(
    lima: Lima, kubectl: Kubectl, s3: S3, endpoint: str, tmp_path: Path
) -> None:
    secret = {"name": "judge", "namespace": lima.namespace}
    data = {"OPENAI_API_KEY": KEY}
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": secret, "stringData": data})
    profile = write_profile(tmp_path / "judge.yaml", s3, secrets=["judge"])
    lima = replace(lima, profile=profile)
    likert = JudgeSpec(base_url=endpoint, model="judge")
    preference = replace(likert, rubric="preference", baselines=("longer",), both_orders=True)
    cells = [
        answered("longer", tmp_path, likert),
        answered("ours", tmp_path, likert),
        answered("ours", tmp_path, preference),
    ]
    cells = [*promised(cells)]
    here = f"{s3.uri}/here"
    for name, part in (("likert", cells[:2]), ("preference", cells[2:])):
        study = write_study(tmp_path / f"{name}.json", part)
        for stage, storage in (("generate", lima.storage), ("judge", here)):
            words = ["submit", stage, "--local", "--recipe", study, "--storage", storage]
            run([LIMA, *words], env=data)
        lima.submit("--recipe", study, kind="judge")
    runs = lima.until(lambda runs: all(run["state"] in ENDS for run in runs))
    assert [run["state"] for run in runs] == ["done"] * 3, runs
    for cell in cells:
        for table in (JUDGMENTS, ITEMS):
            found = judged(Storage(lima.storage), cell, table)
            assert found == judged(Storage(here), cell, table)
            if table is JUDGMENTS:
                assert {row["status"] for row in found} == {"ok"}
                assert len(found) == PROMPTS_ASKED[cell.judge.rubric]  # type: ignore[union-attr]
    check_no_secret(s3)


PROMPTS_ASKED = {"likert-6": 6, "preference": 12}


def check_no_secret(s3: S3) -> None:
    """Check that no object of the bucket holds a credential."""
    bucket = Storage(s3.uri)
    assert isinstance(bucket.filesystem, pafs.S3FileSystem)
    objects = bucket.entries("")
    assert objects
    for entry in objects:
        content = bucket.read(entry.path)
        for value in (KEY, s3.secret_key):
            assert value.encode() not in content, entry.path
