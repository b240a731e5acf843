"""What is renamed keeps its sentence and its labels; its names are known ones or made up in their likeness."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ecner.data.rows import LabelledText
from ecner.labels import Span
from tests.ablation.augment import _kind, _made_up, renamed, spliced
from tests.data.strategies import labelled_texts

CHOSEN = ("HPPX", "XH")
KINDS = {"digit": "[0-9]", "lower": "[a-z]", "upper": "[A-Z]", "ideograph": "[\u4e00-\u9fff]"}
CHARACTERS = st.sampled_from("小米华为一龥手机abzABZ019-/ 　é５Ａ㐀😀")
ROWS = st.lists(labelled_texts(CHARACTERS), max_size=8)
SEEDS = st.integers(0, 2**31)


def kind(character):
    return next((name for name, pattern in KINDS.items() if re.fullmatch(pattern, character)), "")


def likeness(surface):
    """Its characters by kind; one of no kind stands for itself."""
    return [kind(c) or c for c in surface]


def outside(labelled, chosen=()):
    """The text between mentions of the chosen labels."""
    edges = [0, *(edge for s in labelled.spans if s.label in chosen for edge in s[:2]), len(labelled.text)]
    return [labelled.text[start:end] for start, end in list(pairwise(edges))[::2]]


def names_of(rows, label):
    return {row.text[s.start : s.end] for row in rows for s in row.spans if s.label == label}


@given(ROWS, SEEDS)
def test_each_text_with_such_labels_has_a_copy_with_the_same_sentence_and_labels(rows, seed):
    own = [row for row in rows if any(span.label in CHOSEN for span in row.spans)]
    made = renamed(rows, CHOSEN, seed=seed)
    assert len(made) == len(own)
    for row, copy in zip(own, made, strict=True):
        assert [s.label for s in copy.spans] == [s.label for s in row.spans]
        assert outside(copy, CHOSEN) == outside(row, CHOSEN)
        for old, new in zip(row.spans, copy.spans, strict=True):
            if old.label not in CHOSEN:
                assert copy.text[new.start : new.end] == row.text[old.start : old.end]


@given(ROWS, SEEDS)
def test_names_are_known_ones_or_made_up_of_characters_of_their_kinds(rows, seed):
    own = [row for row in rows if any(span.label in CHOSEN for span in row.spans)]
    for row, copy in zip(own, renamed(rows, CHOSEN, seed=seed), strict=True):
        for old, new in zip(row.spans, copy.spans, strict=True):
            before, after = row.text[old.start : old.end], copy.text[new.start : new.end]
            if old.label in CHOSEN and after not in (known := names_of(rows, old.label)):
                assert likeness(after) == likeness(before)
                assert {c for c in after if kind(c) == "ideograph"} <= set("".join(known))


@given(st.text(CHARACTERS, max_size=12), st.randoms(use_true_random=False))
def test_made_up_names_keep_length_and_kinds(surface, random):
    alphabets = {"ideograph": "天地", "lower": "xy", "upper": "XY", "digit": "78"}
    made = _made_up(surface, alphabets, random)
    assert likeness(made) == likeness(surface)
    assert all(c in alphabets[kind(c)] for c in made if kind(c))


@given(st.characters())
def test_kinds(character):
    assert _kind(character) == kind(character)


def sentences(count=300):
    """Each with a brand and a model number of its own, long enough not to be made up by chance."""
    ideographs = [chr(0x4E00 + i) for i in range(count)]
    return [
        LabelledText(f"买了{c * 3}的T{i:06}！", (Span(2, 5, "HPPX"), Span(6, 13, "XH")))
        for i, c in enumerate(ideographs)
    ]


def test_half_of_the_names_are_known_and_half_made_up():
    rows = sentences()
    made = renamed(rows, CHOSEN, seed=0)
    for label in CHOSEN:
        known = names_of(rows, label)
        share = sum(copy.text[s.start : s.end] in known for copy in made for s in copy.spans if s.label == label)
        assert 0.4 < share / len(rows) < 0.6
    same = sum(copy == row for row, copy in zip(rows, made, strict=True))
    assert same < 5


@given(ROWS, SEEDS)
def test_a_seed_fixes_the_names(rows, seed):
    assert renamed(rows, CHOSEN, seed=seed) == renamed(rows, CHOSEN, seed=seed)


def test_other_seeds_give_other_names():
    rows = sentences(20)
    assert renamed(rows, CHOSEN, seed=0) != renamed(rows, CHOSEN, seed=1)


@given(ROWS, SEEDS)
def test_texts_without_such_labels_give_none(rows, seed):
    assert renamed(rows, ["OTHER"], seed=seed) == renamed(rows, [], seed=seed) == []
    assert renamed([LabelledText("真不错", (Span(0, 1, "HCCX"),)), LabelledText("")], CHOSEN, seed=seed) == []


def is_joined(found, left, right):
    """Whether a text is the beginning of one and the end of another, cut at no mention, with those that are kept."""
    for first in range(len(left.text) + 1):
        second = len(right.text) - len(found.text) + first
        if not 0 <= second <= len(right.text) or found.text != left.text[:first] + right.text[second:]:
            continue
        is_whole = not any(s.start < cut < s.end for part, cut in ((left, first), (right, second)) for s in part.spans)
        moved = [
            Span(s.start - second + first, s.end - second + first, s.label) for s in right.spans if s.start >= second
        ]
        if is_whole and list(found.spans) == [s for s in left.spans if s.end <= first] + moved:
            return True
    return False


@given(ROWS, SEEDS)
def test_spliced_texts_are_a_beginning_and_an_end_with_their_mentions(rows, seed):
    made = spliced(rows, seed=seed)
    assert len(made) == len(rows)
    assert made == spliced(rows, seed=seed)
    for left, found in zip(rows, made, strict=True):
        assert any(is_joined(found, left, right) for right in rows)
