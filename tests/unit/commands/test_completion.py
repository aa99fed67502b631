"""What a shell offers, asked as the shell's own script asks; and what a missing library says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lima.recipes.registry import load_study
from lima.runs.ledger import record_run
from lima.store.storage import Storage
from lima_k8s.local.jobs_libraries import _requirement
from lima_k8s.main import COMMANDS

PROGRAM = [sys.executable, "-c", "from lima_k8s.main import run; import sys; run(sys.argv[1:])"]


def offered(*words: str) -> list[str]:
    """Return what is offered for the last word."""
    surroundings = {
        "COMP_WORDS": " ".join(("lima-k8s", *words)),
        "COMP_CWORD": str(len(words)),
        "_LIMA_K8S_COMPLETE": "bash_complete",
        "KUBECONFIG": "/no/such/file",
    }
    done = subprocess.run(
        PROGRAM, env={**os.environ, **surroundings}, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("expl",), "explain"),
        (("show", "ti"), "tiny"),
        (("submit", "ablation", "--recipe", "abl"), "ablations_7b"),
        (("submit", "train", "--recipe", "tiny", "--cluster", "eks"), "eks-p5"),
        (("plan", "tiny", "--gpu", "H1"), "H100"),
        (("lint", "tiny", "--arm", ""), "howto-32"),
        (("submit", "train", "--recipe", "tiny", "--arm", "how"), "howto-32"),
        (("lint", "tiny", "--set", "train.opt"), "train.optimizer."),
        (("lint", "tiny", "--set", "train.optimizer.lr_s"), "train.optimizer.lr_start="),
    ],
)
def test_words_complete(words: tuple[str, ...], found: str) -> None:
    assert found in offered(*words)


def test_runs_of_a_storage_complete(tmp_path: Path) -> None:
    (cell,) = load_study("tiny", arms=["howto-32"], seeds=[1])
    record_run(Storage(str(tmp_path)), cell, "train")
    assert {"howto-32", "howto-32/1"} <= set(offered("chat", str(tmp_path), "--run", ""))
    assert "howto-32" in offered("annotate", str(tmp_path), "--against", "how")


def test_a_cluster_that_is_away_offers_nothing_and_says_nothing() -> None:
    assert offered("status", "how") == []
    assert offered("chat", "/no/such/storage", "--run", "") == []


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_the_script_of_the_docs_works_in_bash() -> None:
    program = Path(sys.executable).parent / "lima-k8s"
    script = (
        f'eval "$(_LIMA_K8S_COMPLETE=bash_source {program})"; '
        f"COMP_WORDS=({program} show ti); COMP_CWORD=2; _lima_k8s_completion {program}; "
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "tiny\n"


BLOCKED = """
import sys
class Absent:
    NAMES = {"torch", "transformers", "ray", "deepspeed", "openai", "tokenizers", "aiohttp",
             "huggingface_hub", "accelerate", "lxml", "rensa", "stamina", "zstandard", "httpx2",
             "libarchive", "ahocorasick_rs", "safetensors"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.NAMES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from lima_k8s.main import run
sys.exit(run(sys.argv[1:]))
"""
"""The command line where the extra was not installed."""
NEEDS_JOBS = {
    "submit": ("train", "--local", "--recipe", "tiny"),
    "chat": ("--base-url", "http://127.0.0.1:1/v1", "--model", "m"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_fails_in_an_unknown_way_without_the_jobs_libraries(
    name: str, tmp_path: Path
) -> None:
    storage, needs = str(tmp_path / "st"), NEEDS_JOBS.get(name, ())
    where = ("--storage", storage) if name == "submit" else (storage,)
    arguments = (*needs, *where) if needs else ("--help",)
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, name, *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert "internal error" not in done.stderr
    assert done.returncode == (2 if needs else 0), done.stderr
    assert ("install the jobs' libraries: pip install " in done.stderr) == bool(needs)


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        ({}, "'lima-k8s[jobs]'"),
        ({"url": "file:///a%20b/lima", "dir_info": {"editable": True}}, "-e '/a b/lima[jobs]'"),
        (
            {"url": "file:///x/lima_k8s-0.1.0-py3-none-any.whl", "archive_info": {}},
            "'lima-k8s[jobs] @ file:///x/lima_k8s-0.1.0-py3-none-any.whl'",
        ),
    ],
)
def test_the_advice_fits_where_it_was_installed_from(
    origin: dict[str, object], requirement: str
) -> None:
    assert _requirement(json.loads(json.dumps(origin))) == requirement
