"""The real command `chat`, and an endpoint that says what it heard."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from lima.store.scan import Tables
from lima.store.storage import Storage
from tests.helpers.judge_server import Request

CODE = "import sys; from lima_k8s.main import run; sys.exit(run(sys.argv[1:]))"
COMMAND = [sys.executable, "-c", CODE, "chat"]


def heard(request: Request) -> str:
    """Return how many texts a request holds, and the last of them."""
    texts = [m["content"] for m in request.body["messages"]]
    return f"Heard {len(texts)}: {texts[-1]}"


def chat(storage: Path, said: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run it in a terminal where a person types `said`."""
    command = [*COMMAND, str(storage), *arguments]
    return subprocess.run(command, input=said, capture_output=True, text=True, check=False)


def rows_of(storage: Path, table: Any, *columns: str) -> list[dict[str, Any]]:
    """Return columns of all rows of a table."""
    return Tables(Storage(str(storage))).read(table, columns).to_pylist()
