"""Another user of the machine, who attacks the processes of a job; run as a program, by root.

Reads {"gcs", "grpc", "rest": [port…], "folders": [path…], "token"} from standard input, becomes
nobody, and prints a list of what it could do.
"""

import contextlib
import http.client
import json
import multiprocessing
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

NOBODY = 65534
ENTRYPOINT = json.dumps({"entrypoint": "id"}).encode()
PATHS = ("/api/job_agent/jobs/", "/api/jobs/", "/get_or_create_runtime_env", "/logs")
METHODS = (
    "InternalKVGcsService/InternalKVPut",
    "NodeManagerService/GetNodeStats",
    "ObjectManagerService/Push",
    "ReporterService/GetTraceback",
    "CoreWorkerService/PushTask",
)
"""One of each service that runs, moves or tells what others asked for."""
PATIENCE_S = 3
"""For an attack that nobody answers."""


def main() -> None:
    given: dict[str, Any] = json.load(sys.stdin)
    os.environ.update(RAY_AUTH_MODE="token" if given["token"] else "disabled")
    os.environ["RAY_AUTH_TOKEN"] = given["token"]
    # Before the change of user: libraries may lie where nobody may read.
    import grpc  # type: ignore[import-untyped]
    import torch.distributed as dist
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    done = [f"listed {folder}" for folder in given["folders"] if listed(folder)]
    for port in given["grpc"]:
        done += [f"grpc {port}: {said}" for said in called(grpc, port)]
    for port in given["gcs"]:
        with contextlib.suppress(Exception):
            client = GcsClient(address=f"127.0.0.1:{port}")
            client.internal_kv_put(b"attack", b"code", True, b"fun", timeout=600)
            done.append(f"wrote into the store of functions at {port}")
    with ThreadPoolExecutor(1 + len(given["rest"])) as pool:
        done += [said for all_said in pool.map(posted, given["rest"]) for said in all_said]
    done += [f"met the workers at {port}" for port in given["rest"] if meets(dist, port)]
    print(json.dumps(done))


def listed(folder: str) -> bool:
    with contextlib.suppress(PermissionError):
        return bool(list(Path(folder).iterdir())) or True
    return False


def called(grpc: Any, port: int) -> Iterator[str]:
    """Call methods with nothing in them; whoever is let in is told what is missing."""
    fine = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}
    seen = set()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for method in METHODS:
            token = (("authorization", f"Bearer {os.environ['RAY_AUTH_TOKEN']}"),)
            try:
                channel.unary_unary(f"/ray.rpc.{method}")(b"", timeout=600, metadata=token)
                yield f"{method} was answered"
            except grpc.RpcError as error:
                seen.add(error.code())
                if error.code() not in fine:
                    yield f"{method} ended with {error.code()}"
    if grpc.StatusCode.UNAUTHENTICATED not in seen:
        yield "nobody asked for a token"


def meets(dist: Any, port: int) -> bool:
    """Do what a worker does that joins the group; what is never answered is given up."""
    with contextlib.suppress(Exception):
        child = multiprocessing.get_context("fork").Process(target=meet, args=(dist, port))
        child.start()
        child.join(PATIENCE_S)
        child.kill()
        child.join()
        return child.exitcode == 0
    return False


def meet(dist: Any, port: int) -> None:
    dist.TCPStore("127.0.0.1", port, is_master=False).set("attack", "code")


def posted(port: int) -> list[str]:
    done = []
    for path in PATHS:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", ENTRYPOINT)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                done.append(f"http {port}: {path} was answered with {answer.status}")
        except urllib.error.HTTPError:
            continue
        except (OSError, http.client.HTTPException):
            break  # it speaks something else
    return done


if __name__ == "__main__":
    main()
