import gc
import multiprocessing
import os
import pickle
import signal
from datetime import UTC, datetime, timedelta
from itertools import count

import polars as pl
import pytest
from pyarrow import fs

from ecner.config import LakeSettings
from ecner.data import stores
from ecner.errors import RunError, TransientError, UsageError
from ecner.lake import Lake
from tests.s3 import BUCKET

FRAME = pl.DataFrame({"a": [1, None], "texts": [["小米"], []]})
OTHER = FRAME.reverse()
ODD = "tables/mentions [1] *?/review_date=2024-02-29/评论 100%+&.parquet"
_numbers = count()


@pytest.fixture
def local(tmp_path):
    return Lake.open(LakeSettings(uri=str(tmp_path / "the lake [0]")))


@pytest.fixture
def remote(object_store, tmp_path):
    """A lake of its own in the bucket."""
    return Lake.open(object_store.lake(f"lake/{next(_numbers)}", cache=tmp_path / "cache"))


@pytest.fixture(params=["local", "remote"])
def lake(request):
    return request.getfixturevalue(request.param)


def test_what_was_written_is_read(lake):
    assert not lake.exists("a/b.parquet")
    for frame in (FRAME, OTHER, FRAME.clear()):
        assert lake.write("a/b.parquet", frame) == "a/b.parquet"
        assert lake.read("a/b.parquet").equals(frame)
        assert lake.read("a/b.parquet").schema == frame.schema
    assert lake.exists("a/b.parquet")
    assert lake.exists("a")
    lake.write_bytes("a/c", b"\0\xff")
    assert lake.read_bytes("a/c") == b"\0\xff"


def test_names_are_taken_as_they_are(lake):
    lake.write(ODD, FRAME)
    assert lake.read(ODD).equals(FRAME)
    assert lake.names("tables") == [ODD]
    lake.remove(ODD)
    assert not lake.exists(ODD)


def test_names_come_sorted_and_whole(lake):
    for name in ("b/2", "b/10", "b/c/1", "bb/1", "b/1"):
        lake.write_bytes(name, b"x")
    lake.write_bytes("b/.unfinished", b"x")
    assert lake.names("b") == ["b/1", "b/10", "b/2", "b/c/1"]
    assert lake.names("b/c") == ["b/c/1"]
    assert lake.names("none") == []


def test_entries_are_as_old_as_the_newest_of_what_is_in_them(lake):
    before = datetime.now(UTC) - timedelta(seconds=5)
    for name in ("runs/two/shards/0", "runs/two/1", "runs/one/rows/1/2", "runs/.left"):
        lake.write_bytes(name, b"x")
    entries = lake.entries("runs")
    assert [entry.name for entry in entries] == [".left", "one", "two"]
    assert all(before < entry.modified < datetime.now(UTC) + timedelta(seconds=5) for entry in entries)
    assert [entry.name for entry in lake.entries("runs/two")] == ["1", "shards"]
    assert lake.entries("none") == []
    if lake.folder:
        for path in lake.folder.rglob("*"):
            os.utime(path, (100, 100))
        os.utime(lake.folder / "runs/two/shards/0", (200, 200))
        assert [entry.modified.timestamp() for entry in lake.entries("runs")] == [100, 100, 200]


def test_a_folder_is_removed_with_all_that_is_in_it(lake):
    for name in ("runs/a/1", "runs/a/b/2", "runs/ab/3"):
        lake.write_bytes(name, b"x")
    lake.remove("runs/a")
    lake.remove("runs/a")
    assert lake.names("runs") == ["runs/ab/3"]
    assert [entry.name for entry in lake.entries("runs")] == ["ab"]


