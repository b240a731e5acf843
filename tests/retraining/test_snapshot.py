import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecner.config import Settings
from ecner.data.corpus import write_corpus
from ecner.data.hashes import text_hash
from ecner.data.rows import LabelledText
from ecner.errors import DataError, RunError, UsageError
from ecner.labels import Span
from ecner.lake import Lake
from ecner.retraining import snapshot as module
from ecner.retraining.snapshot import SPLITS, split_of, take_snapshot
from ecner.schema import TABLES
from ecner.storage.warehouse import Warehouse
from tests.data.strategies import any_chars, conll_chars, labelled_texts

_SURROGATES = LabelledText("\ud83d小米\ud800", (Span(1, 3, "HPPX"),))
_QUICK = settings(max_examples=25)
_KILLED = """
import os, signal, sys
from pathlib import Path
import polars as pl
from ecner.config import Settings
from ecner.retraining.snapshot import take_snapshot

write = pl.DataFrame.write_parquet
def half(frame, path):
    write(frame, path)
    os.truncate(path, path.stat().st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

settings = Settings.model_validate_json(sys.argv[2])
if sys.argv[1] == "half the labels":
    pl.DataFrame.write_parquet = half
else:
    Path.write_bytes = die
take_snapshot(settings)
"""


def some(chars=any_chars, min_chars=0):
    """Labelled texts of which many stand there twice, or with other spans."""
    # JSON joins two surrogates in a row
    texts = labelled_texts(chars, min_chars, labels=("HPPX", "XH")).filter(lambda one: _is_writable(one.text))
    few = st.sampled_from(
        [LabelledText(text, spans) for text in ("小米", "手机") for spans in ((), (Span(0, 2, "HPPX"),))]
    )
    return st.lists(texts | few, min_size=1, max_size=8)


def _is_writable(text):
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") == text


def numbered(count, start=0):
    """Texts that are all different, with a brand in each."""
    return [LabelledText(f"小米手机{number}", (Span(0, 2, "HPPX"),)) for number in range(start, start + count)]


def write(folder, name, texts):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    assert write_corpus(path, texts, "conll" if name.endswith(".txt") else "jsonl") == ()
    return path


def settings_of(folder, **train: object):
    url = f"sqlite:///{folder}/warehouse.db"
    return Settings.model_validate({"lake": {"uri": f"{folder}/lake"}, "warehouse": {"url": url}, "train": train})


def take(folder, **label_sets: list[list[LabelledText]]):
    """A snapshot of label sets, each written to a file of its own; a second one of a split by another name."""
    files = {
        split: [write(folder / f"{split}{number}", "labels.jsonl", texts) for number, texts in enumerate(several)]
        for split, several in label_sets.items()
    }
    return take_snapshot(settings_of(folder, **files))


def annotate(folder, texts):
    warehouse = Warehouse(f"sqlite:///{folder}/warehouse.db")
    warehouse.migrate()
    rows = [
        {
            "text": labelled.text,
            "spans": json.dumps([span._asdict() for span in labelled.spans]),
            "labelled_at": datetime(2026, 11, 1, tzinfo=UTC),
        }
        for labelled in texts
    ]
    with warehouse.begin() as transaction:
        transaction.append("annotations", pl.DataFrame(rows, schema=TABLES["annotations"].polars_schema))


def content(snapshot):
    return {split: snapshot.texts(split) for split in SPLITS}


