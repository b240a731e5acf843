import shutil
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner import registry
from ecner.config import LakeSettings, ModelSettings
from ecner.errors import ModelError
from ecner.inference.reader import Reader
from ecner.lake import Lake
from ecner.model.checkpoint import Checkpoint, fingerprint
from ecner.model.manifest import write_manifest
from ecner.model.vocabulary import UNKNOWN
from ecner.nightly import extract as module
from ecner.nightly.extract import READINGS, extract_shard, span_frame
from ecner.nightly.scope import ReadingModel
from ecner.transfer import upload
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
    return ReadingModel("v", str(model), fingerprint(model, decoder="viterbi", dtype="torch.float32"))


@pytest.fixture
def lake(tmp_path):
    return LakeSettings(uri=str(tmp_path / "lake"))


@pytest.fixture
def shard(lake):
    def make(texts, there=lake):
        frame = pl.DataFrame({"text_hash": [hashed(text) for text in texts], "text": list(texts)}).sort("text_hash")
        return Lake.open(there).write("runs/x/shards/0000.parquet", frame)

    return make


@pytest.fixture
def read(lake, pinned):
    def extract(shard, **changes: Any):
        options = {"model": pinned, "settings": SETTINGS, "lake": lake, "batch_chars": None}
        return extract_shard(shard, **options | changes)

    return extract


@pytest.fixture
def readings(lake):
    """The frame that was left."""
    return lambda extracted, there=lake: Lake.open(there).read(extracted.path)


def test_every_text_is_read_whole(shard, read, model, readings):
    texts = {review["text"] for review in make_reviews(60)} | {*TRICKY}
    extracted = read(shard(texts))
    found = readings(extracted)
    assert found.schema == READINGS
    assert extracted.texts == len(found) == len(texts)
    assert extracted.chars == sum(map(len, texts))
    assert extracted.seconds["total"] > extracted.seconds["forward"] > 0
    assert found["unknown_chars"].sum() > 20
    rows = {row["text_hash"]: row for row in found.to_dicts()}
    expected = read_texts(model, texts)
    assert sum(map(len, expected.values())) > 50
    for text in texts:
        row = rows[hashed(text)]
        assert row["chars"] == row["chars_read"] == len(text)
        assert (row["windows"] > 1) == (len(text) > 24)
        assert row["unknown_chars"] == sum(VOCABULARY.encode(text) == VOCABULARY.ids[UNKNOWN])
        spans = [(s["label"], s["start_char"], s["end_char"]) for s in row["spans"]]
        assert spans == [(label, start, end) for label, start, end, _ in expected[text]]
        for span, (*_, confidence) in zip(row["spans"], expected[text], strict=True):
            assert span["surface"] == text[span["start_char"] : span["end_char"]]
            assert span["confidence"] == pytest.approx(confidence, abs=1e-4)


def test_slices_change_nothing(shard, read, lake, readings, monkeypatch):
    texts = {review["text"] for review in make_reviews(60)}
    whole = readings(read(shard(texts)))
    Lake.open(lake).remove("readings")
    monkeypatch.setattr(module, "_TEXTS_AT_ONCE", 7)
    sliced = readings(read(shard(texts), batch_chars=512))
    assert sliced.drop("spans").equals(whole.drop("spans"))
    assert sliced["spans"].list.len().equals(whole["spans"].list.len())


def test_a_text_without_mentions(shard, read, readings):
    assert readings(read(shard(["好"])))["spans"].to_list() == [[]]


def test_finished_work_is_taken_up(shard, read, monkeypatch):
    file = shard(TRICKY)
    first = read(file)
    monkeypatch.setattr(Reader, "read", lambda *_: pytest.fail("read again"))
    again = read(file)
    assert again.path == first.path
    assert (again.texts, again.chars) == (first.texts, first.chars)
    assert not any(again.seconds.values())


def test_a_half_written_reading_is_not_taken_up(shard, read, readings, monkeypatch):
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
    assert len(readings(read(file))) == len(TRICKY)


def test_readings_belong_to_a_fingerprint_and_a_set_of_texts(shard, read, pinned, model):
    paths = {read(shard(TRICKY)).path, read(shard(TRICKY[:3])).path}
    beam = ReadingModel("v", pinned.uri, fingerprint(model, decoder="beam", dtype="torch.float32"))
    paths.add(read(shard(TRICKY), model=beam, settings=SETTINGS.model_copy(update={"decoder": "beam"})).path)
    assert len(paths) == 3


def test_the_model_is_loaded_once_until_it_is_another(shard, read, pinned, other_model, monkeypatch):
    loaded = []
    load = Checkpoint.load
    monkeypatch.setattr(
        module, "Checkpoint", type("Spy", (), {"load": lambda folder: loaded.append(folder) or load(folder)})
    )
    module._reader.cache_clear()
    for texts in (TRICKY, TRICKY[:3]):
        read(shard(texts))
    assert len(loaded) == 1
    other = fingerprint(other_model, decoder="viterbi", dtype="torch.float32")
    read(shard(TRICKY), model=ReadingModel("other", str(other_model), other))
    assert len(loaded) == 2


@pytest.mark.parametrize("change", [{"decoder": "beam"}, {"dtype": "bfloat16"}])
def test_a_worker_that_would_read_otherwise_reads_nothing(shard, read, lake, change):
    with pytest.raises(ModelError, match=r"v in .* would read as .* here, by torch.*: expected .*install the same"):
        read(shard(TRICKY), settings=SETTINGS.model_copy(update=change))
    assert not Lake.open(lake).exists("readings")


def test_a_worker_finds_the_shipped_model_in_its_own_installation(shard, read, model, pinned, monkeypatch):
    monkeypatch.setattr(registry, "asset", {"model": model}.__getitem__)
    assert read(shard(TRICKY), model=ReadingModel("v", "default", pinned.fingerprint)).texts == len(TRICKY)


def test_a_worker_elsewhere_has_all_from_the_store(shard, read, readings, model, object_store, tmp_path):
    there = object_store.lake("extract", cache=tmp_path / "cache")
    folder = shutil.copytree(model, tmp_path / "unfinished")
    folder = folder.rename(tmp_path / f"full-{write_manifest(folder)}")
    uri = upload(Lake.open(there), folder)
    pinned = ReadingModel("v", uri, fingerprint(folder, decoder="viterbi", dtype="torch.float32"))
    shutil.rmtree(folder)
    extracted = read(shard(TRICKY, there), model=pinned, lake=there)
    assert len(readings(extracted, there)) == len(TRICKY)
    assert (tmp_path / "cache/models" / folder.name).is_dir()
    assert not any(read("runs/x/shards/0000.parquet", model=pinned, lake=there).seconds.values())


@pytest.fixture(scope="session")
def reader(model):
    return Reader(Checkpoint.load(model), device="cpu")


@given(st.lists(st.text(st.sampled_from("小米手机a1😀𠮷ＧＨ好\0\u0301\n "), max_size=40), max_size=5))
def test_surfaces_are_what_stands_there(reader, texts):
    frame = span_frame(reader.read(texts), pl.Series(texts, dtype=pl.String), reader.tag_set.labels)
    for row in frame.to_dicts():
        assert row["surface"] == texts[row["row"]][row["start_char"] : row["end_char"]] != ""
        assert "\0" not in row["surface"]
