import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nervaluate import Evaluator
from seqeval.metrics import accuracy_score, classification_report
from seqeval.scheme import IOB2

from ecner.labels import Span, TagSet
from ecner.metrics import score, seqeval_report, split_seen, to_json
from tests.data.strategies import LABELS, spans_of, tilings

TAGS = TagSet.from_labels(LABELS)
WAYS = ("strict", "partial", "type_only")


@st.composite
def texts(draw):
    """Lengths, gold mentions and predicted ones: made apart, or by changes of the gold ones."""
    pairs = []
    for tiles in draw(st.lists(tilings(), min_size=1, max_size=4)):
        gold = spans_of(tiles)
        kept = [span for span in gold if draw(st.booleans())]
        predicted = draw(st.sampled_from([gold, tuple(kept)]) | tilings().map(spans_of))
        length = max(sum(length for length, _ in tiles), max((s.end for s in predicted), default=0))
        pairs.append((length, gold, predicted))
    return tuple(map(list, zip(*pairs, strict=True)))


def maximum_matching(gold, predicted, fits):
    """Kuhn's augmenting paths: the size of a maximum one-to-one matching."""
    owner = {}

    def place(i, visited):
        for j, right in enumerate(predicted):
            if j not in visited and fits(gold[i], right):
                visited.add(j)
                if j not in owner or place(owner[j], visited):
                    owner[j] = i
                    return True
        return False

    return sum(place(i, set()) for i in range(len(gold)))


FITS = {
    "strict": lambda left, right: left == right,
    "partial": lambda left, right: left.label == right.label and bool(set(range(*left[:2])) & set(range(*right[:2]))),
    "type_only": lambda left, right: left.label == right.label,
}


def figures(counts):
    return [counts.precision, counts.recall, counts.f1, counts.support]


def tags_of(mentions, lengths):
    return [[TAGS.tags[tag] for tag in TAGS.encode(m, length)] for m, length in zip(mentions, lengths, strict=True)]


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=200)
@given(texts=texts())
def test_matches_are_a_maximum_one_to_one_matching(way, texts):
    lengths, gold, predicted = texts
    scores = getattr(score(gold, predicted, lengths, TAGS), way)
    matched = sum(maximum_matching(g, p, FITS[way]) for g, p in zip(gold, predicted, strict=True))
    assert scores.micro.matched == matched
    assert scores.micro.matched == sum(counts.matched for counts in scores.per_type.values())
    assert scores.micro.support == sum(map(len, gold))
    assert scores.micro.predicted == sum(map(len, predicted))


@given(texts=texts())
def test_strict_scores_are_those_of_seqeval(texts):
    lengths, gold, predicted = texts
    labels = sorted({span.label for mentions in (*gold, *predicted) for span in mentions})
    assume(labels)
    scores = score(gold, predicted, lengths, TAGS)
    gold_tags, predicted_tags = tags_of(gold, lengths), tags_of(predicted, lengths)
    theirs = classification_report(
        gold_tags, predicted_tags, mode="strict", scheme=IOB2, zero_division=0, output_dict=True
    )
    for label in labels:
        assert figures(scores.strict.per_type[label]) == pytest.approx(list(theirs[label].values()))
    assert figures(scores.strict.micro) == pytest.approx(list(theirs["micro avg"].values()))
    assert scores.macro_f1 == pytest.approx(theirs["macro avg"]["f1-score"])
    assert scores.token_accuracy == pytest.approx(accuracy_score(gold_tags, predicted_tags))


def nervaluate(gold, predicted):
    def rows(mentions):  # its ends are inclusive
        return [[{"label": s.label, "start": s.start, "end": s.end - 1} for s in spans] for spans in mentions]

    return Evaluator(rows(gold), rows(predicted), tags=list(LABELS), loader="dict").evaluate()


@given(texts=texts())
def test_strict_scores_are_those_of_nervaluate(texts):
    lengths, gold, predicted = texts
    scores = score(gold, predicted, lengths, TAGS).strict
    theirs = nervaluate(gold, predicted)
    assert figures(scores.micro)[:3] == pytest.approx(
        [getattr(theirs["overall"]["strict"], name) for name in ("precision", "recall", "f1")]
    )
    for label, ways in theirs["entities"].items():
        counts = scores.per_type[label]
        assert (counts.matched, counts.predicted, counts.support) == (
            ways["strict"].correct,
            ways["strict"].actual,
            ways["strict"].possible,
        )


def test_nervaluate_counts_fewer_overlaps_than_can_be_matched():
    # the first prediction is nearer to the second mention, which the second prediction needs
    gold = [[Span(0, 2, "XH"), Span(2, 8, "XH")]]
    predicted = [[Span(1, 6, "XH"), Span(6, 9, "XH")]]
    assert nervaluate(gold, predicted)["entities"]["XH"]["ent_type"].correct == 1
    assert score(gold, predicted, [9], TAGS).partial.micro.matched == 2


@given(texts=texts())
def test_each_way_forgives_more_and_a_perfect_reading_scores_one(texts):
    lengths, gold, predicted = texts
    scores = score(gold, predicted, lengths, TAGS)
    assert scores.strict.micro.f1 <= scores.partial.micro.f1 <= scores.type_only.micro.f1 <= 1
    perfect = score(gold, gold, lengths, TAGS)
    assert perfect.macro_f1 == perfect.strict.micro.f1 == (1 if any(gold) else 0)