@_QUICK
@given(some(), some(), some(), some())
@example([_SURROGATES], [_SURROGATES], [_SURROGATES], numbered(1))
def test_what_is_read_back_is_what_the_files_held(tmp_path_factory, train, dev, test, more_tests):
    snapshot = take(tmp_path_factory.mktemp("x"), train=[train[:1], train], dev=[dev], test=[test, more_tests])
    found = content(snapshot)
    assert set(found["train"]["train"]) == set(train)
    assert set(found["dev"]["dev0_labels"]) == set(dev)
    assert set(found["test"]["test0_labels"]) == set(test)
    assert set(found["test"].get("test1_labels", ())) == set(more_tests) - set(test)

    kept = {split: [one for texts in by_name.values() for one in texts] for split, by_name in found.items()}
    files = {"train": [train[0], *train], "dev": dev, "test": [*test, *more_tests]}
    assert snapshot.counts == {split: len(kept[split]) for split in SPLITS}
    assert snapshot.duplicates == {split: len(files[split]) - len(set(files[split])) for split in SPLITS}
    texts = {split: Counter(one.text for one in kept[split]) for split in SPLITS}
    assert snapshot.conflicting == {split: sum(count > 1 for count in texts[split].values()) for split in SPLITS}
    pairs = combinations(SPLITS, 2)
    assert snapshot.overlaps == {f"{one}/{two}": len(texts[one].keys() & texts[two].keys()) for one, two in pairs}
    assert snapshot.training_hashes() == sorted(map(text_hash, texts["train"]))
    assert snapshot.labels == tuple(sorted({span.label for one in train for span in one.spans}))
    assert not snapshot.test_is_dev


@_QUICK
@given(some(conll_chars, 1), some(conll_chars, 1), st.randoms(use_true_random=False), st.integers(0, 8))
def test_form_order_and_cut_of_files_do_not_enter(tmp_path_factory, train, dev, random, cut):
    folder = tmp_path_factory.mktemp("x")
    one = take_snapshot(
        settings_of(
            folder, train=[write(folder / "a", "train.jsonl", train)], dev=[write(folder / "b", "dev.jsonl", dev)]
        )
    )
    mixed = random.sample(train, len(train))
    parts = [write(folder / f"c{i}", f"{i}.txt", part) for i, part in enumerate((mixed[:cut], mixed[cut:])) if part]
    judged = write(folder / "b", "dev.txt", random.sample(dev, len(dev)))
    lake = folder / "elsewhere"
    two = take_snapshot(
        settings_of(folder, train=parts, dev=[judged], scheme="BILOU").model_copy(
            update={"lake": Settings.model_validate({"lake": {"uri": str(lake)}}).lake}
        )
    )
    assert replace(two, folder=one.folder) == one
    assert Path(two.folder) == lake / "snapshots" / Path(one.folder).name
    assert content(two) == content(one)
    assert pl.read_parquet(f"{one.folder}/labels.parquet").equals(pl.read_parquet(f"{two.folder}/labels.parquet"))


@pytest.mark.parametrize("change", ["text", "spans", "label", "split", "dataset"])
def test_the_fingerprint_is_of_the_content(tmp_path, change):
    train, dev = numbered(3), numbered(2, 10)
    first = take(tmp_path / "a", train=[train], dev=[dev])
    if change == "text":
        train[0] = LabelledText("小米手机壳", train[0].spans)
    elif change == "spans":
        train[0] = LabelledText(train[0].text)
    elif change == "label":
        train[0] = LabelledText(train[0].text, (Span(0, 2, "XH"),))
    elif change == "split":
        dev.append(train.pop())
    second = take(tmp_path / "b", train=[train], dev=[dev[:1], dev[1:]] if change == "dataset" else [dev])
    assert first.fingerprint != second.fingerprint
    assert first.training_fingerprint != second.training_fingerprint
    assert len(first.fingerprint) == 32


@_QUICK
@given(some(), some(), some(), some())
def test_names_of_folders_do_not_enter_the_fingerprints(tmp_path_factory, train, dev, other, test):
    folder = tmp_path_factory.mktemp("x")
    apart = [*(one for one in other if one not in dev), *numbered(1)]  # what two files have, one of them keeps

    def taken(export):
        files = {
            "train": [write(folder / export, "train.jsonl", train)],
            "dev": [write(folder / f"{export}{i}", "dev.jsonl", texts) for i, texts in enumerate((dev, apart))],
            "test": [write(folder / export, "test.jsonl", test)],
        }
        return take_snapshot(settings_of(folder, **files))

    one, two = taken("monday"), taken("tuesday")
    assert replace(two, folder=one.folder) == one
    assert set(one.texts("dev")["monday0_dev"]) == set(two.texts("dev")["tuesday0_dev"]) == set(dev)
    assert set(two.texts("dev")["tuesday1_dev"]) == set(apart)
    assert set(one.texts("test")) == {"monday_test"}
    assert set(two.texts("test")) == {"tuesday_test"}
    assert taken("monday") == one


