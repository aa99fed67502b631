"""Builds the cluster's container images and keeps them between clusters; no registry anywhere.

Two caches, both in `.cache/images`. buildah's own holds the layers of a build. `store-*` is a
containerd root with everything imported and unpacked except our own code: a cluster starts from a
copy of it whose large files are hard links, for nothing there is ever written again. The last
layer, our code, is built and imported each time a cluster starts, in seconds.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lima.errors import ClusterError, InputError
from tests.cluster.harness.daemons import PAUSE, start_daemon, write_configuration
from tests.cluster.harness.layout import BIN, CACHE, ROOT, Layout
from tests.cluster.harness.programs import module_folder, run
from tests.cluster.harness.sandbox import Sandbox

IMAGES = CACHE / "images"
JOBS = "localhost/lima-k8s:cpu"
"""The image of `images/Containerfile.cpu` as pods name it."""
LOG = IMAGES / "build.log"
SUITE = "bookworm"
INCLUDE = "python3,python3-venv,wget,ca-certificates"
GIB = 2**30
NEEDED_GIB = 16
"""While downloads lie beside layers in buildah, in an OCI layout and in containerd; 10 stay."""
CONTENT = "io.containerd.content.v1.content/blobs/sha256"
BUILDAH = [
    "buildah",
    f"--root={IMAGES}/buildah",
    f"--runroot={IMAGES}/run",
    "--storage-driver=overlay",
]
OPERATOR = """
FROM scratch
COPY {binary} /manager
USER 65532:65532
ENTRYPOINT ["/manager"]
"""
KUBERAY = "github.com/ray-project/kuberay/ray-operator"
ENVIRONMENT = {"BUILDAH_ISOLATION": "chroot", "TMPDIR": f"{IMAGES}/tmp", "REVISION": ""}


def kueue_image() -> str:
    """Return the name of Kueue's image; its tag is the pinned version."""
    return f"localhost/kueue:{_version('kueue', 'sigs.k8s.io/kueue')}"


def kuberay_image() -> str:
    """Return the name of KubeRay's image; its tag is the pinned version."""
    return f"localhost/kuberay-operator:{_version('kuberay-operator', KUBERAY)}"


def _version(tool: str, module: str) -> str:
    return module_folder(tool, module).name.partition("@")[2]


@contextmanager
def _alone() -> Iterator[None]:
    """Let one process at a time build; first remove what a killed one left."""
    (IMAGES / "tmp").mkdir(parents=True, exist_ok=True)
    with (IMAGES / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run([*BUILDAH, "rm", "--all"], env=ENVIRONMENT, log=LOG)
        yield


def told(step: str) -> None:
    """Say what is being made: it may take minutes, of which only the log would tell."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} images: {step}\n")


def require_disk() -> None:
    """Refuse to begin what will not fit on the disk.

    Raises:
        InputError: there is too little room below `.cache/images`.

    """
    free = shutil.disk_usage(IMAGES).free / GIB
    told(f"to be made, once: a quarter of an hour, {NEEDED_GIB} GiB of disk ({free:.0f} free)")
    if free < NEEDED_GIB:
        raise InputError(
            f"{IMAGES}: {free:.0f} GiB are free, and making images takes {NEEDED_GIB}: make room, "
            "or link .cache to a larger disk"
        )


def prepare_store() -> None:
    """Build all images but our own code, unless they are there: minutes that clusters then save."""
    with _alone():
        _made_store()


def fill_store(target: Path) -> None:
    """Put a containerd root with all images but our own code at `target`, which must not exist."""
    with _alone():
        store = _made_store()
        run(["cp", "--archive", "--link", store, target])
    for index in target.glob("io.containerd.*/*.db"):  # containerd writes these in place
        index.unlink()
        shutil.copy2(store / index.relative_to(target), index)


def import_jobs(box: Sandbox) -> None:
    """Build the jobs' image from the code as it is now and give it to a running containerd."""
    with _alone():
        _build_jobs(JOBS)
        _import(box, [JOBS])


def try_gpu_image() -> str:
    """Build the image of `images/Containerfile.gpu` and start what is in it; return what it says.

    No GPU is needed for that. The image goes again: only its size and its versions are wanted.
    """
    name = "localhost/lima-k8s:gpu"
    with _alone():
        _build_base()
        _build_jobs(name, variant="gpu")
        container = run([*BUILDAH, "from", name], env=ENVIRONMENT).strip()
        try:
            said = [
                run([*BUILDAH, "run", container, "--", *words], env=ENVIRONMENT)
                for words in (
                    [
                        "python",
                        "-c",
                        "import torch; print('torch', torch.__version__, "
                        "'CUDA', torch.version.cuda)",
                    ],
                    ["python", "-m", "lima_k8s", "--version"],
                    ["python", "-m", "lima_jobs.run", "--help"],
                    ["python", "-m", "lima_jobs.storagecheck", "--help"],
                    ["ray", "--version"],
                )
            ]
            mounted = run([*BUILDAH, "mount", container], env=ENVIRONMENT).strip()
            size = int(run(["du", "-s", "--block-size=1", mounted]).split()[0]) / 1e9
        finally:
            run([*BUILDAH, "rm", container], env=ENVIRONMENT)
            run([*BUILDAH, "rmi", name], env=ENVIRONMENT)
    first = [text.strip().splitlines()[0] for text in said]
    return "\n".join([*first, f"{size:.1f} GB unpacked"])


def _digest(*parts: Path | str) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.read_bytes() if isinstance(part, Path) else part.encode())
    return whole.hexdigest()[:12]


