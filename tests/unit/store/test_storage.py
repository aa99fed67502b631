"""Storage behaves the same on a local folder and on a real S3 server."""

import os
import stat
import threading
from pathlib import Path

import pytest

from lima.errors import BucketError, InputError, NoAnswerError, StorageError
from lima.store.errors import reason, storage_error
from lima.store.storage import Entry, Storage
from lima_k8s.main import run


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage(str(tmp_path / "study"))
    return Storage(request.getfixturevalue("s3_storage"))


def test_writes_reads_lists_and_deletes(storage: Storage) -> None:
    assert storage.entries("") == []
    assert storage.write("a/one", b"1")
    assert storage.write("a/b/two", b"22")
    assert storage.read("a/b/two") == b"22"
    assert [(e.path, e.size) for e in storage.entries("a")] == [("a/b/two", 2), ("a/one", 1)]
    storage.delete("a/one")
    storage.delete("a/one")
    assert not storage.exists("a/one")
    storage.delete_tree("a")
    assert storage.entries("") == []


def test_the_home_of_no_user_is_no_folder() -> None:
    with pytest.raises(InputError, match="there is no user ~nosuchuser; name another folder"):
        Storage("~nosuchuser/study")
    assert Storage("./~nosuchuser").local_path("x") == Path.cwd() / "~nosuchuser" / "x"


def test_first_writer_wins_unless_replacing(storage: Storage) -> None:
    assert storage.write("x", b"first")
    assert not storage.write("x", b"second")
    assert storage.read("x") == b"first"
    assert storage.write("x", b"third", replace=True)
    assert storage.read("x") == b"third"


def test_folders_travel_whole(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "weights").write_bytes(bytes(range(256)) * 5000)
    (source / "empty").write_bytes(b"")
    entries = storage.upload_folder(source, "c/w")
    assert [(e.path, e.size) for e in entries] == [
        ("c/w/deep/weights", 1_280_000),
        ("c/w/empty", 0),
    ]
    target = storage.download_folder("c/w", tmp_path / "target")
    assert (target / "deep/weights").read_bytes() == (source / "deep/weights").read_bytes()
    assert (target / "empty").read_bytes() == b""


@pytest.mark.parametrize("name", ["w/../../escaped", "w//escaped"])
def test_a_name_that_leads_out_of_its_folder_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """An object store takes any name; whoever can write there may mean harm."""
    storage = Storage(str(tmp_path / "study"))
    storage.write("escaped", b"")
    monkeypatch.setattr(Storage, "entries", lambda *_: [Entry(name, 0)])
    with pytest.raises(StorageError, match="its name leads out of w; delete it"):
        storage.download_folder("w", tmp_path / "a" / "b")
    assert not (tmp_path / "escaped").exists()
    assert not (tmp_path / "a").exists()


