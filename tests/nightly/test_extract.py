from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner.config import ModelSettings
from ecner.inference.reader import Reader
from ecner.model.checkpoint import Checkpoint, fingerprint
from ecner.model.vocabulary import UNKNOWN
from ecner.nightly import extract as module
from ecner.nightly.extract import READINGS, extract_shard, span_frame
from ecner.nightly.scope import ReadingModel
from tests.nightly.oracle import hashed, read_texts
from tests.nightly.reviews import make_reviews
from tests.tiny import VOCABULARY

TRICKY = [
    "😀小米手机a1", "𠮷𠮷华为\U0010ffff耳机", "ＧＨ小米ａ１", "e\u0301小米\u200d手机", "\0小米\0a1\0",
    "好" * 30 + "小米手机" + "好" * 30, "好", "小", "gh\r\n\u2028小米",
]  # fmt: skip
SETTINGS = ModelSettings(device="cpu")


@pytest.fixture(scope="session")
def pinned(model):
    return ReadingModel("v", str(model), fingerprint(model, decoder="viterbi", dtype="float32"))


@pytest.fixture
def shard(tmp_path):
    def make(texts):
        frame = pl.DataFrame({"text_hash": [hashed(text) for text in texts], "text": list(texts)}).sort("text_hash")
        frame.write_parquet(tmp_path / "shard.parquet")
        return str(tmp_path / "shard.parquet")

    return make


@pytest.fixture
def read(tmp_path, pinned):
    def extract(shard, **changes: Any):
        options = {"model": pinned, "settings": SETTINGS, "lake_uri": str(tmp_path / "lake"), "batch_chars": None}
        return extract_shard(shard, **options | changes)

    return extract


def test_every_text_is_read_whole(shard, read, model):
    texts = {review["text"] for review in make_reviews(60)} | {*TRICKY}
    extracted = read(shard(texts))
    readings = pl.read_parquet(extracted.path)
    assert readings.schema == READINGS
    assert extracted.texts == len(readings) == len(texts)
    assert extracted.chars == sum(map(len, texts))
    assert extracted.seconds["total"] > extracted.seconds["forward"] > 0
    rows = {row["text_hash"]: row for row in readings.to_dicts()}
    found = read_texts(model, texts)
    assert sum(map(len, found.values())) > 50
    assert readings["unknown_chars"].sum() > 20
    for text in texts:
        row = rows[hashed(text)]
        assert row["chars"] == row["chars_read"] == len(text)
        assert (row["windows"] > 1) == (len(text) > 24)
        assert row["unknown_chars"] == sum(VOCABULARY.encode(text) == VOCABULARY.ids[UNKNOWN])
        spans = [(s["label"], s["start_char"], s["end_char"]) for s in row["spans"]]
        assert spans == [(label, start, end) for label, start, end, _ in found[text]]
        for span, (*_, confidence) in zip(row["spans"], found[text], strict=True):
            assert span["surface"] == text[span["start_char"] : span["end_char"]]
            assert span["confidence"] == pytest.approx(confidence, abs=1e-4)


def test_slices_change_nothing(shard, read, tmp_path, monkeypatch):
    file = shard({review["text"] for review in make_reviews(60)})
    whole = pl.read_parquet(read(file).path)
    monkeypatch.setattr(module, "_TEXTS_AT_ONCE", 7)
    sliced = pl.read_parquet(read(file, lake_uri=str(tmp_path / "other"), batch_chars=512).path)
    assert sliced.drop("spans").equals(whole.drop("spans"))
    assert sliced["spans"].list.len().equals(whole["spans"].list.len())


def test_a_text_without_mentions(shard, read):
    readings = pl.read_parquet(read(shard(["好"])).path)
    assert readings["spans"].to_list() == [[]]


def test_finished_work_is_taken_up(shard, read, monkeypatch):
    file = shard(TRICKY)
    first = read(file)
    monkeypatch.setattr(Reader, "read", lambda *_: pytest.fail("read again"))
    again = read(file)
    assert again.path == first.path
    assert (again.texts, again.chars) == (first.texts, first.chars)
    assert not any(again.seconds.values())


def test_a_half_written_reading_is_not_taken_up(shard, read, monkeypatch):
    file = shard(TRICKY)
    write = pl.DataFrame.write_parquet

    def half(self, target):
        write(self, target)
        target.write_bytes(target.read_bytes()[:-20])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pl.DataFrame, "write_parquet", half)
        with pytest.raises(KeyboardInterrupt):
            read(file)
    assert len(pl.read_parquet(read(file).path)) == len(TRICKY)


def test_readings_belong_to_a_fingerprint_and_a_set_of_texts(shard, read, pinned):
    paths = {read(shard(TRICKY)).path, read(shard(TRICKY[:3])).path}
    paths.add(read(shard(TRICKY), model=ReadingModel("v", pinned.folder, "another")).path)
    assert len(paths) == 3


def test_the_model_is_loaded_once_until_it_is_another(shard, read, pinned, monkeypatch):
    loaded = []
    load = Checkpoint.load
    monkeypatch.setattr(
        module, "Checkpoint", type("Spy", (), {"load": lambda folder: loaded.append(folder) or load(folder)})
    )
    module._reader.cache_clear()
    for texts in (TRICKY, TRICKY[:3]):
        read(shard(texts))
    assert len(loaded) == 1
    read(shard(TRICKY), model=ReadingModel("v", pinned.folder, "the folder holds others now"))
    assert len(loaded) == 2


@pytest.fixture(scope="session")
def reader(model):
    return Reader(Checkpoint.load(model), device="cpu")


@given(st.lists(st.text(st.sampled_from("小米手机a1😀𠮷ＧＨ好\0\u0301\n "), max_size=40), max_size=5))
def test_surfaces_are_what_stands_there(reader, texts):
    frame = span_frame(reader.read(texts), pl.Series(texts, dtype=pl.String), reader.tag_set.labels)
    for row in frame.to_dicts():
        assert row["surface"] == texts[row["row"]][row["start_char"] : row["end_char"]] != ""
        assert "\0" not in row["surface"]
