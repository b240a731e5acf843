from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner.labels import Span
from ecner.nightly.names import Lexicon
from ecner.retraining.entities import EntityRow, entity_changes, entity_counts
from ecner.retraining.reading import ModelReading

LEXICON = Lexicon({"brand": {"huawei": "华为"}})
counted = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 9))


def change(old, new, top=20):
    found = entity_changes(
        {"champion": {"brand": old} if old else {}, "challenger": {"brand": new} if new else {}}, top
    )
    return found.get("brand")


def test_reviews_are_counted_once_by_canonical_name_above_the_threshold():
    texts = ["Huawei华为", "HUAWEI", "华为"]
    reading = ModelReading(
        [[Span(0, 6, "brand"), Span(6, 8, "brand")], [Span(0, 6, "brand")], [Span(0, 1, "brand"), Span(1, 2, "x")]],
        [[0.9, 0.9], [0.2], [0.5, 0.1]],
    )
    assert entity_counts(texts, reading, LEXICON, {"brand": 0.5}) == {"brand": {"华为": 1, "华": 1}, "x": {"为": 1}}


@given(counted, counted)
def test_moved_is_the_weighted_jaccard_distance(old, new):
    if not old and not new:
        assert change(old, new) is None
        return
    left, right = Counter(old), Counter(new)
    assert change(old, new).moved == pytest.approx(1 - (left & right).total() / (left | right).total())
    assert 0 <= change(old, new, top=2).moved <= 1
    assert change(old, old or {"a": 1}).moved == (0 if old else 1)


def test_rows_hold_either_top_with_places_among_all():
    found = change({"a": 9, "b": 5, "c": 1}, {"b": 7, "c": 6, "a": 2}, top=1)
    assert found.rows == (EntityRow("a", 9, 2, 1, 3), EntityRow("b", 5, 7, 2, 1))
    assert found.moved == 9 / 16


def test_without_a_champion_nothing_has_moved():
    found = entity_changes({"challenger": {"brand": {"a": 2}}})["brand"]
    assert found.moved is None
    assert found.rows == (EntityRow("a", None, 2, None, 1),)
