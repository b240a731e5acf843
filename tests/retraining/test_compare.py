# ruff: noqa: S311 - nothing here is secret
import json
from random import Random

import numpy as np
import polars as pl
import pytest

from ecner.config import ModelSettings
from ecner.data.corpus import write_corpus
from ecner.data.hashes import text_hash
from ecner.data.rows import LabelledText
from ecner.errors import DataError
from ecner.evaluation import evaluate, strict_f1
from ecner.inference.reader import Reader
from ecner.labels import Span
from ecner.model.checkpoint import Checkpoint
from ecner.nightly.names import Lexicon
from ecner.retraining import compare as module
from ecner.retraining.compare import Contender, Material, compare
from ecner.retraining.reading import Speed, measure_speed, read_texts
from ecner.schema import TABLES
from tests.nightly.reviews import FILLERS, WORDS, train_tiny

LEXICON = Lexicon({})
SETTINGS = ModelSettings()
TYPES = {"product", "brand", "model_number", "misc"}


def labelled(count, seed):
    """Texts of the words that the tiny models have learned, a quarter of them under another label."""
    random = Random(seed)
    rows = []
    for _ in range(count):
        text, spans = random.choice(FILLERS), []
        for _ in range(random.randint(1, 3)):
            label = random.choice(list(WORDS))
            word = random.choice(WORDS[label])
            given = random.choice(list(WORDS)) if random.random() < 0.25 else label
            spans.append(Span(len(text), len(text) + len(word), given))
            text += word + "".join(random.choices(FILLERS, k=random.randint(0, 4)))
        rows.append(LabelledText(text, tuple(spans)))
    return rows


SETS = {"one": labelled(40, 1), "two": labelled(20, 2)}
RECENT = [row.text for row in labelled(30, 3)]


def hashes(rows):
    return {text_hash(row.text) for row in rows}


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    folders = [train_tiny(folder / str(steps), seed=seed, steps=steps) for seed, steps in ((0, 25), (1, 8))]
    return [Reader(Checkpoint.load(path), device="cpu") for path in folders]


@pytest.fixture(scope="module")
def contenders(readers):
    new, old = readers
    challenger = Contender("new", new, hashes(SETS["one"][:10]))
    return challenger, Contender("old", old, hashes([*SETS["one"][5:20], *SETS["two"][:5]]))


def material(datasets=SETS, recent=RECENT):
    return Material(datasets, recent, SETTINGS, LEXICON)


@pytest.fixture(scope="module")
def comparison(contenders):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SPEED_CHARS", 100)
        yield compare(*contenders, material(), seed=4)


def test_parts_are_those_of_sets(comparison, contenders):
    new, old = (contender.trained_on for contender in contenders)
    for name, rows in {**SETS, "all": [*SETS["one"], *SETS["two"]]}.items():
        keys = [text_hash(row.text) for row in rows]
        expected = {
            "all": len(keys),
            "seen": sum(key in new for key in keys),
            "unseen": sum(key not in new for key in keys),
            "fresh": sum(key not in new | old for key in keys),
        }
        for part, count in expected.items():
            found = comparison.part(name, part)
            assert (found.texts if found else 0) == count
    fresh = hashes([*SETS["one"], *SETS["two"]]) - new - old
    assert comparison.fresh_texts == len(fresh)
    assert comparison.unknown_training == ()


def test_scores_are_those_of_an_evaluation(comparison, readers, tmp_path):
    path = tmp_path / "one.jsonl"
    write_corpus(path, SETS["one"], "jsonl")
    for side, reader in zip(("challenger", "champion"), readers, strict=True):
        assert comparison.part("one").scores[side] == evaluate(reader, path, None, SETTINGS.labels).scores
    f1 = strict_f1(readers[0], [*SETS["one"], *SETS["two"]])
    assert comparison.part().scores["challenger"].strict.micro.f1 == f1 > 0.3


def test_f1_and_its_difference_are_of_the_fresh_rows(comparison):
    assert comparison.f1.keys() == {"all", "one", "two"}
    for dataset, by_type in comparison.f1.items():
        assert by_type.keys() == {"all", *TYPES}
        scores = comparison.part(dataset, "fresh").scores
        for name, found in by_type.items():
            counts = {s: v.strict.micro if name == "all" else v.strict.per_type[name] for s, v in scores.items()}
            assert found.support == counts["champion"].support
            for side, estimate in found.sides.items():
                assert estimate.value == pytest.approx(counts[side].f1)
                assert estimate.lower <= estimate.value <= estimate.upper
            gain = counts["challenger"].f1 - counts["champion"].f1
            assert found.difference.value == pytest.approx(gain)
            assert found.difference.lower <= gain <= found.difference.upper


def test_evaluations_are_rows_of_the_table(comparison):
    for side, version in (("challenger", "new"), ("champion", "old")):
        rows = comparison.evaluations(side)
        frame = pl.DataFrame([{"version": version, **row} for row in rows], infer_schema_length=None)
        TABLES["model_evaluations"].validate(frame)
        of_all = {(row["dataset"], row["metric"]): row["value"] for row in rows if row["entity_type"] == "all"}
        scores = comparison.part("one", "fresh").scores[side]
        assert of_all["one:fresh", "strict_f1"] == scores.strict.micro.f1
        assert of_all["one:fresh", "partial_f1"] == scores.partial.micro.f1
        assert of_all["two", "macro_f1"] == comparison.part("two").scores[side].macro_f1
        assert of_all["all", "chars_per_second"] > 0
        assert {row["entity_type"] for row in rows} == {"all", *TYPES}
        assert {"ece", "token_accuracy", "type_only_f1", "strict_recall"} <= {row["metric"] for row in rows}


