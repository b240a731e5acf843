from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ecner.labels import Span
from ecner.retraining.mistakes import KINDS, align, confusion, error_classes, worst_mistakes
from ecner.retraining.reading import ModelReading
from tests.data.strategies import LABELS, spans_of, tilings

spans = tilings().map(spans_of)


def reading(*texts: list):
    return ModelReading([[s for s, _ in text] for text in texts], [[c for _, c in text] for text in texts])


@given(spans, spans)
def test_every_mention_stands_in_one_pair(gold, predicted):
    pairs = align(gold, predicted)
    assert Counter(left for left, _ in pairs if left) == Counter(gold)
    assert Counter(right for _, right in pairs if right) == Counter(predicted)
    for left, right in pairs:
        if left and right:
            assert set(range(*left[:2])) & set(range(*right[:2]))
    same_ends = {span[:2] for span in gold} & {span[:2] for span in predicted}
    assert same_ends == {left[:2] for left, right in pairs if left and right and left[:2] == right[:2]}


@given(st.lists(st.tuples(spans, spans), max_size=5))
def test_sums_of_the_confusion(texts):
    gold, predicted = [g for g, _ in texts], [p for _, p in texts]
    found = confusion(gold, predicted, LABELS)
    rows = [sum(row) for row in found.counts[:-1]]
    columns = [sum(column) for column in zip(*found.counts, strict=True)][:-1]
    assert rows == [sum(s.label == label for mentions in gold for s in mentions) for label in LABELS]
    assert columns == [sum(s.label == label for mentions in predicted for s in mentions) for label in LABELS]
    assert found.counts[-1][-1] == 0
    perfect = confusion(gold, gold, LABELS)
    assert all(n == 0 for i, row in enumerate(perfect.counts) for j, n in enumerate(row) if i != j)


def test_a_prediction_goes_to_the_mention_of_its_type():
    gold = [Span(0, 3, "product"), Span(3, 4, "brand")]
    [pair, alone] = sorted(align(gold, [Span(1, 4, "brand")]), key=lambda pair: pair[1] is None)
    assert pair == (Span(3, 4, "brand"), Span(1, 4, "brand"))
    assert alone == (Span(0, 3, "product"), None)


def test_kinds_and_context():
    text = "x" * 30 + "abcdef" + "y" * 30
    gold = [Span(30, 32, "brand"), Span(33, 36, "product")]

    def kinds(*predicted: Span):
        return [m.kind for m in worst_mistakes([text], [gold], reading([(s, 0.5) for s in predicted]), None)]

    assert sorted(kinds()) == ["missed", "missed"]
    assert kinds(*gold) == []
    assert kinds(Span(30, 32, "product"), gold[1]) == ["type"]
    assert kinds(Span(30, 33, "brand"), gold[1]) == ["ends"]
    assert kinds(Span(30, 33, "product"), gold[1]) == ["type and ends"]
    assert kinds(*gold, Span(50, 52, "brand")) == ["spurious"]
    [mistake] = worst_mistakes([text], [gold], reading([(Span(29, 32, "brand"), 0.5), (gold[1], 1)]), None)
    assert (mistake.before, mistake.mention, mistake.after) == ("x" * 20, "xab", "cdef" + "y" * 16)
    assert (mistake.gold, mistake.predicted, mistake.confidence) == ("ab", "xab", 0.5)


def test_what_the_other_model_gets_right_is_first_and_the_confident_before_the_rest():
    texts = ["ab", "cd", "ef", "gh", "gh"]
    gold = [[Span(0, 1, "a")], [Span(0, 1, "a")], [], [Span(0, 1, "a")], [Span(0, 1, "a")]]
    mine = reading([(Span(0, 1, "b"), 0.6)], [(Span(0, 1, "b"), 0.9)], [(Span(0, 2, "a"), 0.3)], [], [])
    other = reading([(Span(0, 1, "a"), 0.6)], [], [], [], [])
    found = worst_mistakes(texts, gold, mine, other)
    assert [(m.row, m.kind, m.other_is_right, m.times) for m in found] == [
        (0, "type", True, 1),
        (2, "spurious", True, 1),
        (3, "missed", False, 2),
        (1, "type", False, 1),
    ]
    assert [m.row for m in worst_mistakes(texts, gold, mine, other, limit=1)] == [0]
    assert not any(m.other_is_right for m in worst_mistakes(texts, gold, mine, None))


@given(st.lists(st.tuples(spans, spans), max_size=5))
def test_every_mistake_counts_once_in_its_class(texts):
    gold, predicted = [g for g, _ in texts], [p for _, p in texts]
    found = error_classes(gold, predicted, LABELS)
    total = sum(left != right for pair in map(align, gold, predicted) for left, right in pair)
    assert sum(sum(counts.values()) for counts in found.values()) == total
    spurious = sum(left is None for pair in map(align, gold, predicted) for left, _ in pair)
    assert sum(counts["spurious"] for counts in found.values()) == spurious


def test_error_classes_by_hand():
    gold = [[Span(0, 2, "a"), Span(3, 5, "a"), Span(6, 8, "a"), Span(9, 12, "a")]]
    predicted = [[Span(0, 2, "b"), Span(3, 4, "a"), Span(9, 11, "b"), Span(13, 14, "b")]]
    assert error_classes(gold, predicted, ["a", "b"]) == {
        "a": dict(zip(KINDS, (1, 0, 1, 1, 1), strict=True)),
        "b": dict(zip(KINDS, (0, 1, 0, 0, 0), strict=True)),
    }
