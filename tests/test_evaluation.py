import json
from collections import Counter

import nervaluate
import pytest

from ecner.data.corpus import read_corpus, write_corpus
from ecner.data.rows import LabelledText
from ecner.errors import DataError
from ecner.evaluation import evaluate, strict_f1
from ecner.inference.reader import Reader
from ecner.labels import Span
from tests.tiny import tiny

TYPES = {"HPPX": "brand", "XH": "model_number"}
TEXTS = [
    "小米手机真好用", "买了abc123，不错", "华为h0耳机", "真好", "米", "小米9和华为a1", "耳机不错不错，手机买了买了",
    "abcdefgh0123456789" * 3,
]  # fmt: skip
BAD = '{"text": "小米", "entities": [{"start_idx": 0, "end_idx": 1, "entity_text": "米", "entity_label": "HPPX"}]}\n'
RATIOS = ("precision", "recall", "f1", "support")


@pytest.fixture(scope="module")
def reader():
    return Reader(tiny(), device="cpu")


@pytest.fixture(scope="module")
def corpus(reader, tmp_path_factory):
    """Texts whose labels agree with the model by half: every other mention of its own, and one of another label."""
    rows = []
    for text, found in zip(TEXTS, reader.read(TEXTS).spans(reader.tag_set.labels), strict=True):
        spans = [span._replace(label="XH") if i % 4 == 2 else span for i, span in enumerate(found) if i % 2 == 0]
        rows.append(LabelledText(text, tuple(spans)))
    assert sum(len(row.spans) for row in rows) > 5
    path = tmp_path_factory.mktemp("corpus") / "dev.jsonl"
    write_corpus(path, rows, "jsonl")
    return path


@pytest.fixture(scope="module")
def seen(corpus, tmp_path_factory):
    """Training texts, half of the corpus."""
    path = tmp_path_factory.mktemp("train") / "train.txt"
    write_corpus(path, read_corpus(corpus).texts[::2], "conll")
    return path


def typed(spans):
    return [Span(start, end, TYPES[label]) for start, end, label in spans]


def by_nervaluate(gold, predicted):
    """Strict figures as nervaluate computes them, per type and over all; it counts ends inclusively."""
    gold, predicted = (
        [[{"label": s.label, "start": s.start, "end": s.end - 1} for s in spans] for spans in side]
        for side in (gold, predicted)
    )
    result = nervaluate.Evaluator(gold, predicted, tags=sorted(TYPES.values())).evaluate()
    parts = {name: entity["strict"] for name, entity in result["entities"].items()} | {"": result["overall"]["strict"]}
    return {
        name: {"precision": s.precision, "recall": s.recall, "f1": s.f1, "support": s.possible}
        for name, s in parts.items()
    }


def test_the_figures_equal_those_of_nervaluate_and_a_count_by_hand(reader, corpus, seen):
    found = evaluate(reader, corpus, seen, TYPES).to_json()
    gold = [typed(row.spans) for row in read_corpus(corpus).texts]
    predicted = [typed(spans) for spans in reader.read(TEXTS).spans(reader.tag_set.labels)]
    for part, chosen in (
        (found, slice(None)),
        (found["seen"], slice(0, None, 2)),
        (found["unseen"], slice(1, None, 2)),
    ):
        expected = by_nervaluate(gold[chosen], predicted[chosen])
        strict = part["strict"]
        assert {name: strict[name] for name in RATIOS} == pytest.approx(expected.pop(""))
        assert strict["per_type"].keys() == set(TYPES.values())
        for name, figures in expected.items():
            assert strict["per_type"][name] == pytest.approx(figures)
        assert part["n_texts"] == len(gold[chosen])

    def overlap(s, t):
        return s.label == t.label and s.start < t.end and t.start < s.end

    assert found["macro_f1"] == pytest.approx(sum(t["f1"] for t in strict_types(found)) / len(TYPES))
    pairs = list(zip(gold, predicted, strict=True))
    most = sum(min(sum(any(overlap(s, t) for t in q) for s in p), len(q)) for p, q in pairs)
    by_type = sum((Counter(s.label for s in p) & Counter(s.label for s in q)).total() for p, q in pairs)
    support = sum(map(len, gold))
    assert found["type_only"]["recall"] == pytest.approx(by_type / support)
    assert found["strict"]["recall"] <= found["partial"]["recall"] <= most / support
    tags = [(reader.tag_set.encode(row.spans, len(row.text)), found) for row, found in read_tags(reader, corpus)]
    equal = sum(a == b for left, right in tags for a, b in zip(left, right, strict=True))
    assert found["token_accuracy"] == pytest.approx(equal / sum(map(len, TEXTS)))


