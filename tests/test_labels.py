import re
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner.labels import Span, TagSet, check_spans, tag_label
from tests.data.strategies import spans_of, tilings

SCHEMES = ("BIO", "BILOU")
# labels that look like tags, hold hyphens and white space, or sort apart from their tags
label_sets = st.sets(st.sampled_from(["O", "A", "B-A", "-", "甲", "x y", "a\nb"]), min_size=1, max_size=3)


@st.composite
def tag_sets(draw):
    scheme = draw(st.sampled_from(SCHEMES))
    return TagSet(tuple(draw(st.permutations(TagSet.from_labels(draw(label_sets), scheme).tags))), scheme)


def spelling(tag_set):
    """Legality by a regular expression over one letter per tag id."""
    grammar = "BI*" if tag_set.scheme == "BIO" else "BI*L|U"
    letters = {tag: chr(ord("a") + i) for i, tag in enumerate(tag_set.tags)}
    mentions = (
        re.sub("[BILU]", lambda prefix, label=label: letters[f"{prefix[0]}-{label}"], grammar)
        for label in tag_set.labels
    )
    pattern = re.compile(f"({'|'.join([letters['O'], *mentions])})*")
    return lambda ids: pattern.fullmatch("".join(chr(ord("a") + i) for i in ids)) is not None


def is_legal(ids, tag_set):
    return not ids or (
        tag_set.legal_start[ids[0]]
        and tag_set.legal_end[ids[-1]]
        and all(tag_set.legal_transitions[left][right] for left, right in pairwise(ids))
    )


@given(tag_set=tag_sets(), data=st.data())
def test_spans_to_tags_to_spans(tag_set, data):
    tiles = data.draw(tilings(labels=tag_set.labels))
    spans, length = spans_of(tiles), sum(length for length, _ in tiles)
    ids = tag_set.encode(data.draw(st.permutations(spans)), length)
    assert len(ids) == length
    assert tag_set.decode(ids) == list(spans)
    assert spelling(tag_set)(ids)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("labels", "length"), [("X", 5), ("XY", 4)])
def test_legality_is_that_of_a_regular_expression(scheme, labels, length):
    """Every sequence of tags; those that are legal stand for spans, and for one list of them only."""
    tag_set = TagSet(TagSet.from_labels(labels, scheme).tags[::-1], scheme)
    spells_spans = spelling(tag_set)
    for n in range(length + 1):
        for ids in product(range(len(tag_set.tags)), repeat=n):
            assert is_legal(ids, tag_set) == spells_spans(ids)
            if is_legal(ids, tag_set):
                assert tuple(tag_set.encode(tag_set.decode(ids), n)) == ids


@given(tag_set=tag_sets())
def test_ids_follow_the_order_of_the_tags(tag_set):
    assert [tag_set.ids[tag] for tag in tag_set.tags] == list(range(len(tag_set.tags)))
    assert sorted(tag_set.labels) == sorted({tag_label(tag) for tag in tag_set.tags} - {None})
    for label, tags in zip(tag_set.labels, tag_set.span_tags, strict=True):
        assert [tag_set.tags[i] for i in tags] == [
            f"{prefix}-{label}" for prefix in ("BIIB" if tag_set.scheme == "BIO" else "BILU")
        ]


def test_labels_stand_in_the_order_of_their_first_tag():
    tag_set = TagSet(("I-X", "B-Y", "O", "B-X", "I-Y"), "BIO")
    assert tag_set.labels == ("X", "Y")
    assert tag_set.encode([Span(1, 3, "Y")], 4) == [2, 1, 4, 2]


def test_labels_alone_give_o_first_and_sorted_labels():
    assert TagSet.from_labels(["Y", "X", "Y"]).tags == ("O", "B-X", "I-X", "B-Y", "I-Y")
    assert TagSet.from_labels(["X"], "BILOU").tags == ("O", "B-X", "I-X", "L-X", "U-X")
    assert TagSet.from_labels([]).tags == ("O",)


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (("B-X", "I-X"), "BIO"),
        (("O", "B-X"), "BIO"),
        (("O", "O", "B-X", "I-X"), "BIO"),
        (("O", "B-X", "I-X", "B-X"), "BIO"),
        (("O", "B-X", "I-X", "x"), "BIO"),
        (("O", "B-X", "I-X", "B-"), "BIO"),
        (("O", "B-X", "I-X"), "BILOU"),
        (("O", "B-X", "I-X", "L-X", "U-X"), "BIO"),
        ((), "BIO"),
    ],
)
def test_a_set_of_tags_must_be_whole(tags, scheme):
    with pytest.raises(ValueError, match=f"not a {scheme} set: expected each of"):
        TagSet(tags, scheme)


def test_an_unknown_scheme_is_refused():
    for build in (lambda: TagSet(("O",), "IOB1"), lambda: TagSet.from_labels(["X"], "IOB1")):
        with pytest.raises(ValueError, match="unknown tag scheme 'IOB1': expected one of BIO, BILOU"):
            build()


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([Span(1, 1, "X")], "does not lie in"),
        ([Span(2, 1, "X")], "does not lie in"),
        ([Span(-1, 1, "X")], "does not lie in"),
        ([Span(2, 4, "X")], "does not lie in a text of 3"),
        ([Span(1, 3, "X"), Span(0, 2, "X")], "overlaps"),
        ([Span(0, 2, "X"), Span(0, 2, "X")], "overlaps"),
    ],
)
def test_bad_spans_are_refused(spans, message):
    for check in (check_spans, TagSet.from_labels(["X"]).encode):
        with pytest.raises(ValueError, match=message):
            check(spans, 3)


def test_an_unknown_label_is_refused():
    with pytest.raises(ValueError, match="label 'Y' is not one of X"):
        TagSet.from_labels(["X"]).encode([Span(0, 1, "Y")], 1)


@pytest.mark.parametrize(("tag", "label"), [("O", None), ("B-X", "X"), ("L-B-X", "B-X"), ("U--", "-")])
def test_label_of_a_tag(tag, label):
    assert tag_label(tag) == label


@pytest.mark.parametrize("tag", ["", "o", "B", "B-", "S-X", "BX", "O-X"])
def test_what_is_no_tag_has_no_label(tag):
    with pytest.raises(ValueError, match="is neither O nor one of"):
        tag_label(tag)
