import os
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from ecner.errors import RunError
from ecner.nightly.lake import Lake, write

FRAME = pl.DataFrame({"a": [1]})


def test_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "runs" / "x" / "a.parquet"
    assert write(path, FRAME) == path

    def half(self, target):
        target.write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", half)
    for target in (path, path.with_name("b.parquet")):
        with pytest.raises(RunError, match=r"cannot write .*No space left.*check lake\.uri"):
            write(target, FRAME)
    assert pl.read_parquet(path).equals(FRAME)
    assert list(path.parent.glob("*.parquet")) == [path]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot write"):
        write(tmp_path / "file" / "a.parquet", FRAME)


def test_pieces_come_in_order(tmp_path):
    files = Lake(tmp_path).run("r")
    for name in ("000002", "000010", "000001"):
        write(files.piece("rows", 3, name), FRAME)
    assert [path.stem for path in files.pieces("rows", 3)] == ["000001", "000002", "000010"]
    assert files.pieces("rows", 4) == []


def test_clear_goes_by_age(tmp_path):
    lake = Lake(tmp_path)
    now = datetime.now(UTC)
    for days in (1, 6, 8):
        paths = [lake.run(f"r{days}").whole("shards", "0"), lake.reading("f", f"d{days}")]
        unfinished = tmp_path / "readings" / "f" / f".d{days}.parquet.77"
        for path in paths:
            write(path, FRAME)
        unfinished.touch()
        for path in (lake.run(f"r{days}").folder, paths[1], unfinished):
            os.utime(path, ((now - timedelta(days=days)).timestamp(),) * 2)
    lake.clear(now - timedelta(days=7))
    left = {path.name for path in [*tmp_path.glob("runs/*"), *tmp_path.glob("readings/*/*")]}
    assert left == {"r1", "r6", "d1.parquet", "d6.parquet", ".d1.parquet.77", ".d6.parquet.77"}
    lake.clear(now)
    assert not [*tmp_path.glob("runs/*"), *tmp_path.glob("readings/*/*")]
    Lake(tmp_path / "none").clear(now)
