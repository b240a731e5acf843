"""The model in the package: its size, its card, and scores that no change may lower."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from ecner.config import load_settings
from ecner.evaluation import evaluate
from ecner.inference.reader import Reader
from ecner.model.checkpoint import Checkpoint
from ecner.registry import TRAINING_TEXTS
from ecner.resources import asset
from tests.release.figures import TRAIN, figures, hashes, judged, table

MODEL = asset("model")
SHARED = Path(__file__).parents[3] / "shared"
TYPES = load_settings(environ={}).model.labels


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(Checkpoint.load(MODEL))


@pytest.fixture(scope="module")
def known() -> dict[tuple[str, str, str], float]:
    rows = json.loads((MODEL / "version.json").read_text("utf-8"))["evaluations"]
    return {(row["dataset"], row["metric"], row["entity_type"]): row["value"] for row in rows}


def test_it_is_the_hybrid_and_small_enough(reader: Reader) -> None:
    assert reader.tagger.config.architecture == "hybrid"
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 40_000_000
    assert {path.suffix for path in MODEL.iterdir()} <= {".safetensors", ".json", ".txt", ".md"}


def test_the_card_tells_what_it_must_and_its_figures_are_those_of_the_file() -> None:
    card = (MODEL / "README.md").read_text("utf-8")
    for heading in ("Provenance and licences", "Recipe", "Figures", "Known weaknesses"):
        assert re.search(rf"^## {heading}", card, re.MULTILINE), heading
    assert table(json.loads((MODEL / "version.json").read_text("utf-8"))) in card


@pytest.mark.slow
def test_the_sample_is_read_as_well_as_the_card_says(reader: Reader, known: dict[tuple[str, str, str], float]) -> None:
    scores = evaluate(reader, asset("sample/reviews.jsonl"), None, TYPES).scores.strict
    assert scores.micro.f1 == pytest.approx(known["sample", "strict_f1", "all"], abs=0.005)
    for entity_type, counts in scores.per_type.items():
        assert counts.f1 == pytest.approx(known["sample", "strict_f1", entity_type], abs=0.01), entity_type


@pytest.mark.skipif(not SHARED.is_dir(), reason="the labelled data sets are no part of the project")
def test_it_tells_what_it_was_trained_on() -> None:
    told = set((MODEL / TRAINING_TEXTS).read_text("ascii").split())
    assert set(hashes([SHARED / path for path in TRAIN]).split()) <= told


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the labelled data sets are no part of the project")
def test_it_scores_as_its_card_says_on_both_dev_sets(known: dict[tuple[str, str, str], float]) -> None:
    found = pl.DataFrame(figures(judged(MODEL, SHARED), SHARED)["evaluations"])
    for row in found.iter_rows(named=True):
        key = (row["dataset"], row["metric"], row["entity_type"])
        assert row["value"] == pytest.approx(known[key], abs=0.01), key


@pytest.mark.parametrize(
    ("dataset", "entity_type", "floor"),
    [
        ("reviews_dev", "all", 0.90),
        ("reviews_dev", "brand", 0.93),
        ("reviews_dev", "model_number", 0.87),
        ("titles_dev", "all", 0.83),
        ("titles_dev_unseen", "all", 0.75),
    ],
)
def test_it_scores_no_less_than_it_must(
    known: dict[tuple[str, str, str], float], dataset: str, entity_type: str, floor: float
) -> None:
    assert known[dataset, "strict_f1", entity_type] >= floor


def test_its_confidence_can_be_trusted(known: dict[tuple[str, str, str], float]) -> None:
    """On 299 reviews the error itself is known to about a point and a half, so its interval counts there."""
    assert known["titles_dev", "ece", "all"] <= 0.03
    assert known["reviews_dev", "ece_lower", "all"] <= 0.03
