"""What names a run: inputs that are replaced, restored, moved, touched; here and in a bucket."""

import base64
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lima.curation.arms.picks import Pick, dump_picks
from lima.curation.stage import Curation
from lima.data.examples import load_examples
from lima.errors import ChangedInputError, InputError
from lima.generation.baseline import run_baseline
from lima.inputs import objects
from lima.inputs.content import Content, Contents
from lima.inputs.fingerprint import of_bytes
from lima.inputs.memory import Memory
from lima.inputs.places import places
from lima.inputs.upload import Sender
from lima.model.loading import local_model
from lima.preparing.prepare import prepare
from lima.runs.progress import Progress
from lima.spec import CellSpec, DataSpec, GenerateSpec, ModelSpec, Stage, TrainSpec
from lima.spec.codec import run_id
from lima.spec.curate import ArmSpec, AssemblySpec, CurateSpec, PartSpec, SourceSpec
from lima.store.storage import Storage
from tests.helpers.cut_line import line_to

HERE, BUCKET = "here", "bucket"


@dataclass(frozen=True)
class Kind:
    """A kind of input: how it is written and named, and what a worker does to read it."""

    stage: Stage
    write: Callable[[Path, str], None]
    """Writes a content, told apart by a word, at a path."""
    cell: Callable[[str], CellSpec]
    """Returns a cell that reads it at a path or URI."""
    use: Callable[[CellSpec, Storage], object]
    """Reads it as a worker does."""
    name: str
    is_folder: bool = False
    named: bool = False
    """Whether the name of the file is part of what it is."""