def strict_types(found):
    return found["strict"]["per_type"].values()


def read_tags(reader, corpus):
    for row in read_corpus(corpus).texts:
        (spans,) = reader.read([row.text]).spans(reader.tag_set.labels)
        yield row, reader.tag_set.encode(spans, len(row.text))


def test_the_keys_are_those_that_scripts_rely_on(reader, corpus, seen):
    found = json.loads(json.dumps(evaluate(reader, corpus, seen, TYPES).to_json()))
    parts = {"n_texts", "token_accuracy", "macro_f1", "strict", "partial", "type_only"}
    assert found.keys() == parts | {"seen", "unseen"}
    assert evaluate(reader, corpus, None, TYPES).to_json().keys() == parts
    for way in (found["strict"], found["partial"], found["type_only"], found["seen"]["strict"]):
        assert way.keys() == {*RATIOS, "per_type"}
        assert way["per_type"].keys() == {"brand", "model_number"}
        assert all(figures.keys() == set(RATIOS) for figures in way["per_type"].values())


def test_an_unmapped_label_is_its_own_type(reader, corpus):
    found = evaluate(reader, corpus, None, {"HPPX": "brand"}).to_json()
    assert found["strict"]["per_type"].keys() == {"brand", "XH"}


def test_labels_of_one_type_are_scored_as_one(reader, corpus):
    found = evaluate(reader, corpus, None, dict.fromkeys(TYPES, "name")).to_json()["strict"]
    assert found["per_type"].keys() == {"name"}
    assert found["recall"] == 1.0


@pytest.mark.parametrize(("known", "empty"), [(slice(0), "seen"), (slice(None), "unseen")])
def test_an_empty_part_has_no_texts_and_no_score(known, empty, reader, corpus, tmp_path):
    train = tmp_path / "train.jsonl"
    write_corpus(train, [LabelledText("这是另一个"), *read_corpus(corpus).texts[known]], "jsonl")
    evaluation = evaluate(reader, corpus, train, TYPES)
    part = evaluation.to_json()[empty]
    assert (part["n_texts"], part["macro_f1"], part["strict"]["f1"], part["strict"]["support"]) == (0, 0.0, 0.0, 0)
    assert f"{empty} texts, strict" in evaluation.to_text()


def test_the_text_shows_each_way_of_matching_and_each_type(reader, corpus, seen):
    text = evaluate(reader, corpus, seen, TYPES).to_text()
    for name in ("strict", "partial", "type_only", "seen texts", "unseen texts", "brand", "model_number", "seqeval"):
        assert name in text


def test_texts_without_mentions(reader, tmp_path):
    path = tmp_path / "dev.jsonl"
    write_corpus(path, [LabelledText("")], "jsonl")
    evaluation = evaluate(reader, path, path, TYPES)
    assert evaluation.scores.strict.micro.f1 == 0
    assert "no mention is gold or predicted" in evaluation.to_text()


def test_bad_rows_of_both_files_are_named(reader, corpus, seen, tmp_path):
    dev = tmp_path / "dev.jsonl"
    dev.write_bytes(corpus.read_bytes() + BAD.encode())
    train = tmp_path / "train.txt"
    train.write_bytes(seen.read_bytes() + "米 X-HPPX\n".encode())
    evaluation = evaluate(reader, dev, train, TYPES)
    assert evaluation.scores.n_texts == len(TEXTS)
    first, second = evaluation.bad_rows
    assert first.startswith(f"{dev}, line {len(TEXTS) + 1}: text_mismatch")
    assert second.startswith(f"{train}, line ")
    assert "unknown_tag" in second


def test_a_file_of_bad_rows_alone_is_no_score_of_zero(reader, tmp_path):
    path = tmp_path / "dev.jsonl"
    path.write_text(BAD)
    with pytest.raises(DataError, match="no row to score: line 1: text_mismatch"):
        evaluate(reader, path, None, TYPES)


def test_strict_f1_is_that_of_the_evaluation(reader, corpus):
    expected = evaluate(reader, corpus, None, {}).scores.strict.micro.f1
    assert strict_f1(reader, read_corpus(corpus).texts) == expected