def _base() -> str:
    return f"localhost/lima-base:{_digest(SUITE, INCLUDE)}"


def _store() -> Path:
    """Return the path of the store that belongs to the present inputs."""
    inputs = [
        ROOT / "images/Containerfile.cpu",
        ROOT / "requirements/jobs.lock.txt",
        ROOT / "requirements/uv.lock.txt",
        ROOT / "requirements/cuda.txt",
        ROOT / "requirements/without_cuda.py",
    ]
    return IMAGES / f"store-{_digest(*inputs, _base(), OPERATOR, kueue_image(), kuberay_image())}"


def _layout_folder() -> Path:
    """Return the OCI layout that stands between buildah and containerd."""
    return IMAGES / f"oci-{_store().name}"


def _exported(name: str) -> str:
    """Return where a build puts an image for containerd: unpacked layers, each but once."""
    return f"oci:{_layout_folder()}:{name}"


def _made_store() -> Path:
    store = _store()
    if not store.exists():
        _make_store(store)
    return store


def _make_store(store: Path) -> None:
    for old in {*IMAGES.glob("store-*"), *IMAGES.glob("oci-*")} - {_layout_folder()}:
        shutil.rmtree(old)  # clusters that run have links of their own
    require_disk()
    runtime = "localhost/lima-runtime:cpu"
    told(f"1 of 4: a base of Debian {SUITE} (one or two minutes)")
    _build_base()
    told(f"2 of 4: Python's dependencies (five to ten minutes; follow it: tail -f {LOG})")
    _build_jobs(runtime, "--target", "runtime")
    told("3 of 4: Kueue and KubeRay")
    _build(_exported(PAUSE), f'FROM {_base()}\nENTRYPOINT ["sleep", "infinity"]\n')
    for name, binary in ((kueue_image(), "kueue"), (kuberay_image(), "ray-operator")):
        _build(_exported(name), OPERATOR.format(binary=binary))
    names = [runtime, PAUSE, kueue_image(), kuberay_image()]
    told("4 of 4: unpacking them for containerd (two or three minutes)")
    box = Sandbox(Layout(f"images-{os.getpid()}"))
    box.destroy()
    try:
        box.create()
        write_configuration(box)
        start_daemon(box, "containerd")
        _import(box, names)
        box.stop("containerd")
        (box.layout.folder / "lib/containerd").rename(store)
    finally:
        box.destroy()
    _share_blobs(store)
    shutil.rmtree(IMAGES / "tmp/buildah-cache", ignore_errors=True)  # downloads, as large again


def _share_blobs(store: Path) -> None:
    """Keep layers once: the OCI layout's and containerd's copies are the same files."""
    for blob in (_layout_folder() / "blobs/sha256").iterdir():
        twin = store / CONTENT / blob.name
        if twin.exists():
            blob.unlink()
            os.link(twin, blob)