def _examples(path: Path, word: str) -> None:
    lines = [{"conversations": [f"{word} {i}?", f"{word} {i}."], "source": "x"} for i in range(4)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def _folder(path: Path, word: str) -> None:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_text(word)


def _example_files(path: Path, word: str) -> None:
    path.mkdir(exist_ok=True)
    (path / "README.md").write_text("Not read.")
    for name, prompt in (("a.jsonl", "one"), ("b.jsonl", word)):
        _examples(path / name, prompt)


def _dumps(path: Path, word: str) -> None:
    site = path / "ai.stackexchange.com"
    site.mkdir(parents=True, exist_ok=True)
    (site / "Posts.xml").write_text(f'<posts><row Id="1" PostTypeId="1" Title="{word}"/></posts>')


def _articles(path: Path, word: str) -> None:
    path.write_text(json.dumps({"title": f"How to {word}", "text": word}) + "\n")


def _picks(path: Path, word: str) -> None:
    path.write_bytes(dump_picks([Pick("s", word, "keep", "t")]))


def _patches(path: Path, word: str) -> None:
    patch = {"source": "s", "source_id": "1", "utterance": 1, "find": word, "replace": "z"}
    path.write_text(json.dumps(patch) + "\n")


def _sites(path: Path, word: str) -> None:
    path.write_text(
        f"stem: [ai.stackexchange.com]\nother: [{word}.stackexchange.com]\ndropped: []\n"
    )


def _training(path: str, role: str) -> CellSpec:
    data, shipped = DataSpec(path), DataSpec("authored:howto")
    spec = TrainSpec(ModelSpec("run:0123456789abcdef"), data if role == "data" else shipped)
    return CellSpec("e", "a", train=replace(spec, heldout=data if role == "heldout" else None))


def _generating(prompts: str = "authored:test", model: str = "run:0123456789abcdef") -> CellSpec:
    return CellSpec("e", "a", generate=GenerateSpec(DataSpec(prompts), ModelSpec(model)))


def _curating(path: str = "", **more: Any) -> CellSpec:
    wikihow = SourceSpec("wikihow", (path or more.pop("articles"),), **more)
    arms = (ArmSpec("a", (PartSpec("wikihow", 1),)),)
    return CellSpec("e", "curation", curate=CurateSpec((wikihow,), arms))


def _curate(cell: CellSpec, storage: Storage) -> None:
    Curation(cell, storage).units()


def _draw(cell: CellSpec, storage: Storage) -> None:
    try:
        Curation(cell, storage).assemble()
    except ChangedInputError:
        raise
    except InputError:
        pass  # there is nothing to draw from


def _ask_file(cell: CellSpec, storage: Storage) -> None:
    try:
        run_baseline(cell, storage, Progress(storage, "r"))
    except ChangedInputError:
        raise
    except InputError:
        pass  # it answers other prompts


def _load(name: str) -> Callable[[CellSpec, Storage], object]:
    def use(cell: CellSpec, storage: Storage) -> object:
        stage = cell.train or cell.generate
        return load_examples(getattr(stage, name))

    return use


def _with(name: str) -> Callable[[str], CellSpec]:
    return lambda path: _curating("articles.jsonl", **{name: path})


def _with_sites(path: str) -> CellSpec:
    cell = _curating("articles.jsonl")
    assert cell.curate
    return replace(cell, curate=replace(cell.curate, sites=path))


def _dumped(path: str) -> CellSpec:
    arms = (ArmSpec("a", (PartSpec("stackexchange-stem", 1),)),)
    spec = CurateSpec((SourceSpec("stackexchange", (path,)),), arms)
    return CellSpec("e", "curation", curate=spec)


def _counted(path: str) -> CellSpec:
    cell = _curating("articles.jsonl")
    assert cell.curate
    return replace(cell, curate=replace(cell.curate, assembly=AssemblySpec(tokenizer=path)))


KINDS = {
    "data": Kind("train", _examples, lambda p: _training(p, "data"), _load("data"), "d.jsonl"),
    "folder of data": Kind(
        "train",
        _example_files,
        lambda p: _training(p, "data"),
        _load("data"),
        "data",
        is_folder=True,
    ),
    "heldout": Kind(
        "train", _examples, lambda p: _training(p, "heldout"), _load("heldout"), "h.jsonl"
    ),
    "prompts": Kind("generate", _examples, _generating, _load("prompts"), "p.jsonl"),
    "responses": Kind(
        "generate", _examples, lambda p: _generating(model=f"responses:{p}"), _ask_file, "r.jsonl"
    ),
    "questions": Kind(
        "generate",
        _examples,
        lambda p: _generating(model=f"responses:articles.jsonl#{p}"),
        _ask_file,
        "q.jsonl",
    ),
    "model": Kind(
        "generate",
        _folder,
        lambda p: _generating(model=p),
        lambda cell, storage: cell.generate and local_model(cell.generate.model, storage),
        "llama",
        is_folder=True,
    ),
    "dumps": Kind("curate", _dumps, _dumped, _curate, "dumps", is_folder=True),
    "file of a source": Kind("curate", _articles, _curating, _curate, "w.jsonl", named=True),
    "picks": Kind("curate", _picks, _with("picks"), _draw, "picks.jsonl"),
    "patches": Kind("curate", _patches, _with("patches"), _draw, "patches.jsonl"),
    "sites": Kind("curate", _sites, _with_sites, _curate, "sites.yaml"),
    "tokenizer": Kind("curate", _picks, _counted, _draw, "tokenizer.json"),
}


class Place:
    """Where an input lies, here or in a bucket, and what can be done to it there."""

    def __init__(self, kind: Kind, root: Path, bucket: Storage | None) -> None:
        self.kind, self.root, self.bucket = kind, root, bucket
        self.path = root / kind.name

    @property
    def uri(self) -> str:
        return f"{self.bucket.uri}/{self.path.name}" if self.bucket else str(self.path)

    def fill(self, word: str) -> None:
        self.kind.write(self.path, word)
        self._upload()

    def move(self, name: str) -> None:
        other = self.root / name
        shutil.move(self.path, other)
        if self.bucket:
            self.bucket.delete(self.path.name)
            self.bucket.delete_tree(self.path.name)
        self.path = other
        self._upload()

    def touch(self) -> None:
        for file in [self.path, *self.path.rglob("*")]:
            os.utime(file, (1e9, 1e9))
        self._upload()

    def _upload(self) -> None:
        if self.bucket and self.kind.is_folder:
            self.bucket.upload_folder(self.path, self.path.name)
        elif self.bucket:
            self.bucket.upload(self.path, self.path.name)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LIMA_CACHE", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    _articles(tmp_path / "articles.jsonl", "bake")


@pytest.fixture(params=[(k, p) for k in KINDS for p in (HERE, BUCKET)], ids="-".join)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    name, where = request.param
    bucket = Storage(request.getfixturevalue("s3_storage")) if where == BUCKET else None
    made = Place(KINDS[name], tmp_path, bucket)
    made.fill("first")
    return made


def prepared(place: Place) -> CellSpec:
    (cell,) = prepare([place.kind.cell(place.uri)], Contents()).cells
    assert all(p.fingerprint for p in places(cell))
    return cell


def test_replaced_between_two_runs_it_is_a_new_run(place: Place) -> None:
    before = run_id(prepared(place))
    place.fill("another")
    assert run_id(prepared(place)) != before
    place.fill("first")
    assert run_id(prepared(place)) == before


def test_replaced_under_a_run_it_is_refused_and_restored_it_is_read(
    place: Place, tmp_path: Path
) -> None:
    cell, storage = prepared(place), Storage(str(tmp_path / "out"))
    place.kind.use(cell, storage)
    place.fill("another")
    with pytest.raises(ChangedInputError, match=r"changed since this run (was submitted|began)"):
        place.kind.use(cell, storage)
    place.fill("first")
    place.kind.use(cell, storage)


def test_touched_it_is_the_same_run(place: Place, tmp_path: Path) -> None:
    cell = prepared(place)
    place.touch()
    assert run_id(prepared(place)) == run_id(cell)
    place.kind.use(cell, Storage(str(tmp_path / "out")))


def test_moved_and_renamed_it_is_the_same_run(place: Place, tmp_path: Path) -> None:
    before = run_id(prepared(place))
    place.root = tmp_path / "elsewhere"
    place.root.mkdir()
    place.move(place.kind.name if place.kind.named else f"renamed-{place.kind.name}")
    assert run_id(prepared(place)) == before


def test_the_same_here_and_in_a_bucket_is_the_same_run(s3_storage: str, tmp_path: Path) -> None:
    for name, kind in KINDS.items():
        ids = set()
        for bucket in (None, Storage(s3_storage)):
            made = Place(kind, tmp_path, bucket)
            made.fill("first")
            ids.add(run_id(prepared(made)))
        assert len(ids) == 1, name


def test_the_name_of_a_dump_is_part_of_what_it_is(tmp_path: Path) -> None:
    made = Place(KINDS["dumps"], tmp_path, None)
    made.fill("first")
    before = run_id(prepared(made))
    (made.path / "ai.stackexchange.com").rename(made.path / "math.stackexchange.com")
    assert run_id(prepared(made)) != before


def test_other_picks_are_another_run_that_reads_nothing_again(tmp_path: Path) -> None:
    made = Place(KINDS["picks"], tmp_path, None)
    made.fill("first")
    one = Curation(prepared(made), Storage("out"))
    made.fill("another")
    two = Curation(prepared(made), Storage("out"))
    assert one.run != two.run
    assert one.folder == two.folder
    assert one.store.table.folder == two.store.table.folder


def test_picks_that_are_not_there_are_none_yet(tmp_path: Path) -> None:
    made = Place(KINDS["picks"], tmp_path, None)
    missing = run_id(prepared(made))
    made.path.write_bytes(b"")
    assert run_id(prepared(made)) == missing


def test_what_is_not_here_is_unknown_and_named_by_its_path() -> None:
    cells = [_training("nowhere.jsonl", "data")]
    found = prepare(cells, Contents())
    assert found.cells == tuple(cells)
    ((place, why),) = found.unknown
    assert (place.role, why) == ("train.data", "not on this machine")
    assert run_id(found.cells[0]) == run_id(cells[0])


def test_large_weights_in_a_bucket_are_named_by_their_store(
    s3_storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "LARGEST_READ", 4)
    made = Place(KINDS["model"], tmp_path, Storage(s3_storage))
    made.fill("first")
    cell = prepared(made)
    assert cell.generate
    assert (cell.generate.model.fingerprint or "").startswith("objects:")
    made.kind.use(cell, Storage(str(tmp_path / "out")))
    by_bytes = prepared(Place(KINDS["model"], tmp_path, None))
    assert by_bytes.generate
    moved = replace(by_bytes.generate.model, path=made.uri)
    promise = replace(by_bytes, generate=replace(by_bytes.generate, model=moved))
    assert prepare([promise], Contents()).cells == (promise,), "its workers check the bytes"
    made.fill("another")
    assert run_id(prepared(made)) != run_id(cell)
    with pytest.raises(ChangedInputError):
        made.kind.use(cell, Storage(str(tmp_path / "out")))
    made.fill("first")
    assert run_id(prepared(made)) == run_id(cell)
    made.kind.use(cell, Storage(str(tmp_path / "out")))


@pytest.mark.parametrize("where", [HERE, BUCKET])
def test_the_same_weights_in_another_format_are_no_part_of_a_model(
    where: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bucket = Storage(request.getfixturevalue("s3_storage")) if where == BUCKET else None
    made = Place(KINDS["model"], tmp_path, bucket)
    made.fill("first")
    before = run_id(prepared(made))
    (made.path / "pytorch_model.bin").write_bytes(b"the same once more")
    (made.path / ".gitattributes").write_text("hidden")
    made.fill("first")
    cell = prepared(made)
    assert run_id(cell) == before
    made.kind.use(cell, Storage(str(tmp_path / "out")))


def _kept(storage: Storage, name: str, data: bytes) -> None:
    """Write an object of which the store keeps the sha256."""
    assert storage.bucket
    storage.bucket.put(name, data, base64.b64encode(hashlib.sha256(data).digest()).decode())


@pytest.mark.parametrize("how", ["whole", "in parts", "without"])
def test_a_full_checksum_of_the_store_is_taken_and_no_other(
    how: str, s3_storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, data = Storage(s3_storage), os.urandom(9 << 20)
    if how == "whole":
        _kept(storage, "d.jsonl", data)
    elif how == "in parts":
        assert storage.bucket
        sender = Sender(storage.bucket, "d.jsonl", len(data), lambda _: None)
        sender.send(io.BytesIO(data), hashlib.sha256(data).hexdigest())
        kept = storage.bucket.kept("d.jsonl")
        assert kept
        assert kept.checksum
        assert kept.checksum.endswith("-2"), "a checksum of the parts, which names no content"
    else:
        storage.write("d.jsonl", data)
    with line_to(os.environ["AWS_ENDPOINT_URL"]) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        place = places(_training(f"{s3_storage}/d.jsonl", "data"))[0]
        found = Contents(memory=Memory(tmp_path / "memory")).of(place)
        assert isinstance(found, Content)
        assert found.fingerprint == of_bytes(data)
        assert (line.received > len(data)) == (how != "whole")


def test_large_weights_whose_checksums_are_kept_are_named_as_on_this_machine(
    s3_storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "LARGEST_READ", 4)
    made = Place(KINDS["model"], tmp_path, None)
    made.fill("first")
    here, made.bucket = run_id(prepared(made)), Storage(s3_storage)
    for file in made.path.iterdir():
        _kept(made.bucket, f"{made.path.name}/{file.name}", file.read_bytes())
    assert run_id(prepared(made)) == here
    made.kind.use(prepared(made), Storage(str(tmp_path / "out")))


def test_an_object_that_changes_while_it_is_read_is_refused(
    s3_storage: str, tmp_path: Path
) -> None:
    storage = Storage(s3_storage)
    storage.write("d.jsonl", bytes(3 << 20))

    def replaced(where: str, done: int, total: int) -> None:
        storage.write("d.jsonl", b"another", replace=True)

    place = places(_training(f"{s3_storage}/d.jsonl", "data"))[0]
    with pytest.raises(InputError, match=r"d\.jsonl: changes while it is read"):
        Contents(memory=Memory(tmp_path / "memory"), watch=replaced).of(place)


def test_picks_that_are_not_in_their_bucket_are_none_yet(s3_storage: str, tmp_path: Path) -> None:
    made = Place(KINDS["picks"], tmp_path, Storage(s3_storage))
    missing = prepared(made)
    made.kind.use(missing, Storage(str(tmp_path / "out")))
    made.path.write_bytes(b"")
    made._upload()
    assert run_id(prepared(made)) == run_id(missing)
