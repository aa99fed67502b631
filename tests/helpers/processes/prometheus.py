"""A real Prometheus, asked as Grafana asks it."""

import json
import socket
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

PAUSE_S = 0.5
CONFIGURATION = """
global: {{scrape_interval: 1s}}
scrape_configs:
- job_name: ray
  static_configs: [{{targets: ["{target}"]}}]
"""


@dataclass(frozen=True)
class Prometheus:
    """A server that runs."""

    address: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def answer(self, path: str, **given: str) -> Any:
        """Return the data of an answer of its API; what it cannot read is an error."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(given)}"
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)["data"]

    def until(self, path: str, **given: str) -> None:
        """Wait until an answer holds something."""
        pause = threading.Event()
        while not self.answer(path, **given)["result"]:
            self._wait(pause)

    def wait_until_ready(self) -> None:
        """Return once it answers."""
        pause = threading.Event()
        while True:
            try:
                self.answer("status/buildinfo")
            except (urllib.error.URLError, ConnectionError):
                self._wait(pause)
            else:
                return

    def _wait(self, pause: threading.Event) -> None:
        if self.process.poll() is not None:
            said = self.log.read_text("utf-8")[-2000:]
            pytest.fail(f"Prometheus ended with {self.process.returncode}:\n{said}")
        pause.wait(PAUSE_S)


@contextmanager
def prometheus(target: str, folder: Path) -> Iterator[Prometheus]:
    """Start one that reads `target`, HOST:PORT, each second, and keeps what it read in a folder."""
    binary = ROOT / ".cache" / "bin" / "prometheus"
    if not binary.exists():
        pytest.fail("no Prometheus: run `make tools` first")
    (folder / "prometheus.yml").write_text(CONFIGURATION.format(target=target), "utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [str(binary), f"--web.listen-address={address}", "--config.file=prometheus.yml"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        server = Prometheus(address, process, folder / "log")
        server.wait_until_ready()
        yield server
    finally:
        process.kill()
        process.wait()
