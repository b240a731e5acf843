"""Clusters of near-duplicates: components of pairs that agree, whatever the order and the cut of the nights."""

import unicodedata
from datetime import date
from itertools import combinations
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
from tests.variants import COMMON, alike, chain, edited

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
    hashes, bands = hashed(texts)["text_hash"].to_list(), sketch(*texts)
    shared = (bands[:, None] == bands).any(axis=2)
    near = {
        a: {b for j, b in enumerate(hashes) if shared[i, j] and agreement(bands[[i]], bands[[j]]) >= LEAST_AGREEMENT}
        for i, a in enumerate(hashes)
    }
    named = {}
    for start in sorted(hashes):
        reached, new = {start}, {start}
        while new:
            new = set().union(*(near[name] for name in new)) - reached
            reached |= new
        for name in reached:
            named.setdefault(name, start)
    return named


def test_the_days_of_clusters_that_become_one_are_told(warehouse):
    random = Random(5)  # noqa: S311
    middle = random_text(random, 60)
    frame = hashed([*chain(middle, random), middle])
    with warehouse.begin() as transaction:
        rows = [review(n, name, date(2026, 11, n + 1)) for n, name in enumerate(frame["text_hash"][:2])]
        transaction.append("review_coverage", pl.DataFrame(rows, infer_schema_length=None))
        assert add_texts(transaction, sketches_of(frame[:2])) == set()
        assert add_texts(transaction, sketches_of(frame[:2])) == set()
        assert add_texts(transaction, sketches_of(frame[2:])) == {date(2026, 11, 1), date(2026, 11, 2)}
    assert set(clusters(warehouse).values()) == {min(frame["text_hash"])}


def test_the_days_of_clusters_that_fall_apart_are_told(warehouse):
    random = Random(5)  # noqa: S311
    middle = random_text(random, 60)
    frame = hashed([*chain(middle, random), middle])
    with warehouse.begin() as transaction:
        add_texts(transaction, sketches_of(frame))
        rows = [review(n, name, date(2026, 11, n + 1)) for n, name in enumerate(frame["text_hash"][:2])]
        transaction.append("review_coverage", pl.DataFrame(rows, infer_schema_length=None))
        assert remove_orphans(transaction, frame["text_hash"]) == {date(2026, 11, 1), date(2026, 11, 2)}
        assert remove_orphans(transaction, frame["text_hash"]) == set()
    assert clusters(warehouse) == {name: name for name in frame["text_hash"][:2]}


@pytest.mark.parametrize("seed", range(3))
def test_reviews_that_come_change_and_go_leave_the_components_of_what_is_there(warehouse, seed):
    """Not each text gets its sketch when it comes; days are told where two reviews are of one cluster, or no more."""
    random = Random(seed)  # noqa: S311
    texts = [random_text(random) for _ in range(4)]
    texts += [edited(text, 3, random) for _ in range(3) for text in texts[-8:]]
    reviews, sketched = {}, set()
    for _ in range(12):
        before, former = clusters(warehouse), dict(reviews)
        for number in random.sample(range(20), 5):
            reviews.pop(number, None)
            if random.random() < 0.6:
                reviews[number] = random.choice(texts), date(2026, 11, random.randint(1, 9))
        sketched = {text for text, _ in reviews.values() if text in sketched or random.random() < 0.7}
        told = night(warehouse, former, reviews, sorted(sketched))
        after = clusters(warehouse)
        assert after == components(sorted(sketched))
        stayed = [review for number, review in reviews.items() if review == former.get(number)]
        for (text, day), (other, other_day) in combinations(stayed, 2):
            if is_one(before, text, other) != is_one(after, text, other):
                assert told & {day, other_day}


def night(warehouse, former, reviews, sketched):
    """Puts reviews (text and day by number) in the place of former ones; returns the days that are told."""
    gone, come = (pl.Series([text for text, _ in part.values()], dtype=pl.String) for part in (former, reviews))
    days = (day for _, day in reviews.values())
    rows = [review(*values) for values in zip(reviews, hash_texts(come), days, strict=True)]
    with warehouse.begin() as transaction:
        transaction.delete_all("review_coverage")
        transaction.append("review_coverage", pl.DataFrame(rows, infer_schema_length=None))
        apart = remove_orphans(transaction, hash_texts(gone).unique())
        return apart | add_texts(transaction, sketches_of(hashed(sketched)))


def is_one(clusters, text, other):
    first, second = (clusters.get(name, name) for name in hash_texts(pl.Series([text, other])))
    return first == second


def test_a_cluster_outlives_the_text_that_it_was_named_after(warehouse):
    text = random_text(Random(7))  # noqa: S311
    frame = hashed([text, text + "。", "别的" * 9]).sort("text_hash")
    with warehouse.begin() as transaction:
        add_texts(transaction, sketches_of(frame))
    before = clusters(warehouse)
    assert len(set(before.values())) == 2
    pair = sorted(name for name, cluster in before.items() if list(before.values()).count(cluster) == 2)
    with warehouse.begin() as transaction:
        transaction.append("review_coverage", pl.DataFrame([review(1, pair[1])], infer_schema_length=None))
        assert remove_orphans(transaction, frame["text_hash"]) == set()
    assert clusters(warehouse) == {pair[1]: pair[1]}


def test_a_text_without_a_sketch_is_a_cluster_of_its_own(warehouse):
    frame = hashed(["一二三四五六七八", "一二三四五六七八。", "x"])
    with warehouse.begin() as transaction:
        add_texts(transaction, sketches_of(frame[:2]))
        rows = add_cluster(transaction, frame.select("text_hash"))
    same, other, alone = rows["cluster"]
    assert (same == other) == alike(*frame["text"][:2])
    assert alone == frame["text_hash"][2]
    assert_frame_equal(rows.select("text_hash"), frame.select("text_hash"))


def test_nothing_is_nothing(warehouse):
    assert sketch_texts(pl.Series([], dtype=pl.String)).columns == list(BANDS)
    with warehouse.begin() as transaction:
        assert add_texts(transaction, sketches_of(hashed([]).cast({"text": pl.String}))) == set()
