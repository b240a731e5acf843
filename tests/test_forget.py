"""A review that was forgotten is nowhere any more, and does not come back."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ecner import forget as module
from ecner.data.corpus import write_corpus
from ecner.data.hashes import text_hash
from ecner.errors import LeaseError
from ecner.forget import forget
from ecner.nightly.page import write_page
from ecner.nightly.scope import Selection
from ecner.retraining.snapshot import take_snapshot
from ecner.schema import TABLES
from tests.nightly.house import House
from tests.nightly.reviews import labelled_texts, make_reviews, train_tiny, write
from tests.tables import assert_equal_tables

OF_THE_NIGHTS = ("extraction_runs", "rejected_reviews", "drift_metrics", "tombstones", "calendar", "annotations")
GONE, FORMER, TEXT = "gone-id-77", "以前说的小米手机真好用", "后来说的华为耳机不错买了"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(params=["sqlite", "postgresql"])
def house(request, tmp_path, model, new_place):
    (tmp_path / "house").mkdir()
    return House(tmp_path / "house", model, *new_place(request.param))


@pytest.fixture
def rows():
    """Reviews, one of which has been edited, and one that says the same as another."""
    first = {**make_reviews(1)[0], "review_id": GONE, "text": FORMER}
    edited = {**first, "text": TEXT, "updated_at": first["updated_at"] + timedelta(hours=1)}
    return [*make_reviews(30), first], [*make_reviews(30), edited]


def annotate(house, *rows: Any):
    frame = pl.DataFrame(rows, schema=TABLES["annotations"].polars_schema)
    with house.warehouse.begin() as transaction:
        transaction.append("annotations", frame)


def annotation(**values: Any):
    return {"spans": "[[0, 2]]", "label": "HPPX", "labelled_at": datetime(2027, 1, 1, tzinfo=UTC), **values}


def everything(house) -> bytes:
    """All that is kept in tables and files, the warehouse's own files left out."""
    tables = [repr(house.read(name).to_dicts()).encode() for name in TABLES]
    lake = house.folder / "lake"
    parquet = [repr(pl.read_parquet(path, glob=False).to_dicts()).encode() for path in lake.rglob("*.parquet")]
    others = [path.read_bytes() for path in lake.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    return b"".join([*tables, *parquet, *others])


def spoken_of(house) -> bool:
    left = everything(house)
    words = [GONE, *(text[:7] for text in (FORMER, TEXT))]
    known = [word.encode() for word in words] + [repr(word.encode("utf-8"))[2:-1].encode() for word in words[1:]]
    known += [json.dumps(word)[1:-1].encode() for word in words[1:]]
    return any(word in left for word in known) or text_hash(TEXT).encode() in b"".join(
        repr(house.read(name).to_dicts()).encode() for name in TABLES if name != "tombstones"
    )


def test_nothing_of_it_is_left_and_it_does_not_come_back(house, rows, tmp_path):
    for number, part in enumerate(rows):
        house.night(write(tmp_path / f"{number}.parquet", part))
    annotate(house, annotation(review_id=GONE), annotation(text=TEXT), annotation(text="别的小米"))
    write_corpus(tmp_path / "train.jsonl", labelled_texts(20), "jsonl")
    settings = house.settings(
        tmp_path / "1.parquet", train={"train": (tmp_path / "train.jsonl",), "annotations": True, "test_share": 0}
    )
    snapshot = take_snapshot(settings)
    page = Path(write_page(settings, lambda: None))
    assert page.is_file()
    assert spoken_of(house)
    forgotten = forget(settings, GONE)
    assert forgotten.snapshots == 1
    assert forgotten.days == (rows[0][-1]["created_at"].date(),)
    assert GONE not in forgotten.to_text()
    assert not page.exists()
    assert not spoken_of(house)
    assert len(house.read("annotations")) == 1

    report = house.night(tmp_path / "1.parquet", Selection(full=True))
    assert not spoken_of(house)
    assert house.read("rejected_reviews", run_id=report.plan.run_id)["reason"].to_list() == ["forgotten"]
    assert report.plan.reviews_in == 31
    annotate(house, annotation(review_id=GONE), annotation(text=TEXT))
    later = take_snapshot(settings)
    assert later.fingerprint != snapshot.fingerprint
    assert later.forgotten == 1
    assert [(rejection.rule, rejection.count) for rejection in later.rejected] == [("forgotten", 1)]

    never = House(tmp_path / "never", house.model)
    never.folder.mkdir()
    never.night(write(tmp_path / "2.parquet", rows[0][:-1]))
    assert_equal_tables(house.tables(), never.tables(), but=OF_THE_NIGHTS)
    for table in ("mentions", "review_coverage"):
        copies = map(house.lake.read, house.lake.names(f"tables/{table}"))
        assert sum(map(len, copies)) == len(house.read(table))


def test_a_text_that_others_have_too_stays(house, rows, tmp_path):
    shared = [*rows[1], rows[1][-1] | {"review_id": "other"}]
    house.night(write(tmp_path / "a.parquet", shared))
    forget(house.settings(tmp_path / "a.parquet"), GONE)
    assert house.read("mentions", review_id="other").height > 0
    assert len(house.read("text_readings", text_hash=text_hash(TEXT))) == 1
    assert house.read("tombstones")["kind"].to_list() == ["forgotten"]


def test_a_review_that_was_never_seen(house, rows, tmp_path):
    forgotten = forget(house.settings(tmp_path / "a.parquet"), GONE)
    assert "it was not in the tables" in forgotten.to_text()
    house.night(write(tmp_path / "a.parquet", rows[0]))
    assert not spoken_of(house)
    assert len(house.read("review_coverage")) == 30


def test_not_while_a_run_is_at_work(house, rows, tmp_path):
    night = house.prepare(write(tmp_path / "a.parquet", rows[0]))
    with night.ledger(), pytest.raises(LeaseError):
        forget(house.settings(tmp_path / "a.parquet"), GONE)


@pytest.mark.parametrize("step", ["_texts_in_runs", "_take_out", "clean", "write_copies"])
def test_one_that_was_stopped_is_ended_by_the_next(rows, tmp_path, model, monkeypatch, step):
    house = House(tmp_path, model)
    house.night(write(tmp_path / "0.parquet", rows[0]))
    house.night(write(tmp_path / "1.parquet", rows[1]))
    with monkeypatch.context() as patch:
        patch.setattr(module, step, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            forget(house.settings(tmp_path / "1.parquet"), GONE)
    forget(house.settings(tmp_path / "1.parquet"), GONE)
    (tmp_path / "0.parquet").unlink()
    (tmp_path / "1.parquet").unlink()
    assert not spoken_of(house)
