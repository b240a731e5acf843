from pathlib import Path
from typing import Any

import pytest

from ecner import registry
from ecner.config import Settings
from ecner.data.corpus import write_corpus
from ecner.data.hashes import text_hash
from tests.nightly.house import House
from tests.nightly.reviews import labelled_texts, make_reviews, train_tiny, write

TRAIN = {
    "epochs": 2,
    "batch_chars": 256,
    "head_lr": 1e-2,
    "lora": {"r": 2, "lr": 1e-2},
    "overlap_reviews": 30,
    "gate": {"min_gain": -1, "min_gain_lower": -1, "max_type_loss": 1, "max_slowdown": 50, "max_entity_change": 1},
}
CHAMPION_KNOWS = 40  # of the test texts: those that the champion was trained on


@pytest.fixture(scope="session")
def labels(tmp_path_factory):
    """Files of labelled texts, no text twice."""
    folder = tmp_path_factory.mktemp("labels")
    texts = labelled_texts(420)
    for name, part in {"train": texts[:200], "dev": texts[200:260], "test": texts[260:420]}.items():
        write_corpus(folder / f"{name}.jsonl", part, "jsonl")
    return folder


@pytest.fixture(scope="session")
def shipped(tmp_path_factory):
    """A half-trained shipped model; some of the test texts were among its own."""
    folder = train_tiny(tmp_path_factory.mktemp("assets") / "model", steps=6)
    known = [text_hash(text.text) for text in labelled_texts(420)[260 : 260 + CHAMPION_KNOWS]]
    (folder / registry.TRAINING_TEXTS).write_text("\n".join([*known, ""]))
    return folder


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("source") / "all.parquet", make_reviews(60))


@pytest.fixture
def house(tmp_path, shipped, monkeypatch):
    monkeypatch.setattr(registry, "asset", shipped.parent.joinpath)
    return House(tmp_path / "house", shipped)


@pytest.fixture
def configured(house, labels, source):
    """Settings of a retrain in the house; keys go over those of the section train."""

    def settings(**train: Any) -> Settings:
        files = {name: [str(labels / f"{name}.jsonl")] for name in ("train", "dev", "test")}
        return house.settings(Path(source), model={"ref": "champion", "device": "cpu"}, train=TRAIN | files | train)

    return settings