def test_shown_figures_are_of_fresh_rows(comparison):
    assert comparison.shown == "fresh"
    scores = comparison.part("all", "fresh").scores
    for side, found in comparison.confusion.items():
        assert sum(map(sum, found.counts[:-1])) == scores[side].strict.micro.support
        assert comparison.calibration[side]["all"].count == scores[side].strict.micro.predicted
        assert 0 < len(comparison.mistakes[side]) <= 20


def test_json_holds_it_all(comparison):
    found = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert found["versions"] == {"champion": "old", "challenger": "new"}
    assert found["f1"]["all"]["all"]["difference"]["value"] == comparison.f1["all"]["all"].difference.value
    assert (
        found["parts"][0]["scores"]["champion"]["strict"]["support"]
        == comparison.parts[0].scores["champion"].strict.micro.support
    )
    assert found["slowdown"] == comparison.speed.slowdown


def test_the_same_models_and_seed_give_the_same_figures(comparison, contenders, monkeypatch):
    monkeypatch.setattr(module, "_SPEED_CHARS", 10)
    again = compare(*contenders, material(), seed=4)
    for name in ("f1", "parts", "mistakes", "calibration", "confusion", "entities"):
        assert getattr(again, name) == getattr(comparison, name)
    assert compare(*contenders, material(), seed=5).f1 != comparison.f1


def test_a_model_is_no_better_than_itself(contenders, monkeypatch):
    monkeypatch.setattr(module, "_SPEED_CHARS", 10)
    challenger, _ = contenders
    found = compare(challenger, challenger, material())
    assert {(f.difference.value, f.difference.lower, f.difference.upper) for f in found.f1["all"].values()} == {
        (0, 0, 0)
    }
    assert {change.moved for change in found.entities.values()} == {0}


def test_a_challenger_alone(contenders):
    found = compare(contenders[0], None, material({"one": SETS["one"]}, recent=[]))
    assert found.versions == {"challenger": "new"}
    assert found.f1["all"]["all"].difference is None
    assert found.speed.slowdown is None
    assert found.entities == {}
    assert found.part("one", "fresh").texts == found.part("one", "unseen").texts == 30
    assert {row["dataset"] for row in found.evaluations()} >= {"one", "one:seen", "all:fresh"}


def test_what_is_not_known_of_training_and_nothing_fresh(contenders):
    challenger, champion = contenders
    unknown = Contender("new", challenger.reader, None)
    found = compare(unknown, Contender("old", champion.reader, hashes(SETS["two"])), material({"two": SETS["two"]}))
    assert found.unknown_training == ("challenger",)
    assert found.part("two", "seen") is None
    assert (found.fresh_texts, found.f1, found.shown) == (0, {}, "all")
    assert found.calibration["champion"]["all"].count > 0


def test_the_same_text_twice_is_one_draw(contenders, monkeypatch):
    drawn = []
    samples = module.f1_samples
    monkeypatch.setattr(
        module, "f1_samples", lambda counts, **given: drawn.append(counts.shape) or samples(counts, **given)
    )
    row = SETS["one"][-1]
    found = compare(*contenders, material({"a": [row, row], "b": [row]}))
    assert found.fresh_texts == 1
    assert found.part().texts == 3
    assert {shape[1] for shape in drawn} == {1}


@pytest.mark.parametrize(
    ("datasets", "message"),
    [({}, "no labelled text"), ({"a": []}, "no labelled"), ({"all": SETS["one"]}, "rename its file")],
)
def test_what_cannot_be_compared_on(datasets, message):
    with pytest.raises(DataError, match=message):
        material(datasets)


def test_a_reading_has_types_and_its_own_confidences(readers):
    texts = ["", *(row.text for row in SETS["one"]), "真好", "\ud800小米"]
    found = read_texts(readers[0], texts, SETTINGS.labels)
    for text, spans, confidences in zip(texts, found.spans, found.confidences, strict=True):
        [alone] = [readers[0].read([text])]
        assert [span[:2] for span in spans] == list(zip(alone.start.tolist(), alone.end.tolist(), strict=True))
        assert confidences == pytest.approx(alone.confidence.tolist(), abs=1e-4)
        assert {span.label for span in spans} <= TYPES
    assert found.take([1]).spans == [found.spans[1]]


class Counting:
    def __init__(self, name, calls) -> None:
        self.name, self.calls = name, calls

    def read(self, texts):
        self.calls.append((self.name, list(texts)))


def test_speed_takes_turns_over_the_first_texts():
    calls = []
    readers = {name: Counting(name, calls) for name in ("champion", "challenger")}
    found = measure_speed(readers, ["aa", "bbb", "cccc"], chars=5, rounds=2)
    assert calls == [(name, ["aa", "bbb"]) for name in ("champion", "challenger")] * 2
    assert found.chars == 5
    assert [len(seconds) for seconds in found.seconds.values()] == [2, 2]
    assert measure_speed(readers, ["a" * 9, "b"], chars=5, rounds=1).chars == 9
    assert measure_speed(readers, [""], chars=5, rounds=1) is None


def test_speed_is_of_the_median_round():
    speed = Speed(100, {"champion": (1.0, 2.0, 50.0), "challenger": (9.0, 3.0, 1.0)})
    assert speed.slowdown == 1.5
    assert speed.chars_per_second("champion") == 50
    assert np.isclose(speed.chars_per_second("challenger"), 100 / 3)
