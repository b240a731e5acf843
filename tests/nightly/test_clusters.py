"""Clusters of near-duplicates: components of pairs that agree, whatever the order and the cut of the nights."""

import unicodedata
from datetime import date
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ecner.data.hashes import hash_texts
from ecner.data.sketches import agreement, sketch_texts
from ecner.nightly.clusters import LEAST_AGREEMENT, add_cluster, add_texts, remove_orphans, sketches_of
from ecner.schema import BANDS
from tests.variants import COMMON, edited

ALPHABET = COMMON[:80]
DAY = date(2026, 11, 2)
FROZEN = [
    -5528353633667146765,
    -5548146956762995947,
    8150241960722420192,
    6904276928473180771,
    -7128173027765029290,
    1033081860784255563,
    -908894986746351698,
    2556645532312601404,
    9190884757139728108,
    -4059935900713056387,
    -5904242820124712854,
    -5027765215008448127,
]


def random_text(random, length=40):
    return "".join(random.choices(ALPHABET, k=length))


def hashed(texts):
    return pl.DataFrame({"text_hash": hash_texts(pl.Series(texts, dtype=pl.String)), "text": texts})


def sketch(*texts: str):
    return sketch_texts(pl.Series(texts)).to_numpy().copy()


def clusters(warehouse):
    with warehouse.connect() as reader:
        return dict(reader.read("text_clusters", columns=["text_hash", "cluster_id"]).iter_rows())


def review(number, text_hash, day=DAY):
    return {
        "review_id": str(number), "product_id": None, "rating": None, "created_at": None, "updated_at": None,
        "review_date": day, "chars": 9, "chars_read": 9, "windows": 1, "mention_count": 0, "text_hash": text_hash,
        "fingerprint": "f", "model_version": "m", "run_id": "r",
    }  # fmt: skip


def test_sketches_estimate_the_share_of_pairs_in_common():
    random = Random(1)  # noqa: S311
    errors = []
    for number in range(60):
        text = random_text(random, 60)
        other = edited(text, number % 20, random)
        pairs = [{*zip(f"\0{t}", f"{t}\0", strict=True)} for t in (text, other)]
        jaccard = len(pairs[0] & pairs[1]) / len(pairs[0] | pairs[1])
        errors.append(agreement(sketch(text), sketch(other)).item() - jaccard)
    assert abs(np.mean(errors)) < 0.03
    assert np.std(errors) < 0.12  # sqrt(J (1 - J) / 48) is at most 0.072


def test_sketches_are_those_of_earlier_nights():
    """They stay in warehouses: whatever changes them makes all that was kept worthless."""
    assert sketch("这本书很好看").tolist() == [FROZEN]


@given(st.text(min_size=1))
def test_width_case_and_white_space_make_no_difference(text):
    spaced = " ".join(unicodedata.normalize("NFKC", text)).upper()
    if unicodedata.normalize("NFKC", text.upper()).casefold() == unicodedata.normalize("NFKC", text).casefold():
        assert sketch(text).tolist() == sketch(f" {spaced}\n").tolist()


def test_short_texts_that_differ_are_not_alike():
    assert agreement(sketch("好"), sketch("差")).item() < LEAST_AGREEMENT
    assert agreement(sketch("好"), sketch("好")).item() == 1


@pytest.mark.parametrize("cut", [1, 2, 5, 30])
def test_clusters_are_components_whatever_the_nights(warehouse, cut):
    """Held against every pair in plain Python; chains of variants join what is not alike itself."""
    random = Random(cut)  # noqa: S311
    texts = [random_text(random) for _ in range(12)]
    for _ in range(3):
        texts += [edited(text, 3, random) for text in texts[-9:]]
    texts = list(dict.fromkeys(texts))
    random.shuffle(texts)
    for start in range(0, len(texts), -(-len(texts) // cut)):
        with warehouse.begin() as transaction:
            add_texts(transaction, sketches_of(hashed(texts[start : start + -(-len(texts) // cut)])))
    found = clusters(warehouse)
    assert found == components(texts)
    assert 12 <= len(set(found.values())) < len(texts)


def components(texts):
    """Least hash of all that can be reached by pairs that agree and share a band."""
    frame = hashed(texts)
    hashes, bands = frame["text_hash"].to_list(), sketch(*texts)
    near = {a: {b for j, b in enumerate(hashes) if alike(bands[i], bands[j])} for i, a in enumerate(hashes)}
    named = {}
    for start in sorted(hashes):
        reached, new = {start}, {start}
        while new:
            new = set().union(*(near[name] for name in new)) - reached
            reached |= new
        for name in reached:
            named.setdefault(name, start)
    return named


def alike(left, right):
    return agreement(left[None], right[None]).item() >= LEAST_AGREEMENT and bool((left == right).any())


def test_the_days_of_clusters_that_become_one_are_told(warehouse):
    random = Random(5)  # noqa: S311
    while True:
        middle = random_text(random, 60)
        ends = edited(middle[:30], 8, random) + middle[30:], middle[:30] + edited(middle[30:], 8, random)
        first, last, between = (sketch(text) for text in (*ends, middle))
        if not alike(first[0], last[0]) and alike(first[0], between[0]) and alike(last[0], between[0]):
            break
    frame = hashed([*ends, middle])
    with warehouse.begin() as transaction:
        rows = [review(n, name, date(2026, 11, n + 1)) for n, name in enumerate(frame["text_hash"][:2])]
        transaction.append("review_coverage", pl.DataFrame(rows, infer_schema_length=None))
        assert add_texts(transaction, sketches_of(frame[:2])) == set()
        assert add_texts(transaction, sketches_of(frame[:2])) == set()
        assert add_texts(transaction, sketches_of(frame[2:])) == {date(2026, 11, 1), date(2026, 11, 2)}
    assert set(clusters(warehouse).values()) == {min(frame["text_hash"])}


def test_a_cluster_outlives_the_text_that_it_was_named_after(warehouse):
    text = random_text(Random(7))  # noqa: S311
    frame = hashed([text, text + "。", "别的" * 9]).sort("text_hash")
    with warehouse.begin() as transaction:
        add_texts(transaction, sketches_of(frame))
    before = clusters(warehouse)
    pair = sorted(name for name, cluster in before.items() if list(before.values()).count(cluster) == 2)
    with warehouse.begin() as transaction:
        transaction.append("review_coverage", pl.DataFrame([review(1, pair[1])], infer_schema_length=None))
        remove_orphans(transaction)
    assert clusters(warehouse) == {pair[1]: pair[1]}


def test_a_text_without_a_sketch_is_a_cluster_of_its_own(warehouse):
    frame = hashed(["一二三四五六七八", "一二三四五六七八。", "x"])
    with warehouse.begin() as transaction:
        add_texts(transaction, sketches_of(frame[:2]))
        rows = add_cluster(transaction, frame.select("text_hash"))
    same, other, alone = rows["cluster"]
    assert (same == other) == alike(*sketch(*frame["text"][:2]))
    assert alone == frame["text_hash"][2]
    assert_frame_equal(rows.select("text_hash"), frame.select("text_hash"))


def test_nothing_is_nothing(warehouse):
    assert sketch_texts(pl.Series([], dtype=pl.String)).columns == list(BANDS)
    with warehouse.begin() as transaction:
        assert add_texts(transaction, sketches_of(hashed([]).cast({"text": pl.String}))) == set()