def test_datasets_that_change_names_change_nothing_but_their_names(tmp_path):
    several = [numbered(2, 10), numbered(3, 20)]
    one = take(tmp_path, train=[numbered(3)], dev=several)
    two = take(tmp_path, train=[numbered(3)], dev=several[::-1])
    assert replace(two, folder=one.folder) == one
    assert set(two.texts("dev")["dev0_labels"]) == set(one.texts("dev")["dev1_labels"]) == set(several[1])


def test_the_test_texts_are_no_part_of_a_training(tmp_path):
    train, dev = numbered(3), numbered(2, 10)
    one = take(tmp_path, train=[train], dev=[dev])
    two = take(tmp_path, train=[train], dev=[dev], test=[numbered(2, 20)])
    other = take(tmp_path, train=[train], dev=[dev[:1]], test=[numbered(2, 20)])
    assert one.training_fingerprint == two.training_fingerprint != other.training_fingerprint
    assert one.fingerprint != two.fingerprint
    facts = json.loads(Path(two.folder, "snapshot.json").read_text("utf-8"))
    for name in ("fingerprint", "training_fingerprint"):
        assert facts[name] == getattr(two, name)


@given(st.text(), st.floats(0.01, 0.49), st.floats(0, 0.49), st.floats(0, 0.49))
def test_a_text_is_always_in_the_same_split(text, dev_share, test_share, other_share):
    split = split_of(text_hash(text), dev_share, test_share)
    other = split_of(text_hash(text), dev_share, other_share)
    assert split == split_of(text_hash(text), dev_share, test_share)
    assert (split == "dev") == (other == "dev")
    assert split != "test" or other_share < test_share or other == "test"


def test_splits_have_their_shares():
    counts = Counter(split_of(text_hash(str(number)), 0.1, 0.2) for number in range(5000))
    assert counts["dev"] == pytest.approx(500, rel=0.2)
    assert counts["test"] == pytest.approx(1000, rel=0.2)


def test_dev_is_held_out_of_the_training_texts(tmp_path):
    texts = numbered(200)
    snapshot = take(tmp_path, train=[[*texts, *(LabelledText(one.text) for one in texts)]])
    found = content(snapshot)
    held_out = [one for one in texts if split_of(text_hash(one.text), 0.1, 0) == "dev"]
    assert {one.text for one in found["dev"]["held_out"]} == {one.text for one in held_out}
    assert snapshot.counts == {"train": 400 - 2 * len(held_out), "dev": 2 * len(held_out), "test": 0}
    assert 5 < len(held_out) < 60
    assert found["test"] == {}
    assert snapshot.test_is_dev
    assert snapshot.overlaps == {"train/dev": 0, "train/test": 0, "dev/test": 0}
    assert "no test texts: dev stands in" in snapshot.to_text()


def test_annotations_are_split_by_their_text(tmp_path):
    texts = numbered(300)
    annotate(tmp_path, texts)
    snapshot = take_snapshot(settings_of(tmp_path, annotations=True))
    found = content(snapshot)
    assert {split: list(by_name) for split, by_name in found.items()} == {
        "train": ["train"], "dev": ["annotations"], "test": ["annotations"]
    }  # fmt: skip
    for split, by_name in found.items():
        (got,) = by_name.values()
        assert set(got) == {one for one in texts if split_of(text_hash(one.text), 0.1, 0.1) == split}
    assert not snapshot.test_is_dev
    assert sum(snapshot.counts.values()) == 300
    facts = json.loads(Path(snapshot.folder, "snapshot.json").read_text("utf-8"))
    assert facts["sources"]["annotations"] == {
        "warehouse": f"sqlite:///{tmp_path}/warehouse.db", "rows": 300, "texts": 300
    }  # fmt: skip