def _build_base() -> None:
    if _present(_base()):
        return
    tree, archive = IMAGES / "tmp/base", IMAGES / "tmp/base.tar"
    shutil.rmtree(tree, ignore_errors=True)  # of a build that was killed
    options = ["--variant=minbase", f"--include={INCLUDE}"]
    run(["debootstrap", *options, SUITE, tree, *_mirror()], log=LOG)
    left_out = [f"--exclude=./{part}/*" for part in ("var/cache/apt", "var/lib/apt/lists", "dev")]
    run(["tar", "--numeric-owner", *left_out, "-C", tree, "-cf", archive, "."], log=LOG)
    shutil.rmtree(tree)
    _build(_base(), "FROM scratch\nADD base.tar /\n", archive.parent)
    archive.unlink()


def _mirror() -> list[str]:
    """Return the mirror that this machine uses; none outside Debian, for debootstrap's own."""
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    lines = sources.read_text().splitlines() if sources.exists() else []
    return [line.split()[1] for line in lines if line.startswith("URIs:")][:1]


def _present(name: str) -> bool:
    words = [*BUILDAH, "images", "--quiet", "--filter", f"reference={name}"]
    return bool(run(words, env=ENVIRONMENT).strip())


def _build(name: str, containerfile: str, context: Path = BIN) -> None:
    words = [*BUILDAH, "build", "--tag", name, "--file", "-"]
    run([*words, str(context)], stdin=containerfile, env=ENVIRONMENT, log=LOG)


def _build_jobs(name: str, *arguments: str, variant: str = "cpu") -> None:
    builder = " ".join([*BUILDAH, "build", "--layers"])
    # This machine may trust certificates of its own, which the base does not know.
    trust = ["--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"]
    base = ["--build-arg", f"BASE={_base()}"]
    words = [f"{ROOT}/images/build", variant, *base, *trust, *arguments, "--tag", name]
    run(words, env={**ENVIRONMENT, "BUILDER": builder}, log=LOG)
    if variant != "cpu":
        return
    # Apart, for buildah 1.28 fails to export what it has from its cache.
    _build(_exported(name), f"FROM {name}\nLABEL lima-k8s.io/exported=true\n")


def _import(box: Sandbox, names: list[str]) -> None:
    """Stream images into a sandbox's containerd; layers that it has stay out of the stream."""
    held = box.layout.folder / "lib/containerd" / CONTENT
    here = {blob.name for blob in held.iterdir()} if held.exists() else set()
    words = box.inside(["ctr", "--namespace=k8s.io", "images", "import", "--local", "-"])
    with box.layout.log("import").open("w") as log:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={"PATH": f"{BIN}:{os.environ['PATH']}"},
        )
        assert process.stdin
        try:
            _archive(process.stdin, names, here)
            process.stdin.close()
        except BrokenPipeError:
            pass  # its exit status and log tell why
    if process.wait():
        raise ClusterError(f"importing images failed:\n{box.layout.log('import').read_text()}")


def _archive(stream: IO[bytes], names: list[str], without: set[str]) -> None:
    """Write an OCI archive of these images."""
    folder = _layout_folder()
    manifests = json.loads((folder / "index.json").read_text())["manifests"]
    named = {  # an entry loses its name when another image takes it
        item.get("annotations", {}).get("org.opencontainers.image.ref.name"): item
        for item in manifests
    }
    chosen = [{**named[name], "annotations": {"io.containerd.image.name": name}} for name in names]
    index = json.dumps({"schemaVersion": 2, "manifests": chosen}).encode()
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        archive.add(folder / "oci-layout", "oci-layout")
        entry = tarfile.TarInfo("index.json")
        entry.size = len(index)
        archive.addfile(entry, io.BytesIO(index))
        for digest in sorted(_blobs(folder, chosen) - without):
            archive.add(folder / "blobs/sha256" / digest, f"blobs/sha256/{digest}")


def _blobs(folder: Path, manifests: list[dict[str, object]]) -> set[str]:
    """Return the digests of everything that the images consist of."""
    found: set[str] = set()
    for item in manifests:
        digest = str(item["digest"]).partition(":")[2]
        manifest = json.loads((folder / "blobs/sha256" / digest).read_text())
        parts = [manifest["config"], *manifest["layers"]]
        found |= {digest, *(part["digest"].partition(":")[2] for part in parts)}
    return found