def test_concurrent_local_writers_leave_one_whole_object(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    wins: list[bool] = []
    writers = [
        threading.Thread(target=lambda i=i: wins.append(storage.write("x", bytes([i]) * 100_000)))
        for i in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert wins.count(True) == 1
    assert len(set(storage.read("x"))) == 1
    assert [e.path for e in storage.entries("")] == ["x"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource
    import signal

    storage = Storage(str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*/table/x"):
            storage.write("table/x", b"0" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list((tmp_path / "table").iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "reason"),
    [("s3://", "no bucket is named"), ("foo://bucket/x", "cannot open this kind of storage")],
)
def test_an_unusable_uri_is_explained(uri: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        Storage(uri)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("uri", "meant"),
    [
        ("s3:/bucket/p", "s3://bucket/p"),
        ("s3:bucket/p", "s3://bucket/p"),
        ("s3:", "s3://BUCKET"),
        ("s3//b/p", "s3://b/p"),
        (" s3://b", "space around"),
        ("/study ", "space around"),
        ("S3://bucket/p", "s3://bucket/p"),
        ("GS://b", "gs://b"),
        ("abfs:/c/p", "abfs://c/p"),
        ("//bucket/p", "one slash"),
    ],
)
def test_a_slip_in_a_uri_is_no_folder(uri: str, meant: str) -> None:
    with pytest.raises(InputError, match=meant):
        Storage(uri)


def test_folders_may_be_called_as_they_like(tmp_path: Path) -> None:
    for name in ("s3", "s3-copy", "gs", "notes: s3", "./s3:x"):
        assert Storage(str(tmp_path / name)).is_local
    assert Storage("./s3:x").local_path("") == Path.cwd() / "s3:x"


def test_an_unreachable_server_names_the_endpoint_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testkey")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testsecret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL"):
        Storage("s3://study/x").exists("y")


def test_a_number_of_attempts_that_is_none_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "many")
    with pytest.raises(InputError, match="AWS_MAX_ATTEMPTS=many: not a number"):
        Storage("s3://study/x")


def test_wrong_credentials_name_their_variables(
    s3_storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match="AWS_ACCESS_KEY_ID"):
        Storage(s3_storage).write("x", b"1")


def test_a_missing_bucket_is_bad_input(s3_storage: str) -> None:
    """It is not there the next time either: a job in a cluster must not try again."""
    Storage(s3_storage).require_bucket()
    storage = Storage("s3://nowhere/x")
    for act in (storage.require_bucket, lambda: storage.write("y", b"")):
        with pytest.raises(InputError, match="nowhere") as raised:
            act()
        assert (raised.value.exit_code, isinstance(raised.value, StorageError)) == (2, True)


def test_a_wrong_secret_and_a_wrong_region_name_theirs(
    s3_storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Storage(s3_storage).write("x", b"1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    for variable, value in (("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_REGION", "eu-west-3")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            storage = Storage(s3_storage)
            with pytest.raises(StorageError, match=variable):
                storage.entries("")
            with pytest.raises(StorageError, match=variable):
                storage.write("y", b"", replace=True)
            with pytest.raises(StorageError, match=variable):
                storage.read("x")


def test_a_key_that_may_only_read_is_told_from_a_wrong_one() -> None:
    denied = OSError("When completing: AWS Error ACCESS_DENIED during PutObject operation")
    assert "may not write there" in reason(denied, "write")
    assert "AWS_SECRET_ACCESS_KEY" not in reason(denied, "write")
    assert "AWS_SECRET_ACCESS_KEY, or ask for the right to read" in reason(denied, "read")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("When listing: AWS Error NETWORK_CONNECTION: Couldn't connect", NoAnswerError),
        ("AWS Error UNKNOWN (HTTP status 503) during PutObject operation", NoAnswerError),
        ("[Errno 116] Stale file handle: 'x'", NoAnswerError),
        ("AWS Error NO_SUCH_BUCKET during CreateMultipartUpload", BucketError),
        ("AWS Error ACCESS_DENIED during PutObject operation", StorageError),
        ("[Errno 28] No space left on device: 'x'", StorageError),
    ],
)
def test_an_outage_is_told_from_an_answer(said: str, kind: type[StorageError]) -> None:
    error = storage_error(OSError(said), "write", "s3://b/study/x")
    assert type(error) is kind
    assert str(error).startswith(f"cannot write s3://b/study/x: {said}")


def test_a_missing_bucket_is_no_empty_study(
    s3_storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Storage(s3_storage).entries("") == []
    with pytest.raises(InputError, match="no bucket 'nowhere'"):
        Storage("s3://nowhere/x").entries("runs")
    for command in ("aggregate", "agreement", "report", "compare-paper"):
        assert run([command, "s3://nowhere/x"]) == 2
        assert "there is no bucket 'nowhere'" in capsys.readouterr().err


def test_a_missing_bucket_is_named(s3_storage: str) -> None:
    with pytest.raises(StorageError, match="s3://nowhere/x"):
        Storage("s3://nowhere/x").read("y")


def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "object")
    with pytest.raises(StorageError, match="object is no regular file"):
        Storage(str(tmp_path)).write("object", b"x", replace=True)
    assert stat.S_ISFIFO((tmp_path / "object").stat().st_mode)