def test_annotations_beside_files(tmp_path):
    texts = numbered(100)
    annotate(tmp_path, texts)
    in_dev = [one for one in texts if split_of(text_hash(one.text), 0.1, 0.1) == "dev"]
    train = write(tmp_path / "x", "train.jsonl", numbered(50, 1000))
    dev = write(tmp_path / "x", "dev.jsonl", [*in_dev[:1], *numbered(5, 2000)])

    held = take_snapshot(settings_of(tmp_path, train=[train], annotations=True))
    assert list(held.texts("dev")) == ["annotations"]  # and nothing is held out
    assert set(held.texts("train")["train"]) > set(numbered(50, 1000))

    named = take_snapshot(settings_of(tmp_path, train=[train], dev=[dev], annotations=True)).texts("dev")
    assert set(named["x_dev"]) == {*in_dev[:1], *numbered(5, 2000)}  # the file stays as it is
    assert set(named["annotations"]) == set(in_dev[1:])


def test_annotations_that_cannot_be_used_are_told(tmp_path):
    annotate(tmp_path, [*numbered(100), LabelledText(" ")])
    snapshot = take_snapshot(settings_of(tmp_path, annotations=True))
    assert [(one.rule, one.count) for one in snapshot.rejected] == [("blank_text", 1)]
    assert "annotations not used: blank_text: 1 row(s)" in snapshot.to_text()
    facts = json.loads(Path(snapshot.folder, "snapshot.json").read_text("utf-8"))
    assert facts["rejected"] == [{"rule": "blank_text", "count": 1, "detail": snapshot.rejected[0].detail}]


def test_what_is_dropped_and_kept_is_told(tmp_path):
    one, two = numbered(2)
    snapshot = take(tmp_path, train=[[one, one, LabelledText(one.text)]], dev=[[one, two]])
    lines = snapshot.to_text().splitlines()
    assert lines[0] == f"labels {snapshot.fingerprint} in {snapshot.folder}"
    assert lines[1] == "  train 2 texts, 1 exact duplicates dropped, 1 texts labelled in several ways"
    assert lines[2] == "  dev   2 texts, 0 exact duplicates dropped"
    assert "  texts in both: train/dev 1, train/test 0, dev/test 0" in lines
    assert "  labels of train: HPPX" in lines