def test_false_negatives_count():
    gold = [[Span(0, 1, "XH"), Span(2, 3, "XH")], [Span(0, 2, "HPPX")]]
    scores = score(gold, [[Span(0, 1, "XH")], []], [4, 2], TAGS)
    assert figures(scores.strict.micro) == pytest.approx([1, 1 / 3, 0.5, 3])
    assert figures(scores.strict.per_type["HPPX"]) == [0, 0, 0, 1]
    assert scores.token_accuracy == pytest.approx(3 / 6)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 0) / 2)


def test_a_mention_is_matched_once():
    gold, predicted = [[Span(0, 6, "XH")]], [[Span(0, 2, "XH"), Span(3, 5, "XH")]]
    scores = score(gold, predicted, [6], TAGS)
    assert (scores.strict.micro.matched, scores.partial.micro.matched, scores.type_only.micro.matched) == (
        0,
        1,
        1,
    )
    assert score(predicted, gold, [6], TAGS).partial.micro.matched == 1


@pytest.mark.parametrize("lengths", [[], [0], [3, 0]])
def test_nothing_to_score_scores_zero(lengths):
    none = [[] for _ in lengths]
    scores = to_json(score(none, none, lengths, TAGS))
    assert scores["macro_f1"] == scores["strict"]["f1"] == 0.0
    assert scores["token_accuracy"] == (1.0 if sum(lengths) else 0.0)
    assert seqeval_report(none, none, lengths) == "no mention is gold or predicted"


def test_labels_that_the_model_does_not_know_count():
    scores = score([[Span(0, 2, "PERSON")]], [[Span(0, 2, "XH")]], [2], TAGS)
    assert scores.strict.per_type.keys() == {*LABELS, "PERSON"}
    assert (scores.strict.micro.support, scores.strict.micro.predicted, scores.strict.micro.matched) == (
        1,
        1,
        0,
    )


def test_the_scheme_is_that_of_the_tag_set():
    gold, predicted = [[Span(0, 3, "XH")]], [[Span(0, 2, "XH")]]
    assert score(gold, predicted, [3], TAGS).token_accuracy == pytest.approx(2 / 3)
    bilou = TagSet.from_labels(LABELS, "BILOU")
    assert score(gold, predicted, [3], bilou).token_accuracy == pytest.approx(1 / 3)


@given(texts=texts())
def test_json_holds_what_the_contract_names(texts):
    lengths, gold, predicted = texts
    scores = json.loads(json.dumps(to_json(score(gold, predicted, lengths, TAGS)), allow_nan=False))
    assert scores.keys() == {"n_texts", "token_accuracy", "macro_f1", *WAYS}
    assert scores["n_texts"] == len(lengths)
    for way in WAYS:
        assert scores[way].keys() == {"precision", "recall", "f1", "support", "per_type"}
        assert scores[way]["per_type"].keys() == set(LABELS)
        for counts in scores[way]["per_type"].values():
            assert counts.keys() == {"precision", "recall", "f1", "support"}


def test_the_report_is_that_of_seqeval(monkeypatch):
    gold, predicted = [[Span(0, 2, "XH"), Span(2, 4, "HPPX")]], [[Span(0, 2, "XH"), Span(2, 3, "HPPX")]]
    calls = []

    def spy(*tags: object, **options: object):
        calls.append((tags, options))
        return classification_report(*tags, **options)

    monkeypatch.setattr("seqeval.metrics.classification_report", spy)
    rows = {line.split()[0]: line.split() for line in seqeval_report(gold, predicted, [4]).splitlines() if line}
    assert rows["XH"][1:] == ["1.0000", "1.0000", "1.0000", "1"]
    assert rows["HPPX"][1:] == ["0.0000", "0.0000", "0.0000", "1"]
    assert rows["micro"][2:] == ["0.5000", "0.5000", "0.5000", "2"]
    [(tags, options)] = calls
    # legal tags score the same by either path of seqeval, so the options themselves are looked at
    assert (options["mode"], options["scheme"]) == ("strict", IOB2)
    assert tags == ([["B-XH", "I-XH", "B-HPPX", "I-HPPX"]], [["B-XH", "I-XH", "B-HPPX", "O"]])


@pytest.mark.parametrize(
    ("gold", "predicted", "lengths"),
    [
        ([[]], [], [1]),
        ([[]], [[]], [1, 1]),
        ([[Span(0, 2, "XH")]], [[]], [1]),
        ([[]], [[Span(0, 2, "XH"), Span(1, 3, "HPPX")]], [3]),
    ],
)
def test_what_does_not_fit_is_refused(gold, predicted, lengths):
    for evaluate in (lambda *texts: score(*texts, TAGS), seqeval_report):
        with pytest.raises(ValueError, match=r"argument|span"):
            evaluate(gold, predicted, lengths)


def test_seen_and_unseen_texts():
    assert split_seen(["a", "b", "a ", "a"], ["c", "a"]) == ([0, 3], [1, 2])
    assert split_seen([], []) == ([], [])
