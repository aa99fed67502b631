"""Serving a page ends with Ctrl-C or SIGTERM, and the command goes on."""

import signal
import socket
import subprocess
import sys

import pytest

CODE = """
from lima_k8s.web.local_server import LocalPage
from lima_k8s.web.serving import serve_page
page = LocalPage("<p>hello</p>", {})
print(page.server_address[1], flush=True)
serve_page(page, browser=False)
print("went on")
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_serving_and_not_the_command(end: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as asking:
            asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"404" in asking.recv(100)  # it serves by now
        process.send_signal(end)
        rest, errors = process.communicate()
    assert (process.returncode, rest, errors) == (0, "went on\n", "")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