@pytest.mark.parametrize(
    ("train", "kind", "message"),
    [
        ({}, UsageError, r"--train or train\.train, or set train\.annotations"),
        ({"annotations": True}, UsageError, "no warehouse"),
        ({"train": ["nosuch.jsonl"]}, UsageError, "cannot read nosuch.jsonl"),
        ({"train": ["x/a.jsonl"], "dev": ["x/a.jsonl", "x/a.txt"]}, UsageError, "names of their own, got x_a, x_a"),
        ({"train": ["x/a.jsonl"], "test": ["x/a.jsonl", "x/a.txt"]}, UsageError, "names of their own, got x_a, x_a"),
        ({"train": ["x/bad.jsonl"]}, DataError, r"bad.jsonl holds 1 bad row"),
        ({"train": ["x/a.jsonl"], "dev_share": 1e-9}, DataError, r"no text for dev, 2 to train on: .*train\.dev_share"),
        ({"train": ["x/label.jsonl"], "dev": ["x/a.txt"]}, DataError, "label .* holds a lone surrogate"),
    ],
)
def test_what_cannot_be_done(tmp_path, monkeypatch, train, kind, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x", "a.jsonl", numbered(2))
    write(tmp_path / "x", "a.txt", numbered(2))
    write(tmp_path / "x", "label.jsonl", [LabelledText("小米", (Span(0, 2, "\ud800"),))])
    path = write(tmp_path / "x", "bad.jsonl", numbered(2))
    path.write_text(path.read_text("utf-8") + "{}\n", "utf-8")
    with pytest.raises(kind, match=message):
        take_snapshot(settings_of(tmp_path, **train))
    assert not (tmp_path / "lake").exists()
    assert not (tmp_path / "warehouse.db").exists()


def test_nothing_left_to_train_on_says_why(tmp_path):
    annotate(tmp_path, [LabelledText(" ")])
    with pytest.raises(DataError, match=r"(?s)no text to train on.*annotations not used: blank_text: 1"):
        take_snapshot(settings_of(tmp_path, annotations=True))


def test_a_snapshot_is_written_once(tmp_path):
    first = take(tmp_path, train=[numbered(3)], dev=[numbered(1)])
    path = Path(first.folder, "labels.parquet")
    before = path.stat()
    assert take(tmp_path, train=[numbered(3)], dev=[numbered(1)]) == first
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert list(path.parents[1].iterdir()) == [Path(first.folder)]


def test_another_process_may_be_quicker(tmp_path, monkeypatch):
    write_frame, found = pl.DataFrame.write_parquet, []

    def second_comes_first(frame, path):
        monkeypatch.undo()
        found.append(take(tmp_path, train=[numbered(3)], dev=[numbered(1)]))
        write_frame(frame, path)

    monkeypatch.setattr(pl.DataFrame, "write_parquet", second_comes_first)
    found.append(take(tmp_path, train=[numbered(3)], dev=[numbered(1)]))
    assert found[0] == found[1]
    assert set(found[0].texts("train")["train"]) == set(numbered(3))
    assert sorted(path.name for path in Path(found[0].folder).iterdir()) == ["labels.parquet", "snapshot.json"]


def test_a_snapshot_on_an_object_store(tmp_path, object_store):
    here = settings_of(tmp_path, train=[write(tmp_path / "x", "train.jsonl", numbered(40))])
    there = here.model_copy(update={"lake": object_store.lake("snapshots", cache=tmp_path / "cache")})
    with object_store.refusing():
        one, other = take_snapshot(there), take_snapshot(there)
    assert one == other
    assert one.folder.startswith(f"{there.lake.uri}/snapshots/")
    assert one.texts("train") == take_snapshot(here).texts("train")
    assert json.loads(Lake.open(there.lake).read_bytes(f"snapshots/{Path(one.folder).name}/snapshot.json"))["counts"]


def test_a_lake_that_cannot_be_written(tmp_path):
    (tmp_path / "lake").touch()
    with pytest.raises(RunError, match=r"cannot write snapshots/.*/labels\.parquet in lake\.uri, .*; name a folder"):
        take(tmp_path, train=[numbered(3)], dev=[numbered(1)])


@pytest.mark.parametrize("point", ["half the labels", "no facts"])
def test_killed_on_the_way_leaves_no_half_snapshot(tmp_path, point):
    train, dev = write(tmp_path / "x", "train.jsonl", numbered(3)), write(tmp_path / "x", "dev.jsonl", numbered(1))
    chosen = settings_of(tmp_path, train=[train], dev=[dev])
    command = [sys.executable, "-c", _KILLED, point, chosen.model_dump_json(exclude={"warehouse", "source"})]
    killed = subprocess.run(command, cwd=Path(module.__file__).parents[2], env={**os.environ}, check=False)
    assert killed.returncode == -signal.SIGKILL
    (folder,) = (tmp_path / "lake" / "snapshots").iterdir()
    shown = ["labels.parquet"] if point == "no facts" else []
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == shown
    snapshot = take_snapshot(chosen)
    assert Path(snapshot.folder) == folder
    assert sorted(path.name for path in folder.glob("[!.]*")) == ["labels.parquet", "snapshot.json"]
    assert set(snapshot.texts("train")["train"]) == set(numbered(3))