def test_files_and_folders_go_there_and_back(lake, tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    large = os.urandom(12_000_000)  # more than one part of an upload
    for name, content in {"manifest": b"m", "a": large, "z": b""}.items():
        (folder / name).write_bytes(content)
    assert lake.put(folder / "a", "files/a") == "files/a"
    assert lake.get("files/a", tmp_path / "deep/back").read_bytes() == large
    assert lake.put_folder(folder, "models/one", last="manifest") == "models/one"
    assert lake.names("models") == ["models/one/a", "models/one/manifest", "models/one/z"]
    back = lake.get_folder("models/one", tmp_path / "back")
    assert {path.name: path.read_bytes() for path in back.iterdir()} == {"manifest": b"m", "a": large, "z": b""}


def test_the_last_file_comes_last(remote, object_store, tmp_path):
    for name in ("a", "manifest", "z"):
        (tmp_path / name).write_bytes(b"x")
    object_store.requests.clear()
    remote.put_folder(tmp_path, "m", last="manifest")
    assert [path.rsplit("/", 1)[1] for method, path in object_store.requests if method == "PUT"] == [
        "a",
        "z",
        "manifest",
    ]


@pytest.mark.parametrize("name", ["", "/etc/passwd", "..", "a/../../b", "a//b", "a/", "./a", "a\\..\\b", "a\0"])
def test_names_never_leave_the_lake(lake, name, tmp_path):
    for use in (
        lambda: lake.write(name, FRAME), lambda: lake.read(name), lambda: lake.exists(name), lambda: lake.remove(name),
        lambda: lake.names(name), lambda: lake.entries(name), lambda: lake.place(name),
        lambda: lake.put(tmp_path / "x", name), lambda: lake.get(name, tmp_path / "x"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="is no name in the lake"):
            use()
    assert not (tmp_path / "x").exists()


def test_it_may_be_sent_to_another_process(lake):
    lake.write("a", FRAME)
    assert pickle.loads(pickle.dumps(lake)) == lake  # noqa: S301
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(lake.read, ["a"]).equals(FRAME)


def test_where_it_is(local, remote, tmp_path, monkeypatch):
    assert local.folder == local.workshop == tmp_path / "the lake [0]"
    assert local.place("a/b") == f"{tmp_path}/the lake [0]/a/b"
    assert (remote.folder, remote.workshop) == (None, tmp_path / "cache")
    assert remote.place("a/b") == f"{remote.uri}/a/b"
    monkeypatch.chdir(tmp_path)
    assert Lake.open(LakeSettings(uri="here")).uri == str(tmp_path / "here")


def half(frame, path):
    path.write_bytes(b"PAR1")
    raise OSError(28, "No space left on device")


def interrupted(frame, path):
    path.write_bytes(b"PAR1")
    raise KeyboardInterrupt


@pytest.mark.parametrize(("writer", "kind"), [(half, RunError), (interrupted, KeyboardInterrupt)])
def test_a_writer_that_fails_leaves_what_was_there(lake, writer, kind, monkeypatch):
    lake.write("runs/a.parquet", FRAME)
    monkeypatch.setattr(pl.DataFrame, "write_parquet", writer)
    for name in ("runs/a.parquet", "runs/b.parquet"):
        with pytest.raises(kind) as raised:
            lake.write(name, OTHER)
        if kind is RunError:
            assert f"cannot write {name} in lake.uri, {lake.uri}: [Errno 28] No space left" in str(raised.value)
    assert [entry.name for entry in lake.entries("runs")] == ["a.parquet"]
    assert lake.read("runs/a.parquet").equals(FRAME)


def write_again_and_again(lake, frames):
    for frame in frames * 100_000:
        lake.write("a.parquet", frame)


def test_a_writer_that_is_killed_leaves_a_whole_file(lake):
    large = pl.DataFrame({"a": os.urandom(300_000).hex()})
    lake.write("a.parquet", FRAME)
    writer = multiprocessing.get_context("spawn").Process(target=write_again_and_again, args=(lake, [large, OTHER]))
    writer.start()
    size = len(lake.read_bytes("a.parquet"))
    while lake.store.files.get_file_info(f"{lake.store.root}/a.parquet").size == size:
        assert writer.is_alive()
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert any(lake.read("a.parquet").equals(frame) for frame in (large, OTHER))


def test_a_store_that_refuses_half_of_all_requests(remote, object_store, tmp_path):
    with object_store.refusing():
        for number in range(12):
            remote.write(f"rows/{number:02d}.parquet", FRAME)
        (tmp_path / "model").write_bytes(os.urandom(12_000_000))
        remote.put(tmp_path / "model", "model")
        assert remote.get("model", tmp_path / "back").read_bytes() == (tmp_path / "model").read_bytes()
        names = remote.names("rows")
        assert pl.concat(map(remote.read, names)).equals(pl.concat([FRAME] * 12))
        remote.remove("rows")
        assert not remote.exists("rows")
    assert len(names) == 12
    assert object_store.refused > 25


@pytest.fixture
def _impatient():
    """Two attempts of each request, and no others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "_ATTEMPTS", 1)
        patch.setattr(Lake, "_upload", Lake._upload.__wrapped__)
        stores._object_store.cache_clear()
        yield
    stores._object_store.cache_clear()


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    ("size", "stage"), [(10, ""), (12_000_000, "uploads"), (12_000_000, "partNumber=2"), (12_000_000, "uploadId=")]
)
def test_an_upload_that_is_given_up_leaves_what_was_there(remote, object_store, tmp_path, size, stage):
    """Requests after those that are refused go through: none of them may end the upload all the same."""
    (tmp_path / "new").write_bytes(os.urandom(size))
    remote.write_bytes("a", b"old")
    for name in ("a", "b"):
        with object_store.refusing_uploads(stage, times=2):
            with pytest.raises(TransientError, match=rf"cannot write {name} in lake\.uri, s3://"):
                remote.put(tmp_path / "new", name)
            gc.collect()
        assert object_store.refused == 2
    assert remote.read_bytes("a") == b"old"
    assert not remote.exists("b")


def test_what_is_not_there(lake, tmp_path):
    with pytest.raises(RunError, match=r"cannot read a/b in lake\.uri, .*lake"):
        lake.read("a/b")
    with pytest.raises(RunError, match=r"cannot fetch a/b in lake\.uri"):
        lake.get("a/b", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_what_is_no_parquet(lake):
    lake.write_bytes("a.parquet", b"PAR1PAR1")
    with pytest.raises(RunError, match=r"/a\.parquet is no Parquet file that can be read"):
        lake.read("a.parquet")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot write a/b in lake\.uri"):
        Lake.open(LakeSettings(uri=str(tmp_path / "file"))).write("a/b", FRAME)


def test_a_bucket_that_is_not_there(object_store, tmp_path):
    lake = Lake.open(LakeSettings(uri="s3://another/x", endpoint=object_store.endpoint))
    with pytest.raises(UsageError, match="there is no bucket another"):
        lake.check()
    with pytest.raises(RunError, match=r"cannot write a in lake\.uri, s3://another/x: there is no such bucket"):
        lake.write("a", FRAME)


def test_nothing_else_is_in_the_bucket(remote):
    remote.write("a/b.parquet", FRAME)
    found = remote.store.files.get_file_info(fs.FileSelector(remote.store.root, recursive=True))
    assert [info.path for info in found if info.is_file] == [f"{remote.uri.removeprefix('s3://')}/a/b.parquet"]
    assert remote.uri.startswith(f"s3://{BUCKET}/")
